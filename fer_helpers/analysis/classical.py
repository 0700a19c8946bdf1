"""Learners without a network: the classical floors, what leaked copies are worth to them, and doubtful labels.

Functions take sets and features (float32, a row per image) and return arrays, tables and frozen dataclasses.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from scipy.special import softmax
from skimage.feature import hog
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ..data.faceset import FaceSet
from ..files import FerError
from ..metrics.evaluation import Comparison, compare
from ..metrics.intervals import BOOTSTRAPS, Estimate, percentiles, share_table


def pixels(images: torch.Tensor) -> np.ndarray:
    """float32 (N, 2304) in 0..1 from uint8 (N, 48, 48)."""
    return images.flatten(1).numpy().astype(np.float32) / 255


def hog_features(images: torch.Tensor) -> np.ndarray:
    """float32 (N, 800): histograms of oriented gradients (Dalal & Triggs 2005), about 1 ms per image.

    8 directions in cells of 8×8 pixels, normalised in blocks of 2×2 cells.
    """
    rows = [hog(image, orientations=8, pixels_per_cell=(8, 8), cells_per_block=(2, 2)) for image in images.numpy()]
    return np.array(rows, dtype=np.float32).reshape(len(images), 800)


def eigenface_regression(components: int = 60, seed: int = 0) -> Pipeline:
    """Eigenfaces (Turk & Pentland 1991) and logistic regression, on `pixels`."""
    return make_pipeline(StandardScaler(), PCA(components, svd_solver="randomized", random_state=seed),
                         StandardScaler(), LogisticRegression(max_iter=500))


def eigenface_neighbour(components: int = 60, seed: int = 0) -> Pipeline:
    """Eigenfaces and the nearest train image, as Turk & Pentland recognised people, on `pixels`: remembers copies."""
    return make_pipeline(PCA(components, svd_solver="randomized", random_state=seed),
                         KNeighborsClassifier(1, algorithm="brute"))


def hog_svm(components: int = 150, seed: int = 0) -> Pipeline:
    """`hog_features` and a linear support vector machine; their first principal components keep it linear and fast."""
    return make_pipeline(PCA(components, svd_solver="randomized", random_state=seed), StandardScaler(),
                         LinearSVC(C=0.01, dual=False, random_state=seed))


def hog_regression(components: int = 100, seed: int = 0) -> Pipeline:
    """`hog_features` and logistic regression, whose probabilities can be read as such."""
    return make_pipeline(PCA(components, svd_solver="randomized", random_state=seed), StandardScaler(),
                         LogisticRegression(max_iter=500))


def predict(model: Pipeline, features: np.ndarray, faces: FaceSet, train: np.ndarray,
            test: np.ndarray) -> np.ndarray:
    """Fit ``model`` on the images ``train`` (bool or int array) of ``faces`` and ask it about the images ``test``.

    Returns
    -------
    float64 (T, C), rows summing to 1, 0 for classes without a train image. A model without probabilities (the linear
    support vector machine) gives the softmax of its decision values: good for ranking, not calibrated.

    Raises
    ------
    FerError
        If there is not a row of features per image, or too few train images for the model's components.
    """
    if len(features) != len(faces):
        raise FerError(f"{len(features)} rows of features for {len(faces)} images; compute them from the same set")
    _check_size(model, len(features[train]))
    model.fit(features[train], faces.labels.numpy()[train])
    found = (model.predict_proba(features[test]) if hasattr(model, "predict_proba")
             else softmax(model.decision_function(features[test]), 1))
    probs = np.zeros((len(found), len(faces.classes)))
    probs[:, model.classes_] = found
    return probs


def classical_floors(faces: FaceSet, statistics: np.ndarray, gradients: np.ndarray, seed: int = 0
                     ) -> dict[str, np.ndarray]:
    """What `predict` gives for the test images from each classical floor, by its name; all learn from train.

    ``statistics`` (N, S), NaN where unknown, are numbers that know nothing of a face's parts: what they tell of the
    class is a shortcut. ``gradients`` are `hog_features`.
    """
    known = np.where(np.isnan(statistics), np.nanmean(statistics, 0), statistics)
    grey = pixels(faces.images)
    floors = {"image statistics + logistic regression":
              (make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), known),
              "eigenfaces + nearest neighbour": (eigenface_neighbour(seed=seed), grey),
              "eigenfaces + logistic regression": (eigenface_regression(seed=seed), grey),
              "HOG + linear SVM": (hog_svm(seed=seed), gradients)}
    return {name: predict(model, features, faces, faces.split == "train", faces.split == "test")
            for name, (model, features) in floors.items()}


def compare_all(correct: dict[str, np.ndarray]) -> pd.DataFrame:
    """Every pair of classifiers on the same images, from a bool array (T,) each: was image i classified correctly?

    Returns
    -------
    Data frame: better, worse, value, low, high (difference of accuracy, paired bootstrap), p (McNemar, multiplied by
    the number of pairs: Bonferroni), largest difference first.
    """
    rows = []
    pairs = list(combinations(correct, 2))
    for pair in pairs:
        better, worse = sorted(pair, key=lambda name: -correct[name].mean())
        result = compare(correct[better], correct[worse])
        gap = result.difference
        rows.append((better, worse, gap.value, gap.low, gap.high, min(result.p_value * len(pairs), 1.0)))
    table = pd.DataFrame(rows, columns=["better", "worse", "value", "low", "high", "p"])
    return table.sort_values("value", ascending=False, ignore_index=True)


def unit_observer(faces: FaceSet, limit: int = 10_000, seed: int = 0) -> np.ndarray:
    """Answers to the test images, float64 (N, C), of boosted trees that are told the drawn action units and see no
    picture: close to an ideal observer, so that what they confuse is ambiguous in the drawing itself.

    ``limit`` caps the train images. `FerError` if the faces are not synthetic.
    """
    if faces.action_units is None:
        raise FerError(f"{faces.source}: has no action units; use the synthetic faces")
    part = faces.limit_train(limit, seed)
    assert part.action_units is not None
    model = make_pipeline(HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, random_state=seed))
    return predict(model, part.action_units.numpy(), part, part.split == "train", part.split == "test")


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

    def removal(self) -> Comparison:
        """Accuracy on all test images with the originals in train, minus that without them; paired."""
        return compare(self.correct, self.correct_without)


def measure_leak(model: Pipeline, features: np.ndarray, faces: FaceSet) -> Leak:
    """Train on everything outside test, and again without the originals of copied test images; answer test both times.

    The second answer matters because copied images may be easier or harder than others for reasons of their own.
    """
    test = faces.split == "test"
    originals = ~test & np.isin(faces.groups, faces.groups[test])
    labels = faces.labels.numpy()[test]
    correct = [predict(model, features, faces, rows, test).argmax(1) == labels for rows in (~test, ~test & ~originals)]
    return Leak(faces.in_train()[test], *correct)


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
    _check_size(model, len(labels) * (folds - 1) // folds)
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


def _check_size(model: Pipeline, count: int) -> None:
    """Principal components need as many images to be learned from."""
    for step in model.named_steps.values():
        if isinstance(step, PCA) and step.n_components > count:
            raise FerError(f"{count} images are too few for {step.n_components} principal components; take more images")
