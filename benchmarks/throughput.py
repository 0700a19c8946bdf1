"""Training steps per second: ours against the stock way, and both against this machine's own arithmetic peak.

The stock way is what one writes first with torchvision: ImageFolder, a DataLoader with worker processes, transforms on
PIL images, and the stock model in fp32. Ours is `trainer.Trainer`, the loop inside `fit`. Both see the same images,
batch size and augmentation, with SGD; rounds of the two alternate within one process, as does the matrix product that
measures the peak, so that whatever else the machine does falls on all alike. The peak is that of bf16 where the
hardware has it, and training uses it; elsewhere bf16 is emulated, hundreds of times slower, and the peak is that of
fp32. Our small network has no stock sibling: it is set against torchvision's smallest ResNet.

    python benchmarks/throughput.py [--rounds 3] [--steps 4] [--batch-size 128]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from fer_helpers.data import embedded_faces
from fer_helpers.training import TrainConfig, choose_device, choose_precision, prepare_faces
from fer_helpers.training.distributed import DistributedContext
from fer_helpers.training.trainer import Trainer
from fer_helpers.transforms import draw
from fer_helpers.transforms.augmentation import DRAWS

STOCK = {"vgg16": torchvision.models.vgg16_bn, "resnet50": torchvision.models.resnet50,
         "compact": torchvision.models.resnet18}
#: The least that issue 3 asks of two cores: times the stock way, share of the peak.
TARGETS = {"vgg16": (4, 0.40), "resnet50": (2, 0.15), "compact": (None, 0.45)}
PEAK_SIDE = 4096


def stock_steps(arch: str, folder: Path, batch_size: int, device: str) -> Iterator[torch.nn.Module]:
    """Endless training steps of the stock way; each ``next`` is one, and gives the network."""
    transform = v2.Compose([
        v2.RandomHorizontalFlip(), v2.RandomAffine(10, (4 / 48, 4 / 48), (0.9, 1.1)), v2.ColorJitter(0.1, 0.2),
        v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)])
    images = torchvision.datasets.ImageFolder(folder, transform)
    loader = torch.utils.data.DataLoader(images, batch_size, shuffle=True, num_workers=2, drop_last=True,
                                         persistent_workers=True)
    model = STOCK[arch](num_classes=len(images.classes)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    while True:
        for batch, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(batch.to(device)), labels.to(device)).backward()
            optimizer.step()
            yield model


def our_steps(trainer: Trainer) -> Iterator[None]:
    """Endless steps of our engine, augmentation included."""
    random, size = torch.Generator().manual_seed(0), trainer.config.batch_size
    trainer.model.train()
    while True:
        index = torch.randint(len(trainer.hard_labels), (size,), generator=random)
        trainer.step(0.01, index, draw(size, random))
        yield


def step_flops(trainer: Trainer) -> int:
    """Floating-point operations, forward and backward, of one step per image."""
    index = torch.arange(trainer.config.batch_size)
    with FlopCounterMode(display=False) as counter:
        trainer.step(0.0, index, torch.zeros(len(index), DRAWS))
    return counter.get_total_flops() / len(index)


def seconds(work: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def write_folder(folder: Path, images: torch.Tensor, labels: torch.Tensor) -> None:
    for number, (image, label) in enumerate(zip(images.numpy(), labels.tolist(), strict=True)):
        path = folder / str(label) / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.asarray(image)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="training steps of each way per round")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--archs", nargs="*", default=list(STOCK))
    options = parser.parse_args()
    device = choose_device()
    faces = embedded_faces()
    matrix = torch.randn(PEAK_SIDE, PEAK_SIDE, device=device)
    precision = choose_precision("auto", device)
    factors = {"fp32": matrix} | ({"bf16": matrix.bfloat16()} if precision == "bf16" else {})
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, batch {options.batch_size}, "
          f"{precision}")
    print(f"{'':9}{'stock img/s':>12}{'ours img/s':>12}{'ratio':>7}{precision + ' peak GFLOP/s':>19}{'share':>7}"
          f"{'fp32 peak':>11}   target")
    for arch in options.archs:
        with tempfile.TemporaryDirectory() as folder:
            view = prepare_faces(TrainConfig(arch=arch, classes=6, batch_size=options.batch_size), faces)
            write_folder(Path(folder), view.only("train").images, view.only("train").labels)
            trainer = Trainer(TrainConfig(arch=arch, batch_size=options.batch_size, augmentation="standard"),
                              view.only("train"), view.only("val"), device, precision, DistributedContext())
            ways = {"stock": stock_steps(arch, Path(folder), options.batch_size, device), "ours": our_steps(trainer)}
            flops = step_flops(trainer)
            for steps in ways.values():
                for _ in range(2):  # worker processes start, kernels are chosen
                    next(steps)
            found: dict[str, list[float]] = {name: [] for name in (*ways, *factors)}
            for _ in range(options.rounds):
                for name, steps in ways.items():
                    found[name].append(seconds(lambda steps=steps: [next(steps) for _ in range(options.steps)], device))
                for name, factor in factors.items():
                    found[name].append(min(seconds(lambda factor=factor: factor @ factor, device) for _ in range(2)))
        median = {name: statistics.median(values) for name, values in found.items()}
        rate = {name: options.steps * options.batch_size / median[name] for name in ways}
        peak = {name: 2 * PEAK_SIDE**3 / median[name] for name in factors}
        ratio, share = rate["ours"] / rate["stock"], rate["ours"] * flops / peak[precision]
        least_ratio, least_share = TARGETS[arch]
        verdict = [f"{name} {'met' if value >= least else 'missed'} ({least:g})"
                   for name, value, least in (("ratio", ratio, least_ratio), ("share", share, least_share)) if least]
        print(f"{arch:9}{rate['stock']:12.0f}{rate['ours']:12.0f}{ratio:7.2f}{peak[precision] / 1e9:19.0f}{share:7.0%}"
              f"{peak['fp32'] / 1e9:11.0f}   {', '.join(verdict)}", flush=True)


if __name__ == "__main__":
    main()
