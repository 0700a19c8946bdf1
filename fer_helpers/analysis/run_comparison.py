"""Runs compared over their seeds: what an architecture is worth, and how often it confuses two classes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..files import FerError
from ..metrics.evaluation import compare_seeds
from ..metrics.intervals import BOOTSTRAPS, Estimate, percentiles
from ..models.base import network_name
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


def answer_tables(runs: pd.DataFrame, split: str = "test") -> dict[str, list[pd.DataFrame]]:
    """The answers of a `runs.run_table`: by `base.network_name` of the architecture, a table a run, indexed by image
    id, with the columns of `runs.Run.predictions`."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for arch, run in zip(runs["arch"], runs["run"], strict=True):
        rows = run.predictions[run.predictions["split"] == split].set_index("id")
        tables.setdefault(network_name(arch), []).append(rows)
    return tables


def over_seeds(answers: Mapping[str, Sequence[pd.DataFrame]], true: str = "", predicted: str = "") -> pd.DataFrame:
    """A share of the answers of each network, over all its seeds: accuracy, or how often ``true`` was called
    ``predicted``.

    ``answers`` has a table a seed, indexed by image id, with the columns true and predicted (`answer_tables`).

    Returns
    -------
    Data frame indexed by network, in the order of ``answers``: value, low, high (over seeds and images, see
    `evaluation.compare_seeds`), seeds, images.
    """
    rows = {}
    for name, tables in answers.items():
        chosen = tables[0].index[tables[0]["true"] == true] if true else tables[0].index
        hits = np.stack([(table["predicted"] == (predicted or table["true"])).loc[chosen] for table in tables])
        share = compare_seeds(hits, np.zeros_like(hits))
        rows[name] = (share.value, share.low, share.high, *hits.shape)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "seeds", "images"])


def error_consistency(first: np.ndarray, second: np.ndarray, agree: np.ndarray | None = None,
                      weights: np.ndarray | None = None) -> Estimate:
    """Cohen's kappa −1..1 of two observers being right on the same images (Geirhos et al. 2020, arXiv:2006.16736).

    0 is what two of their accuracies reach by chance, 1 means the very same errors. The interval is a bootstrap over
    images.

    Parameters
    ----------
    first, second : (N,) probability 0..1 of being right on each image: 0 or 1 for a network, for people the share of
        the votes that are right.
    agree : (N,) probability that both are right or both wrong, where the two are not independent given the image, such
        as two of its raters; None computes it as if they were.
    weights : (B, N) how often each resample holds each image; None draws them.
    """
    first, second = (np.asarray(values, float) for values in (first, second))
    both = first * second + (1 - first) * (1 - second) if agree is None else np.asarray(agree, float)
    weights = _resamples(len(both)) if weights is None else weights
    drawn = weights @ np.column_stack([both, first, second]) / len(both)
    means = np.vstack([[both.mean(), first.mean(), second.mean()], drawn])
    chance = means[:, 1] * means[:, 2] + (1 - means[:, 1]) * (1 - means[:, 2])
    kappa = (means[:, 0] - chance) / (1 - chance).clip(1e-9)
    return percentiles(kappa[0], kappa[1:])


def _resamples(images: int, seed: int = 0) -> np.ndarray:
    """float64 (B, N): how often each of `BOOTSTRAPS` resamples holds each image."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), BOOTSTRAPS).astype(float)


def same_errors(answers: Mapping[str, Sequence[pd.DataFrame]], votes: pd.DataFrame | None = None) -> pd.DataFrame:
    """`error_consistency` within and between networks, of networks with people, and of people with one another.

    Parameters
    ----------
    answers : as for `over_seeds`, of the same images.
    votes : a `dataset_statistics.vote_table`; images that fewer than two people judged are left out. None where nobody
        voted.

    Returns
    -------
    Data frame: first, second, value, low, high (mean over pairs of seeds, from the lowest to the highest end of their
    intervals), pairs (of seeds).
    """
    true, observers = next(iter(answers.values()))[0]["true"], list(answers)
    if votes is not None:
        counts = votes.reindex(true.index)
        counts, observers = counts[counts.sum(axis=1) >= 2], [*answers, "people"]
        true, of = true.loc[counts.index], counts.sum(axis=1).to_numpy(float)
        backed = counts.to_numpy(float)[np.arange(len(true)), [counts.columns.get_loc(name) for name in true]]
        person, rest = backed / of, of - backed
        two = (backed * (backed - 1) + rest * (rest - 1)) / (of * (of - 1))
    right = {name: [(table["predicted"].loc[true.index] == true).to_numpy(float) for table in tables]
             for name, tables in answers.items()}
    rows, weights = [], _resamples(len(true))
    for first, second in itertools.combinations_with_replacement(observers, 2):
        if first == "people":
            found = [error_consistency(person, person, two, weights)]
        elif second == "people":
            found = [error_consistency(one, person, weights=weights) for one in right[first]]
        elif first == second:
            found = [error_consistency(*pair, weights=weights) for pair in itertools.combinations(right[first], 2)]
        else:
            found = [error_consistency(*pair, weights=weights)
                     for pair in zip(right[first], right[second], strict=False)]
        if found:
            rows.append((first, second, float(np.mean([one.value for one in found])), min(one.low for one in found),
                         max(one.high for one in found), len(found)))
    return pd.DataFrame(rows, columns=["first", "second", "value", "low", "high", "pairs"])


def _correct(run: Run, split: str) -> pd.Series:
    """bool by image id: was it classified correctly?"""
    table = run.predictions[run.predictions["split"] == split].set_index("id")
    return table["true"] == table["predicted"]
