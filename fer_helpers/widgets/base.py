"""What the explorers of JupyterLab share: pictures, bars and curves that cost little, work in the background, and the
figure that stands in for them where no kernel runs. The explorers are in `browser`, `face_editor`, `monitor`,
`comparer`."""

from __future__ import annotations

import base64
import functools
import html
import io
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from ipywidgets import HTML, Layout, VBox, Widget
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ..viz.style import ACCENT, COLORS

Result = TypeVar("Result")
_TEXT = "#010203"  # of text in `curves`, for the colour of the page's own text

#: The arrow of a menu, pale: that of ipywidgets is black, which a dark page swallows.
_ARROW = ("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 18 18'%3E"
          "%3Cpath d='M5 7l4 4 4-4' fill='none' stroke='%23ddd' stroke-width='2'/%3E%3C/svg%3E")

#: Rules that no trait of a widget can state. A transparent button lies over each face, its text below the picture.
STYLE = f"""<style>
img.fer-face {{ display: block; image-rendering: pixelated; object-fit: contain; }}
.fer-tile button.fer-pick {{ white-space: pre-line; line-height: 1.2; overflow: hidden; margin: 0; z-index: 1; }}
.fer-tile button.fer-pick:hover, .fer-tile button.fer-pick:focus {{ outline: 2px solid #56a8dc; box-shadow: none; }}
.fer-explorer .jupyter-widget-tab > .lm-TabBar .lm-TabBar-tab {{ color: var(--jp-ui-font-color1); }}
.fer-tile.fer-chosen button.fer-pick {{ outline: 2px solid #d55e00; outline-offset: -2px; }}
[data-jp-theme-light="false"] .fer-explorer {{ --jp-widgets-dropdown-arrow: url("{_ARROW}"); }}
</style>"""


def locked(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that works alone: it holds ``self.lock``, which is a reentrant lock. A kernel may answer clicks in a
    thread beside that of the cells, and would page through one choice of faces while another is being made."""
    @functools.wraps(method)
    def alone(self: Any, *args: Any, **options: Any) -> Any:
        with self.lock:
            return method(self, *args, **options)

    return alone


class Explorer(VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A widget that carries a figure for pages without a kernel: the report, a code host, a printed page."""

    #: What the figure shows, for readers of text.
    summary = ""

    def __init__(self, children: Sequence[Widget]) -> None:
        super().__init__([HTML(STYLE, layout=Layout(display="none")), *children])
        self.add_class("fer-explorer")
        self.lock = threading.RLock()

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
        self._turn, self._showing = threading.Lock(), threading.RLock()
        self._newest = object()
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[], Result], show: Callable[[Result], None], fail: Callable[[str], None]) -> None:
        """Run ``work`` in a thread, then ``show`` its result or ``fail`` with a sentence, unless a newer job came."""
        self.cancel()
        mine = self._newest

        def run() -> None:
            with self._turn:
                if self._newest is not mine:
                    return
                try:
                    told = functools.partial(show, work())
                except Exception as error:  # nobody would see it: a thread has no cell to print below
                    told = functools.partial(fail, str(error) or type(error).__name__)
                with self._showing:
                    if self._newest is mine:
                        told()

        # A daemon: leaving Python must not wait for an answer that nobody will see.
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Let no job that was started so far show anything from now on; one that is at it ends first."""
        with self._showing:
            self._newest = object()

    def wait(self, seconds: float = 60) -> None:
        """Return when the newest job is done."""
        if self._thread:
            self._thread.join(seconds)


class Picture(HTML):  # type: ignore[misc]  # ipywidgets has no types
    """A picture in so many pixels a side, with a description: the Image of ipywidgets cannot be given one."""

    def __init__(self, side: int, **layout: str) -> None:
        self.side = side
        super().__init__(layout=Layout(width=f"{side}px", height=f"{side}px", **layout))

    def show(self, image: np.ndarray, said: str = "") -> None:
        """Show uint8 (H, W) or (H, W, 3); ``said`` is read to those who do not see it, nothing if text is beside."""
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "png", compress_level=1)
        # Decoded at once: otherwise the place is empty for a moment whenever a slider moves.
        self.value = (f"<img class='fer-face' width='{self.side}' height='{self.side}' decoding='sync' "
                      f"alt='{html.escape(said)}' src='data:image/png;base64,"
                      f"{base64.b64encode(buffer.getvalue()).decode()}'>")


def text_on(color: str) -> str:
    """Black or white, whichever is easier to read on ``color``: the contrast is never below 4.5 (WCAG 2, 1.4.3)."""
    channels = np.array(to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "white"


def bars(values: Mapping[str, float], colors: Mapping[str, str] = COLORS, mark: str = "") -> str:
    """HTML of a row for each of ``values`` (0..1): name, bar, percent; the row ``mark`` in bold."""
    rows = []
    for name, value in values.items():
        weight = "bold" if name == mark else "normal"
        rows.append(
            f"<span style='text-align:right;font-weight:{weight}'>{html.escape(name)}</span>"
            f"<span style='background:rgba(128,128,128,.2)'><span style='display:block;height:.9em;"
            f"width:{100 * value:.1f}%;background:{colors.get(name, ACCENT)}'></span></span>"
            f"<span style='text-align:right;font-weight:{weight}'>{value:.0%}</span>")
    return ("<div style='display:grid;grid-template-columns:minmax(6em,max-content) 1fr 2.6em;column-gap:.6em;"
            f"align-items:center;line-height:1.5;font-size:12px'>{''.join(rows)}</div>")


def curves(title: str, series: Mapping[str, tuple[Sequence[float], str]], length: int) -> str:
    """SVG of one panel: curves over the epochs 1 to ``length``, by name their values and colour, explained below.

    Not by pyplot, which belongs to the thread of the cells. Each curve has the id "title: name".
    """
    figure, buffer = Figure((4.2, 2.4)), io.StringIO()
    figure.set_layout_engine("none")  # to find a layout takes as long as to draw
    axis = figure.add_axes((0.12, 0.24, 0.84, 0.64))
    for name, (values, color) in series.items():
        known = np.where(np.isfinite(values), values, np.nan)
        axis.plot(range(1, len(known) + 1), known, color=color, marker="o", ms=3, clip_on=False, label=name,
                  gid=f"{title}: {name}")
    axis.set_xlim(1, max(length, 2))
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.tick_params(colors=_TEXT, labelsize=8, length=3)
    axis.spines[:].set_visible(False)
    axis.grid(axis="y", color="#888888", alpha=0.3)
    axis.set_title(title, loc="left", fontsize=9, fontweight="bold", color=_TEXT)
    if series:
        figure.legend(loc="lower left", ncols=len(series), fontsize=8, frameon=False, labelcolor=_TEXT)
    figure.savefig(buffer, format="svg", transparent=True)
    # Dark on a light page, light on a dark one.
    svg = buffer.getvalue().partition("<svg ")[2].replace(_TEXT, "currentColor")
    return f"<svg role='img' aria-label='{html.escape(title)}' {svg}"
