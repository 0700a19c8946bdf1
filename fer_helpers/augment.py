"""From stored bytes to network input: normalisation and batched random augmentation, one tensor operation per batch.

All random numbers are drawn on the CPU from the caller's generator, so a seed means the same faces on every device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .files import FerError


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
    """

    flip: bool = False
    degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    erase: float = 0.0


POLICIES: dict[str, Policy] = {
    "none": Policy(),
    "flip": Policy(flip=True),
    "standard": Policy(flip=True, degrees=10, scale=0.1, shift=4, contrast=0.2, brightness=0.1),
    "strong": Policy(flip=True, degrees=15, scale=0.2, shift=6, contrast=0.3, brightness=0.15, erase=0.5),
}


def policy(name: str) -> Policy:
    """The `POLICIES` entry of that name; `FerError` listing the choices for any other."""
    if name not in POLICIES:
        raise FerError(f"augmentation={name!r} is unknown; choose one of {', '.join(POLICIES)}")
    return POLICIES[name]


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, 48, 48) to float32 (N, 1, 48, 48): 0 becomes −2, 255 becomes 2, near mean 0 and variance 1."""
    return images[:, None].float().mul_(4 / 255).sub_(2)


def augment(images: torch.Tensor, how: Policy, generator: torch.Generator) -> torch.Tensor:
    """Normalised images, each changed at random within ``how``.

    Parameters
    ----------
    images : uint8 tensor (N, 48, 48) on any device.
    how : the allowed range of every change.
    generator : CPU generator; the same state gives the same result.

    Returns
    -------
    float32 tensor (N, 1, 48, 48) on the device of ``images``. What leaves the frame is replaced by the nearest
    edge pixel, so no black border tells the network how an image was turned.
    """
    batch, size, device = normalise(images), images.shape[-1], images.device
    count = len(batch)

    def uniform(*shape: int) -> torch.Tensor:
        """Draws in −1..1, always made, so that the sequence of a seed does not depend on the policy."""
        return torch.rand(count, *shape, generator=generator) * 2 - 1

    mirror, angle, zoom, move, gain, offset = (uniform(n) for n in (1, 1, 1, 2, 1, 1))
    corner, area, chosen = uniform(2), uniform(2), uniform(1)
    if how.degrees or how.scale or how.shift:
        angle, zoom = angle[:, 0] * torch.pi * how.degrees / 180, 1 + zoom[:, 0] * how.scale
        sign = torch.where(mirror[:, 0] < 0, -1.0, 1.0) if how.flip else torch.ones(count)
        cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        matrix = torch.stack([torch.stack([cos * sign, -sin, move[:, 0] * how.shift * 2 / size], 1),
                              torch.stack([sin * sign, cos, move[:, 1] * how.shift * 2 / size], 1)], 1)
        grid = F.affine_grid(matrix.to(device), list(batch.shape), align_corners=False)
        batch = F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)
    elif how.flip:
        batch = torch.where((mirror < 0).to(device)[..., None, None], batch.flip(-1), batch)
    if how.contrast or how.brightness:
        gain = (1 + gain * how.contrast).to(device)[..., None, None]
        offset = (4 * offset * how.brightness).to(device)[..., None, None]
        middle = batch.mean((2, 3), keepdim=True)
        batch = ((batch - middle) * gain + middle + offset).clamp_(-2, 2)
    if how.erase:
        # Sides of 22–50% of the image: areas of 5–25%.
        sides = (0.36 + 0.14 * area) * size
        start = (corner + 1) / 2 * (size - sides)
        line = torch.arange(size)
        inside = (line >= start[..., None]) & (line < (start + sides)[..., None])
        hole = inside[:, 0, :, None] & inside[:, 1, None, :] & (chosen < 2 * how.erase - 1)[..., None]
        batch = batch.masked_fill(hole[:, None].to(device), 0.0)
    return batch
