"""Runs compared over their seeds: what an architecture is worth, and how often it confuses two classes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..files import FerError
from ..metrics.evaluation import compare_seeds
from ..metrics.intervals import Estimate, percentiles, resample
from ..training.runs import Run, compare_runs


def seed_differences(runs: pd.DataFrame, first: str, second: str, split: str = "test") -> pd.DataFrame:
    """Accuracy of architecture ``first`` minus that of ``second``, paired by seed and by image.

    Returns
    -------
    Data frame with a row per seed that both have, "seed 0" …, and a last row "all seeds": value, low, high, in
    −1..1. The interval of a seed covers images; that of all seeds covers seeds and images, see
    `evaluation.compare_seeds`.

    Raises
    ------
    FerError
        If the two have no seed in common, or a pair was tested on different images.
    """
    by_seed = [runs[runs["arch"] == arch].set_index("seed")["run"] for arch in (first, second)]
    seeds = sorted(set(by_seed[0].index) & set(by_seed[1].index))
    if not seeds:
        raise FerError(f"{first} and {second} have no seed in common; train both with the same seeds")
    pairs = [(by_seed[0][seed], by_seed[1][seed]) for seed in seeds]
    rows = {f"seed {seed}": compare_runs(*pair, split).difference for seed, pair in zip(seeds, pairs, strict=True)}
    correct = [[_correct(run, split) for run in side] for side in zip(*pairs, strict=True)]
    ids = correct[0][0].index
    one, other = (np.stack([answers.loc[ids] for answers in side]) for side in correct)
    rows["all seeds"] = compare_seeds(one, other)
    return pd.DataFrame([(e.value, e.low, e.high) for e in rows.values()], index=list(rows),
                        columns=["value", "low", "high"])


def over_seeds(runs: pd.DataFrame, true: str = "", predicted: str = "", split: str = "test") -> pd.DataFrame:
    """A share of the answers of each architecture, over all its seeds: accuracy, or how often ``true`` was called
    ``predicted``.

    Returns
    -------
    Data frame indexed by arch, in the order of ``runs``: value, low, high (over seeds and images, see
    `evaluation.compare_seeds`), seeds, images.
    """
    rows = {}
    for arch, own in runs.groupby("arch", sort=False):
        answers = [run.predictions[run.predictions["split"] == split].set_index("id") for run in own["run"]]
        chosen = answers[0].index[answers[0]["true"] == true] if true else answers[0].index
        hits = np.stack([(table["predicted"] == (predicted or table["true"])).loc[chosen] for table in answers])
        share = compare_seeds(hits, np.zeros_like(hits))
        rows[arch] = (share.value, share.low, share.high, *hits.shape)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "seeds", "images"])


def error_consistency(first: np.ndarray, second: np.ndarray, agree: np.ndarray | None = None) -> Estimate:
    """Cohen's kappa −1..1 of two observers being right on the same images (Geirhos et al. 2020, arXiv:2006.16736).

    0 is what two of their accuracies reach by chance, 1 means the very same errors. The interval is a bootstrap over
    images.

    Parameters
    ----------
    first, second : (N,) probability 0..1 of being right on each image: 0 or 1 for a network, for people the share of
        the votes that are right.
    agree : (N,) probability that both are right or both wrong, where the two are not independent given the image, such
        as two of its raters; None computes it as if they were.
    """
    first, second = (np.asarray(values, float) for values in (first, second))
    both = first * second + (1 - first) * (1 - second) if agree is None else np.asarray(agree, float)
    parts = np.column_stack([both, first, second])

    def kappa(means: np.ndarray) -> np.ndarray:
        observed, one, other = means.T
        chance = one * other + (1 - one) * (1 - other)
        return np.asarray((observed - chance) / (1 - chance).clip(1e-9))

    return percentiles(kappa(parts.mean(0)[None])[0], kappa(resample(parts) / len(parts)))


def same_errors(groups: Mapping[str, Sequence[pd.Series]], true: pd.Series, votes: pd.DataFrame) -> pd.DataFrame:
    """`error_consistency` within and between groups of networks, of networks with people, and of people.

    Parameters
    ----------
    groups : for each network its seeds' answers to the same images, class names by image id.
    true : the true classes, likewise.
    votes : a `dataset_statistics.vote_table`; images that fewer than two people judged are left out.

    Returns
    -------
    Data frame: first, second, value, low, high (mean over pairs of seeds; the interval is the widest of theirs), pairs.
    """
    counts = votes.reindex(true.index)
    counts = counts[counts.sum(axis=1) >= 2]
    true, of = true.loc[counts.index], counts.sum(axis=1).to_numpy(float)
    backed = counts.to_numpy(float)[np.arange(len(true)), [counts.columns.get_loc(name) for name in true]]
    right = {name: [(answers.loc[true.index] == true).to_numpy(float) for answers in seeds]
             for name, seeds in groups.items()}
    person, rest = backed / of, of - backed
    two = (backed * (backed - 1) + rest * (rest - 1)) / (of * (of - 1))
    rows = []
    for first, second in itertools.combinations_with_replacement([*groups, "people"], 2):
        if first == "people":
            found = [error_consistency(person, person, two)]
        elif second == "people":
            found = [error_consistency(own, person) for own in right[first]]
        else:
            pairs = itertools.combinations(right[first], 2) if first == second else zip(right[first], right[second], strict=False)
            found = [error_consistency(*pair) for pair in pairs]
        if found:
            rows.append((first, second, np.mean([one.value for one in found]), min(one.low for one in found),
                         max(one.high for one in found), len(found)))
    return pd.DataFrame(rows, columns=["first", "second", "value", "low", "high", "pairs"])


def _correct(run: Run, split: str) -> pd.Series:
    """bool by image id: was it classified correctly?"""
    table = run.predictions[run.predictions["split"] == split].set_index("id")
    return table["true"] == table["predicted"]
