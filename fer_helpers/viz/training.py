"""Figures of trainings: epoch by epoch, step by step and layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from ..experiments.learning_rates import RateRange
from ..training.optim import optimizer_name
from .style import ACCENT, BASELINE, COLORS, INK, line_styles


def history(table: pd.DataFrame, best_epoch: int, majority: float) -> Figure:
    """Loss, accuracy, learning rate and gradient norm per epoch of one run, the chosen epoch marked."""
    figure, panels = plt.subplots(2, 2, figsize=(7.4, 4.6))
    axes = panels.ravel()
    for axis, what in zip(axes[:2], ("loss", "accuracy"), strict=True):
        axis.plot(table["epoch"], table[f"train_{what}"], color=BASELINE, marker="o", ms=3, label="train, augmented")
        axis.plot(table["epoch"], table[f"val_{what}"], color=ACCENT, marker="o", ms=3, label="validation")
    axes[1].axhline(majority, color=INK, ls=":", lw=1, label="majority class")
    axes[2].plot(table["epoch"], table["lr"], color=INK, marker="o", ms=3)
    axes[3].plot(table["epoch"], table["grad_norm"], color=INK, marker="o", ms=3)
    for axis, name in zip(axes, ("loss", "accuracy", "learning rate", "gradient norm"), strict=True):
        axis.axvline(best_epoch, color=ACCENT, lw=6, alpha=0.12)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set(title=name, xlabel="epoch")
    axes[1].legend(fontsize=8)
    return figure


def loss_curves(table: pd.DataFrame, names: Mapping[str, str]) -> Figure:
    """Published and reproduced train loss by epoch (`reproduction.training_curves`), a panel a network."""
    archs = [arch for arch in names if len(table.loc[table["arch"] == arch, "who"].unique()) > 1]
    figure, axes = plt.subplots(1, len(archs), figsize=(2.75 * len(archs) + 0.6, 2.7), squeeze=False)
    for axis, arch in zip(axes[0], archs, strict=True):
        for who, own in table[table["arch"] == arch].groupby("who"):
            style = dict(color=INK, marker="o", ms=4, ls="", zorder=3) if who == "published" else \
                dict(color=ACCENT, lw=1.5)
            axis.plot(own["epoch"], own["loss"], **style)
        axis.set(title=names[arch], xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel("train loss")
    axes[0, 0].legend([Line2D([], [], color=INK, marker="o", ms=4, ls=""), Line2D([], [], color=ACCENT)],
                      ["published", "again"], fontsize=8)
    return figure


def validation_ceiling(hits: pd.DataFrame) -> Figure:
    """The study's validation accuracies by epoch (`published.validation_hits`) under the highest possible one."""
    figure, axis = plt.subplots(figsize=(7, 2.9))
    ceiling = hits["ceiling"].iloc[0]
    axis.axhspan(ceiling, 1, color=BASELINE, alpha=0.2, lw=0)
    axis.text(13, (1 + ceiling) / 2, f"{1 - ceiling:.0%} of the images: happy faces, a class the network never saw",
              ha="center", va="center")
    axis.text(13, ceiling + 0.03, f"{ceiling:.0%}: fearful faces", ha="center", color=COLORS["fear"])
    axis.axhline(ceiling, color=COLORS["fear"], lw=1, ls="--")
    axis.plot(hits.index, hits["value"], marker="o", ms=5, color=COLORS["fear"], lw=1)
    axis.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def way_out(tables: Mapping[str, pd.DataFrame], directions: Sequence[tuple[str, str]]) -> Figure:
    """Accuracy and confusions after each step (`reproduction.way_out`), a row of panels a network, steps from the top.

    Left the accuracy; right each of ``directions``, filled where the first one's true class is the true one.
    """
    heights = [0.3 * len(table) + 0.7 for table in tables.values()]
    figure, axes = plt.subplots(len(tables), 2, figsize=(8.4, sum(heights) + 0.9), squeeze=False, sharex="col",
                                height_ratios=heights)
    for (left, right), (name, table) in zip(axes, tables.items(), strict=True):
        height = np.arange(len(table))[::-1]
        accuracy = table["test_accuracy"]
        left.errorbar(accuracy, height, xerr=[accuracy - table["test_low"], table["test_high"] - accuracy], fmt="o-",
                      color=INK, ms=5, lw=1, elinewidth=1)
        for true, predicted in directions:
            rate, low, high = (table[f"{true} → {predicted}{end}"] for end in ("", " low", " high"))
            filled = true == directions[0][0]
            color = COLORS[predicted if filled else true]
            right.errorbar(rate, height, xerr=[rate - low, high - rate], fmt="o-" if filled else "s:", color=color,
                           ms=5, lw=1.2, elinewidth=1, mfc=color if filled else "white",
                           label=f"{true} called {predicted}")
        left.set_yticks(height, table["step"])
        right.set_yticks(height, [])
        left.set(title=name, ylim=(-0.6, len(table) - 0.4))
        right.set(ylim=(-0.6, len(table) - 0.4), xlim=(-0.02, 1.02))
        for axis in (left, right):
            axis.grid(axis="y", lw=0.4)
            axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[-1, 0].set_xlabel("test accuracy, six classes")
    axes[-1, 1].set_xlabel("share of the true class")
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def rate_ranges(tests: Mapping[str, RateRange]) -> Figure:
    """The loss of each optimizer's rate range test over the rising rate, and the suggested rate."""
    columns = min(3, len(tests))
    figure, axes = plt.subplots(rows := -(-len(tests) // columns), columns, figsize=(3 * columns, 2.7 * rows + 0.3),
                                sharey=True, squeeze=False)
    for axis in axes.flat[len(tests):]:
        axis.remove()
    for axis, (name, test) in zip(axes.flat, tests.items(), strict=False):
        axis.plot(test.table.index, test.table["loss"], color=BASELINE, lw=0, marker=".", ms=4, label="one batch")
        axis.plot(test.table.index, test.table["smoothed"], color=ACCENT, label="running average")
        axis.axvline(test.suggested, color=COLORS["anger"], ls="--", lw=1.2, label="suggested")
        axis.set(xscale="log", xlabel="learning rate", title=f"{optimizer_name(name)}: {test.suggested:.1g}")
        axis.minorticks_off()
    start = max(test.table["loss"].iloc[0] for test in tests.values())
    least = min(test.table["loss"].min() for test in tests.values())
    for axis in axes[:, 0]:
        axis.set(ylabel="loss", ylim=(0.9 * least, 2 * start - least))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def through_depth(networks: Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> Figure:
    """One panel per column of the networks' tables (``titles`` names them), one line per network over its layers.

    Columns that stay within 0..1 in all networks have a linear axis, others a logarithmic one.
    """
    figure, axes = plt.subplots(1, len(titles), figsize=(2.7 * len(titles), 2.9), squeeze=False)
    for axis, (column, title) in zip(axes[0], titles.items(), strict=True):
        for (name, table), style in zip(networks.items(), line_styles(networks), strict=True):
            series = table[column].replace(0, np.nan) if column != "distinct" else table[column]
            axis.plot(series.dropna().index, series.dropna(), marker="o", ms=2.5, lw=1.2, label=name, **style)
        axis.set(xlabel="layer", title=title)
        if column == "distinct":
            axis.set_ylim(-0.03, 1.03)
        else:
            axis.set_yscale("log")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(networks), fontsize=8)
    return figure
