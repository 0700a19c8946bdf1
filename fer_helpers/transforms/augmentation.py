"""From stored bytes to network input: normalisation and batched random augmentation, one tensor operation per batch.

All random numbers are drawn on the CPU, so a seed means the same faces on every device.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ..data.regions import layout_masks
from ..files import FerError
from .autoaugment import MIX_DRAWS, mix


@dataclass(frozen=True)
class Policy:
    """How far each image may be changed. Every image of a batch gets its own draw, uniform within the range.

    Attributes
    ----------
    flip : mirror left–right with probability one half (faces are near-symmetric, emotions do not change side).
    degrees : largest rotation either way.
    scale : largest relative zoom either way, 0.1 for 0.9 to 1.1.
    shift : largest translation either way along each axis, in pixels.
    contrast : largest relative change of contrast either way.
    brightness : largest change of brightness either way, as a fraction of the full range.
    erase : probability that a random rectangle of 5–25% of the area is blanked (Zhong et al. 2020, arXiv:1708.04896).
    hide : probability that one region of the average face (`regions.LAYOUT`) is blanked.
    mix : "trivial" (TrivialAugment) or "augmix" (AugMix, without its consistency loss), before anything else, see
        `autoaugment.mix`; "" for neither.
    mixup, cutmix : probability that an image is blended with another of its batch (Zhang et al. 2018,
        arXiv:1710.09412), or a square of it comes from there (Yun et al. 2019, arXiv:1905.04899), see `blend`.
    """

    flip: bool = False
    degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    erase: float = 0.0
    hide: float = 0.0
    mix: str = ""
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def blends(self) -> bool:
        """Whether an image may carry a part of another, and so two labels."""
        return self.mixup + self.cutmix > 0


POLICIES: dict[str, Policy] = {
    "none": Policy(),
    "flip": Policy(flip=True),
    "standard": Policy(flip=True, degrees=10, scale=0.1, shift=4, contrast=0.2, brightness=0.1),
    "strong": Policy(flip=True, degrees=15, scale=0.2, shift=6, contrast=0.3, brightness=0.15, erase=0.5),
}
#: What may be added to any of them, as in "standard+hide".
EXTRAS: dict[str, dict[str, Any]] = {"erase": {"erase": 0.5}, "hide": {"hide": 0.5}, "trivial": {"mix": "trivial"},
                                     "augmix": {"mix": "augmix"}, "mixup": {"mixup": 0.5}, "cutmix": {"cutmix": 0.5}}

#: Views of an image whose logits may be averaged at test time, see `views`.
TTA = ("none", "flip", "ten_crop")


def policy(name: str) -> Policy:
    """The `POLICIES` entry of that name, with the `EXTRAS` named after each "+"; `FerError` listing the choices for any
    other."""
    base, *extras = str(name).split("+")
    if base not in POLICIES or set(extras) - set(EXTRAS):
        raise FerError(f"augmentation={name!r} is unknown; choose one of {', '.join(POLICIES)}, and add any of "
                       f"{', '.join(f'+{extra}' for extra in EXTRAS)}")
    added = {key: value for extra in extras for key, value in EXTRAS[extra].items()}
    return dataclasses.replace(POLICIES[base], **added)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 48, 48) to float32 (N, 1, 48, 48): 0 becomes −2, 255 becomes 2, near mean 0 and variance 1."""
    return images[:, None].float().mul_(4 / 255).sub_(2)


#: Numbers that `draw` draws for each image; a policy that mixes takes `autoaugment.MIX_DRAWS` more, and then one that
#: blends `BLEND_DRAWS`.
DRAWS, BLEND_DRAWS = 12, 4


def draw(count: int, generator: torch.Generator, how: Policy = Policy()) -> torch.Tensor:  # noqa: B008 - immutable
    """float32 (count, `DRAWS`, or more where ``how`` mixes or blends) in −1..1: all the chance of one batch."""
    numbers = DRAWS + bool(how.mix) * MIX_DRAWS + how.blends * BLEND_DRAWS
    return torch.rand(count, numbers, generator=generator) * 2 - 1


