"""Decodes picture files: to photographs as they are, or to the 48×48 grayscale of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from ..files import FerError, check_file, explain_os_errors
from .faceset import IMAGE_SIZE
from .sources import AGAIN

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # Pillow's other plugins are attack surface, not data
MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS = 64 << 20, 50_000_000  # such a picture takes up to 1.3 GiB with its copies
_MAX_PHOTO_BYTES = 512 << 20  # so many pixels of eight bytes; what a camera writes has a tenth
Changes = dict[str, tuple[Callable[[Any], bool], Callable[[Any], Any]]]


def read_photograph(path: Path | str) -> np.ndarray:
    """A picture of any size as uint8 (H, W, 3): upright, 8 bits a channel, on white where it is transparent.

    Raises
    ------
    FerError
        If it cannot be read, or has more than 50 million pixels.
    """
    with explain_os_errors(path, "reading"), open(check_file(path, _MAX_PHOTO_BYTES), "rb") as file:
        return decode(file, str(path), Counter(), _UPRIGHT | _COLOUR)


def decode(file: BinaryIO, where: str, changes: Counter[str], steps: Changes | None = None) -> np.ndarray:
    """A picture file after ``steps``, by default those to uint8 (48, 48); ``changes`` counts what had to be altered."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise FerError(f"{where}: {image.width}×{image.height} pixels are too many; shrink or delete it")
            image.load()
            for change, (needed, apply) in (steps or _CHANGES).items():
                if needed(image):
                    image = apply(image)
                    changes[change] += 1
            return np.asarray(image)
    except FerError:
        raise
    except Exception as error:  # Pillow's plugins raise ValueError, SyntaxError, struct.error and more on bad files
        reason = str(error).replace(repr(file), "the file")
        raise FerError(f"{where}: is no readable image ({reason}); delete it or {AGAIN}") from error


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
