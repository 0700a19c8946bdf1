"""Classifiers without a network, as baselines: eigenfaces, HOG, image statistics, and trees told the action units.

Functions take sets and features (float32, a row per image) and return arrays, tables and frozen dataclasses.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from skimage.feature import hog
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ..data.faceset import FaceSet
from ..files import FerError
from ..metrics.evaluation import compare, evaluate


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
    check_components(model, len(features[train]))
    model.fit(features[train], faces.labels.numpy()[train])
    found = (model.predict_proba(features[test]) if hasattr(model, "predict_proba")
             else softmax(model.decision_function(features[test]), 1))
    probs = np.zeros((len(found), len(faces.classes)))
    probs[:, model.classes_] = found
    return probs


def classical_baselines(faces: FaceSet, statistics: np.ndarray, gradients: np.ndarray, seed: int = 0
                        ) -> dict[str, np.ndarray]:
    """What `predict` gives for the test images from each classical baseline, by its name; all learn from train.

    ``statistics`` (N, S), NaN where unknown, are numbers that know nothing of a face's parts: what they tell of the
    class is a shortcut. ``gradients`` are `hog_features`.
    """
    known = np.where(np.isnan(statistics), np.nanmean(statistics, 0), statistics)
    grey = pixels(faces.images)
    baselines = {"image statistics + logistic regression":
              (make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), known),
              "eigenfaces + nearest neighbour": (eigenface_neighbour(seed=seed), grey),
              "eigenfaces + logistic regression": (eigenface_regression(seed=seed), grey),
              "HOG + linear SVM": (hog_svm(seed=seed), gradients)}
    return {name: predict(model, features, faces, faces.split == "train", faces.split == "test")
            for name, (model, features) in baselines.items()}


def floor_table(probs: Mapping[str, np.ndarray], faces: FaceSet) -> pd.DataFrame:
    """Test accuracy of several methods' ``probs`` (N, C), by name, with a bootstrap interval: floor (the name),
    test_accuracy, test_low, test_high, majority (of always answering train's most frequent class), classes."""
    labels, common = faces.only("test").labels.numpy(), int(faces.only("train").labels.bincount().argmax())
    rows = []
    for name, found in probs.items():
        scores = evaluate(labels, found, faces.classes, common)
        rows.append((name, *vars(scores.accuracy).values(), scores.majority.value, len(faces.classes)))
    return pd.DataFrame(rows, columns=["floor", "test_accuracy", "test_low", "test_high", "majority", "classes"])


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


def unit_rater(faces: FaceSet, limit: int = 10_000, seed: int = 0) -> np.ndarray:
    """Answers to the test images, float64 (N, C), of boosted trees that are told the drawn action units and see no
    picture: close to an ideal rater, so that what they confuse is ambiguous in the drawing itself.

    ``limit`` caps the train images. `FerError` if the faces are not synthetic.
    """
    if faces.action_units is None:
        raise FerError(f"{faces.source}: has no action units; use the synthetic faces")
    part = faces.limit_train(limit, seed)
    assert part.action_units is not None
    model = make_pipeline(HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, random_state=seed))
    return predict(model, part.action_units.numpy(), part, part.split == "train", part.split == "test")


def check_components(model: Pipeline, count: int) -> None:
    """Principal components need as many images to be learned from."""
    for step in model.named_steps.values():
        if isinstance(step, PCA) and step.n_components > count:
            raise FerError(f"{count} images are too few for {step.n_components} principal components; take more images")
