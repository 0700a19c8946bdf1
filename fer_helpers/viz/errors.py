"""Figures of single answers: the surest and the worst, how sure they are, what spoils them and what they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..data.faceset import FaceSet
from ..metrics.evaluation import calibration_bins
from ..transforms.occlusions import OCCLUSIONS
from .plots import gallery, name_row
from .style import ACCENT, BASELINE, COLORS, INK


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
        name_row(row[0], name)
    return figure


def failure_gallery(answers: pd.DataFrame, images: torch.Tensor, ids: Sequence[str]) -> Figure:
    """The images ``ids`` of `error_analysis.describe_answers`: label → answer, confidence, support where known."""
    titles = []
    for row in answers.loc[ids].itertuples():
        known = "" if np.isnan(row.support) else f"\nlabel backed {row.support:.0%}"
        titles.append(f"{row.true} →\n{row.predicted}, {row.confidence:.0%}{known}")
    return gallery(images[answers.index.get_indexer(ids)], titles, columns=6, size=1.2)


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


def selective(curve: pd.DataFrame, points: pd.DataFrame) -> Figure:
    """Accuracy of the answers kept against the share kept, with those at validation thresholds marked.

    ``curve`` is `calibration.risk_coverage`, ``points`` is `calibration.selective_accuracy`.
    """
    figure, axis = plt.subplots(figsize=(8, 3.2))
    shown = curve[curve["coverage"] >= 0.02]  # the first few images alone say nothing
    right = 1 - curve["risk"].iloc[-1]
    axis.plot(shown["coverage"], (right / shown["coverage"]).clip(upper=1), color=BASELINE, lw=1, ls="--",
              label="errors always the least sure")
    axis.plot(shown["coverage"], 1 - shown["risk"], color=ACCENT, label="the network's own confidence")
    axis.axhline(right, color=BASELINE, ls=":", lw=1, label="confidence that says nothing")
    axis.errorbar(points["coverage"], points["value"], fmt="o", color=INK, capsize=3, ms=4,
                  yerr=[points["value"] - points["low"], points["high"] - points["value"]],
                  label="threshold from validation, 95% interval")
    axis.set(xlabel="share of test images answered", ylabel="accuracy of the answers", xlim=(0, 1.02),
             ylim=(min(0.95 * right, 0.9), 1.01))
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


#: What `robustness.corruption_errors` may do to a picture, a panel each: 17 lines in one cannot be told apart.
FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "less detail": ("motion_blur", "defocus_blur", "low_resolution", "jpeg"),
    "light and position": ("contrast", "brightness", "rotation", "shift"),
    "hidden parts": OCCLUSIONS,
}


def corruption_lines(table: pd.DataFrame) -> Figure:
    """Accuracy against the severity of each corruption of `robustness.corruption_errors`, a panel a family."""
    clean = 1 - table.loc[table["corruption"] == "none", "error"].iloc[0]
    figure, axes = plt.subplots(2, 2, figsize=(7.4, 5.2), sharex=True, sharey=True)
    for axis, (family, names) in zip(axes.flat, FAMILIES.items(), strict=True):
        axis.axhline(clean, color=BASELINE, ls=":", lw=1)
        for number, name in enumerate(names):
            own = table[table["corruption"] == name]
            axis.plot([0, *own["severity"]], [clean, *1 - own["error"]], marker="o", ms=3, lw=1.4, color=f"C{number}",
                      label=name.replace("_", " "))
        axis.set_title(family)
        axis.legend(fontsize=8, loc="lower left", labelspacing=0.2, handlelength=1.2)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy")
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axis in axes[1]:
        axis.set_xlabel("severity (0: as it is)")
    axes[0, 0].set_ylim(0, None)
    return figure


def attributions(images: torch.Tensor, maps: Mapping[str, torch.Tensor], titles: Sequence[str],
                 columns: int = 2) -> Figure:
    """Faces, each followed by its attribution maps: red speaks for the answer, blue against, white is 0.

    Parameters
    ----------
    images : uint8 (N, 48, 48). maps : float (N, 48, 48) by method; each map's colours reach to its 99.5th percentile.
    titles : text above each face. columns : faces in a row.
    """
    block = 1 + len(maps)
    rows, wide = max(1, -(-len(images) // columns)), columns * block
    figure, axes = plt.subplots(rows, wide + columns - 1, figsize=(0.98 * wide, 1.25 * rows + 0.4), squeeze=False,
                                width_ratios=[*([1] * block + [0.12]) * columns][:-1])
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (image, text) in enumerate(zip(images, titles, strict=True)):
        row, first = number // columns, number % columns * (block + 1)
        axes[row, first].imshow(image, vmin=0, vmax=255)
        axes[row, first].set_title(text, fontsize=7.5, fontweight="normal", loc="center")
        for place, (method, signed) in enumerate(maps.items(), start=first + 1):
            value = signed[number].numpy()
            reach = max(float(np.quantile(np.abs(value), 0.995)), 1e-12)
            axes[row, place].imshow(image, vmin=-120, vmax=375)  # pale, so that the colours can be read
            axes[row, place].imshow(value, cmap="RdBu_r", vmin=-reach, vmax=reach,
                                    alpha=np.clip(np.abs(value) / reach, 0, 1) * 0.85)
            if row == 0:
                axes[row, place].set_title(method.replace(" ", "\n"), fontsize=7.5, fontweight="normal", loc="center")
    return figure


def focus(table: pd.DataFrame) -> Figure:
    """Attribution in the causal regions over the area they take, with intervals: the table of `attribution.focus`."""
    measures, methods = list(pd.unique(table["measure"])), list(pd.unique(table["method"]))
    figure, axes = plt.subplots(1, len(measures), figsize=(2.6 * len(measures) + 2.2, 0.5 * len(methods) + 1.3),
                                sharey=True, squeeze=False)
    for axis, measure in zip(axes[0], measures, strict=True):
        for answers, color, shift in (("right", ACCENT, -0.13), ("wrong", COLORS["anger"], 0.13)):
            own = table[(table["measure"] == measure) & (table["answers"] == answers)]
            place = np.array([methods.index(name) for name in own["method"]]) + shift
            axis.errorbar(own["value"], place, xerr=[own["value"] - own["low"], own["high"] - own["value"]], fmt="o",
                          color=color, capsize=3, label=f"{answers} answers")
        axis.axvline(1, color=INK, ls=":", lw=1)
        axis.set(title=measure, xlabel="times chance, 95% interval", xlim=(0, None))
        axis.set_yticks(range(len(methods)), methods)
    axes[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure
