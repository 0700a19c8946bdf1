"""What the original study published, as numbers: its printed outputs and confusion matrices, what they tell of its
train folder, and how reproduced runs compare.

The study is the notebook of github.com/melomilk/facial-emotion-recognition-research (commit 11d9214), and every
constant is one of its stored outputs, unless said otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..data.emotions import CLASS_SETS, EMOTIONS
from ..files import FerError
from ..metrics.intervals import BOOTSTRAPS, Estimate, percentiles, wilson
from ..training.runs import read_table, results_folder

CLASSES = CLASS_SETS[6]
#: The published confusion matrices, among the recorded results.
MATRICES = "published_matrices.csv"
_STUDY = "melomilk/facial-emotion-recognition-research"
_SOURCES = {"vgg19": f"{_STUDY} VGG19", "simple_cnn": f"{_STUDY} simple CNN", "resnet50": f"{_STUDY} ResNet50"}
_WITNESS, _WITNESS_IMAGES = "usef-kh/fer VGG, notebooks/Evaluation.ipynb", 3589

#: Printed as the folders are loaded: "9809 images loaded from ./Training/Training/", and 7067 from ./Testing/Testing/.
TRAIN_IMAGES, TEST_IMAGES = 9809, 7067
#: Printed as `train_labels`: the folders Angry, Fear, Happy, Neutral, Sad, Suprise, loaded one after the other.
FOLDERS = ("anger", "fear", "happiness", "neutral", "sadness", "surprise")
#: Faces in the sample figure of each folder: the last three figures say "with 0 Axes".
SAMPLES = (10, 10, 10, 0, 0, 0)
#: FER2013's own train split (Goodfellow et al. 2013, arXiv:1307.0414), by class.
FER2013_TRAIN = {"anger": 3995, "disgust": 436, "fear": 4097, "happiness": 7215, "sadness": 4830, "surprise": 3171,
                 "neutral": 4965}
#: Printed above each confusion matrix as "Test Accuracy = %.2f"; VGG16 has neither.
REPORTED = {"vgg19": 0.14, "simple_cnn": 0.17, "resnet50": 0.22}
#: An argument of the simple CNN's `fit`; no other network was validated.
VALIDATION_SPLIT = 0.25
#: val_accuracy in the simple CNN's 25 lines of training, digit by digit.
VALIDATION = ("0.0648", "0.0228", "0.0558", "0.2976", "8.1533e-04", "0.0033", "0.0909", "0.1158", "0.2157", "0.0440",
              "0.1288", "0.0893", "0.1777", "0.2279", "0.1953", "0.0114", "0.2389", "0.1998", "0.1924", "0.2311",
              "0.1688", "0.1920", "0.1777", "0.1623", "0.2483")
#: loss and accuracy on train, in every network's lines of training.
_CURVES = {
    "vgg19": ((0.4525, 0.3118, 0.3079, 0.3067, 0.3061, 0.3056, 0.3052, 0.3052, 0.3048, 0.3050),
              (0.4045, 0.4189, 0.4213, 0.4131, 0.4174, 0.4107, 0.4104, 0.4156, 0.4191, 0.4112)),
    "vgg16": ((0.4261, 0.3099, 0.3077, 0.3065, 0.3059, 0.3058, 0.3053, 0.3048, 0.3046, 0.3046),
              (0.4068, 0.4205, 0.4155, 0.4224, 0.4178, 0.4125, 0.4073, 0.4240, 0.4121, 0.4115)),
    "resnet50": ((0.5586, 0.3526, 0.3284, 0.3131, 0.2928, 0.2753, 0.2451, 0.2171, 0.1834, 0.1442),
                 (0.4039, 0.4409, 0.4569, 0.4946, 0.5250, 0.5768, 0.6370, 0.6975, 0.7521, 0.8165)),
    "simple_cnn": ((0.2689, 0.2335, 0.2318, 0.2310, 0.2298, 0.2279, 0.2278, 0.2266, 0.2259, 0.2248, 0.2237, 0.2225,
                    0.2223, 0.2206, 0.2190, 0.2188, 0.2171, 0.2165, 0.2154, 0.2137, 0.2134, 0.2122, 0.2115, 0.2104,
                    0.2096),
                   (0.5212, 0.5262, 0.5440, 0.5379, 0.5514, 0.5680, 0.5648, 0.5696, 0.5707, 0.5822, 0.5933, 0.5979,
                    0.5937, 0.6111, 0.6241, 0.6187, 0.6271, 0.6279, 0.6245, 0.6422, 0.6415, 0.6395, 0.6459, 0.6472,
                    0.6582)),
}


def published_curves() -> pd.DataFrame:
    """Printed training curves, a row per network and epoch: arch, epoch, loss, accuracy (0..1, on train)."""
    return pd.DataFrame([(arch, epoch, *row) for arch, (losses, accuracies) in _CURVES.items()
                         for epoch, row in enumerate(zip(losses, accuracies, strict=True), 1)],
                        columns=["arch", "epoch", "loss", "accuracy"])


def published_matrix(arch: str) -> pd.DataFrame:
    """The study's confusion matrix of "vgg19", "simple_cnn" or "resnet50": int (6, 6), true classes by predicted ones.

    Raises
    ------
    FerError
        For any other network, or if `MATRICES` is missing or damaged.
    """
    if arch not in _SOURCES:
        raise FerError(f"arch={arch!r}: the study shows a confusion matrix of {', '.join(_SOURCES)} only")
    return _matrix(_SOURCES[arch], CLASSES, TEST_IMAGES)


def witness_matrix() -> pd.DataFrame:
    """Confusion matrix of a well trained network, the VGG of github.com/usef-kh/fer (Khaireddin & Chen 2021,
    arXiv:2105.03588), on PublicTest: int (7, 7), true classes by predicted ones; errors as `published_matrix`."""
    return _matrix(_WITNESS, EMOTIONS, _WITNESS_IMAGES)


def published_rate(arch: str, true: str, predicted: str) -> Estimate:
    """Share of the study's test images of class ``true`` that were called ``predicted``, with `wilson` interval."""
    if unknown := {true, predicted} - set(CLASSES):
        raise FerError(f"{', '.join(sorted(unknown))}: no class of the study; choose of {', '.join(CLASSES)}")
    row = published_matrix(arch).loc[true]
    return wilson(row[predicted], row.sum())


