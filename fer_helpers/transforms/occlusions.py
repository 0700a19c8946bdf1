"""What hides parts of a face, six kinds in five sizes, laid where the average face has its parts (`regions.LAYOUT`).

Only shapes and greys; `corruptions` lays them on images.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from ..data.faceset import IMAGE_SIZE
from ..data.regions import LAYOUT

#: What the severities 1 to 5 of each occlusion mean.
_SIZES: dict[str, tuple[float, ...]] = {
    "eyes": (3, 4.5, 6, 7.5, 9),  # half the height of a black bar over them, pixels
    "mouth": (3, 4.5, 6, 7.5, 9),
    "half_face": (0.2, 0.3, 0.4, 0.5, 0.6),  # share that is black, from the left or the right
    "patches": (1, 2, 3, 4, 5),  # number of squares of a random grey
    "mask": (33, 30, 27, 24, 20),  # row that its upper edge reaches on the nose; the last is the bridge
    "sunglasses": (5, 5.75, 6.5, 7.25, 8),  # half the height of a lens, pixels; the larger, the darker
}
OCCLUSIONS = tuple(_SIZES)
PATCH = 12  # pixels a side
_LINE = torch.arange(IMAGE_SIZE) + 0.5  # the centres of the pixels
_FINE = 8  # shapes are drawn so many times as large, then averaged: soft edges


def occlusion(name: str, count: int, severity: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """How far each pixel of ``count`` images is covered, 0..1, and with which grey, 0..255.

    ``name`` is one of `OCCLUSIONS`, ``severity`` 1 to 5. Both results are float32 and broadcast to (count, 48, 48);
    what the seed draws for an image depends on its position alone, and a higher severity only adds.
    """
    level = _SIZES[name][severity - 1]
    if name == "half_face":
        return _half_face(count, level, seed)
    if name == "patches":
        return _patches(count, int(level), seed)
    if name == "mask":
        return _mask(level)
    return _sunglasses(level) if name == "sunglasses" else _bar(LAYOUT[name], level)


def _bar(box: tuple[int, int, int, int], half: float) -> tuple[torch.Tensor, torch.Tensor]:
    top, bottom, left, right = box
    rows = (_LINE - (top + bottom) / 2).abs() < half
    return (rows[:, None] & (_LINE > left) & (_LINE < right)).float(), torch.zeros(())


def _half_face(count: int, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    left = torch.from_numpy(np.random.default_rng(seed).random((count, 1, 1)) < 0.5)
    return (torch.where(left, _LINE, IMAGE_SIZE - _LINE) < share * IMAGE_SIZE).float(), torch.zeros(())


def _patches(count: int, number: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.from_numpy(np.random.default_rng(seed).random((count, len(_SIZES["patches"]), 3), np.float32))
    top, left, grey = drawn[:, :number, :, None].unbind(2)
    rows, columns = ((_LINE - (place * (IMAGE_SIZE - PATCH + 1)).floor() - PATCH / 2).abs() < PATCH / 2
                     for place in (top, left))
    inside, paint = rows[..., None] & columns[..., None, :], torch.zeros(())
    for patch in range(number):  # a later one lies on top
        paint = torch.where(inside[:, patch], 255 * grey[:, patch, None], paint)
    return inside.any(1).float(), paint


def _mask(top: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A light cloth from the nose down to the chin, its pleats, and straps to the ears."""
    middle, chin, side = IMAGE_SIZE / 2, IMAGE_SIZE - 1.5, min(top + 6, 37)
    half = [(0, top), (4, top + 0.8), (9, side - 1.5), (15, side), (15, 40), (10, chin - 1), (5, chin)]
    outline = [*((middle + x, y) for x, y in half), *((middle - x, y) for x, y in half[::-1])]
    cloth = _drawn(lambda pen: pen.polygon(_fine(*outline), fill=255), rounding=1.0)
    straps = [_fine((middle + sign * x, y), (middle + sign * 22, y - rise))
              for sign in (-1, 1) for x, y, rise in ((14, side + 0.8, 4), (13.5, 41, 41 - side))]
    cords = _drawn(lambda pen: _lines(pen, straps))
    curve = np.linspace(-1, 1, 9)
    pleats = [_fine(*zip(middle + 13 * curve, side + (chin - side) * part + 1.2 * (1 - curve ** 2), strict=True))
              for part in (0.25, 0.5, 0.75)]
    dark = _drawn(lambda pen: _lines(pen, pleats))
    return torch.maximum(cloth, cords), 230 - 60 * ((_LINE - middle) / 18) ** 2 - 45 * dark


def _sunglasses(half: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two lenses with a frame, the bridge between them and the temples to the ears."""
    top, bottom, left, right = LAYOUT["eyes"]
    row, middle, away = (top + bottom) / 2, (left + right) / 2, (right - left) / 4
    last = half - 1 / _FINE  # Pillow paints the last point too
    lenses = [_fine((eye - half, row - half), (eye + last, row + 0.8 * last)) for eye in (middle - away, middle + away)]
    wires = [[(sign * (away + half - 1), row - 2), (sign * 23.5, row - 4)] for sign in (-1, 1)]
    wires = [_fine(*((middle + x, y) for x, y in wire))
             for wire in (*wires, [(half - away - 0.5, row - 1.5), (away - half + 0.5, row - 1.5)])]
    radius = int(0.75 * half * _FINE)

    def draw_glass(pen: ImageDraw.ImageDraw) -> None:
        for lens in lenses:
            pen.rounded_rectangle(lens, radius, fill=255)

    def draw_frame(pen: ImageDraw.ImageDraw) -> None:
        for lens in lenses:
            pen.rounded_rectangle(lens, radius, outline=255, width=_FINE)
        _lines(pen, wires, width=12)

    glass, frame = _drawn(draw_glass), _drawn(draw_frame)
    opaque = half / max(_SIZES["sunglasses"])
    shade = 10 + 3 * (_LINE[:, None] - row + half).clamp(0, 2 * half)
    return torch.maximum(opaque * glass, frame), shade * (1 - frame)


def _lines(pen: ImageDraw.ImageDraw, lines: list[list[tuple[float, float]]], width: int = _FINE) -> None:
    for line in lines:
        pen.line(line, fill=255, width=width)


def _drawn(draw: Callable[[ImageDraw.ImageDraw], None], rounding: float = 0.0) -> torch.Tensor:
    """float32 (48, 48) in 0..1: how much of each pixel is painted; corners are rounded by so many pixels."""
    canvas = Image.new("L", (IMAGE_SIZE * _FINE,) * 2)
    draw(ImageDraw.Draw(canvas))
    if rounding:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rounding * _FINE)).point(lambda grey: 255 * (grey > 127))
    return torch.from_numpy(np.array(canvas.reduce(_FINE), np.float32) / 255)


def _fine(*points: tuple[float, float]) -> list[tuple[float, float]]:
    """Points (x, y) in pixels, on the canvas of `_drawn`."""
    return [(float(x) * _FINE, float(y) * _FINE) for x, y in points]
