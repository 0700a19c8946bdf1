"""Sentences computed from results, so that no notebook states a number that its run did not give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
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
    """Which property of the images accuracy depends on most, of several `analysis.accuracy_by` tables."""
    name = max(tables, key=lambda key: tables[key]["value"].max() - tables[key]["value"].min())
    first, last = tables[name].iloc[0], tables[name].iloc[-1]
    return (f"of the properties looked at, accuracy depends most on {name}: {estimate(first)} in the lowest quarter, "
            f"{estimate(last)} in the highest")


def answer(*sentences: str) -> str:
    """Markdown of a notebook's answer: the sentences as one paragraph; empty ones are left out."""
    return "> **Answer.** " + " ".join(
        f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in sentences if text)


# --- notebook 05


def pair_findings(table: pd.DataFrame, detail: bool = True) -> list[str]:
    """Which pairs of `ambiguity.pair_verdicts` are real confusions: one sentence a verdict.

    With ``detail`` one sentence a pair and setting, with its rates.
    """
    found: dict[str, list[str]] = {}
    for (classes, _), rows in table.groupby(["classes", table[["true", "predicted"]].apply(frozenset, axis=1)],
                                            sort=False):
        pair, verdict = f"{' ↔ '.join(rows.iloc[0][['true', 'predicted']])} with {classes} classes", _pair_verdict(rows)
        rates = listing(
            f"{Estimate(row.rate, row.low, row.high).percent} of {row.of} {row.true} images are called "
            f"{row.predicted} ({row.even:.1%} if errors were spread evenly; of the other classes {row.others:.1%})"
            for row in rows.itertuples())
        found.setdefault(f"{pair} is {verdict}: {rates}" if detail else verdict, []).append(pair)
    return list(found) if detail else [f"{verdict}: {listing(pairs)}" for verdict, pairs in found.items()]


def _pair_verdict(rows: pd.DataFrame) -> str:
    """What the two directions of one pair add up to."""
    own = rows[rows["finding"] == "a confusion of its own"]
    refuge = rows[rows["finding"] == "a refuge"]
    if len(own) == len(rows):
        return "real both ways, above evenly spread errors and above the other classes"
    if len(own):
        return f"real one way only ({arrows(own)})"
    if len(refuge):
        return (f"above evenly spread errors ({arrows(refuge)}), but not shown to be above the other classes, "
                "so that a refuge for doubt would explain it")
    if (rows["finding"] == "avoided").all():
        return "rarer both ways than evenly spread errors would be"
    return "not shown to be above what evenly spread errors would give, either way"


def arrows(rows: pd.DataFrame) -> str:
    """"fear → surprise and anger → neutral", from columns true and predicted; "none" of no row."""
    return listing(f"{row.true} → {row.predicted}" for row in rows.itertuples())


def same_confusions(who: str, found: Estimate, classes: int, images: int) -> str:
    """Whether the network confuses the classes that another observer confuses (`ambiguity.confusion_correlation`)."""
    if found.low > 0:
        verdict = f"the network and {who} tend to confuse the same classes"
    elif found.high < 0:
        verdict = f"the network and {who} tend to confuse different classes"
    else:
        verdict = f"no relation found between the confusions of the network and of {who}"
    return (f"{verdict} (rank correlation {found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}] over "
            f"{classes * (classes - 1)} ordered pairs, {images:,} images)")


def change_of_rates(table: pd.DataFrame, what: str) -> str:
    """Which confusions of `ambiguity.rate_changes` differ between the halves, and for which no difference was found."""
    falls, rises = table[table["high"] < 0], table[table["low"] > 0]
    same = table.drop(index=falls.index.union(rises.index))
    falls = falls.assign(value=-falls["value"], low=-falls["high"], high=-falls["low"])
    parts = [f"{name} {verb} by {points(row)}" for rows, verb in ((falls, "falls"), (rises, "rises"))
             for name, row in rows.iterrows()]
    text = f"From the lower to the upper half of {what}, {listing(parts)}. " if parts else ""
    return text + (f"No difference found for {listing(same.index)}." if len(same) else "")


def class_separation(table: pd.DataFrame) -> str:
    """How wide classes are against their distances: all of them, and the one that overlaps most (`geometry`)."""
    classes = table.drop(index="all")
    widest = classes["ratio"].idxmax()
    ratio, widest_ratio, silhouette = (
        Estimate(*table.loc[name, [part, f"{part}_low", f"{part}_high"]])
        for name, part in (("all", "ratio"), (widest, "ratio"), ("all", "silhouette")))
    return (f"An image lies {ratio} times as far from the mean of its class as the means lie from each other "
            f"({table.loc['all', 'images']:,} images; mean silhouette {silhouette}). The widest against its distance "
            f"is {widest} ({widest_ratio}, {table.loc[widest, 'images']:,} images), whose nearest class is "
            f"{table.loc[widest, 'nearest']}")


def neighbourhood(table: pd.DataFrame, own: Estimate, chance: float, neighbours: int) -> str:
    """How often neighbours share a class, and the class most mixed with another (`ambiguity.mean_shares`)."""
    rates = table.to_numpy()
    other = rates - 2 * np.diag(np.diag(rates))  # own shares turned negative, out of the running
    first, second = np.unravel_index(other.argmax(), other.shape)
    return (f"Of an image's {neighbours} nearest neighbours {own.percent} are of its own class; {chance:.1%} would be "
            f"if classes did not matter. The strongest mixture: {rates[first, second]:.0%} of the neighbours of "
            f"{table.index[first]} show {table.columns[second]}, and {rates[first, first]:.0%} {table.index[first]}")


def agreement_of_distances(row: pd.Series) -> str:
    """One row of `geometry.mantel`: do two distances between the classes agree, if that can be said."""
    verdict = "no agreement can be shown"
    if row["p_adjusted"] < 0.05:
        verdict = "they agree" if row["rho"] > 0 else "they disagree"
    limit = (f"p < 0.05 would take {row['detectable']:.2f}" if row["detectable"] == row["detectable"] else
             "so few classes cannot reach p < 0.05")
    return (f"{row['first']} and {row['second']}: {verdict} (rank correlation {row['rho']:+.2f} over {row['pairs']} "
            f"pairs, exact p = {row['p_value']:.2g}, {row['p_adjusted']:.2g} after Holm; {limit})")


def look_against_meaning(table: pd.DataFrame) -> str:
    """Of `geometry.looks_and_meaning`, the pair most alike in looks for its meaning, and the one least alike."""
    gap = table["look_rank"] - table["meaning_rank"]
    return f"of {len(table)} pairs, numbered from close to far, " + "; ".join(
        f"{row.first} and {row.second} are number {row.look_rank} [{row.look_rank_low}, {row.look_rank_high}] in looks "
        f"but number {row.meaning_rank} in meaning" for row in table.loc[[gap.idxmin(), gap.idxmax()]].itertuples())
