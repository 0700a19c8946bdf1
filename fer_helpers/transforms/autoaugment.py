"""TrivialAugment and AugMix of a whole batch at once, each image with operations and chance of its own.

torchvision has both, for one choice of operation a call: a batch of faces would be as many calls. Here every operation
is computed for all images, and each image takes its own; so it also runs on a GPU without waiting for the processor.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F

#: Uniform numbers in −1..1 that `mix` takes for each image.
MIX_DRAWS = 34
#: "identity" first; then those that move pixels, those of a signed strength, and the rest.
OPERATIONS = ("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "contrast",
              "sharpness", "posterize", "solarize", "autocontrast", "equalize")
_CHAINS, _DEPTH = 3, 3


class Ranges(NamedTuple):
    """What strength 1 means: shear as a share, translation in pixels, degrees, relative change of brightness, contrast
    and sharpness, and the bits that posterizing starts from and takes away."""

    shear: float
    translate: float
    degrees: float
    factor: float
    bits: int
    fewer_bits: int


#: As torchvision has them; AugMix's usual severity is 3 of 10.
TRIVIAL = Ranges(0.99, 32.0, 135.0, 0.99, 8, 6)
AUGMIX, _AUGMIX_SEVERITY = Ranges(0.3, 16.0, 30.0, 0.0, 4, 4), 0.3
_AUGMIX_OPERATIONS = tuple(OPERATIONS.index(name) for name in (
    "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "posterize", "solarize", "autocontrast", "equalize"))


def mix(images: torch.Tensor, name: str, chance: torch.Tensor) -> torch.Tensor:
    """uint8 images (N, 48, 48), each changed by TrivialAugment or AugMix.

    Parameters
    ----------
    images : uint8 tensor (N, 48, 48) on any device.
    name : "trivial", one random operation of random strength (Müller & Hutter 2021, arXiv:2103.10158), or "augmix", a
        mixture of three chains of one to three operations, and of the image itself (Hendrycks et al. 2020,
        arXiv:1912.02781).
    chance : (N, `MIX_DRAWS`) in −1..1 on the same device; what happens to an image depends on its own row alone.
    """
    chance = (chance + 1) / 2
    pixels = images.float()
    if name == "trivial":
        which, strength, side = chance[:, :3].unbind(1)
        mixed = operate(pixels, _choose(which, len(OPERATIONS)), strength, side, TRIVIAL)
    else:
        steps, rest = chance.split([3 * _CHAINS * _DEPTH, MIX_DRAWS - 3 * _CHAINS * _DEPTH], 1)
        depth, weight, share = rest[:, :_CHAINS], rest[:, _CHAINS:2 * _CHAINS], rest[:, 2 * _CHAINS]
        known = _augmix_operations(images.device)
        # Equally likely weights that sum to 1: exponential ones, divided by their sum.
        weight = -weight.clamp(1e-6, 1 - 1e-6).log()
        weight = (weight / weight.sum(1, keepdim=True))[:, :, None, None]
        mixed = torch.zeros_like(pixels)
        for chain, draws in enumerate(steps.view(-1, _CHAINS, _DEPTH, 3).unbind(1)):
            changed = pixels
            for step, (which, strength, side) in enumerate(draws.permute(1, 2, 0)):
                which = known[_choose(which, len(known))] * (step <= _choose(depth[:, chain], _DEPTH))
                changed = operate(changed, which, strength * _AUGMIX_SEVERITY, side, AUGMIX)
            mixed = mixed + weight[:, chain] * changed
        mixed = torch.lerp(pixels, mixed, share[:, None, None])
    return mixed.round().clamp(0, 255).to(torch.uint8)


@functools.cache
def _augmix_operations(device: torch.device) -> torch.Tensor:
    """Kept on the device: a copy to it cannot be part of a recorded step."""
    return torch.tensor(_AUGMIX_OPERATIONS, device=device)


def operate(pixels: torch.Tensor, which: torch.Tensor, strength: torch.Tensor, side: torch.Tensor, ranges: Ranges
            ) -> torch.Tensor:
    """Each image changed by one of `OPERATIONS`.

    Parameters
    ----------
    pixels : float32 (N, 48, 48) in 0..255.
    which : int64 (N,), index into `OPERATIONS`.
    strength : float32 (N,), 0..1 of ``ranges``.
    side : float32 (N,), in 0..1: below a half, the operations that go two ways go the negative one.
    """
    signed = torch.where(side < 0.5, -strength, strength)
    factor = (1 + signed * ranges.factor)[:, None, None]
    mean = pixels.mean((1, 2), keepdim=True)
    darkest, lightest = pixels.amin((1, 2), keepdim=True), pixels.amax((1, 2), keepdim=True)
    step = 2 ** (8 - ranges.bits + (strength * ranges.fewer_bits).round())[:, None, None]
    moved = _move(pixels, which, signed, ranges)
    changed = [pixels, *[moved] * 5,
               pixels * factor, mean + factor * (pixels - mean), _sharpen(pixels, factor),
               (pixels / step).floor() * step,
               torch.where(pixels >= 255 * (1 - strength)[:, None, None], 255 - pixels, pixels),
               torch.where(lightest > darkest, (pixels - darkest) * (255 / (lightest - darkest).clamp_min(1)), pixels),
               _equalize(pixels)]
    taken = torch.zeros_like(pixels)
    for number, version in enumerate(changed):
        taken = torch.where((which == number)[:, None, None], version, taken)
    return taken.clamp(0, 255)


def _choose(uniform: torch.Tensor, count: int) -> torch.Tensor:
    """int64: one of ``count`` equally likely numbers from 0, of a uniform number in 0..1."""
    return (uniform * count).long().clamp_max(count - 1)


def _move(pixels: torch.Tensor, which: torch.Tensor, signed: torch.Tensor, ranges: Ranges) -> torch.Tensor:
    """Sheared, shifted or turned about the centre where ``which`` says so; what comes in is grey."""
    def only(name: str, value: torch.Tensor) -> torch.Tensor:
        return value * (which == OPERATIONS.index(name))

    angle = only("rotate", signed * ranges.degrees * torch.pi / 180)
    shift, shear = signed * ranges.translate * 2 / pixels.shape[-1], signed * ranges.shear
    cos, sin = angle.cos(), angle.sin()
    rows = ([cos, only("shear_x", shear) - sin, only("translate_x", shift)],
            [sin + only("shear_y", shear), cos, only("translate_y", shift)])
    matrix = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = F.affine_grid(matrix, [len(pixels), 1, *pixels.shape[1:]], align_corners=False)
    # Outside is zero: grey is made zero for as long.
    return F.grid_sample(pixels[:, None] - 128, grid, align_corners=False)[:, 0] + 128


def _sharpen(pixels: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Away from, or towards, a 3×3 mean that counts the middle five times; the edge of the frame stays."""
    kernel = torch.ones(1, 1, 3, 3, device=pixels.device)
    kernel[..., 1, 1].fill_(5)
    inner = pixels[:, 1:-1, 1:-1]
    smooth = F.conv2d(pixels[:, None], kernel / 13)[:, 0]
    return torch.cat([pixels[:, :1], torch.cat([pixels[:, 1:-1, :1], smooth + factor * (inner - smooth),
                                                pixels[:, 1:-1, -1:]], 2), pixels[:, -1:]], 1)


def _equalize(pixels: torch.Tensor) -> torch.Tensor:
    """Grey levels spread so that all are about equally frequent, as Pillow counts."""
    levels = pixels.round().long().clamp(0, 255).flatten(1)
    counts = pixels.new_zeros(len(pixels), 256).scatter_add_(1, levels, torch.ones_like(pixels.flatten(1)))
    last = counts.gather(1, levels.amax(1, keepdim=True))
    step = ((levels.shape[1] - last) / 255).floor()
    new = ((counts.cumsum(1) - counts + (step / 2).floor()) / step.clamp_min(1)).floor().clamp(0, 255)
    return torch.where(step > 0, new.gather(1, levels), levels.float()).view_as(pixels)
