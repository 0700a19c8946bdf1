"""How many augmented copies are found, and how many pairs are none.

    python benchmarks/leaks.py [--data SOURCE] [--images 4000] [--copies 500]

Of ``--images`` different faces, ``--copies`` are altered and looked for among all. Pairs that belong together by no
copy are counted for the faces as they are, without those that `near_groups` joins; in photographs most are two cuts of
one picture, so look at them before you call them false.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from fer_helpers.data import augmented_pairs, load_faces


def shifted(images: torch.Tensor, x: int, y: int) -> torch.Tensor:
    return transforms.affine(images, 0, [x, y], 1, [0, 0])  # black where nothing was


def rotated(images: torch.Tensor, degrees: float) -> torch.Tensor:
    return transforms.rotate(images, degrees, InterpolationMode.BILINEAR)


def cropped(images: torch.Tensor, top: int, left: int, size: int) -> torch.Tensor:
    return transforms.resized_crop(images, top, left, size, size, [48, 48], antialias=True)


CHANGES = {
    "mirrored": transforms.horizontal_flip,
    "shifted by 1 px": lambda images: shifted(images, 1, 0),
    "shifted by 2 px both ways": lambda images: shifted(images, -2, 2),
    "shifted by 3 px": lambda images: shifted(images, 0, 3),
    "shifted by 3 px both ways": lambda images: shifted(images, 3, -3),
    "mirrored, shifted by 3 px": lambda images: shifted(images.flip(-1), -3, 0),
    "rotated by 10°": lambda images: rotated(images, 10),
    "rotated by 5°": lambda images: rotated(images, -5),
    "mirrored, rotated by 10°": lambda images: rotated(images.flip(-1), -10),
    "cropped to 44 px, a corner": lambda images: cropped(images, 0, 4, 44),
    "cropped to 40 px, the middle": lambda images: cropped(images, 4, 4, 40),
    "cropped to 40 px, a corner": lambda images: cropped(images, 8, 0, 40),
}


def found_share(images: torch.Tensor, copies: torch.Tensor) -> float:
    """Share of ``copies``, of the first of ``images``, that are found to belong to their originals."""
    pairs = augmented_pairs(copies, images)
    return pairs.loc[pairs["first"] == pairs["second"], "first"].nunique() / len(copies)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--copies", type=int, default=500)
    options = parser.parse_args()
    faces = load_faces(options.data)
    different = np.unique(faces.near_groups, return_index=True)[1]
    images = faces.images[np.random.default_rng(0).permutation(different)[:options.images]]
    for name, change in CHANGES.items():
        print(f"{name:<30}{found_share(images, change(images[:options.copies])):7.1%}", flush=True)
    start = time.perf_counter()
    pairs = augmented_pairs(images)
    seconds = time.perf_counter() - start
    print(f"{1000 * len(pairs) / len(images):.1f} pairs per 1,000 of {len(images):,} images as they are, best "
          f"{pairs['correlation'].max():.3f}; {seconds:.0f} s")


if __name__ == "__main__":
    main()
