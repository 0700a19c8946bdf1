"""Figures that compare runs and methods."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..training.methods import OUTCOMES, method_label
from .style import ACCENT, BASELINE, INK

HELPS, HARMS = "#009e73", "#d55e00"


def accuracies(table: pd.DataFrame, label: str, split: str = "test") -> Figure:
    """Accuracy with its interval for each row of `runs.load_runs`, beside the majority and chance baselines.

    ``label`` is the column that names the rows.
    """
    table = table.iloc[::-1]
    figure, axis = plt.subplots(figsize=(7, 0.34 * len(table) + 1.1))
    value, low, high = (table[f"{split}_{part}"].to_numpy() for part in ("accuracy", "low", "high"))
    axis.errorbar(value, range(len(table)), xerr=[value - low, high - value], fmt="o", color=ACCENT, ecolor=ACCENT,
                  capsize=3)
    axis.set_yticks(range(len(table)), table[label])
    axis.axvline(table["majority"].iloc[0], color=INK, ls="--", lw=1, label="always the majority class")
    axis.axvline(1 / table["classes"].iloc[0], color=BASELINE, ls=":", lw=1, label="chance")
    axis.set(xlabel=f"{split} accuracy, 95% interval", ylim=(-0.6, len(table) - 0.4))
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8)
    return figure


def method_outcomes(table: pd.DataFrame, outcomes: Sequence[str], baseline: str = "plain") -> Figure:
    """`methods.compare_methods` of one or several ``network``s: for each of ``outcomes`` a panel, in it the difference
    of every method to the baseline with its 95% interval. Coloured where it stands after correction: helps, harms."""
    shown = table[(table["method"] != baseline) & table["outcome"].isin(outcomes)]
    networks = dict(zip(dict.fromkeys(table["network"]), "oDsv", strict=False))
    names = list(dict.fromkeys(shown["method"]))
    outcomes = [name for name in outcomes if name in set(shown["outcome"])]
    figure, axes = plt.subplots(1, len(outcomes), figsize=(1.55 * len(outcomes) + 1.6,
                                                           (0.18 + 0.09 * len(networks)) * len(names) + 1.3),
                                sharey=True, squeeze=False)
    for axis, outcome in zip(axes[0], outcomes, strict=True):
        for number, (network, marker) in enumerate(networks.items()):
            rows = shown[(shown["outcome"] == outcome) & (shown["network"] == network)]
            better = np.sign(rows["difference"]) * (1 if OUTCOMES[outcome] else -1)
            colours = np.where(rows["p_holm"] >= 0.05, BASELINE, np.where(better > 0, HELPS, HARMS))
            for colour, (_, row) in zip(colours, rows.iterrows(), strict=True):
                place = names.index(row["method"]) + 0.3 * (number - (len(networks) - 1) / 2)
                axis.plot(row[["difference_low", "difference_high"]], [place, place], color=colour, lw=1.6)
                axis.plot(row["difference"], place, marker, ms=4 if marker == "o" else 3.5, color=colour)
        axis.axvline(0, color=INK, lw=0.8)
        # mCE is a ratio, all else a share.
        style = "{:.2f}" if outcome == "mCE" else "{:.0%}"
        start = table[(table["method"] == baseline) & (table["outcome"] == outcome)]["value"]
        axis.set_title(f"{outcome}\n{baseline}: {', '.join(map(style.format, start))}", fontsize=8.5)
        axis.xaxis.set_major_locator(MaxNLocator(3, symmetric=True))
        scale = 1 if outcome == "mCE" else 100
        axis.xaxis.set_major_formatter(
            lambda value, _, scale=scale: f"{scale * value:+.3g}" if abs(value) > 1e-9 else "0")
        axis.tick_params(labelsize=8)
        axis.grid(axis="y", lw=0.4)
    axes[0, 0].set_yticks(range(len(names)), [method_label(name) for name in names])
    axes[0, 0].invert_yaxis()
    marks = [Line2D([], [], marker="o", color=colour, label=label) for colour, label in (
        (HELPS, "helps"), (HARMS, "harms"), (BASELINE, "no difference found (5%, Holm)"))]
    if len(networks) > 1:
        marks += [Line2D([], [], marker=marker, color=INK, lw=0, ms=4, label=name) for name, marker in networks.items()]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), fontsize=8)
    label = f"difference to {baseline}, points" + " (mCE: a ratio)" * ("mCE" in outcomes)
    axes[0, len(outcomes) // 2].set_xlabel(label, fontsize=8.5)
    return figure


def label_efficiency(table: pd.DataFrame) -> Figure:
    """Linear evaluation (benchmarks/transfer.py) of several networks,
    told apart by ``way``: accuracy against the labels known."""
    figure, axis = plt.subplots(figsize=(7, 3.2))
    for way, own in table.groupby("way", sort=False):
        axis.errorbar(own["share"], own["value"], yerr=[own["value"] - own["low"], own["high"] - own["value"]],
                      fmt="o-", ms=4, lw=1.2, capsize=3, label=way)
    shares = sorted(set(table["share"]))
    axis.set(xscale="log", xlabel="share of the train labels", ylabel="test accuracy, 95% interval")
    axis.set_xticks(shares, [f"{share:.0%}" for share in shares])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.legend(title="features", loc="upper left", bbox_to_anchor=(1, 1))
    return figure
