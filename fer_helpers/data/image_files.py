"""Decodes picture files: to photographs as they are, or to the 48×48 grayscale of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from ..files import FerError, check_file, explain_os_errors, needs_extra
from .faceset import IMAGE_SIZE

#: How pictures are called; what they are is told by what they hold.
PICTURES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif",
            ".heic", ".heif", ".hif", ".pgm", ".ppm")
# Pillow's other plugins are attack surface, not data.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "AVIF")
_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of ISO/IEC 23008-12
#: What is brought instead of a picture, by its first bytes.
_OTHERS = {b"%PDF": "a PDF document", b"%!PS": "a PostScript document", b"PK\3\4": "a zip or an office document",
           b"<": "a web page or an SVG drawing", b"\x30\x26\xb2\x75": "a film", b"\x1a\x45\xdf\xa3": "a film",
           b"8BPS": "a Photoshop document"}
MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS = 64 << 20, 50_000_000  # such a picture takes up to 1.3 GiB with its copies
_MAX_PHOTO_BYTES = 512 << 20  # so many pixels of eight bytes; what a camera writes has a tenth
Changes = dict[str, tuple[Callable[[Any], bool], Callable[[Any], Any]]]


class Unreadable(Exception):
    """Why a file is no picture that can be read, and the fix."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


def read_photograph(path: Path | str) -> np.ndarray:
    """A picture of any size as uint8 (H, W, 3): upright, 8 bits a channel, on white where it is transparent.

    Raises
    ------
    FerError
        If it cannot be read, has more than 50 million pixels, or is HEIC and the "photo" extra is not installed.
    """
    with explain_os_errors(path, "reading"), open(check_file(path, _MAX_PHOTO_BYTES), "rb") as file:
        try:
            return decode(file, Counter(), _UPRIGHT | _COLOUR)
        except Unreadable as error:
            raise FerError(f"{path}: {error.reason}; {error.fix}") from error


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so, 32 bytes of it, is of a kind that `decode` reads."""
    return head.startswith(_STARTS) or head[:4] + head[8:12] == b"RIFFWEBP" or _is_avif(head) or _is_heic(head)


def _is_avif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and any(brand in head for brand in (b"avif", b"avis"))


def _is_heic(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC and not _is_avif(head)


def decode(file: BinaryIO, changes: Counter[str], steps: Changes | None = None) -> np.ndarray:
    """A picture file after ``steps``, by default those to uint8 (48, 48); ``changes`` counts what had to be altered.

    Raises
    ------
    Unreadable
        If it is none, is damaged, too large, or HEIC without the "photo" extra.
    """
    head = file.read(32)
    file.seek(0)
    try:
        with _open(file, head) as image:
            image.load()
            for change, (needed, apply) in (steps or _CHANGES).items():
                if needed(image):
                    image = apply(image)
                    changes[change] += 1
            return np.asarray(image)
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:
        raise Unreadable(str(error), "bring a smaller copy") from error
    except Exception as error:  # Pillow's plugins raise ValueError, SyntaxError, struct.error and more on bad files
        what = next((what for start, what in _OTHERS.items() if head.lstrip().startswith(start)), None)
        if head[4:8] == b"ftyp" and not is_picture(head) or head[:4] + head[8:11] == b"RIFFAVI":
            what = "a film"
        reason = "it is empty" if not head else f"it is {what}" if what else str(error).replace(repr(file), "the file")
        raise Unreadable(f"is no readable image ({reason})", "bring a whole copy of it as PNG or JPEG, or keep it "
                         "elsewhere") from error


def _open(file: BinaryIO, head: bytes) -> Image.Image:
    if not _is_heic(head):
        image: Any = Image.open(file, formats=_FORMATS)
    else:
        try:
            with needs_extra("photo"):
                import pillow_heif
        except FerError as error:
            raise Unreadable("is a HEIC picture", str(error)) from error
        image = pillow_heif.open_heif(file)  # not registered with Pillow, for all who use it
    if image.size[0] * image.size[1] > MAX_IMAGE_PIXELS:
        raise Unreadable(f"{image.size[0]}×{image.size[1]} pixels are too many", "bring a smaller copy")
    opened: Image.Image = image.to_pillow() if _is_heic(head) else image
    return opened


def _is_not_8_bit(image: Image.Image) -> bool:
    return image.mode in ("1", "F") or image.mode.startswith("I")


def _to_8_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    # Integer pixels span 16 bits in every format Pillow opens so; floats come as 0..1 or as 0..255.
    top = 65535 if image.mode.startswith("I") else 1 if values.max() <= 1 else 255
    if not (values.min() >= 0 and values.max() <= top):
        raise ValueError(f"values {values.min():g} to {values.max():g} outside 0 to {top}")
    # A part at a time: float64 of the largest pictures, and its copies, would take gigabytes.
    return Image.fromarray(np.concatenate([np.rint(part.astype(np.float64) * (255 / top)).astype(np.uint8)
                                           for part in np.array_split(values, len(values) // 256 + 1)]))


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _on_white(image: Image.Image) -> Image.Image:
    mode = "L" if image.mode in ("L", "LA", "La") else "RGB"
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert(mode)


#: What is done to an image, in this order, with the test that calls for it.
_UPRIGHT: Changes = {
    "rotated as their EXIF entry says": (lambda image: image.getexif().get(0x0112) in range(2, 9),
                                         ImageOps.exif_transpose),
    "converted to 8 bits a pixel": (_is_not_8_bit, _to_8_bit),
    "laid on white where transparent": (_is_transparent, _on_white),
}
_COLOUR: Changes = {"converted to RGB": (lambda image: image.mode != "RGB", lambda image: image.convert("RGB"))}
_CHANGES: Changes = _UPRIGHT | {
    "converted from colour to grayscale": (lambda image: image.mode != "L",
                                           lambda image: image.convert("RGB").convert("L")),
    "resized from other sizes to 48×48": (lambda image: image.size != (IMAGE_SIZE, IMAGE_SIZE),
                                          lambda image: ImageOps.fit(image, (IMAGE_SIZE, IMAGE_SIZE),
                                                                     Image.Resampling.LANCZOS)),
}
