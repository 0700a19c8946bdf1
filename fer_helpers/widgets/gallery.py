"""Pages of faces that can be clicked, and all that is known of the one that was; `browser` puts filters above them."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable

import matplotlib
import numpy as np
import pandas as pd
import torch
from ipywidgets import HTML, Button, Dropdown, GridBox, HBox, Label, Layout, VBox

from ..analysis.attribution import METHODS, attribute
from ..data.emotions import ACTION_UNITS, VOTE_COLUMNS
from ..data.faceset import FaceSet
from ..inference.pretrained import Pretrained, probabilities
from ..models import base
from ..training.prediction import embed, predict_logits
from ..training.runs import Run
from ..viz.style import COLORS
from .base import Background, Picture, bars, locked

PAGE = 24  # faces
NEIGHBOURS, POOL = 8, 2000  # shown, of so many images: embedding more would take a small machine over half a minute
BATCH = 128  # images answered at a time: half a second on two cores, which a waiting click can bear

Network = Run | Pretrained | None


def attribution_overlay(image: np.ndarray, signed: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): the face, uint8 (H, W), pale under its attribution (H, W), red for the answer, blue against."""
    reach = max(float(np.quantile(np.abs(signed), 0.995)), 1e-12)
    scaled = np.clip(signed / reach, -1, 1)
    color = matplotlib.colormaps["RdBu_r"]((scaled + 1) / 2)[..., :3]
    pale = np.repeat((image[..., None] + 120.0) / 495, 3, axis=2)
    cover = 0.85 * np.abs(scaled)[..., None]
    return (255 * (pale * (1 - cover) + color * cover)).round().astype(np.uint8)


class Tile(GridBox):  # type: ignore[misc]  # ipywidgets has no types
    """A face that can be clicked: a button lies over the picture and carries the caption below it."""

    def __init__(self, pick: Callable[[int], None], side: int = 84) -> None:
        self.row = -1
        self.image = Picture(side, grid_area="face", margin="0")
        self.button = Button(layout=Layout(width=f"{side + 16}px", height=f"{side + 36}px", grid_area="face",
                                           padding=f"{side}px 0 0 0"))
        self.button.style.button_color, self.button.style.font_size = "transparent", "11px"
        self.button.add_class("fer-pick")
        self.button.on_click(lambda _: pick(self.row))
        super().__init__([self.image, self.button], layout=Layout(
            grid_template_areas="'face'", justify_items="center", width=f"{side + 18}px"))
        self.add_class("fer-tile")

    def show(self, row: int, image: torch.Tensor, caption: str, hint: str, color: str) -> None:
        self.row = row
        self.image.show(image.numpy())
        self.button.description, self.button.tooltip = caption, hint
        self.button.layout.border_bottom = f"3px solid {color}"
        self.layout.display = None

    def hide(self) -> None:
        self.row, self.layout.display = -1, "none"

    def mark(self, chosen: int) -> None:
        """Frame the face if it is the ``chosen`` one."""
        (self.add_class if self.row == chosen else self.remove_class)("fer-chosen")


