"""A network by what a user calls it: a shipped one, a run, or one that somebody shared."""

from __future__ import annotations

import os
from pathlib import Path

from ..files import FerError
from ..training.runs import Run, default_store
from .hub import pull
from .pretrained import HUB, SHIPPED, WEIGHTS, Pretrained, calibration_of, load_pretrained


def load_network(run: str = "", store: Path | str | None = None) -> Pretrained:
    """A shipped network, that of a finished run, or one that somebody shared.

    Parameters
    ----------
    run : "small" or "" for the fast network that ships, "best" for the accurate one; "hf://user/name" for what
        `hub.push` shared (fetched once, then kept); else the folder of a run, or its name in ``store`` (None takes
        `runs.default_store`).

    Raises
    ------
    FerError
        If there is no such run, or its files are missing or damaged.
    """
    if not run or run in SHIPPED:
        return load_pretrained(WEIGHTS / (run or "small"))
    if run.startswith(HUB):
        return pull(run.removeprefix(HUB))
    found = find_run(run, store)
    return Pretrained(found.model(), found.config, found.metrics, calibration_of(found))


def find_run(run: str, store: Path | str | None = None) -> Run:
    """The finished run of that folder, or of that name in ``store`` (None takes `runs.default_store`).

    Raises
    ------
    FerError
        If there is none.
    """
    folder = Path(run) if os.path.isdir(run) else Path(store or default_store()) / run
    if not (found := Run(folder)).finished:
        raise FerError(f"{folder}: is no finished run; fer runs lists them")
    return found
