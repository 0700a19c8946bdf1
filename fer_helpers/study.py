"""The original study's training protocol, and its way, one change at a time, to a trained network."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .config import DEFAULT_LR, TrainConfig
from .data import FaceSet
from .evaluation import Evaluation
from .files import FerError
from .intervals import BOOTSTRAPS, Estimate, percentiles
from .runs import Run, compare_runs, run_table, train_run

#: The study's train set: images, and the share of them that are happy.
STUDY_IMAGES, STUDY_HAPPY = 9809, 0.41
#: Test accuracy on six classes as the study states it, after ten epochs; it gives no interval and no number of images.
REPORTED = {"vgg19": 0.14, "simple_cnn": 0.17, "resnet50": 0.22}


def protocol(arch: str, classes: int = 6, epochs: int = 10, seed: int = 0) -> TrainConfig:
    """The study's configuration: binary cross-entropy on a softmax, RMSprop at 1e-4, batches of 128, no augmentation.

    Its VGG19 and simple CNN had no batch normalisation; its ResNet50 had.
    """
    return TrainConfig(arch=arch, classes=classes, batch_norm=arch in ("resnet50", "compact"), optimizer="rmsprop",
                       lr=1e-4, weight_decay=0.0, schedule="constant", warmup_epochs=0, epochs=epochs, batch_size=128,
                       loss="binary_cross_entropy", augmentation="none", seed=seed)


def step_configs(arch: str, classes: int = 6, epochs: int = 10, train_limit: int | None = None, seed: int = 0
                 ) -> Iterator[tuple[str, TrainConfig, bool]]:
    """Name and configuration of each step, and whether it trains on the skewed set; every step keeps the changes
    before it. ``train_limit`` caps the images of all steps."""
    config = dataclasses.replace(protocol(arch, classes, epochs, seed), train_limit=train_limit)
    yield "the study's protocol", config, True
    config = dataclasses.replace(config, loss="cross_entropy")
    yield "cross-entropy", config, True
    yield "class shares as collected", config, False
    if arch.startswith("vgg"):
        config = dataclasses.replace(config, batch_norm=True)
        yield "batch normalisation", config, False
    config = dataclasses.replace(config, lr=DEFAULT_LR["rmsprop"])
    yield f"rate {config.rate:g}", config, False
    config = dataclasses.replace(config, optimizer="adam", lr=DEFAULT_LR["adam"], weight_decay=5e-4,
                                 schedule="onecycle", batch_size=64)
    yield "Adam, one-cycle, batch 64", config, False
    config = dataclasses.replace(config, augmentation="flip")
    yield "mirroring", config, False
    yield "three times the epochs", dataclasses.replace(config, epochs=3 * epochs), False


def skewed_as_studied(faces: FaceSet, classes: int = 6, seed: int = 0) -> FaceSet:
    """``faces`` with a train set as large and as happy as the study's, or as large as its shares allow."""
    return faces.with_classes(classes).skew_train("happiness", STUDY_HAPPY, STUDY_IMAGES, seed)


def run_study(faces: FaceSet, arch: str, classes: int = 6, epochs: int = 10, train_limit: int | None = None,
              seed: int = 0) -> pd.DataFrame:
    """Train every step of `step_configs`.

    Returns
    -------
    A `runs.run_table` with columns ``step`` and ``top_answer`` (share of the test images that get the most frequent
    answer), rows numbered from 0 in order.
    """
    _ = faces.near_groups  # known to both sets of images from here on
    skewed = skewed_as_studied(faces, classes, seed)
    plan = list(step_configs(arch, classes, epochs, train_limit, seed))
    return _step_table({name: train_run(config, skewed if is_skewed else faces)
                        for name, config, is_skewed in tqdm(plan, desc="study")})


