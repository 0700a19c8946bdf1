"""Sweeps: many runs, each by the workhorse notebook, on this machine's processors or on a cluster, through Dask.

Workers import this module for `run_notebook`: what takes seconds to import is imported where it is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..files import FerError, bar_options, digest, needs_extra, read_yaml, write_atomic, write_json
from .notebooks import Limits, absolute, execute, find_notebooks, notebook_defaults, read_notebook, write_notebook

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client, Future

    from ..data.faceset import FaceSet
    from .search import GridSearch, Search

WORKHORSE = "02_training"
FINISHED, SKIPPED, FAILED, PRUNED, CANCELLED = "finished", "skipped", "failed", "pruned", "cancelled"
_LOOK = 0.2  # seconds between two looks at what has ended


@dataclass(frozen=True)
class Cluster:
    """Where a sweep runs.

    Attributes
    ----------
    scheduler : address of a running Dask scheduler, such as "tcp://host:8786"; "" for this machine.
    jobs : runs at a time on this machine; 0 takes one for every two processors.
    resources : what a run takes of a worker's ``--resources``, such as {"GPU": 1}.
    retries : further tries of a run that failed for a reason that may pass. How many workers it may lose is the
        scheduler's to say (``distributed.scheduler.allowed-failures``).
    """

    scheduler: str = ""
    jobs: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    retries: int = 2


class Outcome(NamedTuple):
    """How a run ended: `FINISHED`, `SKIPPED`, `FAILED`, `PRUNED` or `CANCELLED`; the error in one line; its time."""

    status: str
    error: str = ""
    seconds: float = 0.0


def sweep(axes: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]], data: str = "",
          store: Path | str | None = None, cluster: Cluster | None = None,
          limits: Limits | None = None, notebook: Path | None = None, progress: bool = True,
          search: Search | None = None) -> pd.DataFrame:
    """Run the workhorse notebook over every combination of settings; finished runs are skipped, failures recorded.

    Interrupting it ends the notebooks that run; the same sweep then goes on where they were. Several sweeps may share a
    store: a run that another one is training is waited for (`runs.train_run`).

    Parameters
    ----------
    axes : values to try for each field of `TrainConfig`, and for ``method``, one of `methods.METHODS`; or the settings
        of each run. What is left out keeps the notebook's defaults.
    data : as for `readers.load_faces`.
    store : folder of runs; each run keeps its executed notebook there, and a failed one its failure.json. With a
        scheduler ``data`` and ``store`` must lie under the same paths on all machines.
    limits : of each run; no threads given shares the processors of this machine.
    notebook : the notebook to run instead of 02_training.
    search : runs only some of the combinations, each chosen by what those before came to.

    Returns
    -------
    Data frame indexed by run id: the settings on more than one value, ``status`` ("finished", "skipped", "failed",
    "pruned" or "cancelled"), ``val_accuracy``, ``test_accuracy`` with ``test_low`` and ``test_high``, ``seconds``,
    ``error``; of a search the best on validation first. It is also kept in the store as sweep.csv.

    Raises
    ------
    FerError
        If a setting is unknown or impossible, or no worker can do the runs: nothing is run then; or if the scheduler
        is gone.
    """
    import torch
    from tqdm.auto import tqdm

    from ..data.readers import load_faces
    from ..training.runs import default_store
    from .search import GridSearch

    cluster, limits = cluster or Cluster(), limits or Limits()
    notebook = notebook or next(path for path in find_notebooks() if path.stem == WORKHORSE)
    store = Path(store or default_store()).resolve()
    plan = _plan(axes, notebook, load_faces(data, progress=progress))
    grid = GridSearch(search, {name: given for name, (given, _) in plan.items()}, store) if search else None
    processors = os.cpu_count() or 1
    count, gpus = min(cluster.jobs or max(1, processors // 2), len(plan)), 0
    if not cluster.scheduler:
        gpus = torch.cuda.device_count()
        limits = dataclasses.replace(limits, threads=limits.threads or max(1, processors // count))
    content = read_notebook(notebook)
    for cell in content["cells"]:  # outputs would travel with every run
        cell.update({"outputs": []} if cell["cell_type"] == "code" else {})
    task = functools.partial(run_notebook, notebook=(notebook.name, content), store=str(store), limits=limits,
                             package=package_identity(), gpus=gpus)
    tasks = {name: functools.partial(task, name, parameters | {"data": absolute(data)})
             for name, (_, parameters) in plan.items()}
    outcomes: dict[str, Outcome] = {}
    if grid is None:
        outcomes |= {name: Outcome(SKIPPED) for name in plan if _finished(store, name)}
    else:
        outcomes |= {name: Outcome(PRUNED if pruned else SKIPPED) for name, pruned in grid.known.items()}
    total = len(outcomes) + grid.left if grid else len(plan)

    def table() -> pd.DataFrame:
        names = [*outcomes, *grid.trials] if grid else plan
        return _table({name: plan[name][1] for name in names}, outcomes, store, grid is not None)

    try:
        if len(outcomes) < total:  # else no worker is needed
            with tqdm(total=total, initial=len(outcomes), desc="sweep", unit="run", **bar_options(progress)) as bar, \
                    _connect(cluster, count) as client:
                if progress:
                    tqdm.write(f"dashboard: {client.dashboard_link}", file=sys.stderr)
                    if not client.nthreads():
                        tqdm.write(f"no worker yet, waiting for one: dask worker {cluster.scheduler}", file=sys.stderr)
                todo = iter([name for name in plan if name not in outcomes])
                for name, outcome in _run(client, cluster, tasks, todo, grid, store):
                    outcomes[name] = outcome
                    bar.update()
                    bar.set_postfix_str(f"{name}: {outcome.status}")
    except KeyboardInterrupt:
        table()
        raise
    return table()


def _plan(axes: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]], notebook: Path, faces: FaceSet
          ) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """For each combination, by run id, its settings and the parameters of the notebook."""
    from ..training.config import TrainConfig
    from ..training.methods import configure
    from ..training.runs import run_id

    known = {"method"} | {field.name for field in fields(TrainConfig)}
    if isinstance(axes, Mapping):
        if empty := [name for name, values in axes.items() if not values]:
            raise FerError(f"sweep: no value given for {', '.join(empty)}")
        chosen = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    else:
        chosen = [dict(settings) for settings in axes]
    if unknown := {name for settings in chosen for name in settings} - known:
        raise FerError(f"sweep: unknown setting {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    defaults, plan = notebook_defaults(notebook), {}
    for given in chosen:
        parameters = defaults | {name: value for name, value in given.items() if name in defaults}
        parameters["settings"] = defaults.get("settings", {}) | {
            name: value for name, value in given.items() if name not in defaults}
        settings = {name: value for name, value in parameters.items() if name in known} | parameters["settings"]
        plan[run_id(configure(settings), faces)] = given, parameters
    return plan


def read_plan(path: Path) -> Mapping[str, Sequence[Any]] | list[Mapping[str, Any]]:
    """The ``grid`` (a list of values by setting) or the ``runs`` (a list of settings) of a YAML file, for `sweep`.

    Raises
    ------
    FerError
        If the file is missing or holds something else.
    """
    fix = "write grid: with a list of values for each setting, or runs: with a list of settings"
    found = read_yaml(path, fix)
    if not isinstance(found, dict) or len(found) != 1 or not {"grid", "runs"} & set(found):
        raise FerError(f"{path}: holds neither grid nor runs, or more than that; {fix}")
    (kind, content), = found.items()
    if kind == "grid" and isinstance(content, dict):
        return {str(name): values if isinstance(values, list) else [values] for name, values in content.items()}
    if kind == "runs" and isinstance(content, list) and content and all(isinstance(one, dict) for one in content):
        return [{str(name): value for name, value in one.items()} for one in content]
    raise FerError(f"{path}: {kind} has another form; {fix}")


# --- What a worker does ----------------------------------------------------------------------------------------------


@functools.cache
def package_identity() -> str:
    """Version and a digest of the source: a worker with another one could train something else under the same id."""
    folder = Path(__file__).parents[1]
    parts = [path.relative_to(folder).as_posix().encode() + path.read_bytes() for path in sorted(folder.rglob("*.py"))]
    return f"{version('fer_helpers')}-{digest(*parts, length=12)}"


def run_notebook(run: str, parameters: Mapping[str, Any], notebook: tuple[str, Mapping[str, Any]], store: str,
                 limits: Limits, package: str, gpus: int) -> tuple[str, float]:
    """Train a run, unless it is finished, by a notebook; it ends when the scheduler no longer wants its result.

    Parameters
    ----------
    notebook : name of its file, and its content.
    package : `package_identity` of who planned it.
    gpus : of a machine whose workers share them, one each in turn; 0 leaves that to whoever started the workers.

    Returns
    -------
    An error that another try could only repeat, "" if there is none; and seconds.

    Raises
    ------
    RuntimeError
        If it failed for another reason.
    """
    from distributed import get_worker

    if package != package_identity():
        return f"worker {platform.node()} {os.getpid()} has fer_helpers {package_identity()}, the sweep {package}; " \
               "install the same on all machines", 0.0
    if _finished(Path(store), run):
        return "", 0.0
    worker = get_worker()
    key = worker.get_current_task()

    def unwanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled" or worker.status.name in ("closing", "closed", "failed")

    name, content = notebook
    environment = {"CUDA_VISIBLE_DEVICES": str(int(worker.name) % gpus)} if gpus else {}
    with tempfile.TemporaryDirectory() as folder:
        write_notebook(Path(folder) / name, content)
        done = execute(Path(folder) / name, Path(store) / run / name, parameters, limits, store, unwanted, environment)
    if not done.error and not _finished(Path(store), run):
        return f"{Path(store) / run}: was not written; give all machines the same data and store", done.seconds
    if done.error and not done.error.startswith("FerError"):
        raise RuntimeError(done.error)
    return done.error, done.seconds


def _finished(store: Path, run: str) -> bool:
    return (store / run / "metrics.json").exists()


# --- What the client does --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _connect(cluster: Cluster, count: int) -> Iterator[Client]:
    """A client of the scheduler, or of ``count`` workers that are threads of this process: each only waits for its
    notebook, which is a process."""
    with needs_extra("sweep"):
        import distributed
    with contextlib.ExitStack() as stack:
        stack.enter_context(distributed.utils.silence_logging_cmgr(50))  # what went wrong is told in one line
        address = cluster.scheduler or stack.enter_context(distributed.LocalCluster(
            n_workers=count, threads_per_worker=1, processes=False, memory_limit=0, dashboard_address="127.0.0.1:0",
            resources=dict(cluster.resources)))
        try:
            client = distributed.Client(address)
        except (OSError, ValueError) as error:
            raise FerError(f"{cluster.scheduler}: no Dask scheduler answers ({error}); start one with `dask scheduler` "
                           "or leave --scheduler out") from error
        try:
            if cluster.scheduler:
                _check_workers(client, cluster)
            yield client
        finally:
            with contextlib.suppress(Exception):  # of a scheduler that is gone
                client.close(timeout=5)


def _check_workers(client: Client, cluster: Cluster) -> None:
    """Refuse what a worker that is there could not, or must not, do."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    wanted = cluster.resources
    if workers and not any(all(one["resources"].get(name, 0) >= value for name, value in wanted.items())
                           for one in workers):
        missing = " ".join(f"{name}={value:g}" for name, value in wanted.items())
        raise FerError(f"no worker of {cluster.scheduler} offers {missing}; start one with "
                       f'dask worker --resources "{missing}"')
    for address, package in client.run(package_identity, on_error="return").items():
        if package != package_identity():
            raise FerError(f"worker {address} has fer_helpers {package}, this sweep {package_identity()}; install the "
                           "same on all machines")


def _run(client: Client, cluster: Cluster, tasks: Mapping[str, Any], todo: Iterator[str], grid: GridSearch | None,
         store: Path) -> Iterator[tuple[str, Outcome]]:
    """Submit what is to do, of a search as much as there are workers for, and yield each run that has ended."""
    from distributed import as_completed

    futures = as_completed()
    running: dict[str, Future[Any]] = {}
    gone = FerError(f"{cluster.scheduler}: the scheduler is gone; what is finished is in the store, the same command "
                    "goes on from there")
    while True:
        if client.status != "running":
            raise gone
        slots = max(1, sum(client.nthreads().values())) if grid and grid.left else len(tasks)
        while len(running) < slots and (name := grid.ask() if grid else next(todo, None)):
            running[name] = client.submit(tasks[name], key=f"{name}-{time.time_ns()}", pure=False,
                                          retries=cluster.retries, resources=dict(cluster.resources) or None)
            futures.add(running[name])
        if not running:
            return
        time.sleep(_LOOK)
        ended = {future.key for future in futures.next_batch(block=False)}
        for name, future in list(running.items()):
            if future.key in ended:
                try:
                    outcome = _outcome(store, name, future)
                except (OSError, CancelledError) as error:
                    raise gone from error
            elif grid and grid.should_prune(name):
                future.cancel()
                outcome = Outcome(PRUNED)
            else:
                continue
            del running[name]
            if grid:
                grid.tell(name, outcome.status in (FINISHED, SKIPPED), outcome.status == PRUNED)
            yield name, outcome


def _outcome(store: Path, name: str, future: Future[Any]) -> Outcome:
    """Of a run that has ended; a failure is kept in its failure.json."""
    error, seconds = (str(future.exception()), 0.0) if future.status == "error" else future.result()
    if not error or _finished(store, name):  # also where its worker was lost before it told
        return Outcome(FINISHED if seconds else SKIPPED, "", seconds)
    error = error.splitlines()[0]
    with contextlib.suppress(FerError):  # of a full disk, say
        write_json(store / name / "failure.json", {"error": error})
    return Outcome(FAILED, error, seconds)


def _table(plan: Mapping[str, Mapping[str, Any]], outcomes: Mapping[str, Outcome], store: Path, ranked: bool
           ) -> pd.DataFrame:
    import pandas as pd

    from ..training.runs import Run

    shown = pd.DataFrame.from_dict({name: {**own["settings"], **own} for name, own in plan.items()}, orient="index")
    shown = shown.loc[:, shown.astype(str).nunique() > 1].drop(columns="settings", errors="ignore")
    rows = []
    for name in plan:
        outcome = outcomes.get(name, Outcome(CANCELLED))
        row = {"run_id": name, **shown.loc[name], "status": outcome.status, "seconds": outcome.seconds,
               "error": outcome.error}
        if outcome.status in (FINISHED, SKIPPED):
            try:
                metrics = Run(store / name).metrics
                accuracy = metrics["test"].accuracy
                row |= {"val_accuracy": metrics["val"].accuracy.value, "test_accuracy": accuracy.value,
                        "test_low": accuracy.low, "test_high": accuracy.high}
            except FerError as error:
                row |= {"status": FAILED, "error": str(error)}
        rows.append(row)
    result = pd.DataFrame(rows).set_index("run_id")
    if ranked and "val_accuracy" in result:
        result = result.sort_values("val_accuracy", ascending=False)
    try:
        write_atomic(store / "sweep.csv", lambda path: result.to_csv(path))
    except FerError as error:  # of a full disk, say: that must not hide what the sweep has to tell
        warnings.warn(f"{error}", stacklevel=3)
    return result
