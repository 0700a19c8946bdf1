"""Sentences computed from results, so that no notebook states a number that its run did not give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import permutation_test, rankdata

from ..metrics.evaluation import Comparison, Evaluation
from ..metrics.intervals import Estimate
from ..training.methods import OUTCOMES, method_label

if TYPE_CHECKING:  # only a name in a signature; importing `leakage` takes seconds
    from ..analysis.leakage import Leak


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
            f"{100 * gap:+z.1f} points. ")
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


def sentence(text: str) -> str:
    """The text with a capital letter in front and one full stop behind; a name such as mCE keeps its letters."""
    first = text[:1] if text[1:2].isupper() else text[:1].upper()
    return f"{first}{text[1:].rstrip('.')}."


def answer(*sentences: str) -> str:
    """Markdown of a notebook's answer: the sentences as one paragraph; empty ones are left out."""
    return "> **Answer.** " + " ".join(sentence(text) for text in sentences if text)


# --- notebook 01


def explained(table: pd.DataFrame) -> str:
    """What the groups of a `dataset_statistics.explained_by` table explain, and where no difference between them is
    found."""
    by, images = table.index.name, f"{int(table['images'].iloc[0]):,} images"
    sure = (table["p"] < 0.05) & (table["low"] > 0)
    shown = [f"{estimate(row)} of the variance of {name}" for name, row in table[sure].iterrows()]
    rest = [str(name) for name in table.index[~sure]]
    found = f"the {by} of an image explains {listing(shown)}" if shown else ""
    missing = f"no difference by {by} is found in {listing(rest)}" if rest else ""
    return f"{'; '.join(part for part in (found, missing) if part)} ({images})"


def component(table: pd.DataFrame, shares: Iterable[float], number: int = 1) -> str:
    """What eigenface ``number`` explains, and which statistic of `dataset_statistics.component_meaning` it follows
    most."""
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
    """The most frequent disagreements of a `dataset_statistics.rater_confusion` table, answers beyond the classes
    aside."""
    pairs = table[(table["first"] != table["second"]) & (table["second"] != "other")]
    pairs = pairs.sort_values("value", ascending=False).head(count)
    return listing(f"where one person says {row['first']} another says {row['second']} with probability {estimate(row)}"
                   for _, row in pairs.iterrows())


def label_doubts(table: pd.DataFrame) -> str:
    """How well labels changed on purpose are found: a `label_errors.detection` table."""
    if "precision" not in table.index:
        return "confident learning flags no label, so it finds none of those that were changed on purpose"
    precision, recall, guessing = (table.loc[name] for name in ("precision", "recall", "guessing"))
    verdict = "better than guessing" if precision["low"] > guessing["value"] else "not shown to be better than guessing"
    return (f"of {int(recall['images']):,} labels changed on purpose, confident learning flags {estimate(recall)}; of "
            f"the {int(precision['images']):,} labels it flags, {estimate(precision)} had been changed, where guessing "
            f"gives {guessing['value']:.1%}: {verdict}")


def best_floor(table: pd.DataFrame) -> str:
    """Which classifier of a `baselines.compare_all` table is best, and by how much it beats each of the others."""
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
    return f"{100 * sign * gap.value:+z.1f} points [{low:+z.1f}, {high:+z.1f}]"


# --- notebook 03


def seed_difference(first: str, second: str, table: pd.DataFrame, images: int, learned: bool = True) -> str:
    """Which of two architectures is better, from `run_comparison.seed_differences` on so many test images.

    ``learned``: whether at least one of them is shown to have; which of two guessers is luckier is no finding.
    """
    if not learned:
        return f"{first} and {second} cannot be compared, since neither is shown to have learned anything"
    pooled, seeds = table.iloc[-1], len(table) - 1
    scope = (f"over {seeds} seeds and {images:,} images" if seeds > 1 else
             f"over {images:,} images; with one seed ({table.index[0]}) another could turn out differently")
    found = f"{100 * pooled['value']:+z.1f} points [{100 * pooled['low']:.1f}, {100 * pooled['high']:.1f}], {scope}"
    if pooled["low"] <= 0 <= pooled["high"]:
        return f"no difference between {first} and {second} can be shown ({found})"
    return f"{first} is {'better' if pooled['value'] > 0 else 'worse'} than {second} ({found})"


