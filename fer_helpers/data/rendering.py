"""Draws faces from facial action units: the parameters of a face, `FaceParams`, and `render`, which makes the picture.

A picture is the same to the last bit on every machine: drawing uses only operations that IEEE 754 rounds exactly
(+ − × ÷ √ min max floor, comparisons), element by element, on CPU float32, and `torch.rand`. So there is no exp, sin,
convolution or sum here, whose last bit differs between processors and vector widths.

Lengths are pixels of a 48×48 image at scale 1, from the middle of the face: u to the right, v down.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

from ..files import FerError
from .emotions import ACTION_UNITS
from .faceset import IMAGE_SIZE

PIXELS = IMAGE_SIZE * IMAGE_SIZE
SEEDS = 1 << 16  # different values of `FaceParams.seed`: offsets into the noise
#: (lowest, neutral, highest) of every field of `FaceParams` but action_units and seed. Sampling stays inside.
RANGES: dict[str, tuple[float, float, float]] = {
    # identity
    "face_width": (0.9, 1.0, 1.1), "face_length": (0.94, 1.0, 1.08), "jaw": (0.0, 0.5, 1.0),  # pointed .. square
    "skin": (0.38, 0.64, 0.80), "hair_tone": (0.05, 0.16, 0.66), "hairline": (-1.0, 0.0, 1.0),  # low .. receding
    "hair_length": (0.0, 0.3, 1.0), "fringe": (-1.0, 0.0, 1.0),  # parted left .. right
    "brow_thickness": (0.7, 1.0, 1.4), "eye_size": (0.88, 1.0, 1.14), "eye_spacing": (0.94, 1.0, 1.06),
    "iris": (0.06, 0.2, 0.45), "nose_size": (0.8, 1.0, 1.25), "mouth_width": (0.88, 1.0, 1.12),
    "lip_fullness": (0.7, 1.0, 1.35), "age": (0.0, 0.25, 1.0), "glasses": (0.0, 0.0, 1.0), "beard": (0.0, 0.0, 1.0),
    # expression beyond the action units: gaze, difference of the two sides, how far a strong smile parts the lips
    "gaze": (-1.0, 0.0, 1.0), "asymmetry": (-1.0, 0.0, 1.0), "parting": (0.0, 0.7, 1.0),
    # pose: degrees, pixels
    "yaw": (-24.0, 0.0, 24.0), "pitch": (-14.0, 0.0, 14.0), "roll": (-14.0, 0.0, 14.0),
    "shift_x": (-2.5, 0.0, 2.5), "shift_y": (-2.0, 0.0, 2.0), "scale": (0.9, 1.0, 1.12),
    # light: from the left .. right, from below .. above, share of directed light
    "light_x": (-1.0, -0.25, 1.0), "light_y": (-0.3, 0.5, 1.0), "light": (0.4, 0.68, 0.92),
    "brightness": (-0.14, 0.0, 0.14), "contrast": (0.7, 1.0, 1.25), "background": (0.05, 0.45, 0.95),
    # camera
    "blur": (0.1, 0.5, 1.0), "noise": (0.0, 0.015, 0.045),
    # what hides the face: 0 nothing, 1 a dark bar, 2 fingers; its middle and half-height in pixels
    "occluder": (0.0, 0.0, 2.0), "occluder_x": (-14.0, 0.0, 14.0), "occluder_y": (-10.0, 8.0, 16.0),
    "occluder_size": (2.0, 4.0, 6.0),
}

_CHUNK = 28  # faces at a time: enough to outweigh the cost of a call, few enough for the processor's cache
_LOCK = threading.Lock()


@dataclass(frozen=True, eq=False)
class FaceParams:
    """All that decides N pictures. Change some with `dataclasses.replace`; `RANGES` gives meaning and limits.

    Attributes
    ----------
    action_units : float32 (N, 13), intensity 0..1 of each of `emotions.ACTION_UNITS`.
    seed : int64 (N,), chooses the grain of film, skin and hair.
    others : float32 (N,) each.
    """

    action_units: torch.Tensor
    seed: torch.Tensor
    face_width: torch.Tensor
    face_length: torch.Tensor
    jaw: torch.Tensor
    skin: torch.Tensor
    hair_tone: torch.Tensor
    hairline: torch.Tensor
    hair_length: torch.Tensor
    fringe: torch.Tensor
    brow_thickness: torch.Tensor
    eye_size: torch.Tensor
    eye_spacing: torch.Tensor
    iris: torch.Tensor
    nose_size: torch.Tensor
    mouth_width: torch.Tensor
    lip_fullness: torch.Tensor
    age: torch.Tensor
    glasses: torch.Tensor
    beard: torch.Tensor
    gaze: torch.Tensor
    asymmetry: torch.Tensor
    parting: torch.Tensor
    yaw: torch.Tensor
    pitch: torch.Tensor
    roll: torch.Tensor
    shift_x: torch.Tensor
    shift_y: torch.Tensor
    scale: torch.Tensor
    light_x: torch.Tensor
    light_y: torch.Tensor
    light: torch.Tensor
    brightness: torch.Tensor
    contrast: torch.Tensor
    background: torch.Tensor
    blur: torch.Tensor
    noise: torch.Tensor
    occluder: torch.Tensor
    occluder_x: torch.Tensor
    occluder_y: torch.Tensor
    occluder_size: torch.Tensor

    def __post_init__(self) -> None:
        units = self.action_units
        if units.dtype != torch.float32 or units.ndim != 2 or units.shape[1] != len(ACTION_UNITS):
            raise FerError(f"action_units must be float32 (N, {len(ACTION_UNITS)}), one column per unit of "
                           f"ACTION_UNITS, got {units.dtype} {tuple(units.shape)}")
        if not bool(((units >= 0) & (units <= 1)).all()):
            raise FerError("action_units must lie between 0 and 1")
        for field in dataclasses.fields(self)[1:]:
            value, dtype = getattr(self, field.name), torch.int64 if field.name == "seed" else torch.float32
            if value.shape != (len(self),) or value.dtype != dtype:
                raise FerError(f"{field.name} must be {dtype} ({len(self)},), one value a face, "
                               f"got {value.dtype} {tuple(value.shape)}")

    def __len__(self) -> int:
        return len(self.action_units)

    def __getitem__(self, rows: slice | torch.Tensor) -> FaceParams:
        """The faces at ``rows``, a slice or an index tensor."""
        return FaceParams(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})

    @classmethod
    def neutral(cls, count: int = 1) -> FaceParams:
        """``count`` copies of one average face, frontal, unoccluded, without expression."""
        if count < 1:
            raise FerError(f"count={count} must be at least 1")
        average = {name: torch.full((count,), middle) for name, (_, middle, _) in RANGES.items()}
        return cls(action_units=torch.zeros(count, len(ACTION_UNITS)), seed=torch.zeros(count, dtype=torch.int64),
                   **average)


class Rendered(NamedTuple):
    """images : uint8 (N, 48, 48). regions : uint8 (N, 48, 48), bit k where the k-th of `emotions.REGIONS` is seen."""

    images: torch.Tensor
    regions: torch.Tensor


def render(params: FaceParams) -> Rendered:
    """Draw the faces. A picture depends on its own parameters alone, not on the others of the batch."""
    # Faces with the same extras lie together, so that most chunks need not draw those that none of their faces has.
    extras = sum((getattr(params, name) > 0).float() * weight for name, weight in
                 (("occluder", 4), ("glasses", 2), ("beard", 1)))
    order = extras.argsort(stable=True)
    p = SimpleNamespace(seed=params.seed[order], action_units=params.action_units[order],
                        **{name: getattr(params, name)[order, None] for name in RANGES})
    g = _geometry(p)
    images = torch.empty(len(params), PIXELS, dtype=torch.uint8)
    regions = torch.empty(len(params), PIXELS, dtype=torch.uint8)

    def draw(start: int) -> None:
        rows = slice(start, start + _CHUNK)
        images[rows], regions[rows] = _render_chunk(_rows(p, rows), _rows(g, rows))

    starts = range(0, len(params), _CHUNK)
    with _one_thread_an_operation() as threads, ThreadPoolExecutor(min(4, threads)) as pool:
        list((pool.map if len(starts) > 1 else map)(draw, starts))
    back = order.argsort()
    shape = (len(params), IMAGE_SIZE, IMAGE_SIZE)
    return Rendered(images[back].view(shape), regions[back].view(shape))


@contextlib.contextmanager
def _one_thread_an_operation() -> Iterator[int]:
    """Keep torch from sharing each small operation among its threads, which chunks do better; gives their number."""
    with _LOCK:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield threads
        finally:
            torch.set_num_threads(threads)


def _rows(columns: SimpleNamespace, rows: slice) -> SimpleNamespace:
    """The same columns, tensors (N, ...) or dictionaries of them, for some faces only."""
    return SimpleNamespace(**{name: {key: column[rows] for key, column in value.items()} if isinstance(value, dict)
                              else value[rows] for name, value in vars(columns).items()})


def _render_chunk(p: SimpleNamespace, g: SimpleNamespace) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and regions, uint8 (n, 2304): face tones times light, over the backdrop, under hair and whatever hides."""
    c = _place(p, g)
    c.grain, c.streaks, c.clouds = (bank[p.seed % SEEDS] for bank in _noise_banks())
    c.regions = torch.zeros(c.u.shape, dtype=torch.uint8)
    c.tone = p.skin * (1 + 0.08 * c.clouds)
    if p.beard.max() > 0:
        _beard(c, p, g)
    for draw, v, height, width, texture in ((_lower_face, 10.5, 30, 32, "clouds"), (_eyes, -4.0, 20, 42, None),
                                            (_forehead, -12.0, 24, 44, "streaks")):
        window = _window(c, p, g, v, height, width, texture)
        draw(window, p, g)
        c.tone.scatter_(1, window.at, window.tone)
        c.regions.scatter_add_(1, window.at, window.regions)  # each bit is set in one window only
    c.regions *= c.head > 0.5
    c.tone *= _light(_relief(c, p, g), p)
    image = _blend(_backdrop(c, p, g), c.head, c.tone)
    _hair(image, c, p, g)
    if p.glasses.max() > 0:
        _glasses(image, c, p, g)
    if p.occluder.max() > 0:
        _occluder(image, c, p)
    return _camera(image, c, p), c.regions


