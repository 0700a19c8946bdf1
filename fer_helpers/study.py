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


def steps(arch: str, faces: FaceSet, classes: int = 6, epochs: int = 10, train_limit: int | None = None,
          seed: int = 0) -> Iterator[tuple[str, TrainConfig, FaceSet]]:
    """Name, configuration and data of each step; every step keeps the changes before it.

    ``train_limit`` caps the images of every step, and so the size of the skewed set.
    """
    config = dataclasses.replace(protocol(arch, classes, epochs, seed), train_limit=train_limit)
    skewed = faces.with_classes(classes).skew_train("happiness", STUDY_HAPPY, STUDY_IMAGES, seed)
    yield "the study's protocol", config, skewed
    config = dataclasses.replace(config, loss="cross_entropy")
    yield "cross-entropy", config, skewed
    yield "class shares as collected", config, faces
    if arch.startswith("vgg"):
        config = dataclasses.replace(config, batch_norm=True)
        yield "batch normalisation", config, faces
    config = dataclasses.replace(config, lr=DEFAULT_LR["rmsprop"])
    yield f"rate {config.lr:g}", config, faces
    config = dataclasses.replace(config, optimizer="adam", lr=DEFAULT_LR["adam"], weight_decay=5e-4,
                                 schedule="onecycle", batch_size=64)
    yield "Adam, one-cycle, batch 64", config, faces
    config = dataclasses.replace(config, augmentation="flip")
    yield "mirroring", config, faces
    yield "three times the epochs", dataclasses.replace(config, epochs=3 * epochs), faces


def run_study(faces: FaceSet, arch: str, classes: int = 6, epochs: int = 10, train_limit: int | None = None,
              seed: int = 0) -> pd.DataFrame:
    """Train every step. A `runs.run_table` with columns ``step`` and ``top_answer`` (share of the test images that
    get the most frequent answer), rows numbered from 0 in order."""
    _ = faces.near_groups  # known to both sets of images from here on
    plan = list(steps(arch, faces, classes, epochs, train_limit, seed))
    table = run_table(train_run(config, data) for _, config, data in tqdm(plan, desc="study")).reset_index()
    table["step"] = [name for name, _, _ in plan]
    table["top_answer"] = [(run.metrics["test"].confusion.sum(0) / run.metrics["test"].count).max()
                           for run in table["run"]]
    return table


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
    """The study's protocol itself, the first of `steps`, for several architectures."""
    plan = {arch: next(steps(arch, faces, classes, epochs, train_limit, seed)) for arch in archs}
    return {arch: train_run(config, data) for arch, (_, config, data) in tqdm(plan.items(), desc="protocol")}


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


def unpaired_accuracy(scores: Evaluation) -> float:
    """Expected accuracy 0..1 if the answers met the labels in another order, as under a shuffled validation split."""
    return float(np.dot(scores.confusion.sum(0), scores.confusion.sum(1)) / scores.count**2)
