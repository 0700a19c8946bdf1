"""Sweeps: many runs, each by the workhorse notebook, on this machine's processors or on a cluster, through Dask."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import sys
import time
import warnings
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import dask
import nbformat
import pandas as pd
import torch
import yaml
from distributed import Client, Future, LocalCluster
from tqdm.auto import tqdm

from ..data.faceset import FaceSet
from ..data.readers import load_faces
from ..files import FerError, bar_options, check_file, explain_os_errors, write_atomic
from ..training.config import TrainConfig
from ..training.methods import configure
from ..training.runs import Run, default_store, run_id
from .jobs import CANCELLED, FAILED, FINISHED, LOST, PRUNED, SKIPPED, Job, Outcome, package_identity, work_for_dask
from .notebooks import Limits, absolute, find_notebooks, notebook_defaults
from .search import Search, Study

WORKHORSE = "02_training"
#: Seconds before the first new try of a job that failed, doubled for each further one, and the most of it. A job whose
#: worker was lost waits for the first only.
PAUSE, LONGEST_PAUSE = 2.0, 60.0
#: Bytes of a plan: ten thousand runs. Parsed, a byte takes a hundred.
MOST_PLAN = 1 << 20
_DEEPEST = 8  # lists and mappings in one another; a plan has three
_OPENING = (yaml.BlockSequenceStartToken | yaml.BlockMappingStartToken | yaml.FlowSequenceStartToken
            | yaml.FlowMappingStartToken)
#: Seconds for a scheduler that went away to come back.
RECONNECT = 300.0
_LOOK = 0.1


@dataclass(frozen=True)
class Cluster:
    """Where a sweep runs.

    Attributes
    ----------
    scheduler : address of a running Dask scheduler, such as "tcp://host:8786"; "" for processes of this machine.
    jobs : processes at a time on this machine; 0 takes one for every two processors.
    resources : what a job takes of a worker's ``--resources``, such as {"GPU": 1}.
    retries : further tries of a job that failed for a reason that may pass, or whose worker was lost.
    """

    scheduler: str = ""
    jobs: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    retries: int = 2


def sweep(axes: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]], data: str = "",
          store: Path | str | None = None, cluster: Cluster | None = None,
          limits: Limits | None = None, notebook: Path | None = None, progress: bool = True,
          search: Search | None = None) -> pd.DataFrame:
    """Run the workhorse notebook over every combination of settings; finished runs are skipped, failures recorded.

    Interrupting it ends the notebooks that run; the same sweep then goes on where they were. Several sweeps may share a
    store: a run that another one is training is waited for (`leases`).

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
    "pruned", "lost", "refused" or "cancelled"), ``val_accuracy``, ``test_accuracy`` with ``test_low`` and
    ``test_high``, ``seconds``, ``tries``, ``error``; of a search the best on validation first. It is also kept in the
    store as sweep.csv.

    Raises
    ------
    FerError
        If a setting is unknown or impossible, or no worker can do the jobs: nothing is run then; or if the scheduler
        is gone for good.
    """
    cluster, limits = cluster or Cluster(), limits or Limits()
    notebook = notebook or next(path for path in find_notebooks() if path.stem == WORKHORSE)
    store = Path(store or default_store()).resolve()
    faces = load_faces(data, progress=progress)
    grid = _grid(axes, notebook, faces)
    plan = {name: parameters for _, name, parameters in grid}
    study = Study(search, [(given, name) for given, name, _ in grid], store) if search else None
    processors = os.cpu_count() or 1
    count = min(cluster.jobs or max(1, processors // 2), len(plan))
    gpus = 0
    if not cluster.scheduler:
        gpus = torch.cuda.device_count()
        limits = dataclasses.replace(limits, threads=limits.threads or max(1, processors // count))
    text = _bare(notebook)
    jobs = {name: Job(name, text, notebook.name, parameters | {"data": absolute(data)}, str(store), limits,
                      package_identity(), gpus) for name, parameters in plan.items()}
    board = _Board(jobs, study, progress)
    try:
        # Where everything is finished no worker is needed.
        if board.open or board.more:
            with _connect(cluster, count, progress) as connection:
                _run(board, connection, cluster)
    except KeyboardInterrupt:
        _table(board, plan, store)
        raise
    finally:
        board.close()
    return _table(board, plan, store)


def plan_sweep(axes: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]], notebook: Path, faces: FaceSet
               ) -> dict[str, dict[str, Any]]:
    """Parameters of the notebook for each run, by run id; see `sweep`."""
    return {name: parameters for _, name, parameters in _grid(axes, notebook, faces)}


def _grid(axes: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]], notebook: Path, faces: FaceSet
          ) -> list[tuple[dict[str, Any], str, dict[str, Any]]]:
    """For each combination its settings, run id and parameters of the notebook."""
    known = {"method"} | {field.name for field in fields(TrainConfig)}
    if isinstance(axes, Mapping):
        if empty := [name for name, values in axes.items() if not values]:
            raise FerError(f"sweep: no value given for {', '.join(empty)}")
        chosen = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    else:
        chosen = [dict(settings) for settings in axes]
    if unknown := {name for settings in chosen for name in settings} - known:
        raise FerError(f"sweep: unknown setting {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
    defaults = notebook_defaults(notebook)
    grid = []
    for given in chosen:
        parameters = defaults | {name: value for name, value in given.items() if name in defaults}
        parameters["settings"] = defaults.get("settings", {}) | {
            name: value for name, value in given.items() if name not in defaults}
        settings = {name: value for name, value in parameters.items() if name in known} | parameters["settings"]
        grid.append((given, run_id(configure(settings), faces), parameters))
    return grid


def read_plan(path: Path) -> Mapping[str, Sequence[Any]] | list[Mapping[str, Any]]:
    """The ``grid`` (a list of values by setting) or the ``runs`` (a list of settings) of a YAML file, for `sweep`.

    Raises
    ------
    FerError
        If the file is missing or holds something else.
    """
    fix = "write grid: with a list of values for each setting, or runs: with a list of settings"
    with explain_os_errors(path, "reading"):
        text = check_file(path, MOST_PLAN).read_bytes()
    try:
        depth = 0
        for token in yaml.scan(text.decode("utf-8")):
            depth += isinstance(token, _OPENING) - isinstance(token, yaml.BlockEndToken | yaml.FlowSequenceEndToken
                                                              | yaml.FlowMappingEndToken)
            # Aliases of aliases stand for more values than any memory holds; deep brackets take the loader hours.
            if isinstance(token, yaml.AliasToken) or depth > _DEEPEST:
                raise FerError(f"{path}: holds an alias (*name), or lists in lists; write out plain values")
        found = yaml.safe_load(text.decode("utf-8"))
    except FerError:
        raise
    except Exception as error:  # odd numbers, dates and tags, or thousands of brackets, break the loader in many ways
        raise FerError(f"{path}: is no YAML ({str(error).partition(chr(10))[0]}); {fix}") from error
    if not isinstance(found, dict) or len(found) != 1 or not {"grid", "runs"} & set(found):
        raise FerError(f"{path}: holds neither grid nor runs, or more than that; {fix}")
    (kind, content), = found.items()
    if kind == "grid" and isinstance(content, dict):
        return {str(name): values if isinstance(values, list) else [values] for name, values in content.items()}
    if kind == "runs" and isinstance(content, list) and content and all(isinstance(one, dict) for one in content):
        return [{str(name): value for name, value in one.items()} for one in content]
    raise FerError(f"{path}: {kind} has another form; {fix}")


def _bare(notebook: Path) -> str:
    """The notebook's text without its outputs, which would travel with every job."""
    content = nbformat.read(notebook, 4)
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    return nbformat.writes(content)


