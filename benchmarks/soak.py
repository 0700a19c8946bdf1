"""A sweep of many tiny trainings, one of whose workers is killed every few seconds: what is lost, what done twice?

    python benchmarks/soak.py [--runs 200] [--jobs 2] [--every 6]

Each run is notebook 02 without its figures on a few hundred faces: a kernel, a simple CNN for two epochs, its
evaluation. A worker is killed at random, with SIGKILL, of those at work. A run is lost if the sweep ends without it, or
with a damaged one; it is doubled if it was trained to its end twice.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from fer_helpers.experiments import Limits, find_notebooks
from fer_helpers.files import FerError

#: In place of the notebook's own, most of whose seconds go into what draws.
_IMPORTS = """
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.methods import with_method
from fer_helpers.data.readers import load_faces
from fer_helpers.training.runs import recorded_runs, train_run
"""
#: Follows the notebook's training. A run found finished trains nothing and leaves no mark.
_MARK = """
import os, pathlib
with open(pathlib.Path(os.environ["FER_RUNS"]) / "finished", "a") as file:
    file.write(f"{run.name} {run.environment['total_seconds']}\\n")
"""


def short_notebook(folder: Path) -> Path:
    import nbformat

    notebook = nbformat.read(next(path for path in find_notebooks() if path.stem == "02_training"), 4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    training = next(cell for cell in notebook.cells if "train_run(config" in cell.source)
    before, call, _ = training.source.partition("run = train_run(config, faces)")
    training.source = before + call
    notebook.cells = [parameters, nbformat.v4.new_code_cell(_IMPORTS), training, nbformat.v4.new_code_cell(_MARK)]
    target = folder / "02_training.ipynb"
    nbformat.write(notebook, target)
    return target


def few_faces(path: Path) -> Path:
    """Some of the embedded faces as a file like fer2013.csv."""
    from fer_helpers.data import load_faces

    faces = load_faces("synthetic", progress=False).with_classes(7)
    few = faces.take(np.random.default_rng(0).permutation(len(faces))[:700])
    usage = np.where(few.split == "test", "PublicTest", "Training")
    rows = zip(few.labels.tolist(), few.images.flatten(1).numpy(), usage, strict=True)
    path.write_text("emotion,pixels,Usage\n" + "".join(
        f"{label},{' '.join(map(str, pixels))},{use}\n" for label, pixels, use in rows))
    return path


def keep_worker(scheduler: str, over: threading.Event) -> None:
    """A worker, and another one as soon as it is gone. Dask's own keeper gives up on one that dies as it starts."""
    while not over.is_set():
        subprocess.run([sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--no-nanny", "--nthreads", "1",
                        "--memory-limit", "0", "--no-dashboard"], capture_output=True, check=False)


def kill_workers(every: float, over: threading.Event, killed: list[int]) -> None:
    """Kill one worker of a cluster that is this process's child now and then, of those that have a notebook under
    way."""
    chance = random.Random(0)
    while not over.wait(every * chance.uniform(0.5, 1.5)):
        with contextlib.suppress(psutil.Error):
            busy = [worker for nanny in [psutil.Process()] for worker in nanny.children(recursive=True)
                    if "distributed" not in worker.name() and any("papermill" in " ".join(child.cmdline())
                                                                  for child in worker.children())]
            if busy:
                victim = chance.choice(busy)
                victim.kill()
                killed.append(victim.pid)


def main() -> None:
    # Here, as each worker imports this file anew: torch would take it seconds.
    import dask
    from distributed import LocalCluster

    from fer_helpers.experiments import Cluster, sweep

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=float, default=6, help="seconds between two kills, on average; 0: none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store, over, killed = Path(folder) / "store", threading.Event(), []
        store.mkdir()
        data = few_faces(Path(folder) / "fer2013.csv")
        if options.every:
            threading.Thread(target=kill_workers, args=(options.every, over, killed), daemon=True).start()
        start = time.perf_counter()
        # Workers that are processes, as those of a cluster; in a sweep of one machine they are threads.
        with dask.config.set({"distributed.scheduler.allowed-failures": 1000}), LocalCluster(
                n_workers=0, dashboard_address=None, silence_logs=50) as cluster:
            for _ in range(options.jobs):
                threading.Thread(target=keep_worker, args=(cluster.scheduler_address, over), daemon=True).start()
            table = sweep(
                {"arch": ["simple_cnn"], "epochs": [2], "train_limit": [128], "seed": list(range(options.runs))},
                str(data), store, cluster=Cluster(cluster.scheduler_address), limits=Limits(threads=1),
                notebook=short_notebook(Path(folder)))
            seconds = time.perf_counter() - start
            over.set()
        lost = [name for name in table.index if not whole(store / name)]
        trained = collections.Counter((store / "finished").read_text().splitlines())
        ends = collections.Counter(line.split()[0] for line in trained)
        print(f"soak: {options.runs} runs by {options.jobs} workers in {seconds:.0f} s, {len(killed)} workers killed; "
              f"{len(lost)} lost, {sum(count > 1 for count in ends.values())} doubled; "
              f"{', '.join(f'{count} {status}' for status, count in table['status'].value_counts().items())}")


def whole(folder: Path) -> bool:
    from fer_helpers.training import Run

    with contextlib.suppress(FerError):
        run = Run(folder)
        return len(run.history) == 2 and len(run.predictions) > 0 and "test" in run.metrics and bool(run.model())
    return False


if __name__ == "__main__":
    main()