class Gallery(VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Pages of faces, and beside them all that is known of the one that was clicked.

    Parameters
    ----------
    faces, table : of `seen_by` and `face_table`.
    network : answers, attributes and embeds the clicked face.
    empty : what to say where there is no face to show.
    """

    def __init__(self, faces: FaceSet, table: pd.DataFrame, network: Network, empty: str) -> None:
        self.faces, self.table, self.network, self.empty = faces, table, network, empty
        self.rows, self.page, self.chosen = np.zeros(0, int), 0, -1
        self.background, self.search = Background(), Background()
        self.lock, self.using = threading.RLock(), threading.Lock()  # of what is shown; of the network
        self._model: base.Network | None = None
        self._pool: tuple[np.ndarray, np.ndarray] | None = None  # positions and embeddings (POOL, D)
        self.tiles = [Tile(self.select) for _ in range(PAGE)]
        self.back = Button(description="◀ Previous", layout=Layout(width="auto"))
        self.forth = Button(description="Next ▶", layout=Layout(width="auto"))
        self.where = Label()
        self.back.on_click(lambda _: self.turn(self.page - 1))
        self.forth.on_click(lambda _: self.turn(self.page + 1))
        self.large, self.map = Picture(192), Picture(192, display="none")
        self.facts, self.state, self.found = HTML(), HTML(), HTML()
        self.method = Dropdown(options=["none", *METHODS], value="none", description="attribution",
                               style={"description_width": "initial"}, layout=Layout(width="260px"),
                               tooltip="Where the network looks")
        self.near = Button(description="Find the nearest faces", layout=Layout(width="auto", align_self="flex-start"),
                           tooltip=f"Nearest in the network's embedding, among {POOL:,} images")
        self.method.observe(lambda _: self.explain(), "value")
        self.near.on_click(lambda _: self.find_nearest())
        self.neighbours = [Tile(self.select, side=60) for _ in range(NEIGHBOURS)]
        for tile in self.neighbours:
            tile.hide()
        tools = [self.method, self.state, self.near, self.found] if network is not None else []
        grid = HBox(self.tiles, layout=Layout(flex_flow="row wrap", width="100%"))
        self.detail = VBox([HBox([self.large, self.map]), self.facts, *tools, HBox(
            self.neighbours, layout=Layout(flex_flow="row wrap"))],
            layout=Layout(width="404px", padding="0 0 0 12px", display="none"))
        pages = VBox([grid, HBox([self.back, self.where, self.forth])], layout=Layout(flex="1 1 420px"))
        super().__init__([HBox([pages, self.detail], layout=Layout(flex_flow="row wrap"))],
                         layout=Layout(padding="6px 0 0"))

    @locked
    def show(self, rows: np.ndarray) -> None:
        """Page through these positions of the table, from the first page on."""
        self.rows = rows
        self.turn(0)

    @locked
    def turn(self, page: int) -> None:
        """Show a page, the nearest there is; only its own images are encoded."""
        pages = max(1, -(-len(self.rows) // PAGE))
        self.page = min(max(page, 0), pages - 1)
        rows = self.rows[self.page * PAGE:(self.page + 1) * PAGE]
        for place, tile in enumerate(self.tiles):
            self._fill(tile, rows[place]) if place < len(rows) else tile.hide()
        self.back.disabled, self.forth.disabled = self.page == 0, self.page == pages - 1
        count = f"{len(self.rows):,} face{'s' * (len(self.rows) != 1)}"
        self.where.value = f"page {self.page + 1:,} of {pages:,} · {count}" if len(self.rows) else self.empty

    def _fill(self, tile: Tile, row: int, note: str = "") -> None:
        known, name = self.table.iloc[row], self.table.index[row]
        answer = f"→ {known['predicted']} {known['confidence']:.0%}" if known["predicted"] else known["split"]
        tile.show(int(row), self.faces.images[row], f"{known['true']}\n{note or answer}",
                  f"{name}: labelled {known['true']}, {known['split']}", COLORS[known["true"]])
        tile.mark(self.chosen)

    # --- the clicked face

    @locked
    def select(self, row: int) -> None:
        """Show all that is known of one image, and start what has to be computed."""
        self.chosen, known = row, self.table.iloc[row]
        self.background.cancel()
        self.search.cancel()
        self.large.show(self.faces.images[row].numpy(), f"face labelled {known['true']}, enlarged")
        self.map.layout.display, self.detail.layout.display = "none", None
        for tile in self.neighbours:
            tile.hide()
        for tile in self.tiles:
            tile.mark(row)
        self.state.value = self.found.value = ""
        self._describe(None if known["predicted"] == "" else self._stored(row))
        if self.network is not None and (known["predicted"] == "" or self.method.value != "none"):
            self.explain()

    def _stored(self, row: int) -> np.ndarray:
        return np.asarray(self.table.iloc[row][[f"prob_{name}" for name in self.faces.classes]], float)

    def _describe(self, probs: np.ndarray | None) -> None:
        row, known = self.chosen, self.table.iloc[self.chosen]
        lines = [f"<b>{html.escape(self.table.index[row])}</b>: label <b>{known['true']}</b>, {known['split']}"]
        if known["copies"]:
            lines.append(f"{known['copies']} with the same pixels, {known['conflicts']} of them with another label")
        if probs is not None:
            lines.append("the network's probabilities, the label in bold" + bars(
                dict(zip(self.faces.classes, probs, strict=True)), mark=known["true"]))
        if self.faces.votes is not None and not self.faces.votes[row].isnan().any():
            votes = self.faces.votes[row].numpy()
            lines.append(f"votes of {votes.sum():.0f} people" + bars(
                {name: share for name, share in zip(VOTE_COLUMNS, votes / votes.sum(), strict=True) if share},
                mark=known["true"]))
        if self.faces.action_units is not None:
            drawn = zip(ACTION_UNITS.items(), self.faces.action_units[row].tolist(), strict=True)
            lines.append("action units drawn" + bars(
                {f"AU{unit} {what}": value for (unit, what), value in drawn if value >= 0.1}))
        self.facts.value = "".join(f"<div style='margin-bottom:6px'>{line}</div>" for line in lines)

    def explain(self) -> None:
        """Compute the probabilities and, if asked for, the attribution of the answer, in the background."""
        row, method = self.chosen, self.method.value
        if row < 0:
            return
        self.state.value, self.map.layout.display = "computing …", "none"

        def work() -> tuple[np.ndarray, np.ndarray | None]:
            image = self.faces.images[row:row + 1]
            probs = self._stored(row) if self.table.iloc[row]["predicted"] else self.answer(image)[0]
            if method == "none":
                return probs, None
            with self.using:  # hooks of one thread must not see the images of another
                signed = attribute(self.model(), image, torch.tensor([int(probs.argmax())]), method)
            return probs, attribution_overlay(image[0].numpy(), signed[0].numpy())

        def show(found: tuple[np.ndarray, np.ndarray | None]) -> None:
            probs, overlay = found
            self._describe(probs)
            self.state.value = ""
            if overlay is not None:
                said = f"{method}: red speaks for {self.faces.classes[probs.argmax()]}, blue against"
                self.map.show(overlay, said)
                self.map.layout.display, self.state.value = None, said

        self.background.start(work, show, lambda why: self._fail(self.state, why))

    def find_nearest(self) -> None:
        """Find the images nearest to the clicked one in the network's embedding, in the background."""
        row = self.chosen
        if row < 0:
            return
        self.found.value = "computing …"

        def work() -> tuple[np.ndarray, np.ndarray]:
            rows, embedded = self._embedded()
            with self.using:
                distance = np.linalg.norm(embedded - embed(self.model(), self.faces.images[row:row + 1]), axis=1)
            order = np.argsort(distance, kind="stable")
            order = order[rows[order] != row][:NEIGHBOURS]
            return rows[order], distance[order]

        def show(found: tuple[np.ndarray, np.ndarray]) -> None:
            for tile, near, distance in zip(self.neighbours, *found, strict=False):
                self._fill(tile, near, f"{self.table['split'].iloc[near]} · {distance:.1f}")
            assert self._pool is not None
            self.found.value = f"nearest of {len(self._pool[0]):,} images, with their distance"

        self.search.start(work, show, lambda why: self._fail(self.found, why))

    def _embedded(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and embeddings of the images among which neighbours are sought; computed once."""
        if self._pool is None:
            rows = np.sort(np.random.default_rng(0).permutation(len(self.faces))[:POOL])
            parts = []
            for part in np.array_split(rows, -(-len(rows) // BATCH)):
                with self.using:
                    parts.append(embed(self.model(), self.faces.images[part]))
                self.found.value = f"computing … {BATCH * len(parts) / len(rows):.0%} of the embeddings"
            self._pool = rows, np.concatenate(parts)
        return self._pool

    @staticmethod
    def _fail(line: HTML, why: str) -> None:
        line.value = html.escape(why)

    def model(self) -> base.Network:
        """The network, read when it is first needed; `FerError` if a recorded run was kept without its weights."""
        assert self.network is not None  # no button that needs one is shown without it
        if self._model is None:
            self._model = self.network.model() if isinstance(self.network, Run) else self.network.model
        return self._model

    def answer(self, images: torch.Tensor) -> np.ndarray:
        """float64 (N, C): what the network says of uint8 images (N, 48, 48)."""
        assert self.network is not None
        with self.using:
            if isinstance(self.network, Pretrained):
                return probabilities(self.network, images)
            return predict_logits(self.model(), images, tta=self.network.config.tta).double().softmax(1).numpy()