def _window(c: SimpleNamespace, p: SimpleNamespace, g: SimpleNamespace, v: float, height: int, width: int,
            texture: str | None) -> SimpleNamespace:
    """The planes of ``c`` in a box of pixels around (0, v) of each face: small parts cost little."""
    x, y = 12.0 * g.sin_yaw, v * g.cos_pitch + 12.0 * g.sin_pitch
    middle = (IMAGE_SIZE - 1) / 2
    left = (x * g.cos_roll - y * g.sin_roll) * p.scale + (p.shift_x + (middle + 0.5 - 0.5 * width))
    top = (y * g.cos_roll + x * g.sin_roll) * p.scale + (p.shift_y + (middle + 0.5 - 0.5 * height))
    left, top = left.clamp_(0, IMAGE_SIZE - width).floor_(), top.clamp_(0, IMAGE_SIZE - height).floor_()
    inside = (torch.arange(height)[:, None] * IMAGE_SIZE + torch.arange(width)).view(1, -1)
    at = (top * IMAGE_SIZE + left).to(torch.int64) + inside
    w = SimpleNamespace(at=at, u=c.u.gather(1, at), v=c.v.gather(1, at), tone=c.tone.gather(1, at),
                        regions=torch.zeros(at.shape, dtype=torch.uint8))
    w.abs_u = w.u.abs()
    if texture:
        setattr(w, texture, getattr(c, texture).gather(1, at))
    return w


