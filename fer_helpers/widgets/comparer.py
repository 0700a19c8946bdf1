"""Two runs side by side in JupyterLab: `run_comparer`. The statistics are those of `runs` and `evaluation`."""

from __future__ import annotations

import html
from pathlib import Path

import pandas as pd
from ipywidgets import HTML, Dropdown, HBox, Layout, VBox
from matplotlib.figure import Figure

from ..files import FerError
from ..metrics.intervals import Estimate
from ..training.config import TrainConfig
from ..training.runs import Run, compare_runs, default_store, load_runs
from ..viz import comparisons, plots
from ..viz.style import COLORS
from .base import Explorer, curves, locked

COLORS_OF_TWO = (COLORS["sadness"], COLORS["anger"])  # told apart in the common forms of colour blindness


def differing_settings(first: Run, second: Run) -> pd.DataFrame:
    """The settings in which two runs differ, a row each, indexed by name: first, second."""
    one, other = first.config.to_dict(), second.config.to_dict()
    rows = {name: (one[name], other[name]) for name in TrainConfig.__dataclass_fields__ if one[name] != other[name]}
    # Objects, or 2 epochs become 2.0 beside a learning rate.
    return pd.DataFrame(rows.values(), index=[*rows], columns=["first", "second"], dtype=object).rename_axis(
        columns="setting")


def score_table(first: Run, second: Run, split: str = "test") -> pd.DataFrame:
    """Scores of two runs with their intervals, a row each: first, second, each an `intervals.Estimate`."""
    scores = [run.metrics[split] for run in (first, second)]
    rows = {"accuracy": [one.accuracy for one in scores], "macro F1": [one.macro_f1 for one in scores],
            "calibration error": [one.ece for one in scores], "always the majority": [one.majority for one in scores]}
    shared = [name for name in scores[0].classes if name in scores[1].classes]
    rows |= {f"recall of {name}": [one.recall[name] for one in scores] for name in shared}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["first", "second"])


def paired_difference(first: Run, second: Run) -> str:
    """`runs.compare_runs` in a sentence, or why the two cannot be compared."""
    try:
        paired = compare_runs(first, second)
    except FerError as error:
        return str(error)
    gain = Estimate(*(100 * end for end in (paired.difference.value, paired.difference.low, paired.difference.high)))
    return (f"On the same test images the first is right more often by {gain.value:+.1f} points [{gain.low:+.1f}, "
            f"{gain.high:+.1f}]: {paired.only_first:,} images only the first gets right, {paired.only_second:,} only "
            f"the second (McNemar p = {paired.p_value:.2g}).")


class RunComparer(Explorer):
    """`run_comparer`: menus ``first`` and ``second`` over the runs of a store, by name."""

    def __init__(self, runs: Path | str | pd.DataFrame | None = None) -> None:
        self.table = runs if isinstance(runs, pd.DataFrame) else load_runs(runs)
        if self.table.empty:
            where = "the table" if isinstance(runs, pd.DataFrame) else Path(runs or default_store()).name
            raise FerError(f"{where}: holds no finished run to compare; train two with fer train")
        names = list(self.table.sort_values("test_accuracy", ascending=False).index)
        options = [(f"{self.table['test_accuracy'][name]:.1%}  {name}", name) for name in names]
        self.first, self.second = (
            Dropdown(options=options, value=names[min(place, len(names) - 1)], description=title,
                     layout=Layout(width="430px"), tooltip=f"The {title} run, most accurate on top")
            for place, title in enumerate(("first", "second")))
        for menu in (self.first, self.second):
            menu.observe(lambda _: self.refresh(), "value")
        self.sentence, self.scores, self.settings, self.curves = HTML(), HTML(), HTML(), HTML()
        self.summary = f"{len(self.table)} finished runs to compare, two at a time."
        super().__init__([HBox([self.first, self.second], layout=Layout(flex_flow="row wrap")), self.sentence, HBox(
            [self.scores, VBox([self.settings, self.curves])], layout=Layout(flex_flow="row wrap"))])
        self.refresh()

    @locked
    def refresh(self) -> None:
        """Compare the two runs that the menus name."""
        first, second = (self.table["run"][menu.value] for menu in (self.first, self.second))
        self.sentence.value = html.escape(paired_difference(first, second))
        self.scores.value = _html(score_table(first, second).map(lambda value: value.percent))
        changed = differing_settings(first, second)
        self.settings.value = _html(changed.map(str)) if len(changed) else "The same settings."
        histories = [run.history for run in (first, second)]
        self.curves.value = curves("validation accuracy by epoch", {
            title: (history["val_accuracy"], color) for title, history, color in
            zip(("first", "second"), histories, COLORS_OF_TWO, strict=True)}, max(map(len, histories)))

    def figure(self) -> Figure:
        named = self.table.assign(run_id=self.table.index).sort_values("test_accuracy", ascending=False).head(20)
        return plots.set_title(comparisons.accuracies(named, "run_id"), self.summary)


def run_comparer(runs: Path | str | pd.DataFrame | None = None) -> RunComparer:
    """Compare two runs: settings that differ, scores with intervals, the paired difference on the same images,
    validation curves.

    Parameters
    ----------
    runs : folder of runs, or a `runs.run_table`; None takes `runs.default_store`.

    Raises
    ------
    FerError
        If there is no finished run.
    """
    return RunComparer(runs)


def _html(table: pd.DataFrame) -> str:
    return str(table.to_html(border=0, justify="left", classes="jp-RenderedHTMLCommon"))
