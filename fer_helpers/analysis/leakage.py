"""What test images that also stand in train are worth to a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from ..data.faceset import FaceSet
from ..metrics.intervals import BOOTSTRAPS, Estimate, percentiles, share_table
from .baselines import predict


@dataclass(frozen=True, eq=False)
class Leak:
    """What test images that also stand in train are worth to one classifier. Arrays are bool (T,), one per test image.

    Attributes
    ----------
    copied : the image stands in train, pixel for pixel.
    correct : the classifier is right, trained on everything.
    correct_without : it is right, trained without the originals of all copies.
    """

    copied: np.ndarray
    correct: np.ndarray
    correct_without: np.ndarray

    def table(self) -> pd.DataFrame:
        """Accuracy by kind of test image, with Wilson 95% intervals: value, low, high, images; empty kinds left out."""
        kinds = {"copies of train images": (self.correct, self.copied),
                 "the same, originals removed": (self.correct_without, self.copied),
                 "all others": (self.correct, ~self.copied),
                 "all test images": (self.correct, np.ones_like(self.copied))}
        return share_table({name: correct[own] for name, (correct, own) in kinds.items()})

    def gain(self, seed: int = 0) -> Estimate:
        """Accuracy on all test images minus that on those that are no copies; bootstrap over images."""
        cells = [(self.copied & self.correct).mean(), (self.copied & ~self.correct).mean(),
                 (~self.copied & self.correct).mean(), (~self.copied & ~self.correct).mean()]

        def worth(right: Any, wrong: Any, clean: Any, clean_wrong: Any) -> Any:  # of numbers or of arrays of them
            return ((right + clean) / (right + wrong + clean + clean_wrong)
                    - clean / np.maximum(clean + clean_wrong, 1e-12))

        drawn = np.random.default_rng(seed).multinomial(len(self.copied), cells, BOOTSTRAPS)
        return percentiles(worth(*cells), worth(*drawn.T))


def measure_leak(model: Pipeline, features: np.ndarray, faces: FaceSet) -> Leak:
    """Train on everything outside test, and again without the originals of copied test images; answer test both times.

    The second answer matters because copied images may be easier or harder than others for reasons of their own.
    """
    test = faces.split == "test"
    originals = ~test & np.isin(faces.groups, faces.groups[test])
    labels = faces.labels.numpy()[test]
    correct = [predict(model, features, faces, rows, test).argmax(1) == labels for rows in (~test, ~test & ~originals)]
    return Leak(faces.in_train()[test], *correct)