@functools.cache
def _noise_banks() -> tuple[torch.Tensor, ...]:
    """Views whose row k is float32 noise of -1..1, (2304,): grain, streaks running down, and clouds."""
    size = SEEDS + PIXELS
    grain = torch.rand(size + 8 * IMAGE_SIZE + 8, generator=torch.Generator().manual_seed(48)) * 2 - 1

    def spread(bank: torch.Tensor, step: int) -> torch.Tensor:  # sum of 8 neighbours, by doubling
        for times in (1, 2, 4):
            bank = bank[:-step * times] + bank[step * times:]
        return bank

    streaks = spread(grain, IMAGE_SIZE) * 0.25
    clouds = spread(streaks, 1) * 0.3
    return tuple(bank[:size].unfold(0, PIXELS, 1) for bank in (grain, streaks, clouds))


# --- Geometry: what each action unit does ------------------------------------------------------------------------


def _geometry(p: SimpleNamespace) -> SimpleNamespace:
    """Where the parts of each face lie, (n, 1) each, in pixels: the one place where action units become shape."""
    a = {unit: p.action_units[:, k:k + 1] for k, unit in enumerate(ACTION_UNITS)}
    g = SimpleNamespace(a=a)
    (g.sin_yaw, g.cos_yaw), (g.sin_pitch, g.cos_pitch), (g.sin_roll, g.cos_roll) = map(
        _sin_cos, (p.yaw, p.pitch, p.roll))
    g.nose_shift = 4.0 * g.sin_yaw  # the nose stands out, so it moves further when the head turns
    # Brows. AU1 lifts the inner end, AU2 the outer; AU4 lowers and draws together, but against AU1 it mostly draws
    # together: the oblique brow of grief. AU9 pulls the inner end along.
    g.brow_inner = -3.3 * a[1] + 2.6 * a[4] * (1 - 0.85 * a[1]) + 0.9 * a[9]
    g.brow_outer = -3.0 * a[2] + 0.5 * a[4] + 0.5 * a[9] + 0.5 * a[1] * a[4] * (1 - a[2])
    g.brow_arch = 1.3 + 0.8 * a[2] - 0.7 * a[4] - 0.4 * a[1]
    g.brow_start = 3.0 - 1.3 * a[4]
    # Lids. AU5 bares the white above the iris, AU7 and AU9 narrow from both sides, AU6 pushes the lower lid up.
    narrow = 0.35 * a[7] + 0.4 * a[9]
    g.lid_upper = p.eye_size * (1.75 + 1.35 * a[5] - 1.75 * (narrow + 0.22 * a[6]) - 0.3 * a[4] - 0.25 * a[15])
    g.lid_upper = g.lid_upper.clamp(min=0.35)
    g.lid_lower = p.eye_size * (1.35 + 0.35 * a[5] - 1.35 * (narrow + 0.5 * a[6])).clamp(min=0.25)
    g.lid_slope = 0.55 * a[4] * (1 - a[1]) - 0.5 * a[1] * (1 - a[2])  # of the upper lid, falling to the nose or away
    # Mouth. AU12 draws the corners out and up, AU15 down, AU20 straight out; AU23 rolls in and presses the lips; AU26
    # drops the jaw, which narrows and rounds the opening unless AU20 stretches it; AU16 bares the lower teeth. A broad
    # smile parts the lips by itself.
    g.mouth_half = p.mouth_width * (6.6 + 2.4 * a[12] + 2.0 * a[20] - 1.1 * a[23] - 1.6 * a[26] * (1 - a[20])
                                    * (1 - a[12]) + 0.3 * a[15])
    g.corner = -3.6 * a[12] + 2.5 * a[15] + 0.7 * a[20] + 0.3 * a[23] + 0.4 * a[9]
    g.mouth_v = 12.4 - 0.7 * a[9] - 0.4 * a[15] + 0.9 * a[12] + 0.4 * a[16]
    smile = a[12] * a[12] * p.parting
    g.gap_upper = 1.3 * smile + 1.2 * a[26] + 0.5 * a[20] + 0.9 * a[9] * a[16]
    g.gap_lower = 2.2 * smile + 4.4 * a[26] + 0.8 * a[20] + 1.5 * a[16]
    g.round = (0.8 * a[26] - 0.4 * a[12]).clamp(min=0)
    thin = 1 - 0.3 * a[12] - 0.25 * a[20] - 0.62 * a[23] - 0.2 * a[26]
    g.lip_upper = 1.5 * p.lip_fullness * (thin - 0.25 * a[9])
    g.lip_lower = 2.1 * p.lip_fullness * (thin + 0.25 * a[16] + 0.15 * a[15])
    g.teeth_upper = 1.1 + 1.9 * a[12] + 0.7 * a[20] + 0.6 * a[9]
    g.teeth_lower = (a[16] + 0.6 * a[20] * a[26]).clamp(max=1)
    g.jaw_drop = 2.6 * a[26] + 0.3 * a[16]
    # Cheeks and nose: AU6 and AU12 lift and round the cheek, AU9 shortens and widens the nose.
    g.cheek_lift = 1.4 * a[6] + 1.0 * a[12] + 0.6 * a[9]
    g.cheek = 1.2 + 1.5 * a[6] + 1.6 * a[12] + 0.5 * a[9]
    g.nose_lift = 1.0 * a[9]
    g.nose_half = p.nose_size * (3.7 + 0.9 * a[9] + 0.4 * a[12])
    g.eye_u, g.eye_half = 8.4 * p.eye_spacing * p.face_width, 4.3 * p.eye_size
    return g