def composition() -> pd.DataFrame:
    """What the train folder held, if its upload in the order of `FOLDERS` stopped after `TRAIN_IMAGES`.

    Indexed by class: ``official`` images in FER2013's train split, ``samples`` drawn by the study, ``in_train``.
    """
    table = pd.DataFrame({"official": [FER2013_TRAIN[name] for name in FOLDERS], "samples": SAMPLES},
                         pd.Index(FOLDERS, name="class"))
    before = table["official"].cumsum() - table["official"]
    return table.assign(in_train=(TRAIN_IMAGES - before).clip(0, table["official"]))


def last_quarter() -> pd.DataFrame:
    """The images that the simple CNN was fitted to, and validated on: indexed by class, ``fit`` and ``validation``.

    `validation_split` takes the last share of the images as they lie, before any shuffling (Keras's `Model.fit`).
    """
    labels = np.repeat(np.arange(6), composition()["in_train"])
    first = int(len(labels) * (1 - VALIDATION_SPLIT))
    return pd.DataFrame({"fit": np.bincount(labels[:first], minlength=6),
                         "validation": np.bincount(labels[first:], minlength=6)}, pd.Index(FOLDERS, name="class"))


def validation_hits() -> pd.DataFrame:
    """Each ``printed`` validation accuracy as a number of images right, indexed by epoch.

    ``hits`` is the nearest whole number, ``value`` its share of the images, ``agrees`` whether that prints the same.
    ``ceiling`` is the share of the validated images whose class the network was fitted to.
    """
    parts = last_quarter()
    images = parts["validation"].sum()
    hits = np.rint(np.array(VALIDATION, float) * images).astype(int)
    again = [f"{value:.4f}" if value > 1e-3 else f"{value:.4e}" for value in hits / images]  # as Keras prints
    return pd.DataFrame({"printed": VALIDATION, "hits": hits, "value": hits / images,
                         "agrees": np.array(again) == np.array(VALIDATION),
                         "ceiling": parts.loc[parts["fit"] > 0, "validation"].sum() / images},
                        pd.RangeIndex(1, len(hits) + 1, name="epoch"))


