"""What each change of a training is worth: one at a time, on validation images, and what it costs in training time.

    python benchmarks/levers.py --data FOLDER [--store FOLDER] [--arch mobile] [--epochs 12] [--only NAME,…]

One seed each, from a plain recipe; the difference to it is paired over the same validation images, and nothing of the
test images is told. The store keeps what is finished, and the command goes on from there. Alone on the machine, or the
times mean nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from fer_helpers.data import load_faces
from fer_helpers.metrics import compare, wilson
from fer_helpers.report.text import p_value, table
from fer_helpers.training import Run, TrainConfig, predict_logits, prepare_faces, train_run

BASE = dict(classes=7, optimizer="muon", lr=0.16, label_smoothing=0.1, progressive=True, keep="last")
#: What is changed of it.
LEVERS: dict[str, dict[str, object]] = {
    "half the rate": {"lr": 0.08}, "twice the rate": {"lr": 0.32},
    "48 pixels from the start": {"progressive": False}, "no label smoothing": {"label_smoothing": 0.0},
    "weights averaged": {"ema": 0.999}, "weight decay ×4": {"weight_decay": 2e-3},
    "votes beside the labels": {"votes": 1.0}, "votes instead of labels": {"loss": "soft_votes"},
    "mirror only": {"augmentation": "flip"}, "strong": {"augmentation": "strong"},
    "erasing": {"augmentation": "standard+erase"}, "mixup": {"augmentation": "standard+mixup"},
    "CutMix": {"augmentation": "standard+cutmix"}, "TrivialAugment": {"augmentation": "standard+trivial"},
    "rare classes count more": {"class_weights": "effective"}, "CBAM": {"cbam": True}}
VIEWS = {"two views at the end": "flip", "ten views at the end": "ten_crop"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="", help="folder, CSV or zip; empty takes FER_DATA")
    parser.add_argument("--store", type=Path, default=None, help="folder of the runs")
    parser.add_argument("--arch", default="mobile")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--only", default="", help="names of levers, with commas between")
    options = parser.parse_args()
    levers = LEVERS | {"twice the epochs": {"epochs": 2 * options.epochs}}
    names = [name for name in options.only.split(",") if name] or [*levers, *VIEWS]
    if unknown := set(names) - {*levers, *VIEWS}:
        raise SystemExit(f"{', '.join(sorted(unknown))}: no lever; known are {', '.join((*levers, *VIEWS))}")
    faces = load_faces(options.data)
    base = TrainConfig(arch=options.arch, epochs=options.epochs, **BASE)  # type: ignore[arg-type]
    val = prepare_faces(base, faces).only("val")
    labels = val.labels.numpy()

    def trained(changes: dict[str, object]) -> tuple[Run, float]:
        """The run, and its seconds in all."""
        run = train_run(dataclasses.replace(base, **changes), faces, options.store)
        return run, float(run.history["seconds"].sum())

    plain, price = trained({})
    model = plain.model()
    right = plain.probabilities("val").argmax(1) == labels
    rows = [("as it is", wilson(int(right.sum()), len(right)).percent, "", "", f"{price / 60:.1f} min")]
    for name in tqdm(names, "levers"):
        if name in VIEWS:
            probs, cost = predict_logits(model, val.images, tta=VIEWS[name]).softmax(1).numpy(), price
        else:
            run, cost = trained(levers[name])
            probs = run.probabilities("val")
        answered = probs.argmax(1) == labels
        change = compare(answered, right)
        points = (100 * end for end in dataclasses.astuple(change.difference))
        rows.append((name, wilson(int(answered.sum()), len(answered)).percent,
                     "{:+.1f} [{:+.1f}, {:+.1f}]".format(*points), p_value(change.p_value), f"×{cost / price:.2f}"))
        print(" | ".join(rows[-1]), flush=True)
    print(table(pd.DataFrame(rows, columns=["lever", "validation accuracy, %", "difference, points", "", "training"])))


if __name__ == "__main__":
    main()
