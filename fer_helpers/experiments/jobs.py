"""What a worker of a sweep does: one run, by one notebook. Workers are sent its name, so they need the same package."""

from __future__ import annotations

import functools
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distributed import get_worker

from ..files import FerError, digest, write_json
from .notebooks import Limits, execute

#: Ends of a job. "refused" by a worker that must not do it, "lost" with its worker, "pruned" by a search.
FINISHED, SKIPPED, FAILED, REFUSED, LOST = "finished", "skipped", "failed", "refused", "lost"
CANCELLED, PRUNED = "cancelled", "pruned"


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes
    ----------
    run : its id, from configuration and data.
    notebook : text of the notebook that trains it, and ``name`` of its file.
    parameters : of the notebook.
    store : folder of runs, under the same path on all machines.
    limits : of its process.
    package : `package_identity` of who planned it.
    gpus : of a machine whose workers share them, one each in turn; 0 leaves that to whoever started the workers.
    """

    run: str
    notebook: str
    name: str
    parameters: dict[str, Any]
    store: str
    limits: Limits
    package: str
    gpus: int = 0

    @property
    def folder(self) -> Path:
        return Path(self.store) / self.run

    @property
    def finished(self) -> bool:
        return (self.folder / "metrics.json").exists()


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    status : one of `FINISHED`, `SKIPPED`, `FAILED`, `REFUSED`, `LOST`, `CANCELLED`, `PRUNED`.
    error : in one line, "" if none.
    seconds : wall-clock time.
    final : whether trying again can only end the same.
    """

    status: str
    error: str = ""
    seconds: float = 0.0
    final: bool = False


@functools.cache
def package_identity() -> str:
    """Version and a digest of the source: a worker with another one could train something else under the same id."""
    folder = Path(__file__).parents[1]
    parts = [path.relative_to(folder).as_posix().encode() + path.read_bytes() for path in sorted(folder.rglob("*.py"))]
    return f"{version('fer_helpers')}-{digest(*parts, length=12)}"


def work(job: Job, cancelled: Callable[[], bool] = lambda: False) -> Outcome:
    """Train the job's run, unless it is finished; a failure is kept in the run's failure.json."""
    if job.package != package_identity():
        return Outcome(REFUSED, f"worker {platform.node()} {os.getpid()} has fer_helpers {package_identity()}, the "
                       f"sweep {job.package}; install the same on all machines")
    if job.finished:
        return Outcome(SKIPPED)
    try:
        with tempfile.TemporaryDirectory() as folder:
            notebook = Path(folder) / job.name
            notebook.write_text(job.notebook, encoding="utf-8")
            done = execute(notebook, job.folder / job.name, job.parameters, job.limits, job.store, cancelled)
        error, final = done.error, done.error.startswith("FerError")
        if not error and not job.finished:
            error, final = f"{job.folder}: was not written; give all machines the same data and store", True
        if cancelled():
            return Outcome(CANCELLED, seconds=done.seconds)
        if error:
            write_json(job.folder / "failure.json", {"error": error})
    except (FerError, OSError) as reason:  # the store cannot be written, say
        return Outcome(FAILED, f"{type(reason).__name__}: {reason}")
    return Outcome(FAILED if error else FINISHED, error, done.seconds, final)


def work_for_dask(job: Job) -> Outcome:
    """`work`, which ends when the scheduler no longer wants its result: the sweep was interrupted, say."""
    worker = get_worker()
    key = worker.get_current_task()

    def unwanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    if job.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(int(worker.name) % job.gpus)
    return work(job, unwanted)
