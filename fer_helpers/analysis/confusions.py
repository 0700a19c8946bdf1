"""Which classes overlap, and for whom: verdicts on pairs of classes, and other observers beside the network.

An observer is a float array (N, C): the share of its answers that each class gets, by image. The votes of people, the
probabilities of a classifier, a network's single answers and the classes of an image's neighbours all have this form,
so that the same functions serve all of them. Distances between classes are in `embeddings`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import binomtest, fisher_exact, rankdata

from ..data.faceset import FaceSet
from ..files import FerError
from ..metrics.evaluation import Evaluation
from ..metrics.intervals import BOOTSTRAPS, Estimate, difference, holm, percentiles, wilson
from .baselines import eigenface_regression, pixels, predict, unit_rater
from .dataset_statistics import human_agreement
from .run_comparison import answer_tables, over_seeds

#: The pairs that the original study called ambiguous.
PAIRS = (("fear", "happiness"), ("anger", "happiness"))


def pair_verdicts(settings: Mapping[int, Evaluation], pairs: tuple[tuple[str, str], ...] = PAIRS) -> pd.DataFrame:
    """Is a confusion real? Each pair, both ways, in each class setting, against two things it could be instead.

    Errors that are spread evenly: the errors of class ``true`` would then fall on each wrong class alike (exact
    binomial test). A refuge for doubt: other classes would be called ``predicted`` as often as ``true`` is (Fisher's
    exact test). All tests of the table are two-sided and share one Holm correction.

    Returns
    -------
    Data frame: classes (the key of ``settings``), true, predicted, count, of, rate, low, high, ``even`` and ``others``
    (the two rates to compare with), ``p_even`` and ``p_others`` (adjusted), and ``finding``: "a confusion of its own"
    (above both), "a refuge" (above even only), "avoided" (below even), or "no difference found" (to even).

    A pair of which a setting lacks a class is left out there.
    """
    rows = []
    for key, scores in settings.items():
        totals, there = scores.confusion.sum(1), [pair for pair in pairs if set(pair) <= set(scores.classes)]
        for true, predicted in itertools.chain.from_iterable((pair, pair[::-1]) for pair in there):
            row, column = scores.classes.index(true), scores.classes.index(predicted)
            count, of, errors = scores.confusion[row, column], totals[row], totals[row] - scores.confusion[row, row]
            rest = np.setdiff1d(np.arange(len(totals)), (row, column))
            other, other_of = scores.confusion[rest, column].sum(), totals[rest].sum()
            share, rate = 1 / (len(totals) - 1), scores.rate(true, predicted)
            rows.append((key, true, predicted, int(count), int(of), rate.value, rate.low, rate.high,
                         share * errors / max(of, 1), other / max(other_of, 1),
                         binomtest(count, errors, share).pvalue if errors else 1.0,
                         fisher_exact([[count, of - count], [other, other_of - other]]).pvalue))
    table = pd.DataFrame(rows, columns=["classes", "true", "predicted", "count", "of", "rate", "low", "high", "even",
                                        "others", "p_even", "p_others"])
    table[["p_even", "p_others"]] = holm(table[["p_even", "p_others"]].to_numpy(float))
    differs, above = table["p_even"] < 0.05, table["rate"] > table["even"]
    own = (table["p_others"] < 0.05) & (table["rate"] > table["others"])
    table["finding"] = np.select([differs & above & own, differs & above, differs], [
        "a confusion of its own", "a refuge", "avoided"], "no difference found")
    return table


def observer_shares(faces: FaceSet, limit: int = 10_000, seed: int = 0) -> tuple[str, np.ndarray]:
    """Who else answers, and that observer's answers to the test images, float64 (N, C).

    "people": FER+ votes; rows of NaN where there are none. "an observer told the action units": on drawn faces, boosted
    trees on what was drawn instead of on the picture, close to an ideal observer, so that the confusion is the
    drawing's own. "a linear classifier": on photographs without votes, eigenfaces and logistic regression. Classifiers
    learn from the train split, of which ``limit`` caps the images, and answer with probabilities.
    """
    if faces.votes is not None:
        return "people", faces.only("test").vote_shares().double().numpy()
    if faces.action_units is not None:
        return "an observer told the action units", unit_rater(faces, limit, seed)
    part = faces.limit_train(limit, seed)
    return "a linear classifier", predict(eigenface_regression(seed=seed), pixels(part.images), part,
                                          part.split == "train", part.split == "test")


def test_answers(predictions: pd.DataFrame) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Of the test images of `runs.Run.predictions`: their ids, their labels, int (N,), and the network as an observer,
    float64 (N, C), which gives its whole answer to one class."""
    rows = predictions[predictions["split"] == "test"]
    classes = [name.removeprefix("prob_") for name in rows if name.startswith("prob_")]
    labels, answered = (rows[column].map(classes.index).to_numpy(int) for column in ("true", "predicted"))
    return list(rows["id"]), labels, np.eye(len(classes))[answered]


