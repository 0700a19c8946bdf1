"""More faces than memory: what two million on disk cost in memory and in time, beside faces that are in memory.

    python benchmarks/large.py [--images 2000000] [--drawn 20000] [--folder FOLDER] [--steps 200]

The set is written in parts to FOLDER (by default a temporary one, removed afterwards; one that exists is used as it
is): so many faces are drawn, the others are these mirrored, shifted, relit and with noise of their own, so that no two
are equal. Every part of the benchmark is a process of its own, whose memory is looked at while it runs. What counts is
the anonymous part: pages of a mapped file are resident until the system needs them for something else. Steps of the
compact network from disk, from disk after the system was told to forget the file, and from 100,000 faces in memory
alternate within one process. At the end `fer train` runs alone and under torchrun.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from fer_helpers.data import EMOTIONS, FaceSet, make_faces
from fer_helpers.data.mapped import Writer, open_mapped
from fer_helpers.data.synthetic import CLASS_SHARES
from fer_helpers.training import TrainConfig, choose_device, choose_precision, prepare_faces
from fer_helpers.training.distributed import DistributedContext
from fer_helpers.training.trainer import Trainer
from fer_helpers.transforms import draw, policy

IN_MEMORY = 100_000  # faces of the in-memory side
HELD_OUT = 0.005  # share of test, and of validation
CONFIG = TrainConfig(arch="compact", val_fraction=HELD_OUT)
LIMIT = 3 << 29  # bytes of anonymous memory allowed


def varied(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """uint8 (N, 48, 48): each mirrored or not, shifted by up to 3 pixels, relit, with noise."""
    count = len(images)
    shift, mirror = random.integers(-3, 4, (2, count, 1)), random.random((count, 1)) < 0.5
    line = np.arange(48)
    down, right = (np.clip(line + move, 0, 47) for move in shift)
    right = np.where(mirror, 47 - right, right)
    moved = images[np.arange(count)[:, None, None], down[:, :, None], right[:, None, :]].astype(np.float32)
    gain, offset = random.uniform([[0.8], [-20]], [[1.2], [20]], (2, count)).astype(np.float32)[..., None, None]
    moved = (moved - 128) * gain + (128 + offset) + random.integers(-8, 9, moved.shape, np.int8)
    return moved.clip(0, 255).astype(np.uint8)


def write(folder: Path, count: int, drawn: int) -> None:
    """The set of ``count`` faces, in parts."""
    start, random = time.perf_counter(), np.random.default_rng(0)
    images, labels = np.empty((drawn, 48, 48), np.uint8), np.empty(drawn, np.int64)
    for first in range(0, drawn, 1000):
        part = make_faces({name: round(1000 * share) for name, share in CLASS_SHARES.items()}, seed=first)
        size = min(len(part), drawn - first)
        order = random.permutation(len(part))[:size]
        images[first:first + size], labels[first:first + size] = part.images[order], part.labels[order]
    print(f"drawn: {drawn:,} faces in {time.perf_counter() - start:.0f} s", flush=True)
    start, chosen = time.perf_counter(), np.arange(count) % drawn
    with Writer(folder) as writer:
        for first in range(0, count, 4000):
            rows = chosen[first:first + 4000]
            writer.append(images[rows] if first < drawn else varied(images[rows], random))
        print(f"appended: {count:,} faces in {time.perf_counter() - start:.0f} s", flush=True)
        writer.keep(FaceSet(writer.images(), torch.from_numpy(labels[chosen]),
                            np.array([f"face{number:07d}" for number in range(count)]),
                            np.where(random.random(count) < HELD_OUT, "test", "train"), EMOTIONS,
                            source="varied drawn faces"))
    print(f"written in all in {time.perf_counter() - start:.0f} s", flush=True)


def endless(trainer: Trainer) -> Iterator[None]:
    """Steps as an epoch makes them, one a ``next``."""
    random, size = torch.Generator().manual_seed(0), trainer.config.batch_size
    batches = (torch.randint(len(trainer.hard_labels), (size,), generator=random) for _ in iter(int, 1))
    trainer.model.train()
    for index, pixels in trainer.pixels.iterate(batches):
        trainer.step(0.01, index, draw(size, random, policy(trainer.config.augmentation)), pixels)
        yield


def trainer_of(faces: FaceSet) -> Trainer:
    device = choose_device()
    view = prepare_faces(CONFIG, faces)
    return Trainer(CONFIG, view.only("train"), view.only("val"), device, choose_precision("auto", device),
                   DistributedContext())


def forget(path: Path) -> None:
    """Ask the system to keep no page of the file in memory but those that a process has mapped."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def train(folder: Path, steps: int) -> None:
    """Prepare and train on all of the set, from disk, and validate."""
    start = time.perf_counter()
    trainer = trainer_of(open_mapped(folder))
    print(f"opened and prepared in {time.perf_counter() - start:.0f} s: {len(trainer.hard_labels):,} train, "
          f"{trainer.val_count:,} validation images, {trainer.device}, {trainer.precision}", flush=True)
    start, work = time.perf_counter(), endless(trainer)
    for _ in range(steps):
        next(work)
    print(f"{steps} steps in {time.perf_counter() - start:.0f} s; validated: {trainer._validate()}")


