"""Figures of a set of faces: its classes, their faces, and what of a face can be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..analysis.dataset_statistics import Eigenfaces
from ..data.faceset import FaceSet
from .plots import name_row
from .style import COLORS


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
        name_row(row[0], name)
    return figure


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


def eigenfaces(parts: Mapping[str, Eigenfaces]) -> Figure:
    """A row for each part of the data: its mean face and its eigenfaces (red brightens, blue darkens) with the share of
    the variance each explains. Rows named after emotions keep their colour."""
    count = max(len(part.faces) for part in parts.values())
    size = min(1.0, 7.5 / (count + 1))  # inches a face, so that a page need not shrink many of them
    figure, axes = plt.subplots(len(parts), count + 1, squeeze=False,
                                figsize=(size * (count + 1) + 0.9, (size + 0.12) * len(parts) + 0.2))
    for axis in axes.flat:
        axis.set_axis_off()
    for (name, part), row in zip(parts.items(), axes, strict=True):
        row[0].imshow(part.mean, vmin=0, vmax=255)
        name_row(row[0], name)
        for axis, face, share in zip(row[1:], part.faces, part.explained, strict=False):
            reach = np.abs(face).max()
            axis.imshow(face, cmap="RdBu_r", vmin=-reach, vmax=reach)
            axis.set_title(f"{share:.0%}", fontsize=8, fontweight="normal", loc="center", pad=2)
    axes[0, 0].set_title("mean", fontsize=8, fontweight="normal", loc="center", pad=2)
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
