"""Figures of any table: each function takes tables or images and returns a Figure. Those of one subject are in the
modules beside this one."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .style import ACCENT, BASELINE, COLORS, INK, line_styles


def set_title(figure: Figure, text: str) -> Figure:
    """Put what the figure shows, in a sentence, above its panels."""
    figure.suptitle(text[:1].upper() + text[1:], x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def show(figure: Figure, title: str, caption: str, faces: bool = False) -> None:
    """Show a figure in a notebook under its ``title``: the finding, in a sentence.

    The ``caption`` under it is Markdown and says whose faces these are (PHOTOGRAPHS, DRAWN), the network, the number of
    images and what to look at. Both stand beside the picture as its text, for who cannot see it. ``faces`` says that
    pictures of faces are in it, whose grey a page must not turn round where it is read in the dark.
    """
    from IPython.display import Markdown, display  # here: only notebooks have it

    image, title = io.BytesIO(), title[:1].upper() + title[1:]
    set_title(figure, title).savefig(image, bbox_inches="tight", format="png")
    plt.close(figure)
    display({"image/png": base64.b64encode(image.getvalue()).decode(),
             "text/plain": f"{title}. {caption}".replace("*", "").replace("..", ".")},
            metadata={"figure": "faces" if faces else "numbers"}, raw=True)
    display(Markdown(caption), metadata={"figure": "caption"})


def gallery(images: torch.Tensor, titles: Sequence[str] = (), columns: int = 8, size: float = 1.1,
            title: str = "") -> Figure:
    """A grid of faces.

    Parameters
    ----------
    images : uint8 (N, 48, 48), drawn from black 0 to white 255 each.
    titles : text above each face; may be empty.
    columns : faces in a row.
    size : inches per face.
    """
    rows = max(1, -(-len(images) // columns))
    height = size * (1.28 if len(titles) else 1.03)
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, height * rows + 0.35 * bool(title)),
                                squeeze=False)
    for number, axis in enumerate(axes.flat):
        axis.set_axis_off()
        if number < len(images):
            axis.imshow(images[number], vmin=0, vmax=255, interpolation="nearest")
            if len(titles):
                axis.set_title(titles[number], fontsize=8, fontweight="normal", loc="center")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure


def name_row(first: Axes, name: str) -> None:
    """Write a row's name left of its first face; that of an emotion in its colour."""
    first.text(-0.12, 0.5, name, transform=first.transAxes, ha="right", va="center", color=COLORS.get(name, INK),
               fontweight="bold")


def lines(table: pd.DataFrame, xlabel: str, ylabel: str) -> Figure:
    """One line per column over the index, each in its own colour (`style.line_styles`)."""
    figure, axis = plt.subplots(figsize=(6.5, 3))
    for name, style in zip(table, line_styles(table), strict=True):
        series = table[name].dropna()
        axis.plot(series.index, series, marker="o", ms=3, label=name, **style)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    _name_lines(axis)
    return figure


def _name_lines(axis: Axes) -> None:
    """The name of each line beside its end, in its colour; names keep a line of text apart."""
    ends = {line: float(values[-1]) for line in axis.lines if len(values := np.asarray(line.get_ydata()))}
    low, high = axis.get_ylim()
    gap, places = 0.075 * (high - low), list[float]()
    for end in sorted(ends.values()):
        places.append(max(end, places[-1] + gap) if places else end)
    for line, place in zip(sorted(ends, key=ends.__getitem__), places, strict=True):
        axis.text(1.01, place - max(0, places[-1] - high), str(line.get_label()), va="center", fontsize=9,
                  color=line.get_color(), transform=axis.get_yaxis_transform())


def heatmap(table: pd.DataFrame, percent: bool = True, center: float | None = None,
            floor: float | None = None) -> Figure:
    """A table of numbers as coloured cells; ``center`` makes the colours diverge from there, ``floor`` makes them begin
    there, so that small differences look small."""
    figure, axis = plt.subplots(figsize=(0.95 * table.shape[1] + 2, 0.48 * table.shape[0] + 1.1))
    sns.heatmap(table, annot=True, fmt=".1%" if percent else ".2f", cmap="Blues" if center is None else "RdBu_r",
                center=center, vmin=floor, cbar=False, linewidths=1, ax=axis, annot_kws={"fontsize": 9})
    axis.set(xlabel="", ylabel="")
    axis.tick_params(length=0, rotation=0)
    if max(len(str(name)) for name in table) > 10:  # beside each other they would run into each other
        names = [str(name) for name in table]
        axis.set_xticks(axis.get_xticks(), names, rotation=20, ha="right", rotation_mode="anchor")
    return figure


