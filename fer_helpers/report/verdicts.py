"""What became of the original study's claims: each beside what its published outputs show and what is recorded here."""

from __future__ import annotations

from dataclasses import dataclass

from ..analysis import published
from ..analysis.confusions import pair_verdicts
from ..data.emotions import adjective
from . import claims, study_claims
from .results import method_answers, method_outcomes, recall, recorded_start
from .text import Claim


@dataclass(frozen=True)
class Verdict:
    """What became of a claim of the original study: what it ``said``; what its ``published`` outputs show of that; in a
    word what is to be said of it, and why; ``notebook`` tells the whole story."""

    said: str
    published: str
    word: str
    claim: Claim
    notebook: str


def verdicts() -> list[Verdict]:
    """The study's claims, in the order in which a reader meets them."""
    there, table = published.published_rate, recall("05_class_ambiguity")
    pairs, outcomes = pair_verdicts(claims.settings(table.runs["run"])), method_outcomes()
    happy = [there("resnet50", "happiness", answer).value for answer in ("fear", "anger")]
    return [
        Verdict("Six classes are recognised at 0.14 to 0.22", "Three of the six are never answered", "explained",
                _three_classes(), "04"),
        Verdict("Happiness is confused with fear and anger", f"ResNet50: {sum(happy):.0%} of the happy faces",
                "explained", _happy_faces(), "04"),
        *(Verdict(f"{emotion.capitalize()} is ambiguous with happiness",
                  f"ResNet50: {there('resnet50', emotion, 'happiness').value:.0%} of the {adjective(emotion)} faces",
                  "does not hold", claims.not_taken_for(pairs, emotion, "happiness"), "05")
          for emotion in ("fear", "anger")),
        Verdict("ResNet50 is ahead of VGG19", "0.22 and 0.14, the share of VGG19's only answer", "not shown",
                _one_against_another(), "03"),
        Verdict("Shortcuts stabilise depth", "VGG19 does not leave its first answer", "not shown",
                claims.starts(recorded_start()), "03"),
        Verdict("Capacity alone does not resolve the ambiguity", "Networks and train sets vary together",
                "holds", claims.capacity(method_answers()), "03"),
        Verdict("Expressions vary within a class", "Not measured", "holds", claims.widest(table["width"]), "05"),
        Verdict("Networks rely on the mouth", "Not measured", "holds", claims.relies_on_the_mouth(
            recall("06_failure_analysis")["grown"]), "06"),
        Verdict("Looking alike is not meaning alike", "Not measured", "holds",
                claims.looks_are_not_meaning(table["pairwise"]), "05"),
        Verdict("Global pooling is the limit: regions would help", "Not tried", "does not hold",
                claims.regions_help(outcomes), "05"),
        Verdict("Contrast, text, attention, robust training would help", "Not tried", "not shown",
                claims.remedies(outcomes), "05")]


def _three_classes() -> Claim:
    happy = published.composition().loc["happiness", "in_train"]
    return Claim(f"All angry, all fearful and {happy:,} happy faces add up to its train folder; the other three "
                 "classes were not in it.", study_claims.train_folder().holds)


def _happy_faces() -> Claim:
    scores = next(run.metrics["test"] for run in recall("05_class_ambiguity").runs["run"] if run.config.classes == 6)
    rates = [scores.rate("happiness", answer).value for answer in ("fear", "anger")]
    there = sum(published.published_rate("resnet50", "happiness", answer).value for answer in ("fear", "anger"))
    return Claim(f"Of that class train held a sixth. A network that had all of it calls {sum(rates):.0%} of the happy "
                 "faces fearful or angry.",
                 sum(rates) < there / 4 and scores.accuracy.low > scores.majority.high + claims.LEARNED)


def _one_against_another() -> Claim:
    found = published.constant_answer()
    return Claim("Both, trained alike on all classes, are still to be compared.", found["answers"] == 1)
