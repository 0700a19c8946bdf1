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
    """Which property of the images accuracy depends on most, of several `failures.accuracy_by` tables."""
    name = max(tables, key=lambda key: tables[key]["value"].max() - tables[key]["value"].min())
    first, last = tables[name].iloc[0], tables[name].iloc[-1]
    return (f"of the properties looked at, accuracy depends most on {name}: {estimate(first)} in the lowest quarter, "
            f"{estimate(last)} in the highest")


def answer(*sentences: str) -> str:
    """Markdown of a notebook's answer: the sentences as one paragraph; empty ones are left out."""
    return "> **Answer.** " + " ".join(
        f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in sentences if text)


# --- notebook 06


def subgroups(table: pd.DataFrame) -> str:
    """Between which extremes accuracy differs, by the corrected tests of `failures.extremes`."""
    clear = table[table["p_holm"] < 0.05]
    if clear.empty:
        return (f"no difference found between the lowest and the highest group of {listing(table.index)} (smallest "
                f"corrected p = {table['p_holm'].min():.2g})" if len(table) else "no property varies enough to compare")
    found = listing(f"{name} ({points(row)} from the lowest to the highest group, {row['images']:,.0f} images, "
                    f"corrected p = {row['p_holm']:.2g})" for name, row in clear.iterrows())
    rest = listing(name for name in table.index if name not in clear.index)
    return f"accuracy changes with {found}" + f"; no difference found for {rest}" * (len(clear) < len(table))


def growth(table: pd.DataFrame, count: int = 3) -> str:
    """Which wrong answers grow most when a region is hidden, by the corrected tests of `failures.grown_confusions`."""
    clear = table[(table["value"] > 0) & (table["p_holm"] < 0.05)]
    if clear.empty:
        return "no wrong answer is found to grow when a region is hidden"
    named = listing(f"with the {row['region']} hidden {row['true']} is called {row['predicted']} more often by "
                    f"{points(row)} of {row['images']:,} images" for _, row in clear.head(count).iterrows())
    return f"{len(clear)} of {len(table)} wrong answers grow when a region is hidden, the most: {named}"


def focusing(table: pd.DataFrame, measure: str = "energy") -> str:
    """A list, by method: how far attribution gathers in a mask (`attribution.focus`), on right and on wrong answers."""
    def said(row: pd.Series) -> str:
        verdict = "more than" if row["low"] > 1 else "less than" if row["high"] < 1 else "no different from"
        return (f"{row['value']:.2f} times chance [{row['low']:.2f}, {row['high']:.2f}] on {row['images']} "
                f"{row['answers']} answers, {verdict} chance")

    parts = []
    for method, own in table[table["measure"] == measure].groupby("method", sort=False):
        text = f"- {method}: " + "; ".join(said(row) for _, row in own.iterrows())
        if len(own) == 2:
            one, two = (Estimate(*row) for row in own[["value", "low", "high"]].to_numpy())
            text += ("; no difference found between right and wrong answers" if overlap(one, two) else
                     f"; {'more' if one.value > two.value else 'less'} on right answers than on wrong ones")
        parts.append(text)
    return "\n".join(parts) or "- no image shows its class in a known region"


def temperature(value: float, images: int, before: Estimate, after: Estimate, change: Estimate) -> str:
    """What scaling by a temperature fitted on ``images`` validation images does to the calibration error on test.

    ``change`` is the paired `confidence.ece_change`.
    """
    state = "over-confident" if value > 1 else "under-confident"
    verdict = ("better calibrated" if change.high < 0 else "worse calibrated" if change.low > 0 else
               "no difference found")
    return (f"the temperature fitted on {images:,} validation images is {value:.2f} (above 1 where the network is "
            f"over-confident: it was {state}), and the expected calibration error on test goes from {before} to "
            f"{after}, a change of {change}: {verdict}")


def selection(table: pd.DataFrame, area: Estimate) -> str:
    """Accuracy at the coverages of `confidence.selective_accuracy`, and the area under the risk–coverage curve."""
    found = listing(f"{estimate(row)} on the {row['coverage']:.0%} of test images that pass the threshold that keeps "
                    f"{wanted:.0%} of validation ({row['images']:,.0f} images)"
                    for wanted, row in table.iterrows() if wanted < 1)
    return f"accuracy is {found}, {estimate(table.loc[1.0])} on all; area under the risk–coverage curve {area}"


def failure_shares(table: pd.DataFrame, count: int = 2) -> str:
    """The most frequent types of failure, from `failures.failure_summary`."""
    most = table.sort_values("errors", ascending=False).head(count)
    return "of the errors, " + listing(f"{estimate(row)} are of type *{name}* ({row['errors']:,.0f})"
                                       for name, row in most.iterrows())


def failure_table(table: pd.DataFrame) -> str:
    """`failures.failure_summary` as a table in Markdown."""
    rows = [(name, f"{row['errors']:,.0f}", estimate(row), row["evidence"], row["what would fix it"])
            for name, row in table.iterrows()]
    head = ("failure type", "errors", "share of errors, 95% interval", "evidence", "what would fix it")
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, (":--",) * len(head), *rows))
