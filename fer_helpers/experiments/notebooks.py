"""One notebook, executed by papermill in a process of its own, within limits; and where the notebooks are."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil

from ..files import FerError, write_atomic

#: How an output says that it is a widget.
WIDGET = "application/vnd.jupyter.widget-view+json"
_LOOK = 0.25  # seconds between two looks at what a notebook uses
#: papermill, which Linux kills as soon as the one who started it is gone: a killed worker must not leave a notebook
#: behind that goes on writing. The kernel in turn watches papermill.
_PAPERMILL = """
import ctypes, signal, sys
PR_SET_PDEATHSIG = 1
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
from papermill.cli import papermill
papermill()
"""


@dataclass(frozen=True)
class Limits:
    """What a notebook may use.

    Attributes
    ----------
    threads : processor threads; 0 for all.
    memory : resident bytes of all its processes; 0 for no limit.
    seconds : of wall-clock time; 0 for no limit.
    """

    threads: int = 0
    memory: int = 0
    seconds: float = 0


@dataclass(frozen=True)
class Executed:
    """One notebook run.

    Attributes
    ----------
    path : the executed notebook, complete up to the error if there was one.
    error : what went wrong in one line, "" if nothing.
    seconds : wall-clock time.
    """

    path: Path
    error: str
    seconds: float


def find_notebooks(folder: Path | str | None = None) -> list[Path]:
    """The numbered notebooks in reading order; None looks in ``notebooks`` here and one folder up.

    Raises
    ------
    FerError
        If there is none.
    """
    tried = [Path(folder)] if folder else [Path("notebooks"), Path("../notebooks"), Path(".")]
    for place in tried:
        if found := sorted(place.glob("[0-9][0-9]_*.ipynb")):
            return found
    raise FerError(f"{tried[0]}: holds no numbered notebooks; run this from the repository or name their folder")


def notebook_defaults(notebook: Path) -> dict[str, Any]:
    """Names and values of the cell tagged ``parameters``; `FerError` if the notebook or that cell cannot be read."""
    import papermill  # imported where it is used: workers of a sweep execute notebooks without looking into them

    try:
        found = papermill.inspect_notebook(notebook)
        return {name: ast.literal_eval(entry["default"]) for name, entry in found.items()}
    except Exception as error:  # nbformat, jsonschema and papermill each raise their own for a damaged notebook
        raise FerError(f"{notebook}: its parameters cannot be read ({str(error).splitlines()[0]}); give it a kernel "
                       "and a cell tagged parameters that holds plain values") from error


def execute(notebook: Path, target: Path, parameters: Mapping[str, Any], limits: Limits | None = None,
            store: Path | str | None = None, cancelled: Callable[[], bool] = lambda: False) -> Executed:
    """Run ``notebook`` with ``parameters`` in a process of its own and keep the result at ``target``.

    Progress bars inside are off: an executed notebook is a document. Whatever ends it, and on Linux also the end of
    this process, ends all that it started.

    Parameters
    ----------
    store : folder of runs; None takes `runs.default_store`.
    cancelled : asked now and then; ends the notebook once true.
    """
    limits = limits or Limits()
    if store is None:
        from ..training.runs import default_store

        store = default_store()
    start = time.perf_counter()
    environment = os.environ | {"TQDM_DISABLE": "1", "FER_RUNS": str(Path(store).resolve())}
    # Waiting threads should sleep: spinning makes torch several times slower when processes share the processors.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if limits.threads:
        environment |= {"OMP_NUM_THREADS": str(limits.threads), "MKL_NUM_THREADS": str(limits.threads)}
    # Not beside the target: who is killed leaves this folder behind.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        unfinished, said = Path(folder) / target.name, Path(folder) / "stderr.txt"
        with said.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", _PAPERMILL, str(notebook), str(unfinished), "--no-progress-bar", "--kernel",
                 "python3", "--parameters_yaml", json.dumps(dict(parameters))],
                env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file)
        error = _watch(process, limits, cancelled)
        if not error and process.returncode:
            error = _notebook_error(unfinished) or (said.read_text(errors="replace").strip().splitlines()
                                                    or ["papermill was ended"])[-1]
        if unfinished.exists():
            with contextlib.suppress(nbformat.reader.NotJSONError, ValueError):  # ended while writing it
                _strip(unfinished)
                write_atomic(target, lambda path: shutil.copyfile(unfinished, path))
    return Executed(target, error, time.perf_counter() - start)


def absolute(data: str) -> str:
    """A kernel may start in another folder, so a path must not depend on this one."""
    return str(Path(data).resolve()) if data and Path(data).exists() else data


def _watch(process: subprocess.Popen[bytes], limits: Limits, cancelled: Callable[[], bool]) -> str:
    """Wait for the process's end; what ended it if that was not itself, in one line."""
    end = time.monotonic() + limits.seconds if limits.seconds else float("inf")
    reason = ""
    try:
        while process.poll() is None and not reason:
            if cancelled():
                reason = "cancelled"
            elif time.monotonic() > end:
                reason = f"took longer than {limits.seconds:g} seconds; raise the time limit or train less"
            elif limits.memory and (used := _memory(process.pid)) > limits.memory:
                reason = (f"used {used / 2**30:.2f} GiB of memory, more than the {limits.memory / 2**30:.2f} allowed; "
                          "raise the limit or lower batch_size")
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK)
    finally:
        if process.poll() is None:
            _end(process.pid)
            process.wait()
    return reason


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        own = psutil.Process(pid)
        return [own, *own.children(recursive=True)]
    return []


def _memory(pid: int) -> int:
    used = 0
    for one in _family(pid):
        with contextlib.suppress(psutil.Error):
            used += one.memory_info().rss
    return used


def _end(pid: int) -> None:
    for one in _family(pid):
        with contextlib.suppress(psutil.Error):
            one.kill()


def _strip(path: Path) -> None:
    """Drop what papermill and the kernel note of this machine and this minute: paths, times, Python's version, and
    progress bars, which tqdm's notebook form draws whatever TQDM_DISABLE says."""
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_bar(output)]
    if not any(WIDGET in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])):
        notebook.metadata.pop("widgets", None)
    for part in (notebook, *notebook.cells):
        for key in ("papermill", "execution"):
            part.metadata.pop(key, None)
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)


def _is_bar(output: nbformat.NotebookNode) -> bool:
    data = output.get("data", {})
    return WIDGET in data and "%|" in data.get("text/plain", "")


def _notebook_error(path: Path) -> str:
    """The exception that ended an executed notebook, in one line."""
    with contextlib.suppress(OSError, nbformat.reader.NotJSONError, ValueError):
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                if output.output_type == "error":
                    return f"{output.ename}: {output.evalue}".splitlines()[0]
    return ""
