"""Runs compared over their seeds: what an architecture is worth, and how often it confuses two classes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..files import FerError
from ..metrics.evaluation import compare_seeds
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


def _correct(run: Run, split: str) -> pd.Series:
    """bool by image id: was it classified correctly?"""
    table = run.predictions[run.predictions["split"] == split].set_index("id")
    return table["true"] == table["predicted"]