# --- Parts of the picture -----------------------------------------------------------------------------------------

_EYE_V, _BROW_V = -4.6, -10.4  # height of the eyes and of neutral brows


def _place(p: SimpleNamespace, g: SimpleNamespace) -> SimpleNamespace:
    """Coordinates of every pixel: x, y of the turned but frontal head; u, v on the face, seen over its curved front."""
    grid = torch.arange(IMAGE_SIZE, dtype=torch.float32) - (IMAGE_SIZE - 1) / 2
    c = SimpleNamespace()
    right = grid.repeat(IMAGE_SIZE)[None] - p.shift_x
    down = grid.repeat_interleave(IMAGE_SIZE)[None] - p.shift_y
    sin, cos = g.sin_roll / p.scale, g.cos_roll / p.scale
    c.x = right * cos + down * sin
    c.y = down * cos - right * sin
    # An egg: narrower towards the chin, the more the less square the jaw; the jaw drops with AU26.
    below, above = c.y.clamp(min=0), c.y.clamp(max=0)
    below *= 1 / (22.3 * p.face_length + g.jaw_drop)
    above *= 1 / 26.0
    across = c.x / ((1 - below * (0.34 - 0.22 * p.jaw)) * (17.6 * p.face_width))
    across *= across
    along = below + above
    along *= along
    square = _hypot(across, along)
    c.radius2 = across + along
    c.radius2 += (square - c.radius2) * (0.25 + 0.3 * p.jaw)
    c.head = _cover((1 - _sqrt(c.radius2.clone())) * 18)
    c.depth = _sqrt((1.05 - c.radius2).clamp_(min=0)) * 13.5
    c.u = c.x * g.cos_yaw - c.depth * g.sin_yaw
    c.v = c.y * g.cos_pitch - c.depth * g.sin_pitch
    c.abs_u = c.u.abs()
    return c


def _relief(c: SimpleNamespace, p: SimpleNamespace, g: SimpleNamespace) -> torch.Tensor:
    """Height of the skin towards the viewer, (n, 2304): the egg, and bumps and hollows on it."""
    height: torch.Tensor = c.depth.clone()
    for u, v, half_u, half_v, size in (
            (7.0, -8.8 + 0.5 * g.brow_inner, 9.0, 4.5, 1.1 + 0.6 * g.a[4]),  # brow ridge
            (g.eye_u - 0.8, -4.0, 6.5, 5.0, -2.4),  # eye socket
            (g.eye_u, -4.6, 4.6, 3.8, 1.3),  # eyeball
            (10.0, 4.2 - g.cheek_lift, 7.0, 6.0, g.cheek),
            (11.5, 11.5, 5.5, 6.5, -1.2 - 0.8 * p.age),  # hollow below the cheekbone
            (16.0, -9.0, 5.0, 8.0, -1.2)):  # temple
        height += _blob(c.abs_u - u, half_u, c.v - v, half_v).mul_(size)
    for v, half_u, half_v, size in (
            (12.5, 9.5, 6.5, 1.8),  # muzzle
            (g.mouth_v + g.gap_lower + 3.6, 5.0, 2.2, -1.3),  # below the lip
            (19.5 + g.jaw_drop, 6.5, 4.0, 1.8)):  # chin
        height += _blob(c.u, half_u, c.v - v, half_v).mul_(size)
    u, up = c.u - g.nose_shift, 6.6 - g.nose_lift - c.v
    rise = ((c.v + 8) * (1 / 13)).clamp_(0, 1)
    ridge = _blob(u / (rise * 0.5 + 0.75), 2.6 * p.nose_size)
    height += ridge.mul_(rise).mul_(_smooth((up + 0.6) * 0.6)).mul_(3.6)
    height += _blob(u, 3.4 * p.nose_size, up - 2.2, 3.2).mul_(2.2)
    height += _blob(u.abs_() - g.nose_half + 1.1, 1.9, up - 1.2, 2.2).mul_(1.2)
    return height


