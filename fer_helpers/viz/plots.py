"""Figures. Every function takes tables or sets and returns a Figure.

Figures that only one notebook draws are in `figures`.
"""

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
from matplotlib.ticker import PercentFormatter

from ..data.faceset import FaceSet
from ..metrics.evaluation import Evaluation, calibration_bins
from .style import ACCENT, BASELINE, COLORS, INK


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


def gallery(images: torch.Tensor, titles: Sequence[str] = (), columns: int = 8, size: float = 1.15,
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


def class_gallery(faces: FaceSet, per_class: int = 8, seed: int = 0) -> Figure:
    """Random faces, one row per class."""
    random = np.random.default_rng(seed)
    figure, axes = plt.subplots(len(faces.classes), per_class, squeeze=False,
                                figsize=(0.78 * per_class + 1, 0.78 * len(faces.classes)))
    for axis in axes.flat:
        axis.set_axis_off()
    for label, (name, row) in enumerate(zip(faces.classes, axes, strict=True)):
        own = np.flatnonzero(faces.labels.numpy() == label)
        chosen = random.choice(own, min(per_class, len(own)), replace=False)
        for axis, index in zip(row, chosen, strict=False):
            axis.imshow(faces.images[index], vmin=0, vmax=255, interpolation="nearest")
        _name_row(row[0], name)
    return figure


def extremes(faces: FaceSet, given: np.ndarray, each: int = 5) -> Figure:
    """Per class, the images to whose own label a network gave most (left) and least (right).

    ``given`` (N,) is the probability 0..1 that each image's own label got.
    """
    figure, axes = plt.subplots(len(faces.classes), 2 * each + 1, squeeze=False,
                                figsize=(0.64 * (2 * each + 1) + 0.9, 0.8 * len(faces.classes)))
    for axis in axes.flat:
        axis.set_axis_off()
    for label, (name, row) in enumerate(zip(faces.classes, axes, strict=True)):
        own = np.flatnonzero(faces.labels.numpy() == label)
        own = own[np.argsort(-given[own], kind="stable")]
        for places, chosen in ((row[:each], own[:each]), (row[each + 1:], own[::-1][:each])):
            for axis, index in zip(places, chosen, strict=False):
                axis.imshow(faces.images[index], vmin=0, vmax=255, interpolation="nearest")
                axis.set_title(f"{given[index]:.0%}", fontsize=8, fontweight="normal", loc="center")
        _name_row(row[0], name)
    return figure


def _name_row(first: Axes, name: str) -> None:
    """The emotion's name left of the first face of its row."""
    first.text(-0.12, 0.5, name, transform=first.transAxes, ha="right", va="center", color=COLORS[name],
               fontweight="bold")


def class_balance(faces: FaceSet) -> Figure:
    """Images per class in each split, as shares of the split."""
    counts = faces.counts()
    counts = counts.loc[:, counts.sum() > 0]
    figure, axes = plt.subplots(1, len(counts.columns), figsize=(3.2 * len(counts.columns) + 1, 2.6), sharey=True,
                                squeeze=False)
    for axis, split in zip(axes[0], counts.columns, strict=True):
        share = counts[split] / counts[split].sum()
        bars = axis.barh(counts.index, share, color=[COLORS[name] for name in counts.index])
        axis.bar_label(bars, [f"{value:,}" for value in counts[split]], padding=3, fontsize=8)
        axis.set(title=f"{split}: {counts[split].sum():,} images", xlabel="share of the split",
                 xlim=(0, share.max() * 1.2))
        axis.xaxis.set_major_formatter(PercentFormatter(1))
    axes[0, 0].invert_yaxis()
    return figure


def mean_faces(faces: FaceSet) -> Figure:
    """Each class's mean face (top) and how it differs from the mean of all classes (bottom; red brighter)."""
    images = faces.images.float()
    means = torch.stack([images[faces.labels == label].mean(0) for label in range(len(faces.classes))])
    differences = means - means.mean(0)
    reach = float(differences.abs().max())
    figure, axes = plt.subplots(2, len(faces.classes), figsize=(1.1 * len(faces.classes), 2.6), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, name in enumerate(faces.classes):
        axes[0, number].imshow(means[number], vmin=0, vmax=255)
        axes[0, number].set_title(name, color=COLORS[name], loc="center")
        axes[1, number].imshow(differences[number], cmap="RdBu_r", vmin=-reach, vmax=reach)
    return figure


def distributions(table: pd.DataFrame, values: Sequence[str], by: str = "class") -> Figure:
    """Box plots (whiskers at 5% and 95%) of each column of ``values``, a box per emotion in column ``by``."""
    figure, axes = plt.subplots(1, len(values), figsize=(2.4 * len(values) + 0.6, 2.6), sharey=True, squeeze=False)
    names = [name for name in COLORS if name in set(table[by])]
    for axis, value in zip(axes[0], values, strict=True):
        sns.boxplot(table, x=value, y=by, order=names, hue=by, hue_order=names, palette=COLORS, ax=axis,
                    whis=(5, 95), showfliers=False, width=0.65, linewidth=1, legend=False)
        axis.set(title=value, xlabel="", ylabel="")
    return figure


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


def confusion(scores: Evaluation, title: str = "") -> Figure:
    """Row-normalised confusion matrix; each cell shows its share and, smaller, the 95% interval and the count."""
    figure, axis = plt.subplots(figsize=(0.92 * len(scores.classes) + 1.3, 0.78 * len(scores.classes) + 0.9))
    draw_confusion(axis, scores)
    axis.set_title(title or f"{scores.count:,} images, accuracy {scores.accuracy}")
    return figure


def draw_confusion(axis: Axes, scores: Evaluation, detail: bool = True) -> None:
    """`confusion` on an existing axis; ``detail`` False leaves out intervals and counts."""
    totals = scores.confusion.sum(1, keepdims=True)
    rate = scores.confusion / np.maximum(totals, 1)
    axis.imshow(rate, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    low, high = scores.rates
    for row, column in np.ndindex(rate.shape):
        ink = "white" if rate[row, column] > 0.55 else INK
        axis.text(column, row - 0.12 * detail, f"{rate[row, column]:.0%}", ha="center", va="center", color=ink,
                  fontsize=10 if detail else 8)
        if detail:
            axis.text(column, row + 0.24, f"{100 * low[row, column]:.0f}–{100 * high[row, column]:.0f}%\n"
                      f"n={scores.confusion[row, column]}", ha="center", va="center", color=ink, fontsize=6.8)
    ticks = range(len(scores.classes))
    axis.set_xticks(ticks, scores.classes, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, scores.classes)
    axis.set(xlabel="predicted", ylabel="true")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


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


def heatmap(table: pd.DataFrame, title: str = "", percent: bool = True, center: float | None = None,
            floor: float | None = None) -> Figure:
    """A table of numbers as coloured cells; ``center`` makes the colours diverge from there, ``floor`` makes them begin
    there, so that small differences look small."""
    figure, axis = plt.subplots(figsize=(0.95 * table.shape[1] + 2, 0.48 * table.shape[0] + 1.1))
    sns.heatmap(table, annot=True, fmt=".1%" if percent else ".2f", cmap="Blues" if center is None else "RdBu_r",
                center=center, vmin=floor, cbar=False, linewidths=1, ax=axis, annot_kws={"fontsize": 9})
    axis.set(title=title, xlabel="", ylabel="")
    axis.tick_params(length=0, rotation=0)
    if max(len(str(name)) for name in table) > 10:  # beside each other they would run into each other
        names = [str(name) for name in table]
        axis.set_xticks(axis.get_xticks(), names, rotation=20, ha="right", rotation_mode="anchor")
    return figure


def reliability(labels: np.ndarray, probs: Mapping[str, np.ndarray]) -> Figure:
    """Accuracy against confidence, over the number of images at each: sets of probabilities (N, C) for the same images,
    side by side, each with its name."""
    figure, axes = plt.subplots(2, len(probs), figsize=(3.9 * len(probs), 4), sharex=True, sharey="row",
                                height_ratios=[3, 1], squeeze=False)
    for (above, below), (name, values) in zip(axes.T, probs.items(), strict=True):
        bins = calibration_bins(labels, values)
        above.plot([0, 1], [0, 1], color=BASELINE, ls=":", lw=1, label="perfectly calibrated")
        above.plot(bins["confidence"], bins["accuracy"], color=ACCENT, marker="o", ms=4)
        above.set(title=name, ylim=(0, 1))
        below.bar(bins["confidence"], bins["images"], width=0.05, color=BASELINE)
        below.set(xlabel="confidence", xlim=(0, 1))
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("images")
    axes[0, 0].legend(fontsize=8)
    return figure


def lines(table: pd.DataFrame, xlabel: str, ylabel: str, title: str = "", log: bool = False) -> Figure:
    """One line per column over the index; columns named after emotions keep their colour."""
    figure, axis = plt.subplots(figsize=(6.5, 3))
    for name in table:
        series = table[name].dropna()
        axis.plot(series.index, series, marker="o", ms=3, label=name, color=COLORS.get(name))
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title, yscale="log" if log else "linear")
    axis.legend(fontsize=8)
    return figure


def bars_with_intervals(table: pd.DataFrame, xlabel: str, title: str = "") -> Figure:
    """Horizontal bars of column ``value`` with ``low`` and ``high``; rows named after emotions keep their colour."""
    table = table.iloc[::-1]
    figure, axis = plt.subplots(figsize=(7, 0.34 * len(table) + 1.1))
    axis.barh([str(name) for name in table.index], table["value"], height=0.65,
              color=[COLORS.get(name, ACCENT) for name in table.index], error_kw={"lw": 1, "ecolor": INK},
              xerr=np.stack([table["value"] - table["low"], table["high"] - table["value"]]))
    axis.axvline(0, color=INK, lw=0.8)
    axis.set(xlabel=xlabel, title=title)
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    return figure