class _Board:
    """Which jobs are open, and how the others ended; shown as a bar."""

    def __init__(self, jobs: Mapping[str, Job], study: Study | None, progress: bool) -> None:
        self.all, self.study = jobs, study
        self.ended: dict[str, Outcome] = {}
        self.tries: dict[str, int] = {}
        total = len(jobs) if study is None else len(study.known) + study.left
        self.bar = tqdm(total=total, desc="sweep", unit="run", **bar_options(progress))
        if study is None:
            for name in jobs:
                self._add(name)
        else:
            self.tries |= dict.fromkeys(study.known, 0)
            self.ended |= {name: Outcome(PRUNED if pruned else SKIPPED) for name, pruned in study.known.items()}
            self.bar.update(len(study.known))

    @property
    def open(self) -> list[Job]:
        return [self.all[name] for name in self.tries if name not in self.ended]

    @property
    def more(self) -> bool:
        """Whether a search has further runs to choose."""
        return self.study is not None and self.study.left > 0

    def choose(self, slots: int) -> None:
        """Of a search, as many further runs as there are slots for."""
        while self.more and len(self.open) < slots:
            self._add(self.study.ask())  # type: ignore[union-attr]  # `more` needs a study

    def _add(self, name: str) -> None:
        self.tries[name] = 0
        if self.all[name].finished:
            self.settle(name, Outcome(SKIPPED))

    def hopeless(self, name: str) -> bool:
        return self.study is not None and self.study.hopeless(name)

    def settle(self, name: str, outcome: Outcome) -> None:
        self.ended[name] = outcome
        if self.study is not None:
            self.study.tell(name, outcome.status in (FINISHED, SKIPPED), outcome.status == PRUNED)
        self.bar.update()
        self.bar.set_postfix_str(f"{name}: {outcome.status}")

    def close(self) -> None:
        self.bar.close()