def compare(folder: Path, steps: int) -> None:
    """Steps from disk, from disk but cold, and from memory, in turns; and reading alone."""
    faces = open_mapped(folder)
    resident = dataclasses.replace(faces.take(np.arange(min(IN_MEMORY, len(faces)))))  # gathers what it copies
    ways = {"memory": endless(trainer_of(resident)), "disk": endless(trainer_of(faces))}
    seconds: dict[str, list[float]] = {"memory": [], "disk": [], "disk, cold": []}
    for way in ways.values():
        next(way)
    random = np.random.default_rng(1)
    for _ in range(steps):
        for name in random.permutation(list(seconds)):
            if name == "disk, cold":
                forget(folder / "images.npy")
            start = time.perf_counter()
            next(ways[name.split(",")[0]])
            seconds[name].append(time.perf_counter() - start)
    again = random.integers(steps, size=(2000, steps))
    for name, values in seconds.items():
        medians = [np.median(np.array(side)[again], axis=1) for side in (seconds["memory"], values)]
        low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
        print(f"{name:<12}{CONFIG.batch_size / np.median(values):8.0f} images/s, times memory: "
              f"{np.median(seconds['memory']) / np.median(values):.3f} [{low:.3f}, {high:.3f}]", flush=True)
    batches = [random.integers(len(faces), size=CONFIG.batch_size) for _ in range(500)]
    for state in ("cold", "warm"):
        before = memory(os.getpid())["RssAnon"]
        if state == "cold":
            forget(folder / "images.npy")
        start = time.perf_counter()
        for rows in batches:
            faces.images[rows]
        print(f"a batch read, {state}: {(time.perf_counter() - start) / len(batches) * 1e3:.2f} ms; "
              f"anonymous memory grew by {(memory(os.getpid())['RssAnon'] - before) >> 20:,} MiB")


def memory(process: int) -> dict[str, int]:
    """Bytes by name from the process's status: VmHWM (most resident so far), VmRSS, RssAnon."""
    found = {}
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmHWM", "VmRSS", "RssAnon"):
            found[name] = int(value.split()[0]) << 10
    return found


def family(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(member for child in children for member in family(int(child)))]


def watch(name: str, command: list[str], judge: bool = True) -> None:
    """Run a command and print the most memory of each process that it started, and whether what is anonymous is within
    `LIMIT`."""
    print(f"\n{name}: {' '.join(Path(word).name if word.startswith('/') else word for word in command)}", flush=True)
    most: dict[int, dict[str, int]] = {}
    names: dict[int, str] = {}
    running = subprocess.Popen(command)
    while running.poll() is None:
        with contextlib.suppress(OSError):  # processes end while they are looked at
            for member in family(running.pid):
                names[member] = Path(f"/proc/{member}/comm").read_text().strip()
                for key, value in memory(member).items():
                    known = most.setdefault(member, {})
                    known[key] = max(known.get(key, 0), value)
        time.sleep(0.05)
    for member, peaks in most.items():
        if peaks.get("VmHWM", 0) > 1 << 28:  # not the launchers
            verdict = f", {'within' if peaks['RssAnon'] <= LIMIT else 'ABOVE'} {LIMIT >> 20:,} MiB" if judge else ""
            print(f"process {names[member]}: at most {peaks['VmHWM'] >> 20:,} MiB resident, of which "
                  f"{peaks['RssAnon'] >> 20:,} MiB anonymous{verdict}", flush=True)
    if running.returncode:
        sys.exit(f"{name} failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--drawn", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--steps", type=int, default=200, help="training steps of each kind")
    parser.add_argument("--part", choices=["write", "train", "compare"], help="run this part alone, in this process")
    options = parser.parse_args()
    if options.part == "write":
        return write(options.folder, options.images, options.drawn)
    if options.part == "train":
        return train(options.folder, options.steps)
    if options.part == "compare":
        return compare(options.folder, options.steps)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "faces"
        this = [sys.executable, __file__, "--folder", str(folder), "--images", str(options.images), "--drawn",
                str(options.drawn), "--steps", str(options.steps), "--part"]
        if not folder.exists():
            watch("Writing", [*this, "write"])
        watch("Training on all of it", [*this, "train"])
        watch("Disk beside memory", [*this, "compare"], judge=False)  # the faces in memory are in the same process
        fer = str(Path(sys.executable).with_name("fer"))
        limit = options.steps * CONFIG.batch_size
        for size in (1, 2):
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size),
                        "--no-python"]
            watch(f"fer train in {size} process{'es' * (size > 1)}", [
                *torchrun, fer, "train", "arch=compact", "epochs=1", f"val_fraction={HELD_OUT}",
                f"train_limit={limit}", "--data", str(folder), "--store", f"{temporary}/{size}"])
    return None


if __name__ == "__main__":
    main()
