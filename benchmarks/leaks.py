"""How many augmented copies are found, and how many pairs are none.

    python benchmarks/leaks.py [--data SOURCE] [--images 4000] [--copies 500]
    python benchmarks/leaks.py --data SOURCE --record

Of ``--images`` different faces, ``--copies`` are altered and looked for among all. Then the faces as they are, without
those that `near_groups` joins, are compared with each other; in photographs most pairs are two cuts of one picture. A
pair is called false where its outer pixels, which the search leaves out when it compares, do not agree: of a copy they
do, of another face that looks alike in the middle they need not. Pairs that are laid on each other in the same way, but
each on another's partner, are the negative control: they show how often outer pixels agree by chance.

``--record`` keeps, for notebook 01, which test images of the photographs have a copy in train, to the pixel or changed.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
import torch
from torch.nn import functional
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from fer_helpers.data import FaceSet, augmented_pairs, load_faces
from fer_helpers.report import results

#: Correlation of outer pixels below which a pair is called false.
OUTER = 0.5


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


def outer_agreement(images: torch.Tensor, pairs: pd.DataFrame) -> torch.Tensor:
    """(K,): correlation of what `augmented_pairs` did not compare of each pair, laid on each other as it says: the
    outer 8 pixels, as far as both show them, without the light and shade that many faces share; NaN where that is less
    than a tenth of the picture."""
    grey = images[:, None].float()
    fine = grey - functional.avg_pool2d(grey, 9, 1, 4, count_include_pad=False)
    first, second = (torch.tensor(pairs[name].to_numpy()) for name in ("first", "second"))
    turn, scale, x, y = (torch.from_numpy(pairs[name].to_numpy()).float() for name in ("degrees", "scale", "x", "y"))
    side, turn = torch.from_numpy(np.where(pairs["mirrored"], -1, 1)), torch.deg2rad(turn)
    pose = torch.stack([side * scale * turn.cos(), -scale * turn.sin(), x / 24,
                        side * scale * turn.sin(), scale * turn.cos(), y / 24], 1).reshape(-1, 2, 3)
    grid = functional.affine_grid(pose, [len(pose), 1, 48, 48], align_corners=False)
    seen = functional.grid_sample(fine[first], grid, align_corners=False)[:, 0].flatten(1)
    shown = grid.abs().amax(-1) < 1
    shown[:, 8:40, 8:40] = False
    mask = shown.flatten(1).float()
    values = [(one - (one * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)) * mask
              for one in (seen, fine[second, 0].flatten(1))]
    agreement = functional.cosine_similarity(*values)
    return torch.where(mask.mean(1) < 0.1, torch.nan, agreement)


def found_share(images: torch.Tensor, copies: torch.Tensor) -> float:
    """Share of ``copies``, of the first of ``images``, that are found to belong to their originals."""
    pairs = augmented_pairs(copies, images)
    return pairs.loc[pairs["first"] == pairs["second"], "first"].nunique() / len(copies)


def record(faces: FaceSet) -> None:
    test, others = faces.only("test"), faces.take(faces.split != "test")
    same = faces.in_train()[faces.split == "test"]
    rest = np.flatnonzero(~same)
    pairs = augmented_pairs(test.images[rest], others.images)
    table = pd.DataFrame({"identical": same, "changed": False, "mirrored": False}, pd.Index(test.ids, name="id"))
    table.iloc[rest[pairs["first"].unique()], 1] = True
    table.iloc[rest[pairs.loc[pairs["mirrored"], "first"].unique()], 2] = True
    print(table.sum().to_string())
    results.keep("01_data_exploration", faces, {}, {"copies": table}, part="copies",
                 command="python benchmarks/leaks.py --data path/to/fer2013 --record")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--copies", type=int, default=500)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    faces = load_faces(options.data)
    if options.record:
        record(faces)
        return
    different = np.unique(faces.near_groups, return_index=True)[1]
    images = faces.images[np.random.default_rng(0).permutation(different)[:options.images]]
    for name, change in CHANGES.items():
        print(f"{name:<30}{found_share(images, change(images[:options.copies])):7.1%}", flush=True)
    start = time.perf_counter()
    pairs = augmented_pairs(images)
    seconds = time.perf_counter() - start
    print(f"{1000 * len(pairs) / len(images):.1f} pairs per 1,000 of {len(images):,} images as they are, best "
          f"{pairs['correlation'].max():.3f}; {seconds:.0f} s")
    agreement = outer_agreement(images, pairs)
    strange = outer_agreement(images, pairs.assign(second=np.roll(pairs["second"], len(pairs) // 2)))
    known, chance = agreement[~agreement.isnan()], strange[~strange.isnan()]
    false = (known < OUTER).sum().item()
    print(f"{1000 * false / len(images):.2f} false pairs per 1,000: outer pixels of {false} of {len(known)} pairs "
          f"correlate by less than {OUTER}; negative control: so do those of {(chance < OUTER).sum()} of {len(chance)}")


if __name__ == "__main__":
    main()
