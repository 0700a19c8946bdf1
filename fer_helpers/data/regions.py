"""Where the parts of a face lie, and how to hide them. Exact masks are known of drawn faces only; photographs of faces
that fill the frame, as FER2013's, have the layout of the average face."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .emotions import REGIONS
from .faceset import IMAGE_SIZE, FaceSet

#: Rows and columns (first, past the last) of each of `emotions.REGIONS` on the average face.
LAYOUT = {"brows": (9, 16, 6, 42), "eyes": (16, 24, 6, 42), "nose": (22, 33, 16, 32), "mouth": (32, 43, 11, 37)}


def _halves(region: str, name: str) -> dict[str, tuple[int, int, int, int]]:
    top, bottom, left, right = LAYOUT[region]
    middle = (left + right) // 2
    return {f"left {name}": (left, top, middle, bottom), f"right {name}": (middle, top, right, bottom)}


#: Boxes (left, top, right, bottom in pixels) that together cover the average face, one side at a time.
FACE_GRID = _halves("brows", "brow") | _halves("eyes", "eye") | {
    region: (left, top, right, bottom) for region, (top, bottom, left, right) in LAYOUT.items()
    if region in ("nose", "mouth")} | {"left cheek": (4, 24, 16, 36), "right cheek": (32, 24, 44, 36)}


def layout_masks(device: torch.device | str = "cpu") -> torch.Tensor:
    """bool (4, 48, 48): the boxes of `LAYOUT`, in the order of `emotions.REGIONS`, drawn on ``device``."""
    masks = torch.zeros(len(REGIONS), IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool, device=device)
    for mask, region in zip(masks, REGIONS, strict=True):
        top, bottom, left, right = LAYOUT[region]
        mask[top:bottom, left:right] = True
    return masks


def region_bits(faces: FaceSet) -> torch.Tensor:
    """uint8 (N, 48, 48), as `faceset.FaceSet.regions`: the true ones, or those of `LAYOUT` for photographs."""
    if faces.regions is not None:
        return faces.regions
    bits: torch.Tensor = sum(mask.to(torch.uint8) << number for number, mask in enumerate(layout_masks()))
    return bits.expand(len(faces), -1, -1)


def planes(bits: torch.Tensor) -> torch.Tensor:
    """bool (N, 4, 48, 48) from bits, uint8 (N, 48, 48): a mask for each of `emotions.REGIONS`."""
    return (bits[:, None] >> torch.arange(len(REGIONS), device=bits.device)[:, None, None]) % 2 == 1


def region_masks(faces: FaceSet) -> dict[str, torch.Tensor]:
    """bool (N, 48, 48) for each of `emotions.REGIONS`: the true masks, or `LAYOUT`'s boxes for photographs."""
    return dict(zip(REGIONS, planes(region_bits(faces)).unbind(1), strict=True))


def grow(mask: torch.Tensor) -> torch.Tensor:
    """A mask, bool (N, 48, 48), and one pixel around it: the outline of a part belongs to it."""
    return F.max_pool2d(mask[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0


def hide(images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Images with the masked pixels, and one pixel around them, replaced by the mean grey of the rest.

    Both (N, 48, 48), uint8 and bool. The margin keeps the outline of the hidden part from giving it away.
    """
    mask = grow(mask)
    rest = (~mask).flatten(1)
    mean = (images.flatten(1).float() * rest).sum(1) / rest.sum(1).clamp_min(1)
    return torch.where(mask, mean.round().to(torch.uint8)[:, None, None], images)
