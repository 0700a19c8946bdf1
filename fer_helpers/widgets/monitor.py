"""A training to watch from JupyterLab while it goes on: `training_monitor`.

The training runs in a process of its own, never in a thread of the kernel: a thread would share torch's random state
with the cells that run meanwhile, and the run would no longer be the one that its configuration promises. So it makes
no difference who trains, the kernel or ``fer train`` in a terminal: the monitor reads the run's folder.
"""

from __future__ import annotations

import html
import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
from ipywidgets import HTML, Button, HBox, IntProgress, Layout
from matplotlib.figure import Figure

from ..data.faceset import FaceSet
from ..files import FerError, printable, read_json, write_json
from ..training.checkpoints import read_history
from ..training.config import TrainConfig
from ..training.runs import RETRAIN, Run, default_store, run_id, train_run
from ..viz import plots, training
from ..viz.style import ACCENT, BASELINE
from .base import Explorer, curves, locked

EVERY_SECONDS = 0.5  # between two looks into the folder


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a run has come: its epochs so far (`trainer.Fitted.history`), whether it is finished, why it failed."""

    history: pd.DataFrame
    finished: bool
    error: str = ""


def read_progress(folder: Path) -> Progress:
    """What a run's folder tells, whoever trains it; nothing yet if there is no such folder."""
    if (run := Run(folder)).finished:
        return Progress(run.history, True)
    failure = folder / "failure.json"
    said = read_json(failure, RETRAIN) if failure.exists() else {}
    error = str(said.get("error", "")) if isinstance(said, dict) else str(said)
    return Progress(pd.DataFrame(read_history(folder / "checkpoint.pt")), False, printable(error))