def confusion_correlation(first: np.ndarray, second: np.ndarray, labels: np.ndarray, bootstraps: int = BOOTSTRAPS,
                          seed: int = 0) -> Estimate:
    """Spearman's rank correlation −1..1 of two observers' confusions over the C (C − 1) ordered pairs of classes.

    Its percentile interval resamples the images that both observers answered. Resampling adds noise of its own, which
    lowers rank correlations, so the interval errs to the low side.

    Raises
    ------
    FerError
        If the shapes differ, or the common images do not hold every class.
    """
    if first.shape != second.shape or len(labels) != len(first):
        raise FerError(f"cannot compare answers of shape {first.shape} and {second.shape} to {len(labels)} images")
    known = ~(np.isnan(first).any(1) | np.isnan(second).any(1))
    numbers, size = labels[known], first.shape[1]
    if len(np.unique(numbers)) < size:
        raise FerError(f"only {known.sum()} images are answered by both, and not of every class; take more images")
    weights = np.random.default_rng(seed).multinomial(known.sum(), np.full(known.sum(), 1 / known.sum()), bootstraps)
    weights = np.concatenate([np.ones((1, known.sum())), weights])  # the first row is the sample as it is
    off = ~np.eye(size, dtype=bool)
    ranks = []
    for shares in (first[known], second[known]):
        drawn = np.stack([weights[:, numbers == row] @ shares[numbers == row] for row in range(size)], 1)
        # A class that a resample misses has no rate: it counts as never confused.
        rank = rankdata((drawn / drawn.sum(2, keepdims=True).clip(1e-9))[:, off], axis=1)
        ranks.append(rank - rank.mean(1, keepdims=True))
    product = np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1)).clip(1e-9)
    values = (ranks[0] * ranks[1]).sum(1) / product
    return percentiles(values[0], values[1:])


def clarity(faces: FaceSet) -> tuple[str, np.ndarray]:
    """What tells a clear image from an unclear one, and float64 (N,), higher for clearer; NaN where unknown.

    "human agreement" with the label, where there are votes; on drawn faces "strength of the expression" (sum of the
    action units; negative for neutral, which is clearest at rest); otherwise "contrast" (standard deviation of grey).
    """
    if faces.votes is not None:
        return "human agreement", human_agreement(faces)
    if faces.action_units is not None:
        rest = np.array([name == "neutral" for name in faces.classes])[faces.labels.numpy()]
        return "strength of the expression", faces.action_units.sum(1).double().numpy() * np.where(rest, -1, 1)
    return "contrast", faces.images.flatten(1).double().std(1).numpy()


