"""Sentences computed from results, so that no notebook states a number that its run did not give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from .evaluation import Comparison, Estimate, Evaluation

if TYPE_CHECKING:  # only a name in a signature; importing `classical` takes seconds
    from .classical import Leak


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


def answer(*sentences: str) -> str:
    """Markdown of a notebook's answer: the sentences as one paragraph; empty ones are left out."""
    return "> **Answer.** " + " ".join(
        f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in sentences if text)


# --- notebook 01


def explained(table: pd.DataFrame) -> str:
    """What the groups of an `exploration.explained_by` table explain, and where no difference between them is found."""
    by, images = table.index.name, f"{int(table['images'].iloc[0]):,} images"
    sure = (table["p"] < 0.05) & (table["low"] > 0)
    shown = [f"{estimate(row)} of the variance of {name}" for name, row in table[sure].iterrows()]
    rest = [str(name) for name in table.index[~sure]]
    found = f"the {by} of an image explains {listing(shown)}" if shown else ""
    missing = f"no difference by {by} is found in {listing(rest)}" if rest else ""
    return f"{'; '.join(part for part in (found, missing) if part)} ({images})"


def component(table: pd.DataFrame, shares: Iterable[float], number: int = 1) -> str:
    """What eigenface ``number`` explains, and which statistic of `exploration.component_meaning` it follows most."""
    own = table[table["component"] == number]
    best = own.loc[own["value"].abs().idxmax()]
    return (f"eigenface {number} explains {list(shares)[number - 1]:.0%} of the variance and follows "
            f"{best['statistic']} most (r = {Estimate(best['value'], best['low'], best['high'])}, {best['images']:,} "
            "images)")


def leak_worth(name: str, leak: Leak) -> str:
    """What copies of train images in test are worth to a classifier."""
    table, gain, removal = leak.table(), leak.gain(), leak.removal()
    if not leak.copied.any():
        return f"no test image stands in train, so there is no leak for {name} to use"
    kinds = [f"{estimate(row)} of the {int(row['images']):,} {kind}" for kind, row in table.iterrows()
             if kind == "copies of train images"]
    kinds += [f"{estimate(table.loc[kind])} of {text}" for kind, text in (
        ("the same, originals removed", "these after a training without their originals"),
        ("all others", "the others")) if kind in table.index]
    score = ("no difference between the scores of all test images and of those without copies can be shown"
             if gain.low <= 0 <= gain.high else
             f"copies {'raise' if gain.value > 0 else 'lower'} its test accuracy")
    changed = f"without the originals it changes by {_points(removal.difference, sign=-1)}"
    return f"{name} is right on {listing(kinds)}; {score} ({_points(gain)}), and {changed}, p = {removal.p_value:.2g}"


def agreement(table: pd.DataFrame) -> str:
    """How far raters agree, over all images and on the classes where they do most and least."""
    rows = table[table["measure"] == "two raters agree"].set_index("class")
    label = table[table["measure"] == "votes for the label"].set_index("class").loc["all"]
    classes = rows.drop("all")
    best, worst = classes["value"].idxmax(), classes["value"].idxmin()
    return (f"two people shown the same face agree with probability {estimate(rows.loc['all'])} "
            f"({int(rows.loc['all', 'images']):,} images), most on those labelled {best} ({estimate(rows.loc[best])}) "
            f"and least on those labelled {worst} ({estimate(rows.loc[worst])}); the label itself gets "
            f"{estimate(label)} of the votes")


def human_confusions(table: pd.DataFrame, count: int = 3) -> str:
    """The most frequent disagreements of an `exploration.rater_confusion` table, answers beyond the classes aside."""
    pairs = table[(table["first"] != table["second"]) & (table["second"] != "other")]
    pairs = pairs.sort_values("value", ascending=False).head(count)
    return listing(f"where one person says {row['first']} another says {row['second']} with probability {estimate(row)}"
                   for _, row in pairs.iterrows())


def label_doubts(table: pd.DataFrame) -> str:
    """How well labels changed on purpose are found: a `classical.detection` table."""
    if "precision" not in table.index:
        return "confident learning flags no label, so it finds none of those that were changed on purpose"
    precision, recall, guessing = (table.loc[name] for name in ("precision", "recall", "guessing"))
    verdict = "better than guessing" if precision["low"] > guessing["value"] else "not shown to be better than guessing"
    return (f"of {int(recall['images']):,} labels changed on purpose, confident learning flags {estimate(recall)}; of "
            f"the {int(precision['images']):,} labels it flags, {estimate(precision)} had been changed, where guessing "
            f"gives {guessing['value']:.1%}: {verdict}")


def best_floor(table: pd.DataFrame) -> str:
    """Which classifier of a `classical.compare_all` table is best, and by how much it beats each of the others."""
    best = table["better"].mode()[0]
    own = table[table["better"] == best]
    shown = [f"{row['worse']} by {points(row)}" for _, row in own.iterrows() if row["p"] < 0.05]
    rest = [row["worse"] for _, row in own.iterrows() if row["p"] >= 0.05]
    beats = f"{best} beats {listing(shown)}" if shown else ""
    missing = f"no difference can be shown between {best} and {listing(rest)}" if rest else ""
    return "; ".join(part for part in (beats, missing) if part)


def _points(gap: Estimate, sign: int = 1) -> str:
    """As ``-1.5 points [-2.1, -0.9]``."""
    low, high = sorted((100 * sign * gap.low, 100 * sign * gap.high))
    return f"{100 * sign * gap.value:+.1f} points [{low:+.1f}, {high:+.1f}]"