def heatmaps(tables: Mapping[str, pd.DataFrame], xlabel: str = "answered", ylabel: str = "true") -> Figure:
    """Tables of shares by the same classes side by side, in one colour scale 0..1, titled by their names."""
    size = len(next(iter(tables.values())))
    figure, axes = plt.subplots(1, len(tables), figsize=((0.5 * size + 0.5) * len(tables) + 0.9, 0.42 * size + 1.5),
                                sharey=True, squeeze=False)
    for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
        sns.heatmap(100 * table, annot=True, fmt=".0f", cmap="Blues", vmin=0, vmax=100, cbar=False, linewidths=1,
                    ax=axis, annot_kws={"fontsize": 9})
        axis.set(title=name, xlabel=f"{xlabel} (%)", ylabel="")
        axis.set_xticklabels(axis.get_xticklabels(), rotation=35, ha="right", rotation_mode="anchor")
        axis.tick_params(length=0)
    axes[0, 0].set_ylabel(ylabel)
    axes[0, 0].tick_params(axis="y", rotation=0)
    return figure


def bars_with_intervals(table: pd.DataFrame, xlabel: str) -> Figure:
    """Horizontal bars of column ``value`` with ``low`` and ``high``; rows named after emotions keep their colour."""
    table = table.iloc[::-1]
    figure, axis = plt.subplots(figsize=(7, 0.34 * len(table) + 1.1))
    axis.barh([str(name) for name in table.index], table["value"], height=0.65,
              color=[COLORS.get(name, ACCENT) for name in table.index], error_kw={"lw": 1, "ecolor": INK},
              xerr=np.stack([table["value"] - table["low"], table["high"] - table["value"]]))
    axis.axvline(0, color=INK, lw=0.8)
    axis.set(xlabel=xlabel)
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    return figure


def bar_panels(tables: Mapping[str, pd.DataFrame], xlabel: str = "", plain: Sequence[str] = (),
               baselines: Mapping[str, float] | None = None, apart: bool = False) -> Figure:
    """Columns ``value``, ``low`` and ``high`` of several tables side by side, in the first one's order of rows.

    Rows named after emotions keep their colour. Panels in ``plain`` are numbers; all others are shares in percent, on
    one scale unless they are to be read ``apart``. ``baselines`` draws a dashed line in the panels it names.
    """
    names = list(next(iter(tables.values())).index)
    figure, axes = plt.subplots(1, len(tables), figsize=(min(2.4 * len(tables) + 1.4, 8), 0.32 * len(names) + 1.2),
                                sharey=True, squeeze=False)
    for axis, (title, table) in zip(axes[0], tables.items(), strict=True):
        table = table.reindex(names)
        error = np.stack([table["value"] - table["low"], table["high"] - table["value"]])
        axis.barh(names, table["value"], height=0.65, color=[COLORS.get(name, BASELINE) for name in names],
                  xerr=error if error.any() else None, error_kw={"lw": 1, "ecolor": INK})
        axis.axvline(0, color=INK, lw=0.8)
        axis.set_title(title)
        if baselines and title in baselines:
            axis.axvline(baselines[title], color=INK, ls="--", lw=1)
    # One label for all: beside each other, long ones would run into each other.
    figure.supxlabel(xlabel, fontsize=plt.rcParams["axes.labelsize"])
    shares = [axis for axis, title in zip(axes[0], tables, strict=True) if title not in plain]
    if not shares:
        plt.setp(axes[0], xlim=(min(a.get_xlim()[0] for a in axes[0]), max(a.get_xlim()[1] for a in axes[0])))
    for axis in shares:
        if not apart:
            axis.set_xlim(min(a.get_xlim()[0] for a in shares), max(a.get_xlim()[1] for a in shares))
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter(PercentFormatter(1))
    axes[0, 0].invert_yaxis()
    return figure


def two_rates(table: pd.DataFrame, names: Mapping[str, str],
              xlabel: str = "share of the true class, 95% interval") -> Figure:
    """Two rates a row, with intervals: of each column of ``names``, which says what it is, with its _low and _high."""
    rows = table.iloc[::-1]
    figure, axis = plt.subplots(figsize=(7.4, 0.38 * len(rows) + 1.1))
    height = np.arange(len(rows))
    for (part, name), color, shift in zip(names.items(), (BASELINE, ACCENT), (0.13, -0.13), strict=True):
        value = rows[part].to_numpy()
        error = [value - rows[f"{part}_low"], rows[f"{part}_high"] - value]
        axis.errorbar(value, height + shift, xerr=error, fmt="o", color=color, capsize=3, lw=1.2, ms=6, label=name)
    axis.set_yticks(height, rows.index)
    axis.set(xlabel=xlabel, xlim=(0, None), ylim=(-0.6, len(rows) - 0.4))
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
    return figure
