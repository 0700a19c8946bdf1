"""Worse pictures and partly hidden faces: eleven corruptions and six occlusions, five severities each. How they look is
drawn in `viz.errors`; `robustness` counts the errors they cause, and `methods` compares networks on them.

After ImageNet-C (Hendrycks & Dietterich 2019, arXiv:1903.12261), whose constants are for 224 pixels a side and colour.
Those here are for grey faces of 48, chosen by looking at drawn faces and at what the shipped network makes of 500 test
photographs, so that severity 5 is hard but not hopeless. All chance is drawn on the CPU, image by image, from the seed
and the position.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..data.faceset import IMAGE_SIZE
from ..files import FerError
from .occlusions import OCCLUSIONS, occlusion

SEVERITIES = (1, 2, 3, 4, 5)

#: What the severities 1 to 5 of each corruption mean.
_STRENGTHS: dict[str, tuple[float, ...]] = {
    "gaussian_noise": (0.02, 0.04, 0.06, 0.08, 0.11),  # standard deviation, as a share of the full range
    "shot_noise": (500, 250, 130, 75, 45),  # photons that a white pixel catches
    "impulse_noise": (0.005, 0.01, 0.02, 0.03, 0.05),  # share of pixels that turn black or white
    "motion_blur": (3, 5, 7, 10, 13),  # length of the path, pixels
    "defocus_blur": (1, 1.5, 2, 2.7, 3.5),  # radius of the disc that a point becomes, pixels
    "jpeg": (40, 25, 15, 9, 5),  # quality
    "contrast": (0.7, 0.5, 0.35, 0.22, 0.12),  # what is left of each difference from the image's mean
    "brightness": (0.12, 0.24, 0.36, 0.48, 0.6),  # what is added, as a share of the full range
    "low_resolution": (34, 27, 21, 16, 13),  # pixels a side that are left
    "rotation": (8, 16, 25, 35, 50),  # degrees, either way
    "shift": (4, 8, 12, 15, 18),  # pixels, in any direction
}
CORRUPTIONS = tuple(_STRENGTHS)


def corrupt(images: torch.Tensor, name: str, severity: int, seed: int = 0) -> torch.Tensor:
    """Images made worse, or partly hidden.

    Parameters
    ----------
    images : uint8 tensor (N, 48, 48) on the CPU.
    name : one of `CORRUPTIONS` or `OCCLUSIONS`.
    severity : 1, mild, to 5: hard, though people could often still tell the face.
    seed : with an image's position it decides all that is random, alike for every severity: directions stay, noise
        grows.

    Returns
    -------
    uint8 tensor (N, 48, 48). What leaves the range of grey stays black or white; what a turn or shift lets in is the
    nearest edge pixel. Occlusions lie where the average face has its parts (`regions.LAYOUT`), and leave every other
    pixel as it was.

    Raises
    ------
    FerError
        If the name or severity is unknown, or the images have another type or size.
    """
    if name not in (*CORRUPTIONS, *OCCLUSIONS):
        raise FerError(f"corruption={name!r} is unknown; choose one of {', '.join((*CORRUPTIONS, *OCCLUSIONS))}")
    if severity not in SEVERITIES:
        raise FerError(f"severity={severity!r} must be one of {', '.join(map(str, SEVERITIES))}")
    if images.dtype != torch.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise FerError(f"images must be uint8 (N, {IMAGE_SIZE}, {IMAGE_SIZE}), got {images.dtype} "
                       f"{tuple(images.shape)}; take those of a FaceSet")
    if not len(images):
        return images.clone()
    pixels = images.float()
    if name in OCCLUSIONS:
        cover, paint = occlusion(name, len(images), int(severity), seed)
        pixels = pixels + cover * (paint - pixels)
    else:
        pixels = _CHANGES[name](pixels, _STRENGTHS[name][int(severity) - 1], seed)
    return pixels.round().clamp(0, 255).to(torch.uint8)


# --- Corruptions: float32 pixels (N, 48, 48) in 0..255, a strength and a seed to pixels in any range ----------------


def _draw(count: int, seed: int, draw: Callable[[np.random.Generator], np.ndarray | float]) -> torch.Tensor:
    """float32 (count, ...): what ``draw`` draws for each position from a generator of its own."""
    return torch.from_numpy(np.stack([draw(np.random.default_rng([seed, position])) for position in range(count)])
                            .astype(np.float32, copy=False))


def _gaussian_noise(pixels: torch.Tensor, deviation: float, seed: int) -> torch.Tensor:
    shape = pixels.shape[1:]
    return pixels + 255 * deviation * _draw(len(pixels), seed, lambda own: own.standard_normal(shape, np.float32))


def _shot_noise(pixels: torch.Tensor, photons: float, seed: int) -> torch.Tensor:
    expected = iter(pixels.double().numpy() * (photons / 255))
    return _draw(len(pixels), seed, lambda own: own.poisson(next(expected))) * (255 / photons)


def _impulse_noise(pixels: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    chance = _draw(len(pixels), seed, lambda own: own.random(pixels.shape[1:], np.float32))
    return pixels.masked_fill(chance < share / 2, 0).masked_fill(chance >= 1 - share / 2, 255)


def _motion_blur(pixels: torch.Tensor, length: float, seed: int) -> torch.Tensor:
    angle = torch.pi * _draw(len(pixels), seed, lambda own: own.random())[:, None, None]
    reach = int(length + 1) // 2
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1.0)] * 2, indexing="ij")
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    return _convolve(pixels, (length / 2 + 0.5 - along.abs()).clamp(0, 1) * (1 - across.abs()).clamp(min=0))


def _defocus_blur(pixels: torch.Tensor, radius: float, seed: int) -> torch.Tensor:
    reach = int(radius + 0.5)
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1.0)] * 2, indexing="ij")
    return _convolve(pixels, (radius + 0.5 - torch.hypot(x, y)).clamp(0, 1).expand(len(pixels), -1, -1))


def _jpeg(pixels: torch.Tensor, quality: float, seed: int) -> torch.Tensor:
    # A side is six blocks of eight, and no block knows of others: a column of images is coded like each alone.
    decoded = []
    for column in pixels.to(torch.uint8).split(1000):  # a file may have 65,500 rows
        Image.fromarray(column.flatten(0, 1).numpy()).save(file := io.BytesIO(), "JPEG", quality=int(quality))
        decoded.append(torch.from_numpy(np.array(Image.open(file), np.float32)).view(column.shape))
    return torch.cat(decoded)


def _contrast(pixels: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    mean = pixels.mean((1, 2), keepdim=True)
    return mean + share * (pixels - mean)


def _brightness(pixels: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    return pixels + 255 * share


def _low_resolution(pixels: torch.Tensor, size: float, seed: int) -> torch.Tensor:
    small = F.interpolate(pixels[:, None], (int(size),) * 2, mode="bilinear", antialias=True)
    return F.interpolate(small, pixels.shape[1:], mode="bilinear")[:, 0]


def _rotation(pixels: torch.Tensor, degrees: float, seed: int) -> torch.Tensor:
    side = _draw(len(pixels), seed, lambda own: own.choice((-1, 1)))
    angle, zero = side * (torch.pi * degrees / 180), torch.zeros(len(pixels))
    return _warp(pixels, [[angle.cos(), -angle.sin(), zero], [angle.sin(), angle.cos(), zero]])


def _shift(pixels: torch.Tensor, distance: float, seed: int) -> torch.Tensor:
    angle = 2 * torch.pi * _draw(len(pixels), seed, lambda own: own.random())
    one, zero, far = torch.ones(len(pixels)), torch.zeros(len(pixels)), 2 * distance / IMAGE_SIZE
    return _warp(pixels, [[one, zero, far * angle.cos()], [zero, one, far * angle.sin()]])


def _convolve(pixels: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Each image averaged with weights of its own, (N, K, K) for odd K; beyond the frame it is mirrored."""
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    padded = F.pad(pixels[None], (kernels.shape[-1] // 2,) * 4, mode="reflect")
    return F.conv2d(padded, kernels[:, None], groups=len(pixels))[0]


def _warp(pixels: torch.Tensor, matrix: list[list[torch.Tensor]]) -> torch.Tensor:
    stacked = torch.stack([torch.stack(row, 1) for row in matrix], 1)
    grid = F.affine_grid(stacked, [len(pixels), 1, *pixels.shape[1:]], align_corners=False)
    return F.grid_sample(pixels[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


_CHANGES = {"gaussian_noise": _gaussian_noise, "shot_noise": _shot_noise, "impulse_noise": _impulse_noise,
            "motion_blur": _motion_blur, "defocus_blur": _defocus_blur, "jpeg": _jpeg, "contrast": _contrast,
            "brightness": _brightness, "low_resolution": _low_resolution, "rotation": _rotation, "shift": _shift}
