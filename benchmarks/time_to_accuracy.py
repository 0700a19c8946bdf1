"""Accuracy on FER2013's seven classes against minutes of training, from scratch, beside the stock way in the same run.

Of each network as many epochs as a budget has time for, by a few steps that are timed first; the one that is better on
validation images answers the test split, once. The stock way of `throughput.py` (torchvision's ResNet18 in fp32, PIL
images) is one training, looked at as each budget ends; its rate is constant, as its budget is unknown to it.

    python benchmarks/time_to_accuracy.py --data FOLDER [--minutes 2,5,10,30,60] [--archs mobile,compact]
                                          [--store FOLDER] [--no-stock]

With ``--store`` an interrupted benchmark goes on from the last epoch; seconds are those of the epochs, pauses left out.
Alone on the machine, or the budgets mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from throughput import stock_steps, write_folder

from fer_helpers.data import FaceSet, load_faces
from fer_helpers.metrics import Estimate, evaluate
from fer_helpers.training import TrainConfig, choose_device, fit, prepare_faces, train_run

RECIPE = TrainConfig(classes=7, optimizer="muon", lr=0.16, label_smoothing=0.1, votes=1, progressive=True, tta="flip",
                     keep="last", val_fraction=0.05)
#: Steps of one epoch, and epochs, that are timed: ten epochs take the three sizes of a progressive training in turn.
STEPS, EPOCHS = 6, 10


def epochs_within(budget: float, config: TrainConfig, faces: FaceSet) -> int:
    """How many epochs of ``config`` take ``budget`` seconds on this machine, one at least."""
    short = dataclasses.replace(config, epochs=EPOCHS, train_limit=STEPS * config.batch_size)
    view = prepare_faces(short, faces)
    validated = np.flatnonzero(view.split == "val")[:config.batch_size]  # all of them would outweigh the steps
    view = view.take(np.concatenate([np.flatnonzero(view.split == "train"), validated]))
    spent = fit(short, view, progress=False).history["seconds"]
    images = int((prepare_faces(config, faces).split == "train").sum())
    return max(1, int(budget / (spent.mean() / STEPS * (images // config.batch_size))))


def ours(faces: FaceSet, budget: float, archs: Sequence[str], store: Path) -> tuple[str, float, Estimate]:
    """What was chosen, its seconds of training, and its test accuracy."""
    runs = []
    for arch in archs:
        config = dataclasses.replace(RECIPE, arch=arch)
        runs.append(train_run(dataclasses.replace(config, epochs=epochs_within(budget, config, faces)), faces, store))
        print(f"  {arch}, {runs[-1].config.epochs} epochs, {runs[-1].history['seconds'].sum():.0f} s: validation "
              f"{runs[-1].metrics['val'].accuracy.percent}", flush=True)
    best = max(runs, key=lambda run: run.metrics["val"].accuracy.value)
    return (f"{best.config.arch}, {best.config.epochs} epochs", best.history["seconds"].sum(),
            best.metrics["test"].accuracy)


def stock(faces: FaceSet, budgets: Sequence[float], batch_size: int = RECIPE.batch_size) -> Iterator[Estimate]:
    """Test accuracy of the stock way after each of ``budgets`` seconds; looking does not count."""
    view, device = faces.with_classes(7), choose_device()
    train, test = view.only("train"), view.only("test")
    images = ((test.images[:, None].float() / 255 - 0.5) / 0.25).expand(-1, 3, -1, -1)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), train.images, train.labels)
        steps = stock_steps("compact", Path(folder), batch_size, device)
        model, spent = next(steps), 0.0
        for budget in budgets:
            start = time.perf_counter() - spent
            while time.perf_counter() - start < budget:
                next(steps)
            spent = time.perf_counter() - start
            model.eval()
            with torch.inference_mode():
                probs = torch.cat([model(part.to(device)).softmax(1).cpu() for part in images.split(256)])
            model.train()
            yield evaluate(test.labels.numpy(), probs.numpy(), test.classes).accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="", help="folder, CSV or zip; empty takes FER_DATA")
    parser.add_argument("--minutes", default="2,5,10,30,60")
    parser.add_argument("--archs", default="mobile,compact")
    parser.add_argument("--store", type=Path, help="folder of the runs; a temporary one if none is given")
    parser.add_argument("--no-stock", action="store_true")
    options = parser.parse_args()
    faces = load_faces(options.data)
    minutes = sorted(float(part) for part in options.minutes.split(","))
    with tempfile.TemporaryDirectory() as folder:
        for each in minutes:
            what, seconds, accuracy = ours(faces, 60 * each, options.archs.split(","), options.store or Path(folder))
            print(f"| {each:g} min | {what} | {seconds:.0f} s | {accuracy.percent} |", flush=True)
    if not options.no_stock:
        for each, accuracy in zip(minutes, stock(faces, [60 * each for each in minutes]), strict=True):
            print(f"| {each:g} min | stock ResNet18 | {60 * each:.0f} s | {accuracy.percent} |", flush=True)


if __name__ == "__main__":
    main()
