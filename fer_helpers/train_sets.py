"""Which images of train a training may see: all of them, those of the original study, or all but those of some classes.

For experiments on what a train set does to a network; test images are never touched.
"""

from __future__ import annotations

import numpy as np

from .data import FaceSet
from .emotions import EMOTIONS
from .files import FerError

#: The original study's train folder held 1,717 of the 7,215 happy faces of FER2013's train split, all angry and all
#: fearful ones, and none of the other classes (see `published`).
ORIGINAL_HAPPY = 1717 / 7215
_WITHOUT = "without-"


def missing_classes(train_set: str) -> tuple[str, ...]:
    """The emotions of which the train set of that name holds no image.

    Raises
    ------
    FerError
        Unless the name is "all", "original" or "without-" and names of `emotions.EMOTIONS`, joined by "+".
    """
    name = str(train_set)
    if name == "all":
        return ()
    if name == "original":
        return "disgust", "sadness", "surprise", "neutral"
    classes = tuple(name.removeprefix(_WITHOUT).split("+"))
    if not name.startswith(_WITHOUT) or set(classes) - set(EMOTIONS) or len(set(classes)) < len(classes):
        raise FerError(f"train_set={train_set!r} is unknown; choose all, original or {_WITHOUT}CLASS, as in "
                       f"{_WITHOUT}fear or {_WITHOUT}sadness+neutral, of {', '.join(EMOTIONS)}")
    return classes


def select_train(faces: FaceSet, train_set: str, seed: int = 0) -> FaceSet:
    """``faces`` without the train images that the train set of that name lacks; validation images count as train.

    "original" draws the happy faces at random, by ``seed``: which ones the study had is not known. Where a copy of
    FER2013 has fewer, so has it, in the same share.

    Raises
    ------
    FerError
        If the name is unknown, or fewer than two classes of ``faces`` are left.
    """
    missing = missing_classes(train_set)
    if train_set == "all":
        return faces
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
