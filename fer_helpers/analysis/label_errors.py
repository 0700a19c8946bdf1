"""Labels that a classifier doubts (confident learning, Northcutt et al. 2021), and how well such doubt finds errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from ..files import FerError
from ..metrics.intervals import share_table
from .baselines import check_components, hog_regression


@dataclass(frozen=True, eq=False)
class Suspects:
    """Labels that confident learning doubts (Northcutt et al. 2021, arXiv:1911.00068).

    Attributes
    ----------
    flagged : bool (N,): probably wrong.
    quality : float (N,), probability 0..1 that cross-validation gives the label; the lowest is the most suspect.
    suggestion : int (N,), class that cross-validation finds most probable.
    """

    flagged: np.ndarray
    quality: np.ndarray
    suggestion: np.ndarray


def doubtful_labels(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, folds: int = 5,
                    seed: int = 0) -> Suspects:
    """Judge every label by a `hog_regression` that has not seen its image.

    Parameters
    ----------
    features : float (N, D); labels : int (N,), classes 0..C-1, each with an image.
    groups : int (N,), images that must not stand on both sides, as `FaceSet.groups`: a copy would vouch for its label.

    Raises
    ------
    FerError
        If a class has fewer images than there are folds, or there are too few for the model's components.
    """
    counts = np.bincount(labels)
    if counts.min() < folds:
        raise FerError(f"a class has {counts.min()} images, too few for {folds} folds; take more images")
    model = hog_regression(seed=seed)
    check_components(model, len(labels) * (folds - 1) // folds)
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    probs = cross_val_predict(model, features, labels, groups=groups, cv=splits, method="predict_proba")
    return Suspects(find_label_issues(labels, probs, n_jobs=1), get_label_quality_scores(labels, probs),
                    probs.argmax(1))


def flip_labels(labels: np.ndarray, share: float, num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Replace a random ``share`` of int ``labels`` (N,) by another class each, any with the same chance.

    Returns
    -------
    The new labels, and bool (N,): which were changed.
    """
    if not 0 < share < 1:
        raise FerError(f"share={share} must lie between 0 and 1")
    random = np.random.default_rng(seed)
    flipped = np.zeros(len(labels), dtype=bool)
    flipped[random.permutation(len(labels))[:round(share * len(labels))]] = True
    shifted = (labels + random.integers(1, num_classes, len(labels))) % num_classes
    return np.where(flipped, shifted, labels), flipped


def detection(flipped: np.ndarray, flagged: np.ndarray) -> pd.DataFrame:
    """How well ``flagged`` finds ``flipped`` labels (both bool (N,)), with Wilson 95% intervals.

    Returns
    -------
    Data frame indexed by "precision" (share of the flagged that were flipped), "recall" (share of the flipped that
    were flagged) and "guessing" (precision of flagging at random): value, low, high, images.
    """
    return share_table({"precision": flipped[flagged], "recall": flagged[flipped], "guessing": flipped})