def augment(images: torch.Tensor, how: Policy, draws: torch.Tensor) -> torch.Tensor:
    """Normalised images, each changed within ``how``.

    Parameters
    ----------
    images : uint8 tensor (N, 48, 48) on any device.
    how : the allowed range of every change.
    draws : from `draw` for the same policy, (N, `DRAWS`) or more; the same draws give the same result.

    Returns
    -------
    float32 tensor (N, 1, 48, 48) on the device of ``images``. What leaves the frame is replaced by the nearest
    edge pixel, so no black border tells the network how an image was turned.
    """
    size, draws = images.shape[-1], draws.to(images.device)
    if how.mix:
        images = mix(images, how.mix, draws[:, DRAWS:DRAWS + MIX_DRAWS])
    batch = warp(normalise(images), how, draws)
    gain, offset, corner, area, chosen = draws[:, 5:DRAWS].split([1, 1, 2, 2, 1], dim=1)
    if how.contrast or how.brightness:
        gain = (1 + gain * how.contrast)[..., None, None]
        offset = (4 * offset * how.brightness)[..., None, None]
        middle = batch.mean((2, 3), keepdim=True)
        batch = ((batch - middle) * gain + middle + offset).clamp_(-2, 2)
    if how.erase:
        # Sides of 22–50% of the image: areas of 5–25%.
        sides = (0.36 + 0.14 * area) * size
        start = (corner + 1) / 2 * (size - sides)
        line = torch.arange(size, device=images.device)
        inside = (line >= start[..., None]) & (line < (start + sides)[..., None])
        hole = inside[:, 0, :, None] & inside[:, 1, None, :] & (chosen < 2 * how.erase - 1)[..., None]
        batch = batch.masked_fill(hole[:, None], 0.0)
    if how.hide:
        masks = layout_masks(images.device)
        which = ((corner[:, 0] + 1) / 2 * len(masks)).long().clamp_(max=len(masks) - 1)
        hole = masks[which] & (chosen < 2 * how.hide - 1)[..., None]
        batch = batch.masked_fill(hole[:, None], 0.0)
    return batch


def blend(batch: torch.Tensor, how: Policy, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that carry a part of their neighbour in the batch, the last one's of the first, by ``how.mixup`` and
    ``how.cutmix``.

    Parameters
    ----------
    batch : float (N, 1, S, S), from `augment` with the same ``how`` and ``draws``.
    how : a policy that blends.
    draws : (N, …), from `draw` for it.

    Returns
    -------
    The images, and float32 (N, 1): the share of each that is its own, uniform in 0.5..1 where it was blended, 1 where
    not. Labels are to be weighed likewise.
    """
    size, neighbour = batch.shape[-1], batch.roll(1, 0)
    kind, share, *corner = ((draws[:, -BLEND_DRAWS:].to(batch.device) + 1) / 2).split(1, dim=1)
    foreign = share / 2
    side = foreign.sqrt() * size
    line = torch.arange(size, device=batch.device)
    starts = [(place * (size - side)).round() for place in corner]
    inside = [(line >= start) & (line < start + side.round()) for start in starts]
    square = (inside[0][:, :, None] & inside[1][:, None, :]).float()
    mixed, cut = kind < how.mixup, (kind >= how.mixup) & (kind < how.mixup + how.cutmix)
    part = (mixed * foreign)[..., None] + cut[..., None] * square
    return torch.lerp(batch, neighbour, part[:, None]), 1 - part.mean((1, 2))[:, None]


def warp(batch: torch.Tensor, how: Policy, draws: torch.Tensor) -> torch.Tensor:
    """What `augmentation` does to the geometry, of float (N, K, 48, 48): mirror, turn, zoom, shift, all K planes
    alike."""
    size, draws = batch.shape[-1], draws.to(batch.device)
    mirror, angle, zoom, move = draws[:, :5].split([1, 1, 1, 2], dim=1)
    if how.degrees or how.scale or how.shift:
        angle, zoom = angle[:, 0] * torch.pi * how.degrees / 180, 1 + zoom[:, 0] * how.scale
        sign = torch.where(mirror[:, 0] < 0, -1.0, 1.0) if how.flip else torch.ones_like(angle)
        cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        matrix = torch.stack([torch.stack([cos * sign, -sin, move[:, 0] * how.shift * 2 / size], 1),
                              torch.stack([sin * sign, cos, move[:, 1] * how.shift * 2 / size], 1)], 1)
        grid = F.affine_grid(matrix, list(batch.shape), align_corners=False)
        return F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where((mirror < 0)[..., None, None], batch.flip(-1), batch) if how.flip else batch


def views(batch: torch.Tensor, tta: str = "none") -> Iterator[torch.Tensor]:
    """The views of normalised images (N, 1, 48, 48) that test-time averaging looks at, each of the same shape.

    ``tta`` is "none", "flip" (the image, its mirror) or "ten_crop" (crops of 44 pixels at the four corners and the
    centre, brought back to 48, each with its mirror; Krizhevsky et al. 2012).

    Raises
    ------
    FerError
        If ``tta`` is unknown.
    """
    if tta not in TTA:
        raise FerError(f"tta={tta!r} is unknown; choose one of {', '.join(TTA)}")
    size = batch.shape[-1]
    crop = size - size // 12
    far, middle = size - crop, (size - crop) // 2
    places = [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)] if tta == "ten_crop" else [None]
    for place in places:
        view = batch
        if place:
            view = batch[..., place[0]:place[0] + crop, place[1]:place[1] + crop]
            view = F.interpolate(view, (size, size), mode="bilinear", align_corners=False)
        yield view
        if tta != "none":
            yield view.flip(-1)