def _run(board: _Board, connection: _Connection, cluster: Cluster) -> None:
    """Keep submitting what is open until nothing is."""
    connection.check()
    due: dict[str, float] = {}  # when a job may be tried again
    running: dict[str, Future[Any]] = {}
    while board.open or board.more:
        if connection.renew():
            running.clear()  # the scheduler forgot what it was asked; what is finished is in the store
        if board.more:
            board.choose(connection.slots())
        for job in board.open:
            if job.run not in running and time.monotonic() >= due.get(job.run, 0):
                board.tries[job.run] += 1
                running[job.run] = connection.submit(job, board.tries[job.run])
            elif job.run in running and running[job.run].done():
                outcome = _ended(running.pop(job.run), job)
                if outcome is None:  # the scheduler went away
                    board.tries[job.run] -= 1
                elif (outcome.status in (FINISHED, SKIPPED) or outcome.final
                      or board.tries[job.run] > cluster.retries):
                    board.settle(job.run, outcome)
                else:
                    due[job.run] = time.monotonic() + (PAUSE if outcome.status == LOST else min(
                        PAUSE * 2 ** (board.tries[job.run] - 1), LONGEST_PAUSE))
            elif job.run in running and board.hopeless(job.run):
                running.pop(job.run).cancel()
                board.settle(job.run, Outcome(PRUNED))
        time.sleep(_LOOK)


def _ended(future: Future[Any], job: Job) -> Outcome | None:
    """The outcome of a job that is done; None if it has to be submitted again."""
    if job.finished:  # also when the answer was lost on its way
        with contextlib.suppress(Exception, CancelledError):
            return future.result(timeout=5)
        return Outcome(FINISHED)
    if future.status == "finished":
        with contextlib.suppress(OSError, TimeoutError, CancelledError):
            return future.result(timeout=30)
    if future.status == "error":
        return Outcome(LOST, f"{future.exception(timeout=30)}")
    return None