def rank_relation(x: str, y: str, x_values: Sequence[float], y_values: Sequence[float], of: str = "networks") -> str:
    """Whether two properties of networks rise together: Spearman's rank correlation and its permutation test, exact for
    up to eight."""
    xs, ys = np.asarray(x_values, float), np.asarray(y_values, float)
    count = len(xs)
    if count < 3 or np.ptp(xs) == 0 or np.ptp(ys) == 0:
        return f"{x} and {y} of {count} {of} cannot be put in relation"
    ranks = [rank - rank.mean() for rank in (rankdata(xs), rankdata(ys))]
    length = np.linalg.norm(ranks[0]) * np.linalg.norm(ranks[1])
    test = permutation_test(ranks[:1], lambda order, axis: order @ ranks[1] / length, permutation_type="pairings",
                            vectorized=True, n_resamples=math.factorial(8), random_state=0)
    verdict = "no relation can be shown" if test.pvalue >= 0.05 else (
        f"{y} {'rises' if test.statistic > 0 else 'falls'} with {x}")
    few = 2 / math.factorial(count) > 0.05  # the p-value of a perfect order
    return (f"{verdict}: rank correlation {test.statistic:+z.2f} between {x} and {y} over {count} {of}, permutation "
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


def reaching(target: float, times: pd.DataFrame) -> str:
    """Which runs reach a validation accuracy, and which first; ``times`` is `learning_rates.time_to_accuracy` by
    name."""
    reached = times.dropna()
    if reached.empty:
        return f"none of {len(times)} runs reaches {target:.1%} on validation"
    fewest, never = reached["steps"].min(), listing(times.index.difference(reached.index, sort=False))
    first = reached.index[reached["steps"] == fewest]
    first = listing(first) if len(first) <= 3 else f"{len(first)} of them"
    return (f"{len(reached)} of {len(times)} runs reach {target:.1%} on validation; in the fewest steps, "
            f"{fewest:,.0f}: {first}" + (f"; never: {never}" if len(reached) < len(times) else ""))


def worth(gains: pd.DataFrame) -> str:
    """Which changes helped, harmed, or made no difference that can be shown, of a table with value, low and high."""
    def named(rows: pd.DataFrame) -> str:
        return listing(f"{name} ({points(row)})" for name, row in rows.iterrows())

    ranked = gains.sort_values("value", ascending=False)
    helped, harmed = ranked[ranked["low"] > 0], ranked[ranked["high"] < 0]
    return (f"shown to help: {named(helped)}; shown to harm: {named(harmed)}; no difference found: "
            f"{named(ranked.drop([*helped.index, *harmed.index]))}")


# --- notebook 05


def confusion_falls(table: pd.DataFrame, true: str, predicted: str) -> str:
    """How a confusion goes with accuracy over the runs of `confusions.confusion_by_accuracy`."""
    ends = [f"{estimate(row)} in the {which} accurate run ({row['arch']}, {row['accuracy']:.1%})"
            for which, row in (("least", table.iloc[0]), ("most", table.iloc[-1]))]
    return (f"{true} is called {predicted} for {ends[0]} and for {ends[1]}, of {table['images'].iloc[0]:,} {true} "
            f"images; " + rank_relation("accuracy", "this confusion", table["accuracy"], table["value"], "runs"))


def pair_findings(table: pd.DataFrame, detail: bool = True) -> list[str]:
    """Which pairs of `confusions.pair_verdicts` are real confusions: one sentence a verdict.

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
    """Whether the network confuses the classes that another observer confuses (`confusions.confusion_correlation`)."""
    if found.low > 0:
        verdict = f"the network and {who} tend to confuse the same classes"
    elif found.high < 0:
        verdict = f"the network and {who} tend to confuse different classes"
    else:
        verdict = f"no relation found between the confusions of the network and of {who}"
    return (f"{verdict} (rank correlation {found.value:+z.2f} [{found.low:+z.2f}, {found.high:+z.2f}] over "
            f"{classes * (classes - 1)} ordered pairs, {images:,} images)")


def change_of_rates(table: pd.DataFrame, what: str) -> str:
    """Which confusions of `confusions.rate_changes` differ between the halves, and for which no difference was
    found."""
    falls, rises = table[table["high"] < 0], table[table["low"] > 0]
    same = table.drop(index=falls.index.union(rises.index))
    falls = falls.assign(value=-falls["value"], low=-falls["high"], high=-falls["low"])
    parts = [f"{name} {verb} by {points(row)}" for rows, verb in ((falls, "falls"), (rises, "rises"))
             for name, row in rows.iterrows()]
    texts = [f"From the lower to the upper half of {what}, {listing(parts)}."] * bool(parts)
    return " ".join(texts + [f"No difference found for {listing(same.index)}."] * bool(len(same)))


def class_separation(table: pd.DataFrame) -> str:
    """How wide classes are against their distances: all of them, and the one that overlaps most (`embeddings`)."""
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
    """How often neighbours share a class, and the class most mixed with another (`confusions.mean_shares`)."""
    rates = table.to_numpy()
    other = rates - 2 * np.diag(np.diag(rates))  # own shares turned negative, out of the running
    first, second = np.unravel_index(other.argmax(), other.shape)
    return (f"Of an image's {neighbours} nearest neighbours {own.percent} are of its own class; {chance:.1%} would be "
            f"if classes did not matter. The strongest mixture: {rates[first, second]:.0%} of the neighbours of "
            f"{table.index[first]} show {table.columns[second]}, and {rates[first, first]:.0%} {table.index[first]}")


def agreement_of_distances(row: pd.Series) -> str:
    """One row of `embeddings.mantel`: do two distances between the classes agree, if that can be said."""
    verdict = "no agreement can be shown"
    if row["p_adjusted"] < 0.05:
        verdict = "they agree" if row["rho"] > 0 else "they disagree"
    limit = (f"p < 0.05 would take {row['detectable']:.2f}" if row["detectable"] == row["detectable"] else
             "so few classes cannot reach p < 0.05")
    return (f"{row['first']} and {row['second']}: {verdict} (rank correlation {row['rho']:+z.2f} over {row['pairs']} "
            f"pairs, exact p = {row['p_value']:.2g}, {row['p_adjusted']:.2g} after Holm; {limit})")


def look_against_meaning(table: pd.DataFrame) -> str:
    """Of `embeddings.looks_and_meaning`, the pair most alike in looks for its meaning, and the one least alike."""
    gap = table["look_rank"] - table["meaning_rank"]
    return f"of {len(table)} pairs, numbered from close to far, " + "; ".join(
        f"{row.first} and {row.second} are number {row.look_rank} [{row.look_rank_low}, {row.look_rank_high}] in looks "
        f"but number {row.meaning_rank} in meaning" for row in table.loc[[gap.idxmin(), gap.idxmax()]].itertuples())


# --- notebook 06


def p_value(value: float) -> str:
    """"p = 0.021", and "p < 0.001" of anything smaller."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def subgroup_table(table: pd.DataFrame) -> str:
    """`error_analysis.lowest_against_highest` as a table in Markdown."""
    rows = [(str(name), f"{row['lowest']:.1%}", f"{row['highest']:.1%}", f"{points(row)}", p_value(row["p_holm"]))
            for name, row in table.iterrows()]
    return markdown_table(("quarters by", "lowest", "highest", "difference", "corrected"), rows)


def failure_table(table: pd.DataFrame) -> str:
    """`error_analysis.failure_summary` as a table in Markdown."""
    return markdown_table(("type", "errors", "share of errors", "what would mend it"), [
        (str(name), f"{row['errors']:,.0f}", estimate(row), row["what would fix it"])
        for name, row in table.iterrows()])


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of texts under a head, as a table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, (":--",) * len(head), *rows))