def _light(height: torch.Tensor, p: SimpleNamespace) -> torch.Tensor:
    """Brightness of the skin, (n, 2304): Lambert's law on the slopes of ``height``, plus light from all around."""
    plane = height.view(-1, IMAGE_SIZE, IMAGE_SIZE)
    right, down = torch.zeros_like(plane), torch.zeros_like(plane)
    right[:, :, 1:-1] = (plane[:, :, 2:] - plane[:, :, :-2]) * 0.5
    down[:, 1:-1] = (plane[:, 2:] - plane[:, :-2]) * 0.5
    for slope in (right, down):
        slope.clamp_(-2.2, 2.2)
    right, down = right.view(height.shape), down.view(height.shape)
    across, above = 0.8 * p.light_x, -0.75 * p.light_y
    length = _sqrt(across * across + above * above + 1)
    lit: torch.Tensor = 1 - right * across - down * above
    lit /= _sqrt(right * right + down * down + 1) * length
    lit.clamp_(min=0)
    lit *= 1.25 * p.light
    lit += 1.05 - p.light
    return lit


def _beard(c: SimpleNamespace, p: SimpleNamespace, g: SimpleNamespace) -> None:
    """Stubble to full beard: along the jaw, round the mouth and on the upper lip."""
    jaw = _smooth((c.radius2 - 0.62) * 4) * _smooth((c.v - 4) * 0.25)
    chin = _blob(c.u, 9.5, c.v - 19 - 0.6 * g.jaw_drop, 6.5) * 1.6
    lip = _blob(c.u, 6.8, c.v - (g.mouth_v - 2.6), 2.2) * 1.4
    where = torch.maximum(torch.maximum(jaw, chin), lip).clamp_(max=1)
    where *= (0.75 + 0.35 * c.grain) * (0.85 * p.beard)
    c.tone += where.clamp_(0, 1) * (0.8 * p.hair_tone - c.tone)


def _lower_face(c: SimpleNamespace, p: SimpleNamespace, g: SimpleNamespace) -> None:
    """Folds of the cheeks, nose and mouth."""
    a, age = g.a, 0.5 * p.age * p.age
    # Nasolabial fold: from the wing of the nose round the corner of the mouth; AU12 and AU9 dig it.
    down = c.v - 5.0
    fold = c.abs_u - (4.6 + 0.5 * a[9]) - down * (0.42 + 0.42 * a[12] + 0.12 * a[9] - 0.012 * down)
    reach = _blob(down - 3.6, 5.2 + 1.5 * age)
    _darken(c, _line(fold, 1.5) * reach, (0.08 + 0.32 * a[12] + 0.34 * a[9] + 0.12 * a[20] + 0.5 * age).clamp(max=0.5))
    # From the mouth corner down: AU15, and AU20 a little.
    right, low = c.abs_u - g.mouth_half, c.v - (g.mouth_v + g.corner)
    slant = _line(right - 0.6 - 0.25 * low, 1.2) * _blob(right - 1, 3.0, low - 1.6, 3.4)
    _darken(c, slant, 0.35 * a[15] + 0.15 * a[20] + 0.3 * age)
    _nose(c, p, g)
    _mouth(c, p, g)


def _nose(c: SimpleNamespace, p: SimpleNamespace, g: SimpleNamespace) -> None:
    """Nostrils, the wings' edges and the shadow below; its form is in `_relief`."""
    u, up = c.u - g.nose_shift, 6.6 - g.nose_lift - c.v
    abs_u = u.abs()
    _darken(c, _blob(abs_u - 0.5 * g.nose_half, 1.6, up, 1.2 + 0.2 * g.a[9]), 0.7)
    wing = _line(_hypot(abs_u - g.nose_half + 1.5, up - 1.2) - 2.1, 1.2)
    wing *= _cover(abs_u - g.nose_half + 0.9) * _cover(up + 1)
    _darken(c, wing, 0.25 + 0.2 * g.a[9])
    _darken(c, _blob(u, g.nose_half + 0.8, up + 1.5, 2.2), 0.28)
    half = g.nose_half * (0.45 + 0.55 * _smooth((c.v + 5) * 0.09))
    _mark(c, 2, torch.minimum(half - abs_u, torch.minimum(c.v + 3.5, up + 1.2)))