class TrainingMonitor(Explorer):
    """`training_monitor`: buttons ``train``, ``follow``, ``stop``, a ``bar`` of epochs, ``status`` and ``curves``."""

    def __init__(self, config: TrainConfig, faces: FaceSet, store: Path | str | None = None) -> None:
        self.config, self.faces = config, faces
        self.folder = Path(store or default_store()) / run_id(config, faces)
        self.progress = Progress(pd.DataFrame(), False)
        self._process: BaseProcess | None = None
        self._watcher: threading.Thread | None = None
        self._watching, self._since = False, 0.0
        self.train = _button("Train here", "play", "Train this run in a process of its own, or go on with it",
                             self.start)
        self.follow = _button("Follow", "eye", "Watch this run while another process trains it, as fer train does",
                              self.watch)
        self.stop = _button("Stop", "stop", "End the training; it goes on from its last whole epoch when asked again",
                            self.halt)
        self.bar = IntProgress(max=config.epochs, layout=Layout(width="240px"))
        self.status, self.curves = HTML(), HTML()
        self.summary = f"Training of {self.folder.name}: loss and accuracy by epoch."
        super().__init__([HTML(f"<code>{html.escape(config.command())}</code>"),
                          HBox([self.train, self.follow, self.stop, self.bar]), self.status, self.curves])
        self.refresh()

    def start(self) -> None:
        """Train in a process of its own, and watch."""
        if self._process and self._process.is_alive():
            return
        # Pickled here: multiprocessing itself would move the images to shared memory, which containers keep small.
        work = pickle.dumps((self.config, self.faces, self.folder.parent))
        (self.folder / "failure.json").unlink(missing_ok=True)
        process = multiprocessing.get_context("spawn").Process(target=_train, args=(work,), daemon=True)
        process.start()
        self._process = process
        self.watch()

    def watch(self) -> None:
        """Look into the folder again and again, until the run is finished, fails or is stopped."""
        if self._watching:
            return
        self._watching, self._since = True, time.monotonic()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def halt(self) -> None:
        """End the training if this monitor started it, and stop watching."""
        self._watching = False
        if self._process and self._process.is_alive():
            self._process.terminate()
            self._process.join()
        self.refresh()

    def wait(self, seconds: float = 600) -> Progress:
        """Block until watching ends, for scripts and tests; how far the run has come then."""
        if self._watcher:
            self._watcher.join(seconds)
        return self.progress

    def _watch(self) -> None:
        while self._watching:
            ended = self._process is not None and not self._process.is_alive()  # asked before the last look
            self.refresh()
            if ended or self.progress.finished or self.progress.error:
                self._watching = False
            time.sleep(EVERY_SECONDS)
        self.refresh()

    @locked
    def refresh(self) -> None:
        """Read the folder once and show what it tells."""
        before = len(self.progress.history)
        self.progress = read_progress(self.folder)
        done = len(self.progress.history)
        if done != before:
            self._since = time.monotonic()
            self.curves.value = history_curves(self.progress.history, self.config.epochs)
        self.bar.value = done if not self.progress.finished else self.config.epochs
        self.bar.bar_style = "danger" if self.progress.error else "success" if self.progress.finished else "info"
        training = self._process is not None and self._process.is_alive()
        self.train.disabled = training or self.progress.finished
        self.follow.disabled, self.stop.disabled = self._watching or self.progress.finished, not self._watching
        self.status.value = html.escape(self.describe(training))

    def describe(self, training: bool = False) -> str:
        """How far the run has come, in a sentence; ``training``: whether a process of this monitor is at it."""
        history, done = self.progress.history, len(self.progress.history)
        said = ""
        if done:
            best = history.loc[history["val_loss"].idxmin()]
            said = (f" Best so far: epoch {best['epoch']:.0f}, validation loss {best['val_loss']:.3f}, accuracy "
                    f"{best['val_accuracy']:.1%}.")
        if self.progress.error:
            return f"Failed: {self.progress.error}"
        if self._process and (self._process.exitcode or 0) > 0:  # below 0 it is the signal of `halt`
            return f"The training broke off; what JupyterLab prints in its terminal says why.{said}"
        if self.progress.finished:
            return f"Finished after {done} epochs.{said.replace(' so far', '')}"
        if self._watching:
            who = "Epoch" if training else "Following: epoch"
            left = f", some {history['seconds'].mean() * (self.config.epochs - done):.0f} s to go" if done else ""
            return (f"{who} {min(done + 1, self.config.epochs)} of {self.config.epochs} for "
                    f"{time.monotonic() - self._since:.0f} s{left}.{said}")
        return f"{done} of {self.config.epochs} epochs are done; train to go on.{said}" if done else "Not trained yet."

    def figure(self) -> Figure:
        history = self.progress.history
        if history.empty:
            figure = plots.lines(pd.DataFrame({"validation": [np.nan] * self.config.epochs}), "epoch", "loss")
            return plots.set_title(figure, "not trained yet; open the notebook in JupyterLab to train and watch")
        majority = self.faces.with_classes(self.config.classes).counts()["train"]
        return plots.set_title(training.history(history, int(history.loc[history["val_loss"].idxmin(), "epoch"]),
                                            majority.max() / majority.sum()), self.describe())


def training_monitor(config: TrainConfig, faces: FaceSet, store: Path | str | None = None) -> TrainingMonitor:
    """Train a run and watch it, while other cells go on; or watch it while ``fer train`` trains it elsewhere.

    Parameters
    ----------
    config, faces, store : as of `runs.train_run`; the run is the same that it would train.
    """
    return TrainingMonitor(config, faces, store)


def history_curves(history: pd.DataFrame, epochs: int) -> str:
    """HTML: loss and accuracy of `trainer.Fitted.history` so far, of a training of so many ``epochs``."""
    return "".join(curves(what, {"train, augmented": (history[f"train_{what}"], BASELINE),
                                 "validation": (history[f"val_{what}"], ACCENT)}, epochs)
                   for what in ("loss", "accuracy"))


def _train(work: bytes) -> None:
    """Train in the process that was started for it; a reason to fail is left in the run's folder."""
    config, faces, store = pickle.loads(work)
    try:
        train_run(config, faces, store, progress=False)
    except FerError as error:
        write_json(store / run_id(config, faces) / "failure.json", {"error": str(error)})
    except KeyboardInterrupt:
        pass  # of the kernel, which reaches what it started; the status says how far the training has come


def _button(name: str, icon: str, hint: str, do: Callable[[], object]) -> Button:
    button = Button(description=name, icon=icon, tooltip=hint, layout=Layout(width="auto"))
    button.on_click(lambda _: do())
    return button
