"""Looks at a film: its pictures, upright, every so many seconds by its own time stamps. What moves in a GIF or a WebP
is a film, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from ..data.image_files import MAX_IMAGE_PIXELS
from ..files import FerError, check_file, needs_extra
from .detection import Box, overlaps

T = TypeVar("T")
#: How films are recognised: by their names, as whatever else a folder holds must not be opened as one.
FILMS = (".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".wmv", ".ts", ".mts", ".flv", ".mpg", ".mpeg",
         ".ogv")
ANIMATIONS = (".gif", ".webp")
#: What ffmpeg may take a file for: films. Play lists, which it would follow to other files and addresses, are none.
_OPTIONS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,mpegts,flv,ogg,mpeg,mpegvideo",
            "protocol_whitelist": "file"}
_SAME = 0.3  # intersection over union of two boxes of one face, one look apart
_CLOSE = 1e-4  # seconds: time stamps of a few formats are thousandths, and due times are sums of floats


def film_frames(path: Path, every_seconds: float = 1.0) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds since the first picture, uint8 (H, W, 3) RGB) of a film, the first picture at or after every multiple of
    ``every_seconds``; 0 gives all. One at a time, so that a film's length costs no memory.

    Raises
    ------
    FerError
        If the file is no readable film, its pictures have more than `MAX_IMAGE_PIXELS`, or the "photo" extra is not
        installed.
    """
    with needs_extra("photo"):
        import av
    looks = 0
    try:
        with av.open(str(check_file(path)), options=_OPTIONS) as film:
            for stream in film.streams.video[:1]:
                stream.thread_type = "AUTO"
                for seconds, frame in _due(_decoded(film, stream, path), every_seconds):
                    looks += 1
                    picture = frame.to_ndarray(format="rgb24")
                    yield seconds, np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))
    except (av.FFmpegError, ValueError) as error:
        raise FerError(f"{path}: is no readable film ({error}); convert it to mp4") from error
    if not looks:
        raise FerError(f"{path}: is no readable film (it holds no picture); convert it to mp4")


def animation_frames(path: Path, every_seconds: float = 1.0) -> Iterator[tuple[float, np.ndarray]]:
    """As `film_frames`, of a GIF or WebP; nothing if it does not move, or is another picture under such a name.

    Raises
    ------
    FerError
        If the file cannot be read.
    """
    try:
        with Image.open(check_file(path), formats=("GIF", "WEBP")) as image:
            if getattr(image, "n_frames", 1) > 1 and image.width * image.height <= MAX_IMAGE_PIXELS:
                for seconds, frame in _due(_timed(image), every_seconds):
                    yield seconds, np.asarray(frame.convert("RGB"))
    except UnidentifiedImageError:
        return
    except FerError:
        raise
    except Exception as error:  # Pillow's plugins raise OSError, ValueError, EOFError and more on bad files
        raise FerError(f"{path}: is no readable image ({error}); save it again") from error


def _timed(image: Image.Image) -> Iterator[tuple[float, Image.Image]]:
    seconds = 0.0
    for frame in ImageSequence.Iterator(image):
        frame.load()  # only then a WebP tells how long the picture is shown
        yield seconds, frame
        seconds += (frame.info.get("duration") or 100) / 1000  # browsers take a picture without a time for 100 ms


def _decoded(film: Any, stream: Any, path: Path) -> Iterator[tuple[float, Any]]:
    """(seconds, frame) of every picture that can be decoded; damaged ones are left out, as players do."""
    import av

    first = None
    for packet in film.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            continue
        for frame in frames:
            if frame.width * frame.height > MAX_IMAGE_PIXELS:
                raise FerError(f"{path}: its pictures are larger than {MAX_IMAGE_PIXELS:,} pixels; make it smaller")
            if frame.time is not None:
                first = frame.time if first is None else first
                yield frame.time - first, frame


def _due(frames: Iterable[tuple[float, T]], every_seconds: float) -> Iterator[tuple[float, T]]:
    due = 0.0
    for seconds, frame in frames:
        if seconds >= due - _CLOSE:
            yield seconds, frame
            due = ((seconds + _CLOSE) // every_seconds + 1) * every_seconds if every_seconds else seconds


class Tracker:
    """Numbers the faces of a film, 1 and up: a face keeps its number while its box overlaps that of the look before.

    Where somebody went is not known: who leaves and comes back has another number, and so has all the world after a
    cut.
    """

    def __init__(self) -> None:
        self.boxes, self.numbers, self.count = list[Box](), list[int](), 0

    def track(self, boxes: Sequence[Box]) -> list[int]:
        """The numbers of this look's ``boxes``, left, top, right, bottom in pixels."""
        overlap, numbers = overlaps(boxes, self.boxes), [0] * len(boxes)
        while overlap.numel() and overlap.max() > _SAME:
            face, before = divmod(int(overlap.argmax()), len(self.boxes))
            numbers[face] = self.numbers[before]
            overlap[face], overlap[:, before] = 0, 0
        for face, number in enumerate(numbers):
            if not number:
                self.count += 1
                numbers[face] = self.count
        self.boxes, self.numbers = list(boxes), numbers
        return numbers
