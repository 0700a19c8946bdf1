"""Which images a training may see: all of train, what the original study had, all but some classes, or test images too.

For experiments on what a train set does to a network; what is tested on stays as it is.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from ..data.emotions import TAXONOMY
from ..data.faceset import OPTIONAL, FaceSet
from ..files import FerError
from ..transforms.augmentation import augment, draw, policy

#: The original study's train folder held 1,717 of the 7,215 happy faces of FER2013's train split, all angry and all
#: fearful ones, and none of the other classes (see `published`).
ORIGINAL_HAPPY = 1717 / 7215
_WITHOUT = "without-"
#: Train sets that differ in which copies of test images they hold, not in classes.
_COPIES = ("no-copies", "test-augmented")


def missing_classes(train_set: str) -> tuple[str, ...]:
    """The emotions of which the train set of that name holds no image.

    Raises
    ------
    FerError
        Unless the name is one of `select_train`'s, "without-" followed by names of `emotions.TAXONOMY` joined by "+".
    """
    name = str(train_set)
    if name in ("all", *_COPIES):
        return ()
    if name == "original":
        return "disgust", "sadness", "surprise", "neutral"
    classes = tuple(name.removeprefix(_WITHOUT).split("+"))
    if not name.startswith(_WITHOUT) or set(classes) - set(TAXONOMY) or len(set(classes)) < len(classes):
        raise FerError(f"train_set={train_set!r} is unknown; choose all, original, no-copies, test-augmented or "
                       f"{_WITHOUT}CLASS, as in {_WITHOUT}fear or {_WITHOUT}sadness+neutral, of {', '.join(TAXONOMY)}")
    return classes


def select_train(faces: FaceSet, train_set: str, seed: int = 0) -> FaceSet:
    """``faces`` with the train set of that name; validation images count as train.

    "all" changes nothing. "original" is what the original study had, its happy faces drawn at random by ``seed``:
    which ones they were is not known; where a copy of FER2013 has fewer, so has it, in the same share.
    "without-CLASS+…" leaves out classes, "no-copies" the images that also stand in test, pixel for pixel.
    "test-augmented" adds every test image, mirrored, turned and shifted (`augmentation`'s "standard"): what happens
    where images are augmented before they are split.

    Raises
    ------
    FerError
        If the name is unknown, or fewer than two classes of ``faces`` are left.
    """
    missing = missing_classes(train_set)
    if train_set == "all":
        return faces
    if train_set == "no-copies":
        return faces.take((faces.split == "test") | ~np.isin(faces.groups, faces.groups[faces.split == "test"]))
    if train_set == "test-augmented":
        return _with_augmented_tests(faces, seed)
    left = [name for name in faces.classes if name not in missing]
    if len(left) < 2:
        raise FerError(f"{faces.source}: train_set={train_set!r} leaves {' and '.join(left) or 'no class'} in train; "
                       "leave out fewer")
    labels, pool = faces.labels.numpy(), faces.split != "test"
    drop = pool & np.isin(np.array(faces.classes)[labels], missing)
    if train_set == "original" and "happiness" in left:
        happy = np.flatnonzero(pool & (labels == faces.classes.index("happiness")))
        drop[np.random.default_rng(seed).permutation(happy)[round(ORIGINAL_HAPPY * len(happy)):]] = True
    return faces.take(~drop)


def _with_augmented_tests(faces: FaceSet, seed: int) -> FaceSet:
    test, how = faces.only("test"), policy("standard")
    draws = draw(len(test), torch.Generator().manual_seed(seed), how)
    changed = ((augment(test.images, how, draws)[:, 0] + 2) * (255 / 4)).round().to(torch.uint8)
    columns: dict[str, Any] = {name: torch.cat([column, getattr(test, name)]) for name in ("labels", *OPTIONAL)
                               if (column := getattr(faces, name)) is not None}
    if faces.subjects is not None:  # also where names tell them, which these names do not
        people = np.unique(np.concatenate([faces.subjects, test.subjects]), return_inverse=True)[1]
        columns["people"] = torch.from_numpy(people)
    names = np.array([f"{name} augmented" for name in test.ids])
    return dataclasses.replace(faces, images=torch.cat([faces.images, changed]),
                               ids=np.concatenate([faces.ids, names]),
                               split=np.concatenate([faces.split, np.full(len(test), "train")]), **columns)
