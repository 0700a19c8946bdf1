"""What is claimed of the original study, from its published outputs and from its trainings, repeated and mended."""

from __future__ import annotations

import pandas as pd
from scipy.stats import spearmanr

from ..analysis import published
from ..experiments.reproduction import NAMES, compare_with_published, way_out
from ..experiments.study import Study, read_plan
from .text import Claim

#: How far a reproduced accuracy may lie from the published one: the study gives two digits of one run.
CLOSE = 0.02
#: Which share of a network's answers may differ from the published matrix for the two to be called near.
NEAR = 0.1


def about_the_study(study: Study | None = None) -> list[Claim]:
    """04: what happened in the original study, and what its trainings, repeated and mended, add as far as they are
    recorded."""
    study = study or Study(read_plan())
    return [train_folder(), direction(), *repeated(study), *mended(study)]


def train_folder() -> Claim:
    table = published.composition()
    held = table.index[table["in_train"] > 0]
    return Claim(
        "**The study's train folder held three of its six classes.** All angry, all fearful and "
        f"{table.loc['happiness', 'in_train']:,} happy faces of FER2013 add up to its {published.TRAIN_IMAGES:,} "
        "images, and its sample figures of the other classes are empty.",
        list(held) == list(table.index[table["samples"] > 0]) == ["anger", "fear", "happiness"]
        and table["in_train"].sum() == published.TRAIN_IMAGES
        and (table["in_train"] == table["official"])[["anger", "fear"]].all(), "published outputs")


def simple_cnn() -> Claim:
    parts, hits = published.last_quarter(), published.validation_hits()
    return Claim(
        "**Its simple CNN never saw a happy face.** Validation took the last quarter in folder order, all "
        f"{parts.loc['happiness', 'validation']:,} of them, and none of the {len(hits)} printed validation accuracies "
        f"exceeds {hits['ceiling'].iloc[0]:.1%}.",
        bool(parts.loc["happiness", "fit"] == 0 and hits["agrees"].all() and (hits["value"] <= hits["ceiling"]).all()),
        "published outputs")


def one_answer() -> Claim:
    found = published.constant_answer()
    return Claim(
        f"**Its VGG19 gave one answer to all {found['images']:,} test images**: {found['answer']}, whose share there "
        f"is the reported {published.REPORTED['vgg19']:.2f}.",
        found["answers"] == 1 and f"{found['test_share']:.2f}" == f"{published.REPORTED['vgg19']:.2f}",
        "published outputs")


def direction() -> Claim:
    there = [published.published_rate("resnet50", "happiness", answer) for answer in ("fear", "anger")]
    back = published.published_rate("resnet50", "fear", "happiness")
    return Claim(
        "**The confusion had one direction.** In the published matrix of ResNet50, "
        f"{sum(rate.value for rate in there):.0%} of the happy faces are called fear or anger; of the fearful ones "
        f"{back.value:.0%} are called happy.", min(rate.low for rate in there) > 5 * back.high, "published outputs")


def falls(runs: pd.DataFrame) -> Claim:
    """Of `by_accuracy`: more accurate networks call fewer fearful faces happy."""
    least, most = runs.iloc[0], runs.iloc[-1]
    test = spearmanr(runs["accuracy"], runs["value"])
    return Claim(f"**What is learned better is confused less.** From the least to the most accurate of {len(runs)} "
                 f"trainings the share of fearful faces called happy falls from {least['value']:.0%} to "
                 f"{most['value']:.0%}.",
                 test.statistic < 0 and test.pvalue < 0.05)


def repeated(study: Study) -> list[Claim]:
    """That the accident repeats, of each network that is recorded: in its accuracy, or else nearly in its matrix."""
    claims = []
    for arch, found in compare_with_published(study).items() if study.runs("original") else ():
        name, there = f"The {NAMES[arch]}, trained so again,", f"{found.published_accuracy.value:.1%}"
        if abs(found.accuracy.value - found.published_accuracy.value) <= CLOSE:
            claims.append(Claim(f"**{name} reaches {found.accuracy.percent}** of the test images ({found.seeds} "
                                f"seed{'s' * (found.seeds > 1)}); published are {there}.", True, "fer study original"))
        else:
            claims.append(Claim(f"**{name} comes near, not there.** It reaches {found.accuracy.percent}, published are "
                                f"{there}; {found.distance.value:.1%} of its answers would have to change to give the "
                                "published matrix.", found.distance.value < NEAR, "fer study original"))
    return claims


def mended(study: Study) -> list[Claim]:
    """Which of the recorded changes ends it that happy faces are called fear or anger, for each network."""
    claims = []
    for arch in NAMES:
        table = way_out(arch, study)
        if len(table) < 3:
            continue
        called, low, high = (sum(table[f"happiness → {answer}{end}"] for answer in ("fear", "anger")).to_numpy()
                             for end in ("", " low", " high"))
        most = int((called[:-1] - called[1:]).argmax())
        claims.append(Claim(
            f"**What mends the {NAMES[arch]}: {table['step'].iloc[most + 1]}.** Of the changes made so far, one at a "
            f"time, this one takes happy faces called fear or anger from {called[most]:.0%} to {called[most + 1]:.0%}.",
            high[most + 1] < low[most] / 2, "fer study way-out"))
    return claims