def recorded_study(runs: pd.DataFrame, arch: str) -> pd.DataFrame:
    """The table of `run_study` from recorded ``runs``, a `runs.run_table` that holds every step of ``arch``.

    Raises
    ------
    FerError
        If a step is missing.
    """
    own = [run for run in runs["run"] if run.config.arch == arch]
    start = next((run.config for run in own if run.config.loss == "binary_cross_entropy"), None)
    if start is None:
        raise FerError(f"no recorded run follows the study's protocol with {arch}; record one with fer record")
    found = {}
    for name, config, skewed in step_configs(arch, start.classes, start.epochs, start.train_limit, start.seed):
        # The skewed set bears its share of happy faces in its name, see FaceSet.skew_train.
        same = [run for run in own if run.config == config and ("happiness" in run.environment["data"]) == skewed]
        if not same:
            raise FerError(f"no recorded run of {arch} is the step {name!r}; record it with fer record")
        found[name] = same[0]
    return _step_table(found)


def _step_table(runs: dict[str, Run]) -> pd.DataFrame:
    table = run_table(runs.values()).reset_index()
    answers = [run.metrics["test"].confusion.sum(0) / run.metrics["test"].count for run in runs.values()]
    return table.assign(step=list(runs), top_answer=[shares.max() for shares in answers])


def step_gains(table: pd.DataFrame) -> pd.DataFrame:
    """What each change of `run_study`'s table is worth: the gain in test accuracy over the step before, −1..1, paired
    by image. Indexed by step: value, low, high."""
    rows = {}
    for (_, before), (_, after) in itertools.pairwise(table.iterrows()):
        gain = compare_runs(after["run"], before["run"]).difference
        rows[after["step"]] = (gain.value, gain.low, gain.high)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])


def run_protocol(faces: FaceSet, archs: Iterable[str], classes: int = 6, epochs: int = 10,
                 train_limit: int | None = None, seed: int = 0) -> dict[str, Run]:
    """The study's protocol itself, the first of `step_configs`, for several architectures."""
    skewed = skewed_as_studied(faces, classes, seed)
    plan = {arch: next(step_configs(arch, classes, epochs, train_limit, seed))[1] for arch in archs}
    return {arch: train_run(config, skewed) for arch, config in tqdm(plan.items(), desc="protocol")}


def with_reported(table: pd.DataFrame, arch: str) -> pd.DataFrame:
    """`run_study`'s table behind a first row "as reported" without interval; as it is where the study has no figure."""
    if arch not in REPORTED or table["classes"].iloc[0] != 6:
        return table
    first = {"step": "as reported", "test_accuracy": REPORTED[arch], "majority": table["majority"].iloc[0]}
    return pd.concat([pd.DataFrame([first]), table], ignore_index=True)


def nearest_constant(faces: FaceSet, classes: int = 6) -> pd.DataFrame:
    """Which always equal answer would score about what the study reports.

    A network that gives one class to all images scores that class's share of the test split, whichever class it is.

    Returns
    -------
    Data frame indexed by arch: ``reported``, ``answer`` (the class with the nearest share), ``share`` of it,
    ``images`` of the test split.
    """
    counts = faces.with_classes(classes).counts()["test"]
    shares = counts / counts.sum()
    answers = {arch: (shares - reported).abs().idxmin() for arch, reported in REPORTED.items()}
    return pd.DataFrame({"reported": REPORTED, "answer": answers,
                         "share": {arch: shares[name] for arch, name in answers.items()},
                         "images": int(counts.sum())}).rename_axis("arch")


def unpaired_accuracy(scores: Evaluation, shuffles: int = BOOTSTRAPS, seed: int = 0) -> Estimate:
    """The accuracy of the same answers where they meet the labels in another order, as with a shuffled generator.

    Its mean over all orders, and the range of 95% of ``shuffles`` random ones.
    """
    true, given = (np.repeat(np.arange(len(scores.classes)), scores.confusion.sum(axis)) for axis in (1, 0))
    random = np.random.default_rng(seed)
    drawn = [(true == random.permutation(given)).mean() for _ in range(shuffles)]
    return percentiles(np.dot(scores.confusion.sum(0), scores.confusion.sum(1)) / scores.count**2, np.array(drawn))