def _mouth(c: SimpleNamespace, p: SimpleNamespace, g: SimpleNamespace) -> None:
    """Lips, and between them teeth, tongue and dark."""
    t = c.u * (1 / g.mouth_half)
    t2 = t * t
    arc = 1 - t2  # 1 in the middle, 0 at the corners, below 0 outside
    root = _sqrt(arc.clamp(min=0))
    rounded = arc + (root - arc.clamp(min=0)) * g.round
    bend = t2.clamp(max=1.2)
    line = g.mouth_v + g.corner * (0.4 * bend + 0.6 * bend * bend)
    line += t * (p.asymmetry * (0.3 + 0.8 * g.a[12] + 0.6 * g.a[15]))
    inner_top, inner_bottom = line - g.gap_upper * rounded, line + g.gap_lower * rounded
    top = inner_top - g.lip_upper * arc * (1 - 0.3 * _blob(t, 0.25))
    bottom = inner_bottom + g.lip_lower * rounded
    outer = torch.minimum(c.v - top, bottom - c.v)
    under = _cover(c.v - line)
    lip = p.skin * (0.65 + 0.13 * under + 0.05 * c.clouds)
    lip += 0.12 * p.skin * _blob(c.u, 3.5, c.v - inner_bottom - 0.5 * g.lip_lower, 1.0)
    c.tone += _smooth(outer + 0.6) * (lip - c.tone)
    # Closed lips meet in a dark line.
    _darken(c, _line(c.v - line, 1.0) * _cover(arc * 3), 0.42 + 0.3 * g.a[23])
    gap = torch.minimum(c.v - inner_top, inner_bottom - c.v)
    opening = _cover(gap - 0.1) * ((g.gap_upper + g.gap_lower) * 1.2 - 0.2).clamp(0, 1)
    dark = 0.06 + 0.12 * p.skin * _smooth((c.v - line - 1.0) * 0.3)  # tongue
    teeth = _cover(inner_top + g.teeth_upper - c.v)
    teeth = torch.maximum(teeth, _cover(c.v - inner_bottom + 1.6) * g.teeth_lower)
    teeth *= (1.06 - 0.8 * t2 * t2).clamp_(0, 1) * _cover(gap)
    dark += teeth * (0.80 - dark)
    c.tone += opening * (dark - c.tone)
    corner = _blob(c.abs_u - g.mouth_half, 1.7, c.v - g.mouth_v - g.corner, 1.6)
    _darken(c, corner, 0.25 + 0.3 * g.a[12] + 0.2 * g.a[15])
    _mark(c, 3, outer + 0.3)


def _eyes(c: SimpleNamespace, p: SimpleNamespace, g: SimpleNamespace) -> None:
    """White, iris, pupil, catchlight, lashes and lids, with the lines around the eye and at the root of the nose."""
    a, age = g.a, 0.5 * p.age * p.age
    root = _ripple(c.v * (1 / 2.4) + 0.3 * c.abs_u) * _blob(c.u - 0.5 * g.nose_shift, 4.5, c.v + 3.5, 4.2)
    _darken(c, root, 0.5 * a[9])
    low = c.v + 3.6
    fan = low * (0.5 + (c.abs_u - 12) * 0.12)  # crow's feet spread outwards
    _darken(c, _ripple(fan) * _blob(c.abs_u - 14.2, 2.8, low, 3.6), 0.45 * a[6] + 0.4 * age)
    out = c.abs_u - g.eye_u
    bag = _line(low - (0.6 + g.lid_lower) + 0.05 * out * out, 1.3) * _blob(out, 5.6, low - 1.6, 4.0)
    _darken(c, bag, 0.12 + 0.32 * a[6] + 0.22 * a[7] + 0.25 * a[9] + 0.4 * age)

    t = out * (1 / g.eye_half)  # -1 at the nose, 1 at the temple
    arc = 1 - t * t
    middle = _EYE_V - 0.35 * t
    upper = middle - g.lid_upper * arc * (1 - 0.2 * t) - g.lid_slope * t * arc.clamp(min=0)
    lower = middle + g.lid_lower * arc * (1 + 0.15 * t)
    opening = torch.minimum(c.v - upper, lower - c.v)
    du, dv = c.u - c.u.sign() * g.eye_u - 1.1 * p.gaze, c.v - (_EYE_V - 0.15)
    radius, size = _hypot(du, dv), 2.15 * p.eye_size
    eye = 0.84 - 0.2 * t * t - 0.28 * _line(c.v - upper, 1.8)  # white, in the shade of the lid
    eye += _cover(size - radius) * (p.iris * (0.75 + 0.35 * radius / size) - eye)
    eye += _cover(0.95 - radius) * (0.03 - eye)
    eye += _blob(du - 0.9 * p.light_x, 1.1, dv + 0.8, 1.1) * (1.1 - eye)
    c.tone += _cover(opening) * (eye - c.tone)
    inside = _cover(arc * 4)
    _darken(c, _line(c.v - upper + 0.25, 1.1) * inside, 0.78)
    _darken(c, _line(c.v - lower - 0.2, 0.9) * inside, 0.3)
    crease = _line(c.v - upper + 2.0 - 0.6 * a[5], 0.9) * _cover((arc + 0.1) * 3)
    _darken(c, crease, 0.32 - 0.1 * a[5])
    _mark(c, 1, opening + 0.6)


