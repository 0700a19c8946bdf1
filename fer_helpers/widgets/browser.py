"""Faces to look through in JupyterLab: `face_browser` with filters, and `confusion_browser`, whose cells open images.

What a filter chooses is decided by plain functions, `face_table` and `filter_faces`; the widgets show it.
"""

from __future__ import annotations

import html
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from ipywidgets import (
    HTML,
    Button,
    Dropdown,
    FloatProgress,
    FloatRangeSlider,
    GridBox,
    HBox,
    Label,
    Layout,
    Text,
    Widget,
)
from matplotlib.figure import Figure

from ..analysis.dataset_statistics import human_agreement
from ..data.faceset import SPLITS, FaceSet
from ..files import FerError
from ..training.runs import Run
from ..viz import class_confusions, plots
from .base import Background, Explorer, locked, text_on
from .gallery import BATCH, PAGE, Gallery, Network

ANY = "any"
ANSWERS = (ANY, "right", "wrong", "not asked")
COPIES = (ANY, "none", "has a copy", "a copy has another label")
ORDERS = ("as stored", "surest first", "least sure first", "most agreed first", "least agreed first")


# --- What is known and what is chosen ---------------------------------------------------------------------------------


def seen_by(faces: FaceSet, network: Network) -> FaceSet:
    """The class view that ``network`` knows, all of ``faces`` for None.

    Raises
    ------
    FerError
        If a run was trained on other data: its answers are stored by image.
    """
    if network is None:
        return faces
    if isinstance(network, Run):
        known = network.environment.get("data_fingerprint")
        if known is not None and known != faces.fingerprint:
            raise FerError(f"{network.name}: was trained on other data than {faces.source}; give the faces of that "
                           "run, or pretrained.load_network of it in its place")
    return faces.with_classes(network.config.classes)


def face_table(faces: FaceSet, network: Network = None) -> pd.DataFrame:
    """What is known of each image, in the order of ``faces``, which `seen_by` gives.

    Returns
    -------
    Data frame indexed by image id: split ("val" where the run held the image out for validation), true; predicted,
    confidence and prob_<class> of a run's stored answers ("" and NaN where there is none); agreement, the share of
    human votes for the label (NaN where unknown); copies, the other images with the same pixels, and conflicts, those
    of them with another label.
    """
    labels, groups, count = faces.labels.numpy(), faces.groups, len(faces.classes)
    alike = np.bincount(groups)[groups]
    _, place, same = np.unique(groups * count + labels, return_inverse=True, return_counts=True)
    table = pd.DataFrame({
        "split": faces.split, "true": np.array(faces.classes)[labels],
        "agreement": np.nan if faces.votes is None else human_agreement(faces),
        "copies": alike - 1, "conflicts": alike - same[place]}, index=pd.Index(faces.ids, name="id"))
    columns = ["predicted", "confidence", *(f"prob_{name}" for name in faces.classes)]
    if isinstance(network, Run):
        stored = network.predictions.set_index("id")
        table = table.join(stored[columns])
        table["split"] = stored["split"].reindex(table.index).fillna(table["split"])
    table = table.reindex(columns=[*table.columns.difference(columns, sort=False), *columns])
    return table.astype({"predicted": object}).fillna({"predicted": ""})


def filter_faces(table: pd.DataFrame, split: str = ANY, true: str = ANY, predicted: str = ANY, answer: str = ANY,
                 confidence: tuple[float, float] = (0, 1), agreement: tuple[float, float] = (0, 1), copies: str = ANY,
                 name: str = "", order: str = "as stored") -> np.ndarray:
    """Which rows of a `face_table` fit.

    Parameters
    ----------
    split, true, predicted : a split or class, or "any".
    answer, copies, order : one of `ANSWERS`, `COPIES`, `ORDERS`; images without the value that orders come last.
    confidence, agreement : ends of the range, both included; (0, 1) also keeps images of which it is not known.
    name : part of the image's id, in any case.

    Returns
    -------
    int64 (M,), positions.

    Raises
    ------
    FerError
        If ``answer``, ``copies`` or ``order`` is unknown.
    """
    for key, value, allowed in (("answer", answer, ANSWERS), ("copies", copies, COPIES), ("order", order, ORDERS)):
        if value not in allowed:
            raise FerError(f"{key}={value!r} is unknown; choose one of {', '.join(allowed)}")
    keep = np.ones(len(table), dtype=bool)
    for column, wanted in (("split", split), ("true", true), ("predicted", predicted)):
        if wanted != ANY:
            keep &= (table[column] == wanted).to_numpy()
    asked, right = (table["predicted"] != "").to_numpy(), (table["predicted"] == table["true"]).to_numpy()
    keep &= {ANY: True, "right": right, "wrong": asked & ~right, "not asked": ~asked}[answer]
    for column, ends in (("confidence", confidence), ("agreement", agreement)):
        if tuple(ends) != (0, 1):
            keep &= table[column].between(*ends).to_numpy()
    alike, conflicts = table["copies"].to_numpy(), table["conflicts"].to_numpy()
    keep &= {ANY: True, "none": alike == 0, "has a copy": alike > 0, "a copy has another label": conflicts > 0}[copies]
    if name:
        keep &= table.index.str.contains(name, case=False, regex=False)
    rows = np.flatnonzero(keep)
    if order == "as stored":
        return rows
    value = table["confidence" if "sure" in order else "agreement"].to_numpy(float)[rows]
    return rows[np.argsort(value if order.startswith("least") else -value, kind="stable")]