def halves(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool (N,) twice: the lower and the upper half of ``values`` within each class; NaN is in neither.

    Equal values stay together, so where ties are many, the halves are as even as they can be.
    """
    upper, known = np.zeros(len(values), dtype=bool), ~np.isnan(values)
    for label in np.unique(labels[known]):
        own = np.flatnonzero(known & (labels == label))
        steps = np.unique(values[own])[1:]
        if len(steps):
            share = np.array([(values[own] >= step).mean() for step in steps])
            upper[own] = values[own] >= steps[np.abs(share - 0.5).argmin()]
    return known & ~upper, upper


def rate_changes(labels: np.ndarray, predicted: np.ndarray, lower: np.ndarray, upper: np.ndarray,
                 classes: tuple[str, ...], top: int = 6) -> pd.DataFrame:
    """The ``top`` most frequent confusions on the images of ``lower`` and of ``upper`` (bool (N,), see `halves`).

    Returns
    -------
    Data frame indexed by "true → predicted": lower, lower_low, lower_high, upper, upper_low, upper_high (rates with
    Wilson 95% intervals) and value, low, high (upper minus lower, `intervals.difference`).
    Pairs whose true class one half lacks are left out.
    """
    rows = {}
    for row, column in itertools.permutations(range(len(classes)), 2):
        answers = [predicted[half & (labels == row)] == column for half in (lower, upper)]
        if not all(map(len, answers)):
            continue
        first, second = (wilson(part.sum(), len(part)) for part in answers)
        parts = first, second, difference(first, second)
        rows[f"{classes[row]} → {classes[column]}"] = [
            number for part in parts for number in (part.value, part.low, part.high)]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[
        "lower", "lower_low", "lower_high", "upper", "upper_low", "upper_high", "value", "low", "high"])
    order = np.argsort(-(table["lower"] + table["upper"]).to_numpy(), kind="stable")
    return table.iloc[order[:top]]


def confusion_by_accuracy(runs: pd.DataFrame, true: str = "fear", predicted: str = "happiness") -> pd.DataFrame:
    """How often each run of a `runs.run_table` makes one confusion, beside how accurate it is; least accurate first.

    Returns
    -------
    Data frame indexed by run id: ``arch``, ``accuracy``, and ``value`` with ``low`` and ``high``, the share of test
    images of class ``true`` that are called ``predicted``; ``images`` counts them.
    """
    rows = {}
    for name, run in runs["run"].items():
        scores = run.metrics["test"]
        rate = scores.rate(true, predicted)
        rows[name] = {"arch": run.config.arch, "accuracy": scores.accuracy.value, **vars(rate),
                      "images": int(scores.confusion[scores.classes.index(true)].sum())}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("run_id").sort_values("accuracy")


def outcomes_by_accuracy(outcomes: pd.DataFrame, true: str = "fear", predicted: str = "happiness") -> pd.DataFrame:
    """`confusion_by_accuracy` of ways to learn: of `methods.compare_methods` with the columns network and arch, a row
    each, whose values are means over seeds."""
    rates = outcomes[outcomes["outcome"] == f"{true} → {predicted}"].set_index(["network", "method"])
    accuracy = outcomes[outcomes["outcome"] == "accuracy"].set_index(["network", "method"])["value"]
    table = rates.assign(accuracy=accuracy)[["arch", "accuracy", "value", "low", "high", "images"]]
    return table.set_axis([f"{network}: {method}" for network, method in table.index]).sort_values("accuracy")


def unseen_answers(runs: pd.DataFrame, people: pd.DataFrame) -> pd.DataFrame:
    """What a class is called by networks that never saw it, beside where people's votes go that are not for it.

    Parameters
    ----------
    runs : a `runs.run_table` of trainings with one class left out, ``train_set="without-CLASS"``, some for each class.
    people : float (C, C), shares of votes by true class (rows) and class voted for.

    Returns
    -------
    Data frame, a row for each class left out and each other class: ``unseen``, ``answer``, ``value``, ``low``, ``high``
    (share of its test images, over seeds and images), ``people`` (share of the votes for other classes than its own),
    ``seeds``, ``images``.
    """
    rows = []
    for train_set, own in runs[runs["train_set"].str.startswith("without-")].groupby("train_set", sort=False):
        unseen = train_set.removeprefix("without-")
        votes = people.loc[unseen].drop(unseen)
        for answer, share in (votes / votes.sum()).items():
            value, low, high, seeds, images = over_seeds(answer_tables(own), unseen, answer).iloc[0]
            rows.append((unseen, answer, value, low, high, share, int(seeds), int(images)))
    return pd.DataFrame(rows, columns=["unseen", "answer", "value", "low", "high", "people", "seeds", "images"])
