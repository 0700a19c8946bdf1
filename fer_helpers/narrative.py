"""Sentences computed from results, so that no notebook states a number that its run did not give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from .evaluation import Comparison, Estimate, Evaluation


def listing(items: Iterable[str]) -> str:
    """"a", "a and b", "a, b and c"; "none" of nothing."""
    *first, last = list(items) or ["none"]
    return f"{', '.join(first)} and {last}" if first else last


def overlap(first: Estimate, second: Estimate) -> bool:
    """Whether two 95% intervals share a value."""
    return first.low <= second.high and second.low <= first.high


def beats_majority(scores: Evaluation) -> bool:
    """Whether accuracy lies above the majority baseline, their intervals apart."""
    return scores.accuracy.low > scores.majority.high


def chance_loss(scores: Evaluation) -> float:
    """Cross-entropy, in nats, of giving every class the same probability."""
    return math.log(len(scores.classes))


def versus_baseline(name: str, scores: Evaluation) -> str:
    """How a classifier stands to always answering the majority class, with both intervals."""
    if overlap(scores.accuracy, scores.majority):
        verdict = "cannot be told apart from"
    else:
        verdict = "beats" if scores.accuracy.value > scores.majority.value else "is worse than"
    return (f"{name} is right on {scores.accuracy.percent} of {scores.count:,} images and {verdict} always answering "
            f"the majority class ({scores.majority.percent})")


def top_confusions(scores: Evaluation, count: int = 3) -> str:
    """The most frequent confusions: "fear is called surprise in 31.0% [27.1, 35.0] of its images, …"."""
    pairs = scores.confusions().head(count)
    return listing(f"{pair.true} is called {pair.predicted} in {Estimate(pair.rate, pair.low, pair.high).percent} of "
                   "its images" for pair in pairs.itertuples())


def difference(first: str, second: str, result: Comparison) -> str:
    """Which of two classifiers on the same images is better, if that can be said."""
    gap, sign = result.difference, 1 if result.difference.value > 0 else -1
    low, high = sorted((100 * sign * gap.low, 100 * sign * gap.high))
    better, worse = (first, second) if sign > 0 else (second, first)
    found = f"{100 * abs(gap.value):.1f} points [{low:.1f}, {high:.1f}], McNemar p = {result.p_value:.2g}"
    if result.p_value >= 0.05:
        return f"no difference can be shown between {better} and {worse} ({found})"
    return f"{better} is better than {worse} ({found})"


def estimate(row: pd.Series) -> str:
    """A row's value, low and high as ``65.2% [63.6, 66.8]``."""
    return Estimate(row["value"], row["low"], row["high"]).percent


def points(row: pd.Series) -> str:
    """A row's value, low and high as ``12.3 points [10.9, 13.8]``."""
    return f"{100 * row['value']:.1f} points [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def steepest(tables: Mapping[str, pd.DataFrame]) -> str:
    """Which property of the images accuracy depends on most, of several `analysis.accuracy_by` tables."""
    name = max(tables, key=lambda key: tables[key]["value"].max() - tables[key]["value"].min())
    first, last = tables[name].iloc[0], tables[name].iloc[-1]
    return (f"of the properties looked at, accuracy depends most on {name}: {estimate(first)} in the lowest quarter, "
            f"{estimate(last)} in the highest")


def answer(*sentences: str) -> str:
    """Markdown of a notebook's answer: the sentences as one paragraph; empty ones are left out."""
    return "> **Answer.** " + " ".join(
        f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in sentences if text)