# --- The explorers ----------------------------------------------------------------------------------------------------


class FaceBrowser(Explorer):
    """`face_browser`: ``filters`` by the name of an argument of `filter_faces`, over a ``gallery``."""

    def __init__(self, faces: FaceSet, network: Network = None, **choice: object) -> None:
        view = seen_by(faces, network)
        table = face_table(view, network)
        self.gallery, self.work = Gallery(view, table, network, "No face fits; widen a filter."), Background()
        self.filters = _filter_widgets(table, view.classes)
        for name, value in choice.items():
            self.filters[name].value = value
        for widget in self.filters.values():
            widget.observe(lambda _: self.refresh(), "value")
        self.ask = Button(description="Ask the network about every image", layout=Layout(width="auto"),
                          tooltip="Then the filters by answer and confidence cover all of them")
        self.progress = FloatProgress(max=1, layout=Layout(width="160px", visibility="hidden"))
        self.note = HTML()
        self.ask.on_click(lambda _: self.ask_all())
        above = [HBox(list(self.filters.values()), layout=Layout(flex_flow="row wrap"))]
        if network is not None:
            above.append(HBox([self.ask, self.progress, self.note]))
        self.summary = f"{len(view):,} faces of {view.source} to look through; the picture shows some."
        super().__init__([*above, self.gallery])
        self.refresh()

    def choice(self) -> dict[str, Any]:
        """What the filters say, as arguments of `filter_faces`."""
        return {name: widget.value for name, widget in self.filters.items()}

    @locked
    def refresh(self) -> None:
        """Show what the filters choose."""
        self.gallery.show(filter_faces(self.gallery.table, **self.choice()))

    def ask_all(self) -> None:
        """Answer every image in the background."""
        gallery, self.ask.disabled, self.progress.layout.visibility = self.gallery, True, "visible"

        def work() -> np.ndarray:
            parts = []
            for images in gallery.faces.images.split(BATCH):
                parts.append(gallery.answer(images))
                self.progress.value = len(parts) * BATCH / len(gallery.faces)
            return np.concatenate(parts)

        def show(probs: np.ndarray) -> None:
            names = np.array(gallery.faces.classes)
            gallery.table = gallery.table.assign(
                predicted=names[probs.argmax(1)], confidence=probs.max(1),
                **{f"prob_{name}": probs[:, number] for number, name in enumerate(names)})
            self.progress.layout.visibility, self.note.value = "hidden", f"{len(probs):,} images answered"
            self.refresh()

        def fail(why: str) -> None:
            self.ask.disabled, self.progress.layout.visibility, self.note.value = False, "hidden", html.escape(why)

        self.work.start(work, show, fail)

    def figure(self) -> Figure:
        rows = self.gallery.rows[:PAGE]
        known = self.gallery.table.iloc[rows]
        titles = [f"{true}\n→ {answer}" if answer else true
                  for true, answer in zip(known["true"], known["predicted"], strict=True)]
        return plots.gallery(self.gallery.faces.images[rows], titles, title=f"{len(self.gallery.rows):,} faces of "
                             f"{self.gallery.faces.source}; open the notebook in JupyterLab to look through them")


def face_browser(faces: FaceSet, network: Network = None, **choice: object) -> FaceBrowser:
    """Look through a data set: filter by split, class, answer, confidence, agreement and copies; click for everything
    that is known of a face.

    Parameters
    ----------
    faces : the whole data set, as `readers.load_faces` returns it.
    network : a run, whose stored answers are shown; a network of `loading.load_network`, which answers the faces
        that are clicked, or all on demand; or None.
    choice : arguments of `filter_faces` that the filters start with.

    Raises
    ------
    FerError
        If the run was trained on other data.
    """
    return FaceBrowser(faces, network, **choice)


