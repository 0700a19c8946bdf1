"""What a network's confidence is worth: temperature scaling, and answering only when sure. Knows arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import log_softmax, softmax

from ..files import FerError
from .evaluation import BINS, confidence_bin
from .intervals import BOOTSTRAPS, Estimate, percentiles, wilson

_TINY = 1e-12  # stands for a probability that was rounded to 0


def fit_temperature(targets: np.ndarray, probs: np.ndarray) -> float:
    """The temperature that minimises cross-entropy (Guo et al. 2017, arXiv:1706.04599), within 0.05 to 20.

    Parameters
    ----------
    targets : int (N,) labels, or float (N, C) shares that add up to 1, of *validation* images.
    probs : float (N, C) of these; log-probabilities serve as logits, from which they differ by a constant per image
        that softmax ignores. Above 1 the network was over-confident.

    Raises
    ------
    FerError
        If there is no image.
    """
    from scipy.optimize import minimize_scalar  # takes half a second, which predictions need not

    if not len(targets):
        raise FerError("no validation image to fit a temperature on; set val_fraction higher")
    logits = np.log(np.maximum(probs, _TINY))
    shares = np.eye(probs.shape[1])[targets] if targets.ndim == 1 else targets

    def loss(log_temperature: float) -> float:
        return float(-(shares * log_softmax(logits / np.exp(log_temperature), axis=1)).sum(1).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def rescale(probs: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, C) at another temperature; the order within an image, and so its answer, stays."""
    return np.asarray(softmax(np.log(np.maximum(probs, _TINY)) / temperature, axis=1))


@dataclass(frozen=True)
class Calibration:
    """How to read a network's confidence; made by `calibrate`.

    Attributes
    ----------
    temperature : of `rescale`.
    threshold : confidence, after rescaling, from which an answer counts as sure; 1 if none ever does.
    accuracy : 0..1, what sure answers reached at least on validation images.
    coverage : share of the validation images with a sure answer.
    images : their number.
    vote_temperature : of the shares of people's votes, where the network tells them.
    """

    temperature: float
    threshold: float
    accuracy: float
    coverage: float
    images: int
    vote_temperature: float = 1.0


def calibrate(labels: np.ndarray, probs: np.ndarray, accuracy: float = 0.8) -> Calibration:
    """A temperature, and the lowest threshold above which so many answers are right.

    Parameters
    ----------
    labels, probs : int (N,) and float (N, C) of *validation* images.
    accuracy : wanted among the sure answers, 0..1.

    Raises
    ------
    FerError
        If there is no image.
    """
    temperature = fit_temperature(labels, probs)
    curve = risk_coverage(labels, rescale(probs, temperature))
    # Images of equal confidence pass together or not at all.
    whole = curve.groupby("confidence", as_index=False).last()
    enough = whole[whole["risk"] <= 1 - accuracy]
    if enough.empty:
        return Calibration(temperature, 1.0, accuracy, 0.0, len(labels))
    chosen = enough.loc[enough["coverage"].idxmax()]
    return Calibration(temperature, float(chosen["confidence"]), accuracy, float(chosen["coverage"]), len(labels))


def ece_change(labels: np.ndarray, before: np.ndarray, after: np.ndarray, bootstraps: int = BOOTSTRAPS,
               seed: int = 0) -> Estimate:
    """Expected calibration error of ``after`` minus that of ``before``, (N, C) each, by a paired bootstrap."""
    gaps = [(probs.argmax(1) == labels) - probs.max(1) for probs in (before, after)]
    bins = [confidence_bin(probs.max(1)) for probs in (before, after)]

    def change(rows: np.ndarray | slice) -> float:
        first, second = (np.abs(np.bincount(number[rows], gap[rows], BINS)).sum() / len(labels)
                         for number, gap in zip(bins, gaps, strict=True))
        return float(second - first)

    random = np.random.default_rng(seed)
    samples = [change(random.integers(0, len(labels), len(labels))) for _ in range(bootstraps)]
    return percentiles(change(slice(None)), samples)


def risk_coverage(labels: np.ndarray, probs: np.ndarray) -> pd.DataFrame:
    """Share answered and error among the answered, from the most confident image alone to all images.

    Returns
    -------
    Data frame, N rows: ``confidence`` of the least confident answered image, ``coverage`` and ``risk`` in 0..1. Images
    of equal confidence count as if in random order.
    """
    confidence, wrong = probs.max(1), (probs.argmax(1) != labels).astype(float)
    _, tied = np.unique(-confidence, return_inverse=True)  # 0 is the most confident group
    order = np.argsort(tied, kind="stable")
    expected = (np.bincount(tied, wrong) / np.bincount(tied))[tied][order]
    number = np.arange(1, len(labels) + 1)
    return pd.DataFrame({"confidence": confidence[order], "coverage": number / len(labels),
                         "risk": expected.cumsum() / number})


def aurc(labels: np.ndarray, probs: np.ndarray, bootstraps: int = BOOTSTRAPS, seed: int = 0) -> Estimate:
    """Area under the risk–coverage curve (Geifman & El-Yaniv 2017, arXiv:1705.08500), bootstrapped over images.

    The mean error over all coverages, 0 at best; confidence that says nothing gives the plain error rate.
    """
    curve = risk_coverage(labels, probs)
    count = len(curve)
    number = np.arange(1, count + 1)
    # The expected error of each rank; a resample in order of confidence is a sorted draw of ranks.
    wrong = np.diff(curve["risk"] * number, prepend=0)
    random = np.random.default_rng(seed)
    samples = [(wrong[np.sort(random.integers(0, count, count))].cumsum() / number).mean() for _ in range(bootstraps)]
    return percentiles(curve["risk"].mean(), samples)


def selective_accuracy(val_probs: np.ndarray, labels: np.ndarray, probs: np.ndarray,
                       coverages: Sequence[float] = (0.5, 0.8, 1.0)) -> pd.DataFrame:
    """Accuracy on the test images that pass a threshold of confidence chosen on validation.

    Parameters
    ----------
    val_probs : float (M, C) of validation images, whose quantile of confidence is the threshold: no label is used.
    labels, probs : of the test images.
    coverages : shares of images to answer, 0..1.

    Returns
    -------
    Data frame indexed by "wanted": threshold, coverage (reached on test), value (accuracy), low, high (Wilson 95%),
    images answered.
    """
    confidence, correct = probs.max(1), probs.argmax(1) == labels
    rows = {}
    for wanted in coverages:
        threshold = np.quantile(val_probs.max(1), 1 - wanted) if wanted < 1 else 0.0
        own = correct[confidence >= threshold]
        share = wilson(own.sum(), len(own))
        rows[wanted] = (threshold, len(own) / len(labels), share.value if len(own) else np.nan, share.low, share.high,
                        len(own))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["threshold", "coverage", "value", "low", "high",
                                                                 "images"]).rename_axis("wanted")