class _Connection:
    """A client of the scheduler, made anew where that went away."""

    def __init__(self, open_client: Callable[[], Client], cluster: Cluster) -> None:
        self.open_client, self.cluster = open_client, cluster
        self.client = open_client()

    def check(self) -> None:
        """Refuse what no worker could ever do."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        wanted = self.cluster.resources
        if workers and not any(all(one["resources"].get(name, 0) >= value for name, value in wanted.items())
                               for one in workers):
            missing = " ".join(f"{name}={value:g}" for name, value in wanted.items())
            raise FerError(f"no worker of {self.cluster.scheduler or 'this machine'} offers {missing}; start one with "
                           f'dask worker --resources "{missing}"')
        identities = set(self.client.run(package_identity, on_error="return").values()) if workers else set()
        if identities and package_identity() not in identities:
            raise FerError(f"no worker of {self.cluster.scheduler} has fer_helpers {package_identity()}; they have "
                           f"{', '.join(sorted(map(str, identities)))}; install the same on all machines")

    def slots(self) -> int:
        """How many jobs the workers that are there now do at a time."""
        with contextlib.suppress(OSError, TimeoutError):
            return max(1, sum(self.client.nthreads().values()))
        return 1

    def submit(self, job: Job, number: int) -> Future[Any]:
        return self.client.submit(work_for_dask, job, key=f"{job.run}-{number}-{time.time_ns()}", pure=False, retries=0,
                                  resources=dict(self.cluster.resources) or None)

    def renew(self) -> bool:
        """Whether the scheduler had to be asked for anew."""
        if self.client.status == "running":
            return False
        end = time.monotonic() + RECONNECT
        while True:
            with contextlib.suppress(Exception):
                self.client.close(timeout=2)
            try:
                self.client = self.open_client()
                return True
            except OSError as error:
                if time.monotonic() > end:
                    raise FerError(f"{self.cluster.scheduler}: the scheduler is gone ({error}); what is finished is in "
                                   "the store, the same command goes on from there") from error
                time.sleep(1)


@contextlib.contextmanager
def _connect(cluster: Cluster, count: int, progress: bool) -> Iterator[_Connection]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({
            "distributed.comm.timeouts.connect": "10s", "distributed.comm.retry.count": 3,
            # Tries are counted here, hence also: no job waits at a worker, to be lost with it before it began.
            "distributed.scheduler.allowed-failures": 0, "distributed.scheduler.worker-saturation": 1.0,
            # A worker that dies is started again, however long that takes on a busy machine.
            "distributed.deploy.lost-worker-timeout": "1 day"}))
        if cluster.scheduler:
            def open_client() -> Client:
                return Client(cluster.scheduler, timeout=10, set_as_default=False)
        else:
            own = stack.enter_context(LocalCluster(
                n_workers=count, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0",
                resources=dict(cluster.resources), silence_logs=50))

            def open_client() -> Client:
                return Client(own, set_as_default=False)
        try:
            connection = _Connection(open_client, cluster)
        except (OSError, ValueError) as error:
            raise FerError(f"{cluster.scheduler}: no Dask scheduler answers ({error}); start one with `dask scheduler` "
                           "or leave --scheduler out") from error
        if progress:
            tqdm.write(f"dashboard: {connection.client.dashboard_link}", file=sys.stderr)
        try:
            yield connection
        finally:
            with contextlib.suppress(Exception):
                connection.client.close(timeout=5)


def _table(board: _Board, plan: Mapping[str, Mapping[str, Any]], store: Path) -> pd.DataFrame:
    settings = {name: {**plan[name]["settings"], **plan[name]} for name in board.tries}
    shown = pd.DataFrame.from_dict(settings, orient="index").drop(columns="settings")
    shown = shown.loc[:, shown.astype(str).nunique() > 1]
    rows = []
    for name, tries in board.tries.items():
        outcome = board.ended.get(name, Outcome(CANCELLED))
        row = {"run_id": name, **shown.loc[name], "status": outcome.status, "seconds": outcome.seconds,
               "tries": tries, "error": outcome.error}
        if outcome.status in (FINISHED, SKIPPED):
            try:
                metrics = Run(board.all[name].folder).metrics
                accuracy = metrics["test"].accuracy
                row |= {"val_accuracy": metrics["val"].accuracy.value, "test_accuracy": accuracy.value,
                        "test_low": accuracy.low, "test_high": accuracy.high}
            except FerError as error:
                row |= {"status": FAILED, "error": str(error)}
        rows.append(row)
    result = pd.DataFrame(rows).set_index("run_id")
    if board.study is not None and "val_accuracy" in result:
        result = result.sort_values("val_accuracy", ascending=False)
    try:
        write_atomic(store / "sweep.csv", lambda path: result.to_csv(path))
    except FerError as error:  # of a full disk, say: that must not hide what the sweep has to tell
        warnings.warn(f"{error}", stacklevel=3)
    return result