# --- methods, notebooks 05 and 06


def methods_that_help(table: pd.DataFrame, outcomes: Sequence[str], baseline: str = "plain") -> str:
    """By which methods of `methods.compare_methods` each of ``outcomes`` is made better, and which by none."""
    own = table[table["method"] != baseline]
    helps = own[(own["p_holm"] < 0.05) & ((own["difference"] > 0) == own["outcome"].map(OUTCOMES))]
    better = {outcome: rows.sort_values("difference", ascending=not OUTCOMES[outcome])
              for outcome in outcomes if len(rows := helps[helps["outcome"] == outcome])}
    parts = [f"{outcome} by {_method_changes(rows)}" for outcome, rows in better.items()]
    if rest := [outcome for outcome in outcomes if outcome not in better]:
        parts.append(f"{listing(rest)} by none of {own['method'].nunique()}")
    return f"made better, with {table['seeds'].iloc[0]:.0f} seeds each: {'; '.join(parts)}"


def _method_changes(rows: pd.DataFrame) -> str:
    """Methods with their differences, all in one outcome."""
    texts = []
    for _, row in rows.iterrows():
        scale, unit, digits = (1, "", 2) if row["outcome"] == "mCE" else (100, " points", 1)
        value, low, high = (f"{scale * row[f'difference{part}']:+z.{digits}f}" for part in ("", "_low", "_high"))
        texts.append(f"{row['method'].replace('_', ' ')} ({value}{unit} [{low}, {high}])")
    return listing(texts)


