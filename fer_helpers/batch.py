"""Notebooks in bulk, through papermill: `execute` one, `sweep` over a grid of runs. Their pages are in `report`."""

from __future__ import annotations

import ast
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import papermill
from tqdm.auto import tqdm

from .config import TrainConfig
from .data import FaceSet
from .files import FerError, bar_options, write_atomic, write_json
from .methods import configure
from .readers import load_faces
from .runs import Run, default_store, run_id

WORKHORSE = "02_training"
#: How an output says that it is a widget.
WIDGET = "application/vnd.jupyter.widget-view+json"


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
    try:
        found = papermill.inspect_notebook(notebook)
        return {name: ast.literal_eval(entry["default"]) for name, entry in found.items()}
    except Exception as error:  # nbformat, jsonschema and papermill each raise their own for a damaged notebook
        raise FerError(f"{notebook}: its parameters cannot be read ({str(error).splitlines()[0]}); give it a kernel "
                       "and a cell tagged parameters that holds plain values") from error


def execute(notebook: Path, target: Path, parameters: Mapping[str, Any], threads: int | None = None,
            store: Path | str | None = None) -> Executed:
    """Run ``notebook`` with ``parameters`` in a process of its own and keep the result at ``target``.

    ``threads`` limits the processor threads of that process. Progress bars inside are off: an executed notebook is a
    document.
    """
    start = time.perf_counter()
    target.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"TQDM_DISABLE": "1", "FER_RUNS": str(Path(store or default_store()).resolve())}
    # Waiting threads should sleep: spinning makes torch several times slower when processes share the processors.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        unfinished = Path(folder) / target.name
        done = subprocess.run(
            [sys.executable, "-m", "papermill", str(notebook), str(unfinished), "--no-progress-bar", "--kernel",
             "python3", "--parameters_yaml", json.dumps(dict(parameters))],
            env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        error = ""
        if done.returncode:
            error = _notebook_error(unfinished) or (done.stderr.strip().splitlines() or ["papermill was ended"])[-1]
        if unfinished.exists():
            _strip(unfinished)
            unfinished.replace(target)
    return Executed(target, error, time.perf_counter() - start)


def sweep(axes: Mapping[str, Sequence[Any]], data: str = "", store: Path | str | None = None, jobs: int = 0,
          notebook: Path | None = None, progress: bool = True) -> pd.DataFrame:
    """Run the workhorse notebook over every combination of settings; finished runs are skipped, failures recorded.

    Parameters
    ----------
    axes : values to try for each field of `TrainConfig`, and for ``method``, one of `methods.METHODS`; what is left
        out keeps the notebook's defaults.
    data : as for `readers.load_faces`.
    store : folder of runs; each run keeps its executed notebook there, and a failed one its failure.json.
    jobs : processes at a time, sharing the processors; 0 takes one for every two processors.
    notebook : the notebook to run instead of 02_training.

    Returns
    -------
    Data frame indexed by run id: the settings on more than one value, ``status`` ("finished", "skipped", "failed"),
    ``test_accuracy`` with ``test_low`` and ``test_high``, ``seconds``, ``error``. It is also kept in the store as
    sweep.csv.

    Raises
    ------
    FerError
        If a setting is unknown or impossible: nothing is run then.
    """
    notebook = notebook or next(path for path in find_notebooks() if path.stem == WORKHORSE)
    store = Path(store or default_store())
    faces = load_faces(data, progress=progress)
    plan = plan_sweep(axes, notebook, faces)
    processors = os.cpu_count() or 1
    jobs = min(jobs or max(1, processors // 2), len(plan))
    varied = [name for name, values in axes.items() if len(values) > 1]

    def run_one(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        settings = parameters["settings"] | parameters
        row = {"run_id": name} | {key: settings[key] for key in varied}
        row |= {"status": "skipped", "seconds": 0.0, "error": ""}
        if not (store / name / "metrics.json").exists():
            done = execute(notebook, store / name / notebook.name, parameters | {"data": absolute(data)},
                           max(1, processors // jobs), store)
            row |= {"status": "failed" if done.error else "finished", "seconds": done.seconds, "error": done.error}
            if done.error:
                write_json(store / name / "failure.json", {"error": done.error})
                return row
        accuracy = Run(store / name).metrics["test"].accuracy
        return row | {"test_accuracy": accuracy.value, "test_low": accuracy.low, "test_high": accuracy.high}

    table = []
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(plan), desc="sweep", unit="run",
                                                **bar_options(progress)) as bar:
        for future in as_completed([pool.submit(run_one, *item) for item in plan.items()]):
            table.append(future.result())
            bar.update()
            bar.set_postfix_str("{run_id}: {status}".format(**table[-1]))
    result = pd.DataFrame(table).set_index("run_id").loc[list(plan)]
    write_atomic(store / "sweep.csv", lambda path: result.to_csv(path))
    return result


def plan_sweep(axes: Mapping[str, Sequence[Any]], notebook: Path, faces: FaceSet) -> dict[str, dict[str, Any]]:
    """Parameters of the notebook for each combination, by run id."""
    known = {"method"} | {field.name for field in fields(TrainConfig)}
    if unknown := set(axes) - known:
        raise FerError(f"sweep: unknown setting {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    if empty := [name for name, values in axes.items() if not values]:
        raise FerError(f"sweep: no value given for {', '.join(empty)}")
    defaults = notebook_defaults(notebook)
    plan = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        parameters = defaults | {name: value for name, value in chosen.items() if name in defaults}
        parameters["settings"] = defaults.get("settings", {}) | {
            name: value for name, value in chosen.items() if name not in defaults}
        settings = {name: value for name, value in parameters.items() if name in known} | parameters["settings"]
        plan[run_id(configure(settings), faces)] = parameters
    return plan


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
    if not path.exists():
        return ""
    for cell in nbformat.read(path, 4).cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"{output.ename}: {output.evalue}".splitlines()[0]
    return ""


def absolute(data: str) -> str:
    """A kernel may start in another folder, so a path must not depend on this one."""
    return str(Path(data).resolve()) if data and Path(data).exists() else data