def _forehead(c: SimpleNamespace, p: SimpleNamespace, g: SimpleNamespace) -> None:
    """Brows, and the lines between and above them."""
    a, age = g.a, 0.5 * p.age * p.age
    # Across the middle of the forehead for AU1, out to the temples for AU2.
    lines = _ripple((c.v + 15.6 + 0.02 * c.u * c.u) * (1 / 2.8) + 0.25 * g.brow_inner)
    _darken(c, lines * _blob(c.u, 8.0, c.v + 15, 4.4), (0.4 * a[1] + 0.5 * age).clamp(max=0.45))
    _darken(c, lines * _blob(c.abs_u - 8, 6.0, c.v + 15.5, 4.0), (0.4 * a[2] + 0.4 * age).clamp(max=0.45))
    # Two upright lines for AU4.
    _darken(c, _line(c.abs_u - 1.4, 0.9) * _blob(c.u, 6.0, c.v + 9, 4.5), 0.42 * a[4] + 0.25 * age)

    start, length = g.brow_start, 14.2 - g.brow_start
    t = (c.abs_u - start) * (1 / length)  # 0 at the nose, 1 at the temple
    inside = t.clamp(0, 1)
    rest = 1 - inside
    v = g.brow_inner * rest * rest + g.brow_outer * inside * (2 - inside) * 0.9
    v += 0.9 * (inside - 0.45).square() - g.brow_arch * 3 * inside * inside * rest + 0.6 * rest * rest
    v += c.u * (0.06 * p.asymmetry) + _BROW_V
    away = (c.v - v).abs_() - p.brow_thickness * (1.2 - 0.75 * inside * inside)
    distance = torch.maximum(away, torch.maximum(-t, t - 1) * length)
    cover = _smooth(0.6 - distance * 0.65) * (0.82 + 0.25 * c.streaks)
    c.tone += cover.clamp_(0, 1) * (0.6 * p.hair_tone + 0.14 * p.skin - c.tone)
    _mark(c, 0, 0.4 - distance)


def _backdrop(c: SimpleNamespace, p: SimpleNamespace, g: SimpleNamespace) -> torch.Tensor:
    """What lies behind the face, (n, 2304): background, long hair, neck, ears."""
    image: torch.Tensor = p.background * (1 + 0.25 * c.clouds + 0.006 * c.y)
    abs_x = c.x.abs()
    # Long hair hangs down beside the face.
    round_ = _hypot(c.x * (1 / (19.5 * p.face_width + 1.5 * p.hair_length)), c.y.clamp(max=0) * (1 / 28))
    hair = _cover((1 - round_) * 20) * _smooth((46 * p.hair_length - 9 - c.y) * 0.15)
    image += hair * (p.hair_tone * (0.62 + 0.35 * c.streaks - 0.01 * p.light_x * c.x) - image)
    neck = _smooth(10.5 * p.face_width + 0.10 * (c.y - 20).clamp_(min=0).square_() - abs_x + 0.5)
    neck *= _cover(c.y - 5)
    shade = 0.36 + 0.03 * (c.y - 16).clamp_(0, 12) + 0.014 * p.light_x * c.x
    image += neck * (p.skin * shade - image)
    ear = _cover((1 - _hypot((abs_x - 17.6 * p.face_width) * (1 / 2.6), (c.y + 1) * (1 / 4.8))) * 3)
    ear *= 1 - hair * _smooth(p.hair_length * 5 - 1.5)
    return image.add(ear * (p.skin * (0.62 + 0.012 * p.light_x * c.x) - image))


def _hair(image: torch.Tensor, c: SimpleNamespace, p: SimpleNamespace, g: SimpleNamespace) -> None:
    """Hair above the forehead and down the temples, or a fringe over the forehead, swept to one side."""
    bangs = _smooth(-4 * p.hairline - 1.2)
    t = c.u * (1 / 15.5)
    t2 = t * t
    line = -17.6 - 3.0 * p.hairline.clamp(min=0) + 3.6 * bangs + 2.2 * p.fringe * t * (0.4 + bangs)
    line = line + t2 * t2 * (5.0 + 4 * p.hair_length - 3 * bangs)
    # A sideburn, or long hair, comes down outside the temples.
    line += ((c.x.abs() - (15.2 - 1.4 * p.hair_length) * p.face_width).clamp_(min=0)) * (2.5 + 8 * p.hair_length)
    line += c.streaks * (0.6 + 0.5 * bangs)
    outside = _hypot(c.x * (1 / (18.8 * p.face_width + 1.7 * p.hair_length)), c.y.clamp(max=0) * (1 / 28))
    cover = _smooth((line - c.v) * 0.35 + 0.5) * _cover((1 - outside) * 20)
    cover *= _smooth((30 * p.hair_length - 2 - c.y) * 0.2)
    cover *= 1 - 0.92 * _smooth((p.hairline - 0.5) * 6)  # nearly bald
    shine = _blob(c.x - 6 * p.light_x, 14.0, c.y + 20, 5.0)
    tone = p.hair_tone * (0.8 + 0.45 * c.streaks) + shine * (0.06 + 0.3 * p.hair_tone)
    image += cover * (tone - image)
    c.regions *= cover < 0.5


def _glasses(image: torch.Tensor, c: SimpleNamespace, p: SimpleNamespace, g: SimpleNamespace) -> None:
    """Dark frames: two rounded lenses, the bridge and the arms."""
    du, dv = (c.abs_u - g.eye_u) * (1 / 6.0), (c.v + 4.2) * (1 / 4.6)
    du, dv = du * du, dv * dv
    lens = _sqrt(_hypot(du, dv))
    rim = _line((lens - 1) * 5.0, 0.95)
    bar = _line(c.v + 5.6, 0.8) * _cover((c.abs_u - g.eye_u).abs_() - 5.6) * c.head
    rim = torch.maximum(rim, bar) * (0.88 * p.glasses)
    image += rim * (0.10 - image)
    glare = _smooth((1 - lens) * 4) * _line(c.u * 0.5 + c.v + 5 + 3 * p.light_x, 2.2) * (0.16 * p.glasses)
    image += glare * (1 - image)


