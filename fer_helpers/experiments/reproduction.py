"""The original study trained again, from its recorded runs: beside what it published (`published`), and, one change at
a time, on the way to a trained network. The trainings are the plan's groups "original" and "way-out"."""

from __future__ import annotations

import itertools

import pandas as pd

from ..analysis.published import REPORTED, MatrixComparison, compare_matrices, published_curves
from ..files import FerError
from ..training.runs import Run, compare_runs, run_table
from .study import Study, read_plan

#: Our architecture of each of the study's networks, by its name in `published`, and what readers call it.
ARCHS = {"simple_cnn": "simple_cnn", "resnet50": "original_resnet50", "vgg19": "original_vgg19",
         "vgg16": "original_vgg16"}
NAMES = {"simple_cnn": "simple CNN", "resnet50": "ResNet50", "vgg19": "VGG19", "vgg16": "VGG16"}
#: The confusions that the study is about, both ways: true class, answer.
DIRECTIONS = (("happiness", "fear"), ("happiness", "anger"), ("fear", "happiness"), ("anger", "happiness"))


def reproduced(study: Study | None = None) -> dict[str, list[Run]]:
    """The recorded runs under the study's protocol, by the network's name in `published`, seed after seed.

    Raises
    ------
    FerError
        If none is recorded.
    """
    table = (study or Study(read_plan())).recorded("original")
    if table.empty:
        raise FerError("no run under the original study's protocol is recorded; train them with fer study original")
    return {name: list(own.sort_values("seed")["run"]) for name, arch in ARCHS.items()
            if len(own := table[table["arch"] == arch])}


def compare_with_published(study: Study | None = None) -> dict[str, MatrixComparison]:
    """Published and reproduced confusion matrix of each network that has both."""
    return {name: compare_matrices(name, [run.metrics["test"].confusion for run in runs])
            for name, runs in reproduced(study).items() if name in REPORTED}


def training_curves(study: Study | None = None) -> pd.DataFrame:
    """Loss and accuracy on train by epoch, a row each: arch (as in `published`), who ("published", "seed 0", …), epoch,
    loss, accuracy (0..1)."""
    parts = [published_curves().assign(who="published")]
    for name, runs in reproduced(study).items():
        parts += [run.history.rename(columns={"train_loss": "loss", "train_accuracy": "accuracy"})[
            ["epoch", "loss", "accuracy"]].assign(arch=name, who=f"seed {run.config.seed}") for run in runs]
    return pd.concat(parts, ignore_index=True)[["arch", "who", "epoch", "loss", "accuracy"]]


def way_out(name: str, study: Study | None = None) -> pd.DataFrame:
    """From the study's protocol to a trained network, one change at a time, each keeping those before; seed 0.

    Returns
    -------
    A `runs.run_table` with a column ``step``, in order, as far as it is recorded without a gap; and for each of
    `DIRECTIONS` its rate, as "happiness → fear", with "… low" and "… high".
    """
    study, rows = study or Study(read_plan()), []
    for group in ("original", "way-out"):
        jobs = [pair for entry in study.plan.entries if entry.group == group for pair in study.jobs(entry)
                if pair[0].config.arch == ARCHS[name] and pair[0].config.seed == 0]
        rows += [("as published" if group == "original" else job.entry.name, run) for job, run in jobs]
    rows = list(itertools.takewhile(lambda row: row[1] is not None, rows))
    table = run_table(run for _, run in rows if run is not None)
    if table.empty:
        return table
    table.insert(0, "step", [step for step, _ in rows])
    for true, predicted in DIRECTIONS:
        rates = [run.metrics["test"].rate(true, predicted) for run in table["run"]]
        for ending, end in (("", "value"), (" low", "low"), (" high", "high")):
            table[f"{true} → {predicted}{ending}"] = [getattr(rate, end) for rate in rates]
    return table


def step_gains(table: pd.DataFrame) -> pd.DataFrame:
    """What each change of `way_out`'s table is worth: the gain in test accuracy over the step before, −1..1, paired by
    image. Indexed by step: value, low, high."""
    rows = {}
    for (_, before), (_, after) in itertools.pairwise(table.iterrows()):
        gain = compare_runs(after["run"], before["run"]).difference
        rows[after["step"]] = (gain.value, gain.low, gain.high)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])
