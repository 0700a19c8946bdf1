"""Learning rates: which one suits an optimizer, and how soon a training gets anywhere with it."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..analysis.training_dynamics import begin_training
from ..data.faceset import FaceSet
from ..files import FerError
from ..training.config import TrainConfig
from ..training.runs import Run, load_or_train
from ..training.trainer import Diverged


@dataclass(frozen=True, eq=False)
class RateRange:
    """Result of a rate range test.

    Attributes
    ----------
    table : data frame indexed by rate: loss, and smoothed, its running average.
    suggested : a tenth of the rate at which the smoothed loss is lowest.
    """

    table: pd.DataFrame
    suggested: float


def rate_range(config: TrainConfig, faces: FaceSet, low: float = 1e-6, high: float = 1.0, steps: int = 100
               ) -> RateRange:
    """Learning-rate range test (Smith 2017, arXiv:1506.01186): train while the rate rises from ``low`` to ``high``.

    The rate grows by a constant factor a step, whatever the schedule of ``config``; the test ends early where the
    smoothed loss exceeds four times its minimum or is not finite. At the minimum the rate already is on its way to
    destroying what was learned, hence the tenth.

    Parameters
    ----------
    config, faces : as for `trainer.fit`; validation images are not looked at.
    low, high : first and last rate.
    steps : 10 or more.

    Raises
    ------
    FerError
        If the range or the number of steps makes no sense, or there are fewer train images than one batch takes.
    """
    if not 0 < low < high or steps < 10:
        raise FerError(f"a rate range test from {low} to {high} in {steps} steps: choose 0 < low < high and "
                       "10 steps or more")
    rates, losses = np.geomspace(low, high, steps), []
    with begin_training(config, faces) as (trainer, batches):
        for number, (index, draws) in enumerate(itertools.islice(batches, steps)):
            losses.append(trainer.step(float(rates[number]), index, draws)[0].item())
            smoothed = pd.Series(losses).ewm(alpha=0.1).mean()
            if not math.isfinite(losses[-1]) or smoothed.iloc[-1] > 4 * smoothed.min():
                break
    table = pd.DataFrame({"loss": losses, "smoothed": smoothed.to_numpy()},
                         index=pd.Index(rates[:len(losses)], name="rate"))
    table = table[np.isfinite(table["loss"])]
    if table.empty:
        raise FerError(f"{config.arch}: the loss is not finite before the first step; check the network and the images")
    # The average starts with single noisy batches: a minimum there would be luck.
    return RateRange(table, float(table["smoothed"].iloc[min(steps // 10, len(table) - 1):].idxmin()) / 10)


def converging_runs(configs: Iterable[TrainConfig], faces: FaceSet, fresh: bool = False) -> list[Run]:
    """The runs of those of ``configs`` whose training does not diverge, in order; `runs.load_or_train` gives them."""
    runs = []
    for config in configs:
        with contextlib.suppress(Diverged):  # the run's folder keeps the reason
            runs.append(load_or_train(config, faces, fresh))
    return runs


def time_to_accuracy(runs: pd.DataFrame, target: float) -> pd.DataFrame:
    """When each run first reached the validation accuracy ``target``.

    Parameters
    ----------
    runs : a `runs.run_table`.
    target : validation accuracy 0..1.

    Returns
    -------
    Data frame with the index of ``runs``: ``epoch`` and ``steps`` (counted in whole epochs, after which validation
    takes place) and ``seconds`` of training; NaN where it never did.
    """
    rows = []
    for run in runs["run"]:
        reached = run.history[run.history["val_accuracy"] >= target]
        if reached.empty:
            rows.append((np.nan, np.nan, np.nan))
            continue
        epoch = int(reached["epoch"].iloc[0])
        steps = run.environment["images"]["train"] // run.config.batch_size
        rows.append((epoch, epoch * steps, run.history.loc[run.history["epoch"] <= epoch, "seconds"].sum()))
    return pd.DataFrame(rows, index=runs.index, columns=["epoch", "steps", "seconds"])