def recomputed() -> pd.DataFrame:
    """The reported test accuracies, counted again in the published matrices; indexed by arch.

    ``right`` of ``images``, ``accuracy``, ``reported``, ``agrees`` (rounded alike), ``empty`` (the classes that are
    never answered), and on the classes of the train folder alone ``held_images`` and ``held_accuracy``.
    """
    held, rows = composition().query("in_train > 0").index, {}
    for arch, reported in REPORTED.items():
        matrix = published_matrix(arch)
        right, images = pd.Series(np.diag(matrix), CLASSES), matrix.sum(axis=1)
        rows[arch] = {"right": right.sum(), "images": images.sum(), "accuracy": right.sum() / images.sum(),
                      "reported": reported, "agrees": f"{right.sum() / images.sum():.2f}" == f"{reported:.2f}",
                      "empty": ", ".join(matrix.columns[matrix.sum() == 0]), "held_images": images[held].sum(),
                      "held_accuracy": right[held].sum() / images[held].sum()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("arch")


def constant_answer() -> pd.Series:
    """That the published VGG19 gives one ``answer`` (of ``answers`` different ones) to so many test ``images``.

    Its ``test_share`` is the test accuracy; its ``train_share``, of the train folder, lies between the lowest and the
    highest train accuracy after the first epoch, ``train_low`` and ``train_high``.
    """
    matrix, train, curves = published_matrix("vgg19"), composition()["in_train"], published_curves()
    answer = matrix.sum().idxmax()
    later = curves.loc[(curves["arch"] == "vgg19") & (curves["epoch"] > 1), "accuracy"]
    return pd.Series({"answer": answer, "answers": int((matrix.sum() > 0).sum()), "images": int(matrix[answer].sum()),
                      "test_share": matrix.loc[answer].sum() / TEST_IMAGES, "train_share": train[answer] / train.sum(),
                      "train_low": later.min(), "train_high": later.max()})


@dataclass(frozen=True, eq=False)
class MatrixComparison:
    """A published confusion matrix beside reproduced ones. Arrays are (6, 6), rows true, columns predicted classes.

    Attributes
    ----------
    published, reproduced : float, rates by row; reproduced ones are the mean over ``seeds`` runs.
    published_ends, reproduced_ends : low and high end of each rate's 95% interval: over images (`wilson`), and over
        seeds and images.
    within : bool, whether the published rate lies in the interval of the reproduced mean.
    compatible : bool, whether the published rate could be one more run's: the 95% interval of the difference between
        one redrawn run and the redrawn published matrix holds 0.
    distance : total variation distance between published and reproduced rates, 0..1, mean over rows.
    noise : the distance where both had the published rates and only images differed, with the range of 95% of draws.
    reported : test accuracy as printed; ``published_accuracy`` and ``accuracy`` are counted, theirs and the reproduced.
    """

    arch: str
    seeds: int
    published: np.ndarray
    published_ends: tuple[np.ndarray, np.ndarray]
    reproduced: np.ndarray
    reproduced_ends: tuple[np.ndarray, np.ndarray]
    within: np.ndarray
    compatible: np.ndarray
    distance: Estimate
    noise: Estimate
    reported: float
    published_accuracy: Estimate
    accuracy: Estimate

    def cells(self) -> pd.DataFrame:
        """A row per cell: true, predicted, published, published_low, published_high, reproduced, low, high, within,
        compatible."""
        names = ["published", "published_low", "published_high", "reproduced", "low", "high", "within", "compatible"]
        values = (self.published, *self.published_ends, self.reproduced, *self.reproduced_ends, self.within,
                  self.compatible)
        return pd.DataFrame({"true": np.repeat(CLASSES, 6), "predicted": np.tile(CLASSES, 6)}
                            | {name: value.ravel() for name, value in zip(names, values, strict=True)})


def compare_matrices(arch: str, reproduced: Sequence[np.ndarray], seed: int = 0) -> MatrixComparison:
    """Compare the study's matrix of ``arch`` with those of reproduced runs, as rates: the test sets differ in size.

    Seeds are drawn with replacement and each row of their mean again from a multinomial, once for all seeds, because
    they answer the same images (after Owen 2007, "The pigeonhole bootstrap"; a little too wide where seeds disagree on
    an image). One seed covers images only, a handful understates the spread.

    Parameters
    ----------
    reproduced : int arrays (6, 6), one per training seed, of the same images; every class has some.

    Raises
    ------
    FerError
        If the matrices have another form, or `published_matrix` fails.
    """
    theirs = published_matrix(arch).to_numpy()
    if {np.shape(matrix) for matrix in reproduced} != {(6, 6)}:
        raise FerError("reproduced must be a list of (6, 6) confusion matrices, one per seed")
    ours = np.stack(list(reproduced))
    rows, images = ours[0].sum(1), theirs.sum(1)
    if ours.dtype.kind not in "iu" or (ours < 0).any() or (ours.sum(2) != rows).any() or not rows.all():
        raise FerError("reproduced must count the same images for every seed, some of each class")
    rates, published, seeds = ours / rows[:, None], theirs / images[:, None], len(ours)
    mean, random = rates.mean(0), np.random.default_rng(seed)

    def redraw(rates: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.asarray(random.multinomial(rows, np.broadcast_to(rates, (BOOTSTRAPS, 6, 6))) / rows[:, None])

    def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(first - second).sum(-1).mean(-1) / 2)

    weights = random.multinomial(seeds, np.full(seeds, 1 / seeds), BOOTSTRAPS) / seeds
    drawn, again = redraw(np.tensordot(weights, rates, 1), rows), redraw(published, images)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    gap = np.quantile(redraw(rates[random.integers(0, seeds, BOOTSTRAPS)], rows) - again, (0.025, 0.975), axis=0)
    apart, samples = float(distances(mean, published)), distances(drawn, published)
    # Noise can only add to a distance, so that redrawn ones lie too high: only their spread is taken.
    ends = np.clip(apart + np.quantile(samples, (0.025, 0.975)) - np.median(samples), 0, 1)
    noise = distances(redraw(published, rows), again)
    own = [wilson(count, total) for row, total in zip(theirs, images, strict=True) for count in row]
    return MatrixComparison(
        arch, seeds, published,
        (np.reshape([cell.low for cell in own], (6, 6)), np.reshape([cell.high for cell in own], (6, 6))),
        mean, (low, high), (low <= published) & (published <= high), (gap[0] <= 0) & (gap[1] >= 0),
        Estimate(apart, float(ends[0]), float(ends[1])), percentiles(noise.mean(), noise), REPORTED[arch],
        wilson(np.trace(theirs), theirs.sum()),
        percentiles(np.diag(mean) @ rows / rows.sum(), np.diagonal(drawn, axis1=1, axis2=2) @ rows / rows.sum()))


def _matrix(source: str, classes: tuple[str, ...], images: int) -> pd.DataFrame:
    path = results_folder() / MATRICES
    if not os.path.lexists(path):
        raise FerError(f"{path}: is missing; start in a clone of the repository")
    try:
        table = read_table(path, dtype={"source": str, "true": str} | dict.fromkeys(EMOTIONS, int))
        own = table[table["source"] == source].set_index("true")[list(EMOTIONS)]
        if sorted(own.index) != sorted(classes) or (own < 0).any(axis=None) or own.to_numpy().sum() != images:
            raise ValueError(f"{source} is no matrix of {images:,} images")
    except (ArithmeticError, TypeError, ValueError) as error:  # pandas' own errors are of these
        raise FerError(f"{path}: its matrices are damaged ({error}); restore it with git checkout") from error
    return own.loc[list(classes), list(classes)].rename_axis(columns="predicted")
