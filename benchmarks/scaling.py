"""How much faster two workers finish a sweep than one: runs a minute of each, and the efficiency.

    python benchmarks/scaling.py [--runs 6] [--workers 1 2] [--train-limit 2000]

Each worker trains with one thread, so that two of them have twice the processor of one. The sweeps take turns and are
of other seeds, hence all is trained.
"""

from __future__ import annotations

import argparse
import tempfile
import time

from fer_helpers.data import load_faces
from fer_helpers.experiments import Cluster, Limits, sweep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--train-limit", type=int, default=2000, help="images of an epoch, of which a run has one")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    load_faces("", progress=False)  # drawn once, before the clock runs
    seconds = dict.fromkeys(options.workers, 0.0)
    with tempfile.TemporaryDirectory() as store:
        for number in range(options.rounds * len(options.workers)):
            workers = options.workers[number % len(options.workers)]
            seeds = [number * options.runs + seed for seed in range(options.runs)]
            start = time.perf_counter()
            table = sweep({"arch": ["compact"], "epochs": [1], "train_limit": [options.train_limit], "seed": seeds},
                          store=store, cluster=Cluster(jobs=workers), limits=Limits(threads=1))
            seconds[workers] += time.perf_counter() - start
            assert set(table["status"]) == {"finished"}
    first = options.workers[0]
    for workers, spent in seconds.items():
        print(f"scaling: {workers} workers, {60 * options.rounds * options.runs / spent:.2f} runs a minute, "
              f"{seconds[first] / spent:.2f} times {first}, efficiency {seconds[first] * first / spent / workers:.0%}")


if __name__ == "__main__":
    main()
