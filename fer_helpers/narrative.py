"""Sentences computed from results, so that no notebook states a number that its run did not give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import permutation_test, spearmanr

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


def remaining_confusions(scores: Evaluation, count: int = 3) -> str:
    """`top_confusions` of a network that has learned something; of one that has not, a warning instead."""
    if beats_majority(scores):
        return f"what remains confusable: {top_confusions(scores, count)}"
    return "it is not shown to have learned anything, so its confusions say nothing about faces"


def best_and_worst(scores: Evaluation) -> str:
    """Which class is recognised best and which worst, by recall."""
    worst, *_, best = sorted(scores.recall, key=lambda name: scores.recall[name].value)
    return (f"{best} is recognised best ({scores.recall[best].percent} of its images), {worst} worst "
            f"({scores.recall[worst].percent})")


def chosen_epoch(history: pd.DataFrame, best_epoch: int, scores: Evaluation) -> str:
    """Where validation stopped a run, and how far its loss had fallen by then."""
    best = history.set_index("epoch").loc[best_epoch]
    return (f"validation chose epoch {best_epoch} of {len(history)}, where the loss is {best['train_loss']:.2f} on the "
            f"augmented train images and {best['val_loss']:.2f} on validation, against {chance_loss(scores):.2f} for "
            "knowing nothing")


def over_fitting(history: pd.DataFrame, best_epoch: int) -> str:
    """Whether the run went on past its best epoch, and the gap between train and validation there."""
    best, last = history.set_index("epoch").loc[best_epoch], history.iloc[-1]
    gap = best["val_accuracy"] - best["train_accuracy"]
    text = (f"At the chosen epoch validation accuracy differs from that on the augmented train images by "
            f"{100 * gap:+.1f} points. ")
    if last["epoch"] == best_epoch:
        return text + ("The last epoch was the best one: the run was still learning when it ended, so part of its "
                       "errors are those of an unfinished training.")
    return text + (f"Afterwards the validation loss rose by {last['val_loss'] - best['val_loss']:.3f}: more epochs of "
                   "this recipe over-fit.")


def calibration(scores: Evaluation, confidence: float) -> str:
    """Mean confidence 0..1 against accuracy."""
    over = confidence - scores.accuracy.value
    return (f"Mean confidence is {confidence:.1%} and accuracy {scores.accuracy.percent}: on average the network is "
            f"{'over' if over > 0 else 'under'}-confident by {100 * abs(over):.1f} points. Expected calibration error: "
            f"{scores.ece}.")


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


def sentence(text: str) -> str:
    """The text with a capital letter in front and one full stop behind."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def answer(*sentences: str) -> str:
    """Markdown of a notebook's answer: the sentences as one paragraph; empty ones are left out."""
    return "> **Answer.** " + " ".join(sentence(text) for text in sentences if text)


# --- notebook 03


def seed_difference(first: str, second: str, table: pd.DataFrame, images: int) -> str:
    """Which of two architectures is better, from `dynamics.seed_differences` on so many test images."""
    pooled, seeds = table.iloc[-1], len(table) - 1
    scope = (f"over {seeds} seeds and {images:,} images" if seeds > 1 else
             f"over {images:,} images; with one seed ({table.index[0]}) another could turn out differently")
    found = f"{100 * pooled['value']:+.1f} points [{100 * pooled['low']:.1f}, {100 * pooled['high']:.1f}], {scope}"
    if pooled["low"] <= 0 <= pooled["high"]:
        return f"no difference between {first} and {second} can be shown ({found})"
    return f"{first} is {'better' if pooled['value'] > 0 else 'worse'} than {second} ({found})"


def rank_relation(x: str, y: str, x_values: Sequence[float], y_values: Sequence[float], of: str = "networks") -> str:
    """Whether two properties of a few networks rise together: Spearman's rank correlation and its permutation test."""
    xs, ys = np.asarray(x_values, float), np.asarray(y_values, float)
    count = len(xs)
    if count < 3 or np.ptp(xs) == 0 or np.ptp(ys) == 0:
        return f"{x} and {y} of {count} {of} cannot be put in relation"
    test = permutation_test((xs,), lambda order: spearmanr(order, ys).statistic, permutation_type="pairings",
                            vectorized=False, n_resamples=np.inf)
    verdict = "no relation can be shown" if test.pvalue >= 0.05 else (
        f"{y} {'rises' if test.statistic > 0 else 'falls'} with {x}")
    few = 2 / math.factorial(count) > 0.05  # the p-value of a perfect order
    return (f"{verdict}: rank correlation {test.statistic:+.2f} between {x} and {y} over {count} {of}, permutation "
            f"p = {test.pvalue:.2g}" + (f" (so few {of} that even a perfect order has p = "
                                        f"{2 / math.factorial(count):.2g})" if few else ""))


def memorised(name: str, losses: pd.Series, floor: float) -> str:
    """Whether the first steps on a few images lowered their loss below ``floor``, that of knowing nothing."""
    last = losses.tail(max(len(losses) // 4, 2))
    if last.max() < floor / 2:
        verdict = "memorises them"
    elif last.max() < 0.9 * floor:
        verdict = "has begun to tell them apart"
    else:
        verdict = "is not shown to have learned anything of them"
    return (f"{name} {verdict} (loss {losses.iloc[0]:.2f} in the first step, {last.min():.2f} to {last.max():.2f} in "
            f"the last {len(last)})")


# --- notebook 04


def collapsed(name: str, scores: Evaluation) -> str:
    """Whether a network gives nearly all images one answer, and how many classes it ever gives."""
    answers = scores.confusion.sum(0) / scores.count
    top, given = scores.classes[answers.argmax()], int((answers > 0).sum())
    verdict = "collapses to" if answers.max() >= 0.9 else "answers most often"
    return (f"{name} {verdict} *{top}*, given to {answers.max():.0%} of {scores.count:,} test images; "
            f"{given} of {len(answers)} classes are ever answered")


def reaching(target: float, times: pd.DataFrame) -> str:
    """Which runs reach a validation accuracy, and which first; ``times`` is `rates.time_to_accuracy` by name."""
    reached = times.dropna()
    if reached.empty:
        return f"none of {len(times)} runs reaches {target:.1%} on validation"
    fewest, never = reached["steps"].min(), listing(times.index.difference(reached.index, sort=False))
    first = listing(reached.index[reached["steps"] == fewest])
    return (f"{len(reached)} of {len(times)} runs reach {target:.1%} on validation; in the fewest steps, "
            f"{fewest:,.0f}: {first}; never: {never}")


def worth(gains: pd.DataFrame) -> str:
    """Which changes helped, harmed, or made no difference that can be shown, of a table with value, low and high."""
    def named(rows: pd.DataFrame) -> str:
        return listing(f"{name} ({points(row)})" for name, row in rows.iterrows())

    ranked = gains.sort_values("value", ascending=False)
    helped, harmed = ranked[ranked["low"] > 0], ranked[ranked["high"] < 0]
    return (f"shown to help: {named(helped)}; shown to harm: {named(harmed)}; no difference found: "
            f"{named(ranked.drop([*helped.index, *harmed.index]))}")
