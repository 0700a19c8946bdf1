"""Seconds of training to 65% (human level) on the official test split of FER2013's seven classes, from scratch.

A fixed recipe, several seeds, no selection: every train image is used, the last weights are kept, and the test split is
looked at once, when training is over. Beside it the stock way of `throughput.py` (torchvision's ResNet18 in fp32 on PIL
images) for as long as our slowest seed took, so that the two can be compared at equal time.

    python benchmarks/time_to_accuracy.py --data FOLDER [--seeds 3] [--target 0.65] [--no-stock] [--keep FOLDER]

With ``--keep`` an interrupted benchmark goes on from the last epoch; seconds are those of the epochs, pauses left out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from throughput import stock_steps, write_folder

from fer_helpers.data import FaceSet, load_faces
from fer_helpers.metrics import Evaluation, evaluate
from fer_helpers.training import TrainConfig, choose_device, fit, predict_logits, prepare_faces

#: What `benchmarks/README.md` tells the story of. Next to nothing is held out: the recipe is fixed.
RECIPE = dict(arch="compact", classes=7, optimizer="muon", lr=0.02, schedule="onecycle", warmup_epochs=0, epochs=16,
              batch_size=128, label_smoothing=0.1, augmentation="standard", progressive=True, tta="flip", keep="last",
              val_fraction=0.001)


def score(probs: torch.Tensor, test: FaceSet) -> Evaluation:
    return evaluate(test.labels.numpy(), probs.numpy(), test.classes)


def ours(faces: FaceSet, config: TrainConfig, keep: Path | None) -> tuple[float, Evaluation]:
    """Seconds of training, and the result on the test split."""
    view = prepare_faces(config, faces)
    fitted, test = fit(config, view, keep and keep / f"seed{config.seed}.pt"), view.only("test")
    probs = predict_logits(fitted.model, test.images, fitted.precision, config.tta).softmax(1)
    return fitted.history["seconds"].sum(), score(probs, test)


def stock(faces: FaceSet, budget: float, batch_size: int) -> tuple[float, Evaluation]:
    """The stock way trained for ``budget`` seconds."""
    view, device = faces.with_classes(7), choose_device()
    train, test = view.only("train"), view.only("test")
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), train.images, train.labels)
        steps = stock_steps("compact", Path(folder), batch_size, device)
        model, start = next(steps), time.perf_counter()
        while time.perf_counter() - start < budget:
            next(steps)
        spent = time.perf_counter() - start
    model.eval()
    with torch.inference_mode():
        images = ((test.images[:, None].float() / 255 - 0.5) / 0.25).expand(-1, 3, -1, -1)
        probs = torch.cat([model(part.to(device)).softmax(1).cpu() for part in images.split(256)])
    return spent, score(probs, test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="", help="folder, CSV or zip; empty takes FER_DATA")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--target", type=float, default=0.65)
    parser.add_argument("--no-stock", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder for checkpoints")
    options = parser.parse_args()
    faces = load_faces(options.data)
    rows = []
    for seed in range(options.seeds):
        config = TrainConfig(**RECIPE, seed=seed)
        seconds, result = ours(faces, config, options.keep)
        rows.append({"way": f"ours, seed {seed}", "seconds": seconds, "accuracy": result.accuracy.value,
                     "low": result.accuracy.low, "high": result.accuracy.high})
        print("{way}: {accuracy:.4f} [{low:.4f}, {high:.4f}] in {seconds:.0f} s".format(**rows[-1]), flush=True)
    table = pd.DataFrame(rows)
    mean, spread = table["accuracy"].mean(), table["accuracy"].std(ddof=1) / np.sqrt(len(table))
    print(f"mean of {len(table)} seeds: {mean:.4f} ± {1.96 * spread:.4f} in {table['seconds'].mean():.0f} s; target "
          f"{options.target:g} {'met' if mean >= options.target else 'missed'}")
    if not options.no_stock:
        seconds, result = stock(faces, table["seconds"].max(), RECIPE["batch_size"])
        print(f"stock ResNet18, fp32, one seed: {result.accuracy} in {seconds:.0f} s")


if __name__ == "__main__":
    main()
