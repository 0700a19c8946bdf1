"""A farm of Dask processes on loopback to break, and a notebook that misbehaves as told."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import psutil

from fer_helpers.data.readers import load_faces
from fer_helpers.experiments import sweeps
from fer_helpers.files import write_json
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import Run, run_id

#: Stands for a training that takes a moment: a kernel that imports torch takes longer than all that a fault needs. It
#: notes every try, does what ``acts`` of the store's plan.json say for that try, and leaves a finished run.
_NOTEBOOK = """
import json, os, pathlib, shutil, subprocess, sys, time
store = pathlib.Path(os.environ["FER_RUNS"])
plan = json.loads((store / "plan.json").read_text())
acts, folder = plan["acts"].get(str(seed), []), store / plan["runs"][str(seed)]
with open(store / f"tries-{seed}", "a") as file:
    file.write(f"{os.getpid()} {os.getppid()}\\n")
number = len((store / f"tries-{seed}").read_text().splitlines())
if number <= len(acts):
    exec(acts[number - 1])
folder.mkdir(exist_ok=True)
for name in plan["files"]:  # metrics.json, which says that the run is finished, is the last
    shutil.copy(pathlib.Path(plan["template"]) / name, folder / f".{name}")
    (folder / f".{name}").rename(folder / name)
"""
_FILES = ["config.json", "environment.json", "history.csv", "predictions.csv", "metrics.json"]


class Experiment:
    """A sweep over the seeds of one cheap run, some of whose tries do what ``acts`` say.

    Parameters
    ----------
    folder : holds the store and the notebook; made.
    data : folder of faces.
    template : a finished run whose files each run is given.
    acts : for a seed, what its first, second … try executes.
    """

    def __init__(self, folder: Path, data: Path, template: Run, seeds: int,
                 acts: Mapping[int, Sequence[str]] | None = None) -> None:
        self.data, self.template, self.store, self.seeds = data, template, folder / "store", range(seeds)
        self.store.mkdir(parents=True)
        self.commands: list[subprocess.Popen[str]] = []
        self.notebook = folder / "notebooks" / "02_training.ipynb"
        self.notebook.parent.mkdir()
        cells = [nbformat.v4.new_code_cell('seed = 0\ndata = ""\nsettings = {}', metadata={"tags": ["parameters"]}),
                 nbformat.v4.new_code_cell(_NOTEBOOK)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {
            "name": "python3", "display_name": "Python 3", "language": "python"}}), self.notebook)
        faces = load_faces(data)
        self.runs = {seed: run_id(TrainConfig(seed=seed), faces) for seed in self.seeds}
        write_json(self.store / "plan.json", {"acts": acts or {}, "runs": self.runs, "template": str(template.folder),
                                              "files": _FILES})

    def move(self, target: Path) -> None:
        shutil.copytree(self.store, target)
        self.store = target

    @property
    def axes(self) -> dict[str, list[int]]:
        return {"seed": list(self.seeds)}

    def sweep(self, cluster: sweeps.Cluster | None = None, limits: sweeps.Limits | None = None,
              **options: Any) -> pd.DataFrame:
        table = sweeps.sweep(self.axes, str(self.data), self.store, cluster or sweeps.Cluster(jobs=2), limits,
                             self.notebook, progress=False, **options)
        table["seed"] = table.index.map({name: seed for seed, name in self.runs.items()})
        return table.set_index("seed")

    def command(self, *options: object, background: bool = False) -> subprocess.Popen[str]:
        """The same by the command line, to be interrupted."""
        self.commands.append(sweep_command(self.notebook, self.data, self.store,
                                           f"seed={','.join(map(str, self.seeds))}", *options, background=background))
        return self.commands[-1]

    def close(self) -> None:
        """End what was not: it would take the processors from all other tests."""
        for command in self.commands:
            kill_family(command.pid)
            command.communicate()

    def tries(self, seed: int) -> list[list[int]]:
        """Process ids of the kernel and of papermill at each try so far."""
        with contextlib.suppress(FileNotFoundError):
            return [[int(pid) for pid in line.split()]
                    for line in (self.store / f"tries-{seed}").read_text().splitlines()]
        return []

    def wait_for_try(self, seed: int, number: int = 1) -> list[int]:
        wait_until(lambda: len(self.tries(seed)) >= number)
        return self.tries(seed)[number - 1]

    def intact(self) -> set[int]:
        """Seeds whose run is there in full."""
        def whole(folder: Path) -> bool:
            return all((folder / name).exists() and (folder / name).read_bytes()
                       == (self.template.folder / name).read_bytes() for name in _FILES)

        return {seed for seed, name in self.runs.items() if whole(self.store / name)}

    def leftovers(self) -> list[str]:
        """Files of the runs that a reader of the store would not expect."""
        known = {*_FILES, "02_training.ipynb", "failure.json", "lease"}
        return [str(path) for name in self.runs.values() for path in (self.store / name).glob("*")
                if path.name not in known]


def sweep_command(notebook: Path, data: Path, store: Path, *options: object, background: bool = False
                  ) -> subprocess.Popen[str]:
    """``fer sweep``, which ignores SIGINT from the start if it is in the ``background``, as shells have it."""
    return subprocess.Popen(
        [sys.executable, "-c", "from fer_helpers.cli import main; main()", "sweep", "--data", str(data),
         "--store", str(store), *map(str, options)], cwd=notebook.parent.parent, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | {"TQDM_DISABLE": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.SIG_DFL))


def none_left(own: Experiment) -> None:
    """No process of any notebook goes on."""
    wait_until(lambda: all(gone(pid) for seed in own.seeds for pids in own.tries(seed) for pid in pids), 60)


class Farm:
    """A scheduler and its workers, each a process of its own as on a cluster."""

    def __init__(self, folder: Path) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.start_scheduler()

    def _start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        self.processes.append(subprocess.Popen(
            [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]], cwd=self.folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | environment))
        return self.processes[-1]

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        self.scheduler = self._start("dask_scheduler", "--host", self.address, "--no-dashboard")
        self.wait_for(self.address)
        return self.scheduler

    @staticmethod
    def wait_for(address: str) -> None:
        """Return as soon as a scheduler listens there."""
        host, port = address.removeprefix("tcp://").split(":")

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
                return True
            return False

        wait_until(listens)

    def add_worker(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        return self._start("dask_worker", self.address, "--nthreads", "1", "--memory-limit", "0", "--no-dashboard",
                           *(options or ["--no-nanny"]), **environment)

    def close(self) -> None:
        for process in self.processes:
            kill_family(process.pid)
            process.wait()


@contextlib.contextmanager
def farm(folder: Path, workers: int = 2) -> Iterator[tuple[Farm, list[subprocess.Popen[bytes]]]]:
    own = Farm(folder)
    try:
        yield own, [own.add_worker() for _ in range(workers)]
    finally:
        own.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def kill_family(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)


def gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def wait_until(condition: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} seconds in vain")
        time.sleep(0.05)
