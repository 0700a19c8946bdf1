"""Figures of which class is called which: confusion matrices, and the rates of pairs of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..analysis.published import MatrixComparison
from ..metrics.evaluation import Evaluation
from ..models.base import network_name
from .style import BASELINE, COLORS, INK, line_styles


def confusion(scores: Evaluation) -> Figure:
    """Row-normalised confusion matrix; each cell shows its share and, smaller, the 95% interval and the count."""
    figure, axis = plt.subplots(figsize=(0.92 * len(scores.classes) + 1.3, 0.78 * len(scores.classes) + 0.9))
    totals = scores.confusion.sum(1, keepdims=True)
    rate = scores.confusion / np.maximum(totals, 1)
    axis.imshow(rate, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    low, high = scores.rates
    for row, column in np.ndindex(rate.shape):
        ink = "white" if rate[row, column] > 0.55 else INK
        axis.text(column, row - 0.12, f"{rate[row, column]:.0%}", ha="center", va="center", color=ink, fontsize=10)
        axis.text(column, row + 0.24, f"{100 * low[row, column]:.0f}–{100 * high[row, column]:.0f}%\n"
                  f"n={scores.confusion[row, column]}", ha="center", va="center", color=ink, fontsize=7)
    ticks = range(len(scores.classes))
    axis.set_xticks(ticks, scores.classes, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, scores.classes)
    axis.set(xlabel="predicted", ylabel="true", title=f"{scores.count:,} images, accuracy {scores.accuracy}")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def beside_published(found: Mapping[str, MatrixComparison], names: Mapping[str, str], classes: Sequence[str]) -> Figure:
    """Published confusion matrices beside reproduced ones, as rates, a row a network; answers that neither gives are
    left out."""
    answered = [number for number in range(len(classes))
                if any(one.published[:, number].any() or one.reproduced[:, number].any() for one in found.values())]
    figure, axes = plt.subplots(len(found), 2, figsize=(7, 2.4 * len(found) + 0.7), sharex=True, sharey=True,
                                squeeze=False)
    for row, (arch, one) in zip(axes, found.items(), strict=True):
        for axis, rates, what in zip(row, (one.published, one.reproduced), ("published", "again"), strict=True):
            sns.heatmap(100 * pd.DataFrame(rates, classes, classes).iloc[:, answered], annot=True, fmt=".0f",
                        cmap="Blues", vmin=0, vmax=100, cbar=False, linewidths=1, ax=axis, annot_kws={"fontsize": 9})
            axis.set_title(f"{names[arch]}, {what}")
            axis.set(xlabel="answered (%)" if axis in axes[-1] else "", ylabel="")
            axis.tick_params(length=0, rotation=0)
            axis.set_xticks(axis.get_xticks(), [classes[number] for number in answered], rotation=35, ha="right",
                            rotation_mode="anchor")
    return figure


def pair_verdicts(table: pd.DataFrame) -> Figure:
    """The rates of `confusions.pair_verdicts` with intervals, beside the two rates they are compared with."""
    settings = table["classes"].unique()
    figure, axes = plt.subplots(1, len(settings), figsize=(3.4 * len(settings) + 1, 2.9), sharey=True, squeeze=False)
    for axis, setting in zip(axes[0], settings, strict=True):
        rows = table[table["classes"] == setting].iloc[::-1]
        height = np.arange(len(rows))
        axis.errorbar(rows["rate"], height, xerr=[rows["rate"] - rows["low"], rows["high"] - rows["rate"]], fmt="none",
                      ecolor=INK, lw=1, capsize=3)
        axis.scatter(rows["rate"], height, color=[COLORS[name] for name in rows["true"]], s=50, zorder=3,
                     label="this pair, 95% interval")
        axis.scatter(rows["even"], height, marker="|", color=INK, s=260, lw=2, label="errors spread evenly")
        axis.scatter(rows["others"], height, marker="D", facecolor="none", edgecolor=BASELINE, s=36, zorder=2, lw=1.5,
                     label="other classes, called the same")
        axis.set_yticks(height, [f"{row.true} → {row.predicted}" for row in rows.itertuples()])
        axis.set(title=f"{setting} classes", xlim=(0, None), ylim=(-0.6, len(rows) - 0.4),
                 xlabel="share of the true class")
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def confusion_by_accuracy(table: pd.DataFrame, true: str, predicted: str) -> Figure:
    """A point a row of `confusions.confusion_by_accuracy`, with its interval, coloured by architecture."""
    figure, axis = plt.subplots(figsize=(6.8, 3.6))
    for arch, own in table.groupby("arch"):
        name, error = network_name(arch), [own["value"] - own["low"], own["high"] - own["value"]]
        axis.errorbar(own["accuracy"], own["value"], yerr=error, fmt="o", ms=4, lw=0.8,
                      color=line_styles([name])[0]["color"], label=name)
    axis.set(xlabel="test accuracy", ylabel=f"{true} called {predicted}", ylim=(0, None))
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.legend(fontsize=9)
    return figure


def unseen_answers(table: pd.DataFrame) -> Figure:
    """What faces of a class are called by networks that never saw it, a panel a class, beside people's other votes."""
    classes = list(dict.fromkeys(table["unseen"]))
    figure, axes = plt.subplots(-(-len(classes) // 3), 3, figsize=(8.4, 2.1 * -(-len(classes) // 3) + 0.5),
                                sharex=True, squeeze=False)
    for axis in axes.flat[len(classes):]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, classes, strict=False):
        own = table[table["unseen"] == name].iloc[::-1]
        axis.barh(own["answer"], own["value"], color=[COLORS[answer] for answer in own["answer"]], height=0.7,
                  xerr=[own["value"] - own["low"], own["high"] - own["value"]], error_kw={"lw": 1, "ecolor": INK})
        axis.scatter(own["people"], own["answer"], marker="D", color="white", edgecolor=INK, s=32, zorder=3,
                     label="votes of people for other classes")
        axis.set_title(f"{name}, never seen")
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.supxlabel("share of the answers", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", fontsize=8)
    return figure


def looks_and_meaning(words: Mapping[str, tuple[float, float]], table: pd.DataFrame) -> Figure:
    """The words' valence and arousal, 1..9, and the pairs of `embeddings.looks_and_meaning`, each in both its
    colours."""
    figure, (plane, pairs) = plt.subplots(1, 2, figsize=(8.6, 4), width_ratios=[1, 1.5])
    names = list(dict.fromkeys([*table["first"], *table["second"]]))
    points = np.array([words[name] for name in names])
    dots = plane.scatter(*points.T, color=[COLORS[name] for name in names], s=70)
    plane.axvline(5, color=BASELINE, lw=0.8, ls=":")
    plane.axhline(5, color=BASELINE, lw=0.8, ls=":")
    plane.set(xlabel="valence of the word", ylabel="arousal of the word", xlim=(0.5, 10.5),
              ylim=(1.8, 7.6), title="what the words mean")
    _label(plane, dots, names, 9)
    error = [table["look"] - table["look_low"], table["look_high"] - table["look"]]
    pairs.errorbar(table["meaning"], table["look"], yerr=error, fmt="none", ecolor=BASELINE, lw=1)
    dots = pairs.scatter(table["meaning"], table["look"], s=75, linewidth=3, zorder=3,
                         facecolor=table["first"].map(COLORS), edgecolor=table["second"].map(COLORS))
    pairs.margins(x=0.15, y=0.08)
    pairs.set(xlabel="distance of the words", ylabel="distance of the class means",
              title="looks against meaning")
    _label(pairs, dots, list(table["first"] + ", " + table["second"]), 8)
    return figure


def _label(axis: Axes, dots: PathCollection, names: Sequence[str], size: float) -> None:
    """Names beside dots, apart from each other and from the dots. Fixes the axis's limits."""
    axis.set(xlim=axis.get_xlim(), ylim=axis.get_ylim())
    assert isinstance(axis.figure, Figure)
    axis.figure.draw_without_rendering()  # settles the layout, and with it what is near what
    points = np.asarray(dots.get_offsets())
    adjust_text([axis.text(x, y, name, fontsize=size) for (x, y), name in zip(points, names, strict=True)],
                objects=dots, ax=axis, expand=(1.05, 1.3), force_text=(0.2, 0.4), force_static=(0.5, 0.8),
                arrowprops={"arrowstyle": "-", "color": BASELINE, "lw": 0.7})
