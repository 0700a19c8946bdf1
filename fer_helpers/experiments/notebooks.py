"""One notebook, executed by papermill in a process of its own, within limits; and where the notebooks are."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import FerError, explain_os_errors, home, write_atomic, write_json

#: How an output says that it is a widget.
WIDGET = "application/vnd.jupyter.widget-view+json"
_LOOK = 0.25  # seconds between two looks at whether a notebook should go on
#: papermill, which Linux kills as soon as the one who started it is gone: a killed worker must not leave a notebook
#: behind that goes on writing. The kernel in turn watches papermill, and inherits the limit of memory.
_PAPERMILL = """
import ctypes, signal, sys
PR_SET_PDEATHSIG, limit = 1, int(sys.argv.pop(1))
if sys.platform == "linux":
    import resource
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
sys.modules["rfc3987_syntax"] = None  # jsonschema would build a grammar of URIs for seconds; none is asked for
from papermill.cli import papermill
papermill()
"""


@dataclass(frozen=True)
class Limits:
    """What a notebook may use.

    Attributes
    ----------
    threads : processor threads; 0 for all.
    memory : bytes that each of its processes may allocate; 0 for no limit. Linux only.
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
    """The numbered notebooks in reading order; None looks in ``notebooks`` here, here, and in `files.home`.

    Raises
    ------
    FerError
        If there is none.
    """
    tried = [Path(folder)] if folder else [Path("notebooks"), Path("."), home() / "notebooks"]
    for place in tried:
        if found := sorted(place.glob("[0-9][0-9]_*.ipynb")):
            return found
    raise FerError(f"{tried[0]}: holds no numbered notebooks; run this from the repository or name their folder")


def notebook_defaults(notebook: Path) -> dict[str, Any]:
    """Names and values of the cell tagged ``parameters``; `FerError` if the notebook or that cell cannot be read."""
    try:
        content = read_notebook(notebook)
        source = next(cell["source"] for cell in content["cells"] if "parameters" in cell["metadata"].get("tags", ()))
        return {line.targets[0].id: ast.literal_eval(line.value)  # type: ignore[attr-defined]  # another is refused
                for line in ast.parse("".join(source)).body}
    except (AttributeError, KeyError, StopIteration, SyntaxError, TypeError, ValueError) as error:
        raise FerError(f"{notebook}: its parameters cannot be read ({type(error).__name__}: {error}); give it a cell "
                       "tagged parameters that holds plain values") from error


def read_notebook(path: Path) -> dict[str, Any]:
    """The JSON of a notebook: nbformat would take seconds to import, and workers read no more of it than this."""
    with explain_os_errors(path, "reading"):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("no notebook")
    return content


def write_notebook(path: Path, content: Mapping[str, Any]) -> None:
    """As nbformat writes it."""
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def execute(notebook: Path, target: Path, parameters: Mapping[str, Any], limits: Limits | None = None,
            store: Path | str | None = None, cancelled: Callable[[], bool] = lambda: False,
            environment: Mapping[str, str] | None = None) -> Executed:
    """Run ``notebook`` with ``parameters`` in a process of its own and keep the result at ``target``.

    Progress bars inside are off: an executed notebook is a document. Whatever ends it, and on Linux also the end of
    this process, ends its kernel.

    Parameters
    ----------
    store : folder of runs; None takes `runs.default_store`.
    cancelled : asked now and then; ends the notebook once true.
    environment : further variables of that process.
    """
    limits = limits or Limits()
    if store is None:
        from ..training.runs import default_store

        store = default_store()
    start = time.perf_counter()
    # Waiting threads should sleep: spinning makes torch several times slower when processes share the processors.
    own = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | {"TQDM_DISABLE": "1", "FER_RUNS": str(Path(store).resolve())}
    if limits.threads:
        own |= {"OMP_NUM_THREADS": str(limits.threads), "MKL_NUM_THREADS": str(limits.threads)}
    # Not beside the target: who is killed leaves this folder behind.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        unfinished, stderr = Path(folder) / target.name, Path(folder) / "stderr.txt"
        paths = [_own_kernel(Path(folder)), own.get("JUPYTER_PATH")]
        own["JUPYTER_PATH"] = os.pathsep.join(filter(None, paths))
        with stderr.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", _PAPERMILL, str(limits.memory), str(notebook), str(unfinished),
                 "--no-progress-bar", "--kernel", "python3", "--parameters_yaml", json.dumps(dict(parameters))],
                env=own | dict(environment or {}), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file)
        error = _watch(process, limits.seconds, cancelled)
        with contextlib.suppress(ValueError if unfinished.exists() else FerError):  # ended while it wrote it, or before
            content = read_notebook(unfinished)
            error = error or _notebook_error(content["cells"])
            _strip(content)
            write_notebook(target, content)
        if not error and process.returncode:
            error = (stderr.read_text(errors="replace").strip().splitlines() or ["papermill was ended"])[-1]
    if limits.memory and ("MemoryError" in error or "allocate memory" in error):
        error += f" (of {limits.memory / 2**30:.2f} GiB allowed; raise the limit or lower batch_size)"
    return Executed(target, error, time.perf_counter() - start)


def absolute(data: str) -> str:
    """A kernel may start in another folder, so a path must not depend on this one."""
    return str(Path(data).resolve()) if data and Path(data).exists() else data


def _own_kernel(folder: Path) -> str:
    """A path of Jupyter's where "python3" is this interpreter: elsewhere it may be that of another environment."""
    kernel = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
              "display_name": "Python 3 (ipykernel)", "language": "python"}
    write_json(folder / "jupyter" / "kernels" / "python3" / "kernel.json", kernel)
    return str(folder / "jupyter")


def _watch(process: subprocess.Popen[bytes], seconds: float, cancelled: Callable[[], bool]) -> str:
    """Wait for the process's end; what ended it if that was not itself, in one line."""
    end = time.monotonic() + (seconds or float("inf"))
    try:
        while process.poll() is None:
            if cancelled():
                return "cancelled"
            if time.monotonic() > end:  # papermill's own limit is for each cell
                return f"took longer than {seconds:g} seconds; raise the time limit or train less"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK)
        return ""
    finally:
        process.kill()
        process.wait()


def _strip(content: dict[str, Any]) -> None:
    """Drop what papermill and the kernel note of this machine and this minute: paths, times, Python's version, and
    progress bars, which tqdm's notebook form draws whatever TQDM_DISABLE says."""
    cells = content["cells"]
    for cell in cells:
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if not _is_bar(output.get("data", {}))]
    if not any(WIDGET in output.get("data", {}) for cell in cells for output in cell.get("outputs", ())):
        content["metadata"].pop("widgets", None)
    for part in (content, *cells):
        for key in ("papermill", "execution"):
            part["metadata"].pop(key, None)
    content["metadata"]["language_info"] = {"name": "python"}


def _is_bar(data: Mapping[str, Any]) -> bool:
    return WIDGET in data and "%|" in "".join(data.get("text/plain", ""))


def _notebook_error(cells: Iterable[Mapping[str, Any]]) -> str:
    """The exception that ended an executed notebook, in one line."""
    return next((f"{output['ename']}: {output['evalue']}".splitlines()[0] for cell in cells
                 for output in cell.get("outputs", ()) if output["output_type"] == "error"), "")
