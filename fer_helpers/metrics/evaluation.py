"""Metrics with bootstrap intervals, baselines, and the paired comparison of two classifiers. Knows arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..files import FerError
from .intervals import BOOTSTRAPS, Estimate, percentiles

BINS = 15  # of confidence, for the expected calibration error


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well one set of predictions does.

    Attributes
    ----------
    classes : class names, in the order of every array below.
    confusion : int array (C, C); rows are true classes, columns predicted ones.
    accuracy, macro_f1, ece : estimates in 0..1; ece is the expected calibration error over 15 confidence bins
        (Guo et al. 2017, arXiv:1706.04599).
    precision, recall, f1 : one estimate per class name.
    rates : object of two float arrays (C, C), the low and high end of each row-normalised confusion.
    majority : accuracy of always answering the class most frequent in train.
    chance : accuracy of guessing, 1 / C.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray
    accuracy: Estimate
    macro_f1: Estimate
    ece: Estimate
    precision: dict[str, Estimate]
    recall: dict[str, Estimate]
    f1: dict[str, Estimate]
    rates: tuple[np.ndarray, np.ndarray]
    majority: Estimate

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def chance(self) -> float:
        return 1 / len(self.classes)

    def rate(self, true: str, predicted: str) -> Estimate:
        """Share of the images of class ``true`` that were called ``predicted``."""
        row, column = self.classes.index(true), self.classes.index(predicted)
        return Estimate(self.confusion[row, column] / max(self.confusion[row].sum(), 1),
                        self.rates[0][row, column], self.rates[1][row, column])

    def confusions(self) -> pd.DataFrame:
        """Every off-diagonal pair, most frequent rate first: true, predicted, count, of, rate, low, high."""
        rows = []
        for row, true in enumerate(self.classes):
            for column, predicted in enumerate(self.classes):
                if row != column:
                    rate = self.rate(true, predicted)
                    rows.append((true, predicted, int(self.confusion[row, column]), int(self.confusion[row].sum()),
                                 rate.value, rate.low, rate.high))
        names = ["true", "predicted", "count", "of", "rate", "low", "high"]
        return pd.DataFrame(rows, columns=names).sort_values("rate", ascending=False, ignore_index=True)

    def per_class(self) -> pd.DataFrame:
        """Precision, recall, F1 with intervals as text, and the number of images, by class."""
        table = {"images": self.confusion.sum(1)}
        table |= {name: [str(getattr(self, name)[c]) for c in self.classes] for name in ("precision", "recall", "f1")}
        return pd.DataFrame(table, index=pd.Index(self.classes, name="class"))

    def summary(self) -> pd.Series:
        """Accuracy, macro-F1 and ECE beside the majority and chance baselines, as text."""
        return pd.Series({"images": self.count, "accuracy": str(self.accuracy), "macro F1": str(self.macro_f1),
                          "ECE": str(self.ece), "always the majority class": str(self.majority),
                          "chance": f"{self.chance:.3f}"})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        def plain(value: Any) -> Any:
            if isinstance(value, Estimate):
                return [value.value, value.low, value.high]
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            if isinstance(value, np.ndarray):
                return value.tolist()
            return [plain(item) for item in value] if isinstance(value, tuple) else value
        return {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Evaluation:
        """The inverse of `to_dict`; `FerError` if a part is missing or has another form."""
        try:
            classes = tuple(values["classes"])
            if not classes or len(set(classes)) < len(classes) or not all(isinstance(name, str) for name in classes):
                raise ValueError("classes are no list of different names")
            parts: dict[str, Any] = {name: Estimate(*_numbers(values[name], 3))
                                     for name in ("accuracy", "macro_f1", "ece", "majority")}
            parts |= {name: {key: Estimate(*_numbers(values[name][key], 3)) for key in classes}
                      for name in ("precision", "recall", "f1")}
            square = len(classes), len(classes)
            confusion = np.array(_numbers(values["confusion"], *square))
            if not ((confusion >= 0) & (confusion < 2**53) & (confusion % 1 == 0)).all():
                raise ValueError("confusion holds no counts of images")
            return cls(classes=classes, confusion=confusion.astype(np.int64),
                       rates=tuple(np.array(_numbers(values["rates"], 2, *square))), **parts)
        except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise FerError(f"metrics are incomplete ({error!r}); train the run again") from error


def _numbers(values: Any, *shape: int) -> list[Any]:
    """``values`` of JSON, if they are finite numbers in this shape; else ``TypeError``, ``ValueError`` or
    ``OverflowError``."""
    numbers = np.array(values, np.float64)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        raise ValueError(f"{shape} finite numbers are wanted, not {numbers.shape}")
    return list(numbers.tolist())


def evaluate(labels: np.ndarray, probs: np.ndarray, classes: tuple[str, ...], majority: int = 0,
             bootstraps: int = BOOTSTRAPS, seed: int = 0) -> Evaluation:
    """Score predictions, each number with a percentile bootstrap interval over images (Efron 1979).

    Parameters
    ----------
    labels : int array (N,), true class numbers.
    probs : float array (N, C), rows summing to 1.
    classes : the C class names.
    majority : number of the class most frequent in the *training* data.
    bootstraps : resamples behind each interval.

    Raises
    ------
    FerError
        If there is no image, or the shapes do not belong together.
    """
    labels, probs = np.asarray(labels), np.asarray(probs, dtype=np.float64)
    if not len(labels) or probs.shape != (len(labels), len(classes)):
        raise FerError(f"cannot score probabilities of shape {probs.shape} against {len(labels)} labels of "
                       f"{len(classes)} classes")
    predicted = probs.argmax(1)
    confusion = np.bincount(labels * len(classes) + predicted, minlength=len(classes)**2).reshape(len(classes), -1)
    # Resampling images redraws the confusion matrix from a multinomial: no need to resample them one by one.
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(labels), confusion.ravel() / len(labels), bootstraps)
    drawn = drawn.reshape(bootstraps, *confusion.shape)
    hits, true, answered = np.einsum("bcc->bc", drawn), drawn.sum(2), drawn.sum(1)
    drawn_f1 = _ratio(2 * hits, true + answered)
    right, row, column = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    precision, recall, f1 = _ratio(right, column), _ratio(right, row), _ratio(2 * right, row + column)
    rates = np.quantile(_ratio(drawn, true[:, :, None]), (0.025, 0.975), axis=0)

    def by_class(values: np.ndarray, samples: np.ndarray) -> dict[str, Estimate]:
        return {name: percentiles(values[number], samples[:, number]) for number, name in enumerate(classes)}

    return Evaluation(
        classes=tuple(classes), confusion=confusion,
        accuracy=percentiles(right.sum() / len(labels), hits.sum(1) / len(labels)),
        macro_f1=percentiles(f1.mean(), drawn_f1.mean(1)),
        ece=_calibration(labels, probs, bootstraps, random),
        precision=by_class(precision, _ratio(hits, answered)), recall=by_class(recall, _ratio(hits, true)),
        f1=by_class(f1, drawn_f1), rates=(rates[0], rates[1]),
        majority=percentiles((labels == majority).mean(), true[:, majority] / len(labels)))


def confidence_bin(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """int (N,): which of ``bins`` of equal width each confidence, 0..1, lies in."""
    return np.asarray(np.minimum((confidence * bins).astype(int), bins - 1))


def calibration_bins(labels: np.ndarray, probs: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """The reliability diagram's numbers, per bin of equal width in confidence: images, confidence, accuracy.

    Empty bins are left out. The expected calibration error is the mean of ``|accuracy − confidence|``, weighted by
    images.
    """
    confidence, correct = probs.max(1), probs.argmax(1) == labels
    number = confidence_bin(confidence, bins)
    table = pd.DataFrame({"bin": number, "confidence": confidence, "accuracy": correct.astype(float)})
    grouped = table.groupby("bin")
    return grouped.mean().assign(images=grouped.size())[["images", "confidence", "accuracy"]]


@dataclass(frozen=True)
class Comparison:
    """Two classifiers on the same images.

    Attributes
    ----------
    difference : accuracy of the first minus that of the second, with a paired bootstrap interval.
    p_value : exact two-sided McNemar test (McNemar 1947) that both err equally often.
    only_first, only_second : images that just one of them gets right.
    """

    difference: Estimate
    p_value: float
    only_first: int
    only_second: int


def compare(correct_first: np.ndarray, correct_second: np.ndarray, seed: int = 0) -> Comparison:
    """Paired comparison from two bool arrays (N,): was image i classified correctly?"""
    first, second = np.asarray(correct_first, bool), np.asarray(correct_second, bool)
    if first.shape != second.shape or not len(first):
        raise FerError(f"cannot pair {first.shape} with {second.shape} answers; compare runs on the same images")
    only_first, only_second, count = int((first & ~second).sum()), int((second & ~first).sum()), len(first)
    shares = np.array([only_first, only_second, count - only_first - only_second]) / count
    drawn = np.random.default_rng(seed).multinomial(count, shares, BOOTSTRAPS)
    differing = only_first + only_second
    from scipy.stats import binomtest  # takes a second, which evaluations need not

    return Comparison(percentiles((only_first - only_second) / count, (drawn[:, 0] - drawn[:, 1]) / count),
                      binomtest(only_first, differing).pvalue if differing else 1.0, only_first, only_second)


def compare_seeds(correct_first: np.ndarray, correct_second: np.ndarray, seed: int = 0) -> Estimate:
    """Accuracy of the first method minus that of the second, with an interval over training seeds and test images.

    All seeds meet the same images, so seeds and images are resampled independently of each other (Owen 2007,
    "The pigeonhole bootstrap"). With one seed the interval covers images only; with a handful it is too narrow, because
    so few values understate their spread.

    Parameters
    ----------
    correct_first, correct_second : bool arrays (S, N): with training seed s, was image i classified correctly?

    Raises
    ------
    FerError
        If the arrays do not pair, or are empty.
    """
    first, second = np.asarray(correct_first, bool), np.asarray(correct_second, bool)
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise FerError(f"cannot pair {first.shape} with {second.shape} answers; give (seeds, images) of both")
    gain = first.astype(np.int8) - second.astype(np.int8)
    (seeds, images), random = gain.shape, np.random.default_rng(seed)
    drawn = random.multinomial(seeds, np.full(seeds, 1 / seeds), BOOTSTRAPS) @ gain
    drawn *= random.multinomial(images, np.full(images, 1 / images), BOOTSTRAPS)
    return percentiles(gain.mean(), drawn.sum(1) / gain.size)


def _calibration(labels: np.ndarray, probs: np.ndarray, bootstraps: int, random: np.random.Generator) -> Estimate:
    bins = calibration_bins(labels, probs)
    value = (bins["images"] * (bins["accuracy"] - bins["confidence"]).abs()).sum() / len(labels)
    gap = (probs.argmax(1) == labels) - probs.max(1)
    number = confidence_bin(probs.max(1))
    samples = np.empty(bootstraps)
    for draw in range(bootstraps):
        index = random.integers(0, len(labels), len(labels))
        samples[draw] = np.abs(np.bincount(number[index], gap[index], BINS)).sum() / len(labels)
    return percentiles(value, samples)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where the whole is 0, as scikit-learn's ``zero_division=0`` has it."""
    ratio = np.zeros(np.broadcast(part, whole).shape)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