def method_table(table: pd.DataFrame, outcomes: Sequence[str], costs: pd.DataFrame | None = None,
                 baseline: str = "plain") -> str:
    """`methods.compare_methods` as a table in Markdown: of the baseline its values, of every method the difference in
    points (mCE: as a ratio) with its interval, bold where it stands after correction.

    ``costs`` adds the columns time and weights: its ``time_ratio`` and ``weights_ratio`` by method.
    """
    added = [] if costs is None else ["time", "weights"]
    lines = [["method", *outcomes, *added], [":--", *["--:"] * (len(outcomes) + len(added))]]
    for method, own in table.groupby("method", sort=False):
        rows, line = own.set_index("outcome"), [method_label(method)]
        for outcome in outcomes:
            scale, digits = (1, 2) if outcome == "mCE" else (100, 1)
            if outcome not in rows.index:
                line.append("")
                continue
            row = rows.loc[outcome]
            if method == baseline:
                line.append("{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(
                    *(scale * row[part] for part in ("value", "low", "high")), d=digits))
                continue
            text = "{:+z.{d}f} [{:+z.{d}f}, {:+z.{d}f}]".format(
                *(scale * row[f"difference{part}"] for part in ("", "_low", "_high")), d=digits)
            line.append(f"**{text}**" if row["p_holm"] < 0.05 else text)
        if costs is not None:
            line += [f"×{costs.loc[method, f'{name}_ratio']:.2f}" for name in added]
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def label_efficiency(table: pd.DataFrame) -> str:
    """Linear evaluation (benchmarks/transfer.py) of several networks,
    told apart by ``way``: which features lead with few labels."""
    parts = []
    for share, own in table.groupby("share"):
        ranked = own.sort_values("value", ascending=False)
        parts.append(f"with {share:.0%} of the labels ({ranked['labels'].iloc[0]:,} images) " + listing(
            f"{row['way']} {estimate(row)}" for _, row in ranked.iterrows()))
    return (f"a linear classifier on frozen features is right, {'; '.join(parts)} "
            f"({table['images'].iloc[0]:,} test images)")


def unseen_class(row: pd.Series, classes: Sequence[str]) -> str:
    """What benchmarks/transfer.py keeps of a class never seen:
    whether sentences find a class that training never saw, and what its images
    are called instead."""
    auc = Estimate(row["auc"], row["auc_low"], row["auc_high"])
    verdict = "better" if auc.low > 0.5 else "worse" if auc.high < 0.5 else "no better"
    counts = row[[f"called_{name}" for name in classes]].astype(int)
    most = classes[int(counts.to_numpy().argmax())]
    return (f"{row['unseen']}, never seen: its sentences rank its {row['images']:,} images {verdict} than chance "
            f"(area under the curve {auc.value:.2f} [{auc.low:.2f}, {auc.high:.2f}]); {row['named']:.1%} get its name, "
            f"most are called {most} ({counts.max() / counts.sum():.0%})")


def pulled_apart(table: pd.DataFrame, first: str, second: str, baseline: str = "plain") -> str:
    """`embeddings.looks_and_meaning` of several networks, told apart by ``way``: which of them moves two classes apart
    or together. Where intervals share a value no difference is claimed."""
    own = table[table[["first", "second"]].isin((first, second)).all(axis=1)].set_index("way")
    ends = {way: Estimate(row["look"], row["look_low"], row["look_high"]) for way, row in own.iterrows()}
    start = ends.pop(baseline)
    said = [f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}] by {way} (" + (
        "no difference shown" if overlap(one, start) else "farther" if one.value > start.value else "closer") + ")"
            for way, one in ends.items()]
    return (f"the means of {first} and {second} lie {start.value:.2f} [{start.low:.2f}, {start.high:.2f}] widths of a "
            f"class apart by {baseline} cross-entropy, {listing(said)}")