class ConfusionBrowser(Explorer):
    """`confusion_browser`: ``cells`` by (true, predicted), over a ``gallery``."""

    def __init__(self, run: Run, faces: FaceSet, split: str = "test") -> None:
        view = seen_by(faces, run)
        self.scores, self.split = run.metrics[split], split
        self.gallery = Gallery(view, face_table(view, run), run, "No image was answered so.")
        names, totals = self.scores.classes, self.scores.confusion.sum(1)
        self.cells = {(true, answer): self._cell(true, answer) for true in names for answer in names}
        head = [Label("true ↓ answered →"), *(Label(name, layout=Layout(width="auto", justify_content="center"))
                                              for name in names)]
        rows = [widget for true, total in zip(names, totals, strict=True) for widget in (
            Label(f"{true} ({total:,})"), *(self.cells[true, answer] for answer in names))]
        self.title = HTML("Choose a cell to see the images behind it.")
        self.summary = f"Confusion matrix of {run.name}, {self.scores.count:,} {split} images; cells open their images."
        super().__init__([GridBox([*head, *rows], layout=Layout(
            grid_template_columns=f"140px repeat({len(names)}, 92px)", align_items="center")),
            self.title, self.gallery])
        self.gallery.layout.display = "none"

    def _cell(self, true: str, answer: str) -> Button:
        names, rate = self.scores.classes, self.scores.rate(true, answer)
        count = self.scores.confusion[names.index(true), names.index(answer)]
        cell = Button(description=f"{rate.value:.0%} · {count:,}",
                      layout=Layout(width="90px", height="34px", margin="1px"),
                      tooltip=f"{true} called {answer}: {rate.percent} of the class, {count:,} images")
        cell.style.button_color = matplotlib.colors.to_hex(matplotlib.colormaps["Blues"](0.8 * rate.value))
        cell.style.text_color = text_on(cell.style.button_color)
        cell.on_click(lambda _: self.open_cell(true, answer))
        return cell

    @locked
    def open_cell(self, true: str, answer: str) -> None:
        """Show the images of one cell, the surest answers first."""
        for place, cell in self.cells.items():
            cell.layout.border = "2px solid #d55e00" if place == (true, answer) else None
        rate = self.scores.rate(true, answer)
        self.title.value = (f"<b>{true}</b> called <b>{answer}</b>: {rate.percent} of the {self.split} images of "
                            f"{true}, surest first")
        self.gallery.layout.display = None
        self.gallery.show(filter_faces(self.gallery.table, split=self.split, true=true, predicted=answer,
                                       order="surest first"))

    def figure(self) -> Figure:
        return class_confusions.confusion(self.scores)


def confusion_browser(run: Run, faces: FaceSet, split: str = "test") -> ConfusionBrowser:
    """A confusion matrix whose cells open the images behind them.

    Parameters
    ----------
    run : a finished run.
    faces : the whole data set that it was trained on.
    split : "test" or "val".

    Raises
    ------
    FerError
        If the run was trained on other data.
    """
    return ConfusionBrowser(run, faces, split)


def _filter_widgets(table: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, Widget]:
    """A widget for each argument of `filter_faces` that ``table`` has values for, or may get."""
    style, narrow, wide = {"description_width": "initial"}, Layout(width="200px"), Layout(width="340px")

    def menu(name: str, options: tuple[str, ...], hint: str) -> Dropdown:
        return Dropdown(options=options, description=name, style=style, layout=narrow, tooltip=hint)

    def slider(name: str, hint: str) -> FloatRangeSlider:
        return FloatRangeSlider(value=(0, 1), min=0, max=1, step=0.01, description=name, style=style, layout=wide,
                                readout_format=".0%", tooltip=hint)

    emotions = (ANY, *classes)
    found = {
        "split": menu("split", (ANY, *(split for split in SPLITS if split in set(table["split"]))), "Part of the data"),
        "true": menu("label", emotions, "The label of the image"),
        "predicted": menu("answer", emotions, "What the network answered"),
        "answer": menu("which is", ANSWERS, "Whether the answer is the label"),
        "copies": menu("copies", COPIES, "Other images with exactly the same pixels"),
        "order": menu("order", ORDERS, "Which faces come first"),
        "confidence": slider("confidence", "The probability of the answer"),
        "agreement": slider("people agree", "The share of human votes for the label"),
        "name": Text(description="name has", placeholder="part of an image's name", style=style, layout=wide,
                     continuous_update=False)}
    if table["agreement"].isna().all():
        del found["agreement"]
        found["order"].options = ORDERS[:3]
    return found
