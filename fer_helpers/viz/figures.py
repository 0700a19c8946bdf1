"""Figures of one notebook each, in reading order; `plots` holds the style and the figures that any notebook uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..analysis.dataset_statistics import Eigenfaces
from ..analysis.published import MatrixComparison
from ..experiments.learning_rates import RateRange
from ..models.base import network_name
from ..training.methods import OUTCOMES, method_label
from ..training.optim import optimizer_name
from ..transforms.occlusions import OCCLUSIONS
from .plots import gallery
from .style import ACCENT, BASELINE, COLORS, INK

HELPS, HARMS = "#009e73", "#d55e00"

# --- notebook 01


def eigenfaces(parts: Mapping[str, Eigenfaces]) -> Figure:
    """A row for each part of the data: its mean face and its eigenfaces (red brightens, blue darkens) with the share of
    the variance each explains. Rows named after emotions keep their colour."""
    count = max(len(part.faces) for part in parts.values())
    figure, axes = plt.subplots(len(parts), count + 1, squeeze=False,
                                figsize=(1.0 * (count + 1) + 0.9, 1.12 * len(parts) + 0.2))
    for axis in axes.flat:
        axis.set_axis_off()
    for (name, part), row in zip(parts.items(), axes, strict=True):
        row[0].imshow(part.mean, vmin=0, vmax=255)
        row[0].text(-0.12, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontweight="bold",
                    color=COLORS.get(name, INK))
        for axis, face, share in zip(row[1:], part.faces, part.explained, strict=False):
            reach = np.abs(face).max()
            axis.imshow(face, cmap="RdBu_r", vmin=-reach, vmax=reach)
            axis.set_title(f"{share:.0%}", fontsize=8, fontweight="normal", loc="center", pad=2)
    axes[0, 0].set_title("mean", fontsize=8, fontweight="normal", loc="center", pad=2)
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


# --- notebook 03


def through_depth(networks: Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> Figure:
    """One panel per column of the networks' tables (``titles`` names them), one line per network over its layers.

    Columns that stay within 0..1 in all networks have a linear axis, others a logarithmic one.
    """
    figure, axes = plt.subplots(1, len(titles), figsize=(2.7 * len(titles), 2.9), squeeze=False)
    for axis, (column, title) in zip(axes[0], titles.items(), strict=True):
        for name, table in networks.items():
            series = table[column].replace(0, np.nan) if column != "distinct" else table[column]
            axis.plot(series.dropna().index, series.dropna(), marker="o", ms=2.5, lw=1.2, label=name)
        axis.set(xlabel="layer", title=title)
        if column == "distinct":
            axis.set_ylim(-0.03, 1.03)
        else:
            axis.set_yscale("log")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(networks), fontsize=8)
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


def training_curves(table: pd.DataFrame, names: Mapping[str, str]) -> Figure:
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


# --- notebook 05


def confusion_by_accuracy(table: pd.DataFrame, true: str, predicted: str) -> Figure:
    """A point a row of `confusions.confusion_by_accuracy`, with its interval, coloured by architecture."""
    figure, axis = plt.subplots(figsize=(6.8, 3.6))
    for number, (arch, own) in enumerate(table.groupby("arch")):
        error = [own["value"] - own["low"], own["high"] - own["value"]]
        axis.errorbar(own["accuracy"], own["value"], yerr=error, fmt="o", ms=4, lw=0.8, color=f"C{number}",
                      label=network_name(arch))
    axis.set(xlabel="test accuracy", ylabel=f"{true} called {predicted}", ylim=(0, None))
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.legend(fontsize=9)
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


def rate_changes(table: pd.DataFrame, lower: str, upper: str) -> Figure:
    """The two rates of each confusion in `confusions.rate_changes`, with intervals; ``lower``, ``upper`` name them."""
    return two_rates(table, {"lower": lower, "upper": upper})


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


# --- notebook 06


def failure_gallery(answers: pd.DataFrame, images: torch.Tensor, ids: Sequence[str]) -> Figure:
    """The images ``ids`` of `error_analysis.describe_answers`: label → answer, confidence, support where known."""
    titles = []
    for row in answers.loc[ids].itertuples():
        known = "" if np.isnan(row.support) else f"\nlabel backed {row.support:.0%}"
        titles.append(f"{row.true} →\n{row.predicted}, {row.confidence:.0%}{known}")
    return gallery(images[answers.index.get_indexer(ids)], titles, columns=6, size=1.2)


def attributions(images: torch.Tensor, maps: Mapping[str, torch.Tensor], titles: Sequence[str], columns: int = 2,
                 title: str = "") -> Figure:
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
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
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


# --- methods, notebooks 05 and 06


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