def _occluder(image: torch.Tensor, c: SimpleNamespace, p: SimpleNamespace) -> None:
    """A dark bar across the picture, or three fingers before the face."""
    dx, dy = c.x - p.occluder_x, c.y - p.occluder_y
    bar = _cover(p.occluder_size - dy.abs()) * (p.occluder == 1).float()
    image += bar * (0.08 + 0.03 * c.clouds - image)
    wide = 2.2 + 0.12 * p.occluder_size
    place = dx * (1 / (2 * wide)) + 0.04 * dy + 0.5
    finger = place.floor()
    across = (place - finger - 0.5) * 2  # -1..1 over one finger
    length = dy + p.occluder_size + finger * finger * 1.6  # the middle one is longest
    tip = _hypot(across, (length * (1 / wide)).clamp_(max=1) - 1)
    hand = _cover((1 - tip) * wide) * _cover(2 * (1.5 - (place - 0.5).abs_()) * wide) * (p.occluder == 2).float()
    image += hand * (p.skin * (0.92 - 0.42 * across * across - 0.15 * across * p.light_x) - image)
    c.regions *= (bar + hand) < 0.5


def _camera(image: torch.Tensor, c: SimpleNamespace, p: SimpleNamespace) -> torch.Tensor:
    """Contrast, blur (1-2-1 in both directions, twice), grain, and 8 bits, uint8 (n, 2304)."""
    image = (image - 0.45) * p.contrast + (0.45 + p.brightness)
    strength = p.blur
    for _ in range(2):
        plane = image.view(-1, IMAGE_SIZE, IMAGE_SIZE)
        soft = plane.clone()
        soft[:, :, 1:-1] += (plane[:, :, 2:] + plane[:, :, :-2]) * 0.5 - plane[:, :, 1:-1]
        soft[:, :, 1:-1] = soft[:, :, 1:-1] * 0.5 + plane[:, :, 1:-1] * 0.5
        down = soft.clone()
        down[:, 1:-1] = (soft[:, 2:] + soft[:, :-2]) * 0.25 + soft[:, 1:-1] * 0.5
        image = image + (down.view(image.shape) - image) * strength
        strength = (strength * 2 - 1).clamp(min=0)
    image += c.grain * p.noise
    return (image.clamp_(0, 1) * 255 + 0.5).to(torch.uint8)  # rounds down


# --- Building blocks: exact operations only ------------------------------------------------------------------------


def _sin_cos(degrees: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sine and cosine by their series, good to 1e-4 up to 45 degrees; `torch.sin` is not exact everywhere."""
    x = degrees * 0.017453292
    square = x * x
    return x * (1 - square * (1 / 6) * (1 - square * 0.05)), 1 - square * 0.5 * (1 - square * (1 / 12))


def _cover(distance: torch.Tensor) -> torch.Tensor:
    """Share of a pixel inside an edge that lies ``distance`` pixels away (positive inside)."""
    return (distance + 0.5).clamp_(0, 1)


def _smooth(x: torch.Tensor) -> torch.Tensor:
    """Smooth step from 0 at x = 0 to 1 at x = 1."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _blob(du: torch.Tensor, half_u: float | torch.Tensor, dv: torch.Tensor | None = None,
          half_v: float | torch.Tensor = 1.0) -> torch.Tensor:
    """Bell of height 1 at (0, 0) that ends on the ellipse with the given half axes, or, without ``dv``, on a band."""
    inside = du * (1 / half_u)
    inside *= inside
    if dv is not None:
        dv = dv * (1 / half_v)
        inside += dv.mul_(dv)
    inside = (1 - inside).clamp_(min=0)
    return inside.mul_(inside)


def _line(distance: torch.Tensor, half: float) -> torch.Tensor:
    """Soft stroke along distance = 0: 1 on it, 0 from ``half`` away."""
    return (1 - distance.abs() * (1 / half)).clamp_(min=0)


def _ripple(phase: torch.Tensor) -> torch.Tensor:
    """Dark lines at whole numbers of ``phase``: 1 on them, 0 half-way between."""
    return (1 - (phase - phase.floor() - 0.5).abs() * 2).mul_(-1).add_(1).square_()


def _hypot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Length of (x, y)."""
    return _sqrt(x * x + y * y)


def _sqrt(x: torch.Tensor) -> torch.Tensor:
    """√x, in place, by NumPy: `torch.sqrt` may call Intel's MKL, which rounds one number in seven the other way."""
    np.sqrt(x.numpy(), out=x.numpy())
    return x


def _blend(under: torch.Tensor, cover: torch.Tensor, over: torch.Tensor) -> torch.Tensor:
    return under + cover * (over - under)


def _darken(c: SimpleNamespace, where: torch.Tensor, amount: float | torch.Tensor) -> None:
    """Take the share ``amount`` of the light away ``where``; overwrites ``where``."""
    c.tone *= where.mul_(amount).neg_().add_(1)


def _mark(c: SimpleNamespace, bit: int, distance: torch.Tensor) -> None:
    """Set region ``bit`` where ``distance`` (positive inside) reaches into the pixel."""
    c.regions += (distance > 0).to(torch.uint8) * (1 << bit)
