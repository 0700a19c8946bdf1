"""What the explorers of JupyterLab share: pictures, bars and curves that cost little, work in the background, and the
figure that stands in for them where no kernel runs. The explorers are in `browser`, `studio`, `monitor`, `comparer`."""

from __future__ import annotations

import base64
import html
import io
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from ipywidgets import VBox
from matplotlib.figure import Figure
from PIL import Image

from .plots import ACCENT, COLORS

Result = TypeVar("Result")

#: Rules that no trait of a widget can state. A transparent button lies over each face, its text below the picture.
STYLE = """<style>
img.fer-face { image-rendering: pixelated; object-fit: contain; }
.fer-tile button.fer-pick { white-space: pre-line; line-height: 1.2; overflow: hidden; margin: 0; z-index: 1; }
.fer-tile button.fer-pick:hover, .fer-tile button.fer-pick:focus { outline: 2px solid #0072b2; box-shadow: none; }
</style>"""


class Explorer(VBox):
    """A widget that carries a figure for pages without a kernel: the report, a code host, a printed page."""

    #: What the figure shows, for readers of text.
    summary = ""

    def figure(self) -> Figure:
        """The explorer as a static figure."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        figure, buffer = self.figure(), io.BytesIO()
        figure.savefig(buffer, format="png")
        plt.close(figure)  # or the inline backend would show it once more
        bundle = {"text/plain": self.summary, "image/png": base64.b64encode(buffer.getvalue()).decode()}
        # Front ends that know widgets prefer them to pictures and say "model not found" where the kernel is gone. So a
        # notebook that is executed in bulk, with nobody to move a slider, keeps the picture alone.
        return (super()._repr_mimebundle_(**options) | bundle) if somebody_watches() else bundle


def somebody_watches() -> bool:
    """Whether the running cell was sent by a front end with a person before it, who could answer ``input()``; also
    True outside of a kernel. nbclient, and so papermill and nbconvert, say that nobody can."""
    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is None or bool(kernel.get_parent("shell").get("content", {}).get("allow_stdin", True))


class Background:
    """Work that would hold the kernel: one job at a time, in a thread; only the newest may show its result."""

    def __init__(self) -> None:
        self._turn, self._newest, self._thread = threading.Lock(), object(), None

    def start(self, work: Callable[[], Result], show: Callable[[Result], None], fail: Callable[[str], None]) -> None:
        """Run ``work`` in a thread, then ``show`` its result or ``fail`` with a sentence, unless a newer job came."""
        self._newest = mine = object()

        def run() -> None:
            with self._turn:
                if self._newest is not mine:
                    return
                try:
                    result = work()
                except Exception as error:  # nobody would see it: a thread has no cell to print below
                    if self._newest is mine:
                        fail(str(error) or type(error).__name__)
                    return
                if self._newest is mine:
                    show(result)

        # A daemon: leaving Python must not wait for an answer that nobody will see.
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Let no job that was started so far show anything."""
        self._newest = object()

    def wait(self, seconds: float = 60) -> None:
        """Return when the newest job is done."""
        if self._thread:
            self._thread.join(seconds)


def png(image: np.ndarray) -> bytes:
    """A picture, uint8 (H, W) or (H, W, 3), as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def bars(values: Mapping[str, float], colors: Mapping[str, str] = COLORS, mark: str = "") -> str:
    """HTML of a row for each of ``values`` (0..1): name, bar, percent; the row ``mark`` in bold."""
    rows = []
    for name, value in values.items():
        weight = "bold" if name == mark else "normal"
        rows.append(
            f"<div style='display:flex;align-items:center;line-height:1.5;font-weight:{weight}'>"
            f"<span style='width:9.5em;text-align:right;padding-right:.6em'>{html.escape(name)}</span>"
            f"<span style='flex:1;background:rgba(128,128,128,.15)'><span style='display:block;height:.9em;"
            f"width:{100 * value:.1f}%;background:{colors.get(name, ACCENT)}'></span></span>"
            f"<span style='width:3.2em;text-align:right'>{value:.0%}</span></div>")
    return f"<div style='font-size:12px'>{''.join(rows)}</div>"


def curves(title: str, series: Mapping[str, tuple[Sequence[float], str]], length: int) -> str:
    """SVG of one panel: curves over the epochs 1 to ``length``, by name their values and colour, named below.

    Drawn by hand because pyplot belongs to the thread of the cells, and takes a hundred times as long.
    """
    width, height, left, right, top, bottom = 360, 190, 42, 12, 26, 40
    known = np.concatenate([np.asarray(values, float) for values, _ in series.values()] or [np.zeros(0)])
    known = known[np.isfinite(known)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    low, high = (low - 0.05, high + 0.05) if high - low < 1e-9 else (low, high)

    def x(epoch: float) -> float:
        return left + (width - left - right) * (epoch - 1) / max(length - 1, 1)

    def y(value: float) -> float:
        return top + (height - top - bottom) * (high - value) / (high - low)

    parts = [f"<text x='{left}' y='15' font-weight='bold'>{html.escape(title)}</text>"]
    for value in np.linspace(low, high, 4):
        parts.append(f"<line x1='{left}' x2='{width - right}' y1='{y(value):.1f}' y2='{y(value):.1f}' stroke='#8884'/>"
                     f"<text x='{left - 5}' y='{y(value) + 4:.1f}' text-anchor='end'>{value:.2f}</text>")
    for epoch in np.unique(np.linspace(1, length, min(length, 6)).round().astype(int)):
        parts.append(f"<text x='{x(epoch):.1f}' y='{height - bottom + 15}' text-anchor='middle'>{epoch}</text>")
    at = left
    for name, (values, color) in series.items():
        points = " ".join(f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in enumerate(values, 1)
                          if np.isfinite(value))
        dots = "".join(f"<circle cx='{x(epoch):.1f}' cy='{y(value):.1f}' r='2.5' fill='{color}'/>"
                       for epoch, value in enumerate(values, 1) if np.isfinite(value))
        parts.append(f"<polyline points='{points}' fill='none' stroke='{color}' stroke-width='2'/>{dots}"
                     f"<text x='{at}' y='{height - 6}' fill='{color}' font-weight='bold'>{html.escape(name)}</text>")
        at += 7 * len(name) + 18
    return (f"<svg width='{width}' height='{height}' role='img' aria-label='{html.escape(title)}' font-size='11' "
            f"style='font-family:sans-serif' fill='currentColor'>{''.join(parts)}</svg>")
