"""What an answer of the shipped networks is worth: accuracy, calibration and the sure answers, on test images as they
are, corrupted, and as a detector cuts them out of a photograph.

    python benchmarks/answers.py --data FOLDER [--images 600] [--networks small,best]

Temperature and threshold are those that ship, from validation images. For the detectors, test images are pasted on a
photograph, 200 pixels wide; those found are compared with the same images as the data set cuts them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from detection import photograph
from PIL import Image
from tqdm.auto import tqdm

from fer_helpers.data import FaceSet, load_faces
from fer_helpers.inference import Pretrained, load_network, probabilities
from fer_helpers.inference.detection import DETECTORS, find_faces
from fer_helpers.metrics import compare, evaluate, wilson
from fer_helpers.transforms import CORRUPTIONS, corrupt

SEVERITY, WIDTH, SIDE = 3, 200, 1600


def found_faces(faces: FaceSet, detector: str) -> Iterator[tuple[int, torch.Tensor]]:
    """Of the images that the detector finds again, their rows and the crops it makes of them."""
    for rows in tqdm(np.arange(len(faces)).reshape(-1, 12), detector):
        heads = [(Image.fromarray(image).convert("RGB"), 0.75) for image in faces.images[rows].numpy()]
        picture, places = photograph(heads, WIDTH, SIDE)
        found = find_faces(picture, detector)
        for row, (left, top, right, bottom) in zip(rows, places, strict=True):
            inside = [face for face in found if left < (face.box[0] + face.box[2]) / 2 < right
                      and top < (face.box[1] + face.box[3]) / 2 < bottom]
            if inside:
                yield int(row), inside[0].crop


def row(network: Pretrained, images: torch.Tensor, labels: np.ndarray) -> tuple[dict[str, object], np.ndarray]:
    """A line of the table, and whether each answer is right."""
    probs = probabilities(network, images)
    scores = evaluate(labels, probs, network.config.class_names, 0)
    right, sure = probs.argmax(1) == labels, probs.max(1) >= network.calibration.threshold
    return {"images": len(labels), "accuracy, %": scores.accuracy.percent, "ECE, %": scores.ece.percent,
            "sure, %": f"{100 * sure.mean():.0f}",
            "of the sure right, %": wilson(int(right[sure].sum()), int(sure.sum())).percent}, right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="", help="folder, CSV or zip; empty takes FER_DATA")
    parser.add_argument("--images", type=int, default=600, help="of test, corrupted, and pasted for detectors")
    parser.add_argument("--networks", default="small,best")
    options = parser.parse_args()
    test = load_faces(options.data).with_classes(7).only("test")
    some = test.take(np.random.default_rng(0).permutation(len(test))[:options.images // 12 * 12])
    cut = {detector: dict(found_faces(some, detector)) for detector in DETECTORS}
    for name in options.networks.split(","):
        network, table = load_network(name), {}
        table["as they are"], _ = row(network, test.images, test.labels.numpy())
        for corruption in tqdm(CORRUPTIONS, name):
            images = corrupt(some.images, corruption, SEVERITY)
            table[f"{corruption}, severity {SEVERITY}"], _ = row(network, images, some.labels.numpy())
        for detector, crops in cut.items():
            same, labels = some.take(np.array(list(crops))), some.labels.numpy()[list(crops)]
            table[f"{detector} found"], right = row(network, torch.stack(list(crops.values())), labels)
            table[f"the same, as cut (not by {detector})"], before = row(network, same.images, labels)
            change = compare(right, before).difference
            table[f"{detector} found"] |= {"found, %": f"{100 * len(labels) / len(some):.0f}",
                                           "change": change.percent}
        print(f"\n{name}: {network.config.arch}\n{pd.DataFrame(table).T.fillna('').to_string()}")


if __name__ == "__main__":
    main()
