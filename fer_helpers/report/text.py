"""Sentences computed from results, so that no notebook states a number that its run did not give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..files import listing as listing  # notebooks find it here
from ..metrics.evaluation import Comparison
from ..metrics.intervals import Estimate
from ..training.methods import OUTCOMES, method_label


@dataclass(frozen=True)
class Claim:
    """A sentence with its numbers, and whether they bear it out; ``source`` is what makes the numbers again."""

    sentence: str
    holds: bool
    source: str = ""

    def __str__(self) -> str:
        return self.sentence if self.holds else f"*Not borne out here:* {self.sentence}"

    @property
    def number(self) -> str:
        """The sentence without its bold first words, which say the verdict."""
        return self.sentence.rpartition("**")[2].strip()


_NO_RISE = 0.01  # of a validation loss: less than its epochs differ by once the rate is almost 0


def over_fitting(history: pd.DataFrame, kept: int) -> str:
    """The gap between train and validation in the epoch whose weights are kept, and whether the run went on past that
    of the lowest validation loss."""
    rows = history.set_index("epoch")
    best, last = rows.loc[rows["val_loss"].idxmin()], rows.iloc[-1]
    gap = rows.loc[kept, "val_accuracy"] - rows.loc[kept, "train_accuracy"]
    text = (f"In the epoch that is kept validation accuracy differs from that on the augmented train images by "
            f"{100 * gap:+z.1f} points. ")
    if best.name == last.name:
        return text + ("The last epoch was the best one: the run was still learning when it ended, so part of its "
                       "errors are those of an unfinished training.")
    rise = last["val_loss"] - best["val_loss"]
    if rise < _NO_RISE:
        return text + (f"After epoch {best.name} the validation loss stayed within {_NO_RISE} of its lowest: it ended "
                       "in time.")
    return text + (f"After epoch {best.name} the validation loss rose by {rise:.3f}: more epochs of this recipe "
                   "over-fit.")


def difference(first: str, second: str, result: Comparison) -> str:
    """Which of two classifiers on the same images is better, if that can be said."""
    gap, sign = result.difference, 1 if result.difference.value > 0 else -1
    low, high = sorted((100 * sign * gap.low, 100 * sign * gap.high))
    better, worse = (first, second) if sign > 0 else (second, first)
    found = f"{100 * abs(gap.value):.1f} points [{low:.1f}, {high:.1f}], McNemar {p_value(result.p_value)}"
    if result.p_value >= 0.05:
        return f"no difference can be shown between {better} and {worse} ({found})"
    return f"{better} is better than {worse} ({found})"


def estimate(row: pd.Series) -> str:
    """A row's value, low and high as ``65.2% [63.6, 66.8]``."""
    return Estimate(row["value"], row["low"], row["high"]).percent


def points(row: pd.Series) -> str:
    """A row's value, low and high as ``12.3 points [10.9, 13.8]``."""
    return f"{100 * row['value']:.1f} points [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def table(frame: pd.DataFrame) -> str:
    """A data frame of texts and numbers as a table in Markdown, its index left out; columns of numbers are set to the
    right."""
    cells = frame.astype(str)
    numeric = [bool(cells[name].str.match(r"[-+−×*]*\d[^a-z]*$").all()) for name in cells]
    lines = [list(cells), ["--:" if right else ":--" for right in numeric], *cells.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def p_value(value: float) -> str:
    """As ``p = 0.012``, or ``p < 0.001``: how far below that it lies says nothing that the data could bear."""
    return f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"


def data_name(source: str) -> str:
    """What readers call the data of `faceset.FaceSet.source`: the last part of its path, FER2013 as it is written."""
    name = Path(source).name
    return name.upper() if name.lower() == "fer2013" else name


def sentence(text: str) -> str:
    """The text with a capital letter in front and one full stop behind; a name such as mCE keeps its letters."""
    first = text[:1] if text[1:2].isupper() else text[:1].upper()
    return f"{first}{text[1:].rstrip('.')}."


# --- notebook 01


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


# --- notebook 03


# --- notebook 04


def worth(gains: pd.DataFrame) -> str:
    """Which changes helped, harmed, or made no difference that can be shown, of a table with value, low and high."""
    def named(rows: pd.DataFrame) -> str:
        return listing(f"{name} ({points(row)})" for name, row in rows.iterrows())

    ranked = gains.sort_values("value", ascending=False)
    helped, harmed = ranked[ranked["low"] > 0], ranked[ranked["high"] < 0]
    return (f"shown to help: {named(helped)}; shown to harm: {named(harmed)}; no difference found: "
            f"{named(ranked.drop([*helped.index, *harmed.index]))}")


# --- notebook 05


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


# --- notebook 06


def subgroup_table(extremes: pd.DataFrame) -> str:
    """`error_analysis.lowest_against_highest` as a table in Markdown."""
    rows = [(name, f"{row['lowest']:.1%}", f"{row['highest']:.1%}", points(row), p_value(row["p_holm"]))
            for name, row in extremes.iterrows()]
    return table(pd.DataFrame(rows, columns=["quarters by", "lowest", "highest", "difference", "corrected"]))


def failure_table(types: pd.DataFrame) -> str:
    """`error_analysis.failure_summary` as a table in Markdown."""
    return table(pd.DataFrame([(name, f"{row['errors']:,.0f}", estimate(row), row["what would fix it"])
                               for name, row in types.iterrows()],
                              columns=["type", "errors", "share of errors", "what would mend it"]))


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
