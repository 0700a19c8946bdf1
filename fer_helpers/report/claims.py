"""What is claimed: sentences that a person wrote, the numbers that the records supply, and a condition that decides
whether they bear them out. About the original study's published outputs, and what became of its claims."""

from __future__ import annotations

from dataclasses import dataclass

from ..analysis import published
from ..data.emotions import adjective
from ..experiments.reproduction import NAMES, compare_with_published, way_out
from ..experiments.study import Study, read_plan
from ..metrics.intervals import Estimate
from .results import recall

#: How far a reproduced accuracy may lie from the published one: the study gives two digits of one run.
CLOSE = 0.02


@dataclass(frozen=True)
class Claim:
    """A sentence with its numbers, and whether they bear it out; ``source`` is what makes the numbers again."""

    sentence: str
    holds: bool
    source: str = ""

    def __str__(self) -> str:
        return self.sentence if self.holds else f"*What is recorded does not bear this out:* {self.sentence}"


@dataclass(frozen=True)
class Verdict:
    """What became of a claim of the original study: what it ``said``, in a word what is to be said of that, and why;
    ``notebook`` tells the whole story."""

    said: str
    word: str
    claim: Claim
    notebook: str


def verdicts() -> list[Verdict]:
    """The study's claims, in the order in which a reader meets them."""
    return [
        Verdict("Six classes are recognised at 0.14 to 0.22", "explained", _three_classes(), "04"),
        Verdict("Happiness is confused with fear and anger", "explained", _happy_faces(), "04"),
        Verdict("Fear is ambiguous with happiness", "does not hold", _avoided("fear"), "05"),
        Verdict("Anger is ambiguous with happiness", "does not hold", _avoided("anger"), "05"),
        Verdict("ResNet50 is ahead of VGG19", "not shown", _one_against_another(), "03"),
        Verdict("Networks rely on the mouth", "holds", _mouth(), "06"),
        Verdict("Regions, contrast, text, attention, robustness resolve the ambiguity", "not shown", _remedies(), "05")]


def _three_classes() -> Claim:
    happy = published.composition().loc["happiness", "in_train"]
    return Claim(f"All angry, all fearful and {happy:,} happy faces add up to its train folder; the other three "
                 "classes were not in it.", train_folder().holds)


def _happy_faces() -> Claim:
    scores = next(run.metrics["test"] for run in recall("05_class_ambiguity").runs["run"] if run.config.classes == 6)
    rates = [scores.rate("happiness", answer).value for answer in ("fear", "anger")]
    there = sum(published.published_rate("resnet50", "happiness", answer).value for answer in ("fear", "anger"))
    return Claim(f"A class of which train held a sixth: {there:.0%} of the happy faces went there in the published "
                 f"matrix of ResNet50, {sum(rates):.0%} do in a network that had all of them.",
                 sum(rates) < there / 4 and scores.accuracy.low > scores.majority.high + 0.2)


def _avoided(emotion: str) -> Claim:
    row = recall("05_class_ambiguity")["verdicts"].query(
        "classes == 6 and true == @emotion and predicted == 'happiness'").iloc[0]
    return Claim(f"A trained network calls {Estimate(row['rate'], row['low'], row['high']).percent} of the "
                 f"{adjective(emotion)} faces happy; errors spread evenly would give {row['even']:.0%}.",
                 row["finding"] == "avoided")


def _one_against_another() -> Claim:
    found = published.constant_answer()
    return Claim(f"The published VGG19 gives one answer to all {found['images']:,} test images; both networks, trained "
                 "alike on all classes, are still to be compared.", found["answers"] == 1)


def _mouth() -> Claim:
    rows = recall("06_failure_analysis")["grown"]
    row = rows.loc[rows["value"].idxmax()]
    return Claim(f"No change is larger than hiding it: {row['after']:.0%} of the {adjective(row['true'])} faces "
                 f"are called {row['predicted']} then, {row['before']:.0%} with it.",
                 row["region"] == "mouth" and row["p_holm"] < 0.05)


def _remedies() -> Claim:
    rows = recall("05_class_ambiguity", "methods")["outcomes"].reset_index()
    own = rows[(rows["network"] == rows["network"].iloc[0]) & (rows["outcome"] == "fear → happiness")
               & (rows["method"] != "plain")]
    changed = int((own["p_holm"] < 0.05).sum())
    return Claim(f"Of {len(own)} such ways to learn, {changed or 'none'} changed how many fearful faces are called "
                 f"happy, with {own['seeds'].iloc[0]} seeds each; in a trained network few are.", changed == 0)


def about_the_study(study: Study | None = None) -> list[Claim]:
    """What the original study's published outputs show, and what its trainings, repeated, add to it as far as they are
    recorded."""
    study = study or Study(read_plan())
    return [train_folder(), simple_cnn(), one_answer(), direction(), *repeated(study), *mended(study)]


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


def repeated(study: Study) -> list[Claim]:
    """That the accident repeats, of each network that is recorded."""
    return [Claim(
        f"**The {NAMES[arch]}, trained so again, reaches {found.accuracy.percent}** of the test images "
        f"({found.seeds} seed{'s' * (found.seeds > 1)}); published are {found.published_accuracy.value:.1%}.",
        abs(found.accuracy.value - found.published_accuracy.value) <= CLOSE, "fer study original")
        for arch, found in compare_with_published(study).items()] if study.runs("original") else []


def mended(study: Study) -> list[Claim]:
    """That happy faces are no longer called fear or anger once the missing pieces are there, as far as recorded."""
    claims = []
    for arch in NAMES:
        table = way_out(arch, study)
        if len(table) < 3:
            continue
        first, last = ([row[f"happiness → {answer}"] for answer in ("fear", "anger")]
                       for _, row in table.iloc[[0, -1]].iterrows())
        claims.append(Claim(
            f"**The {NAMES[arch]}, mended one change at a time, calls {sum(last):.0%} of the happy faces fear or "
            f"anger**, instead of {sum(first):.0%}; test accuracy {table['test_accuracy'].iloc[-1]:.0%}.",
            sum(last) < sum(first) / 4, "fer study way-out"))
    return claims
