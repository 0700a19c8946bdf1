"""How a training goes: signal and gradient through depth, the first steps, sharpness.

Functions take networks and configurations and return tables; drawing is in `viz`, rates are in
`learning_rates`.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from ..data.faceset import FaceSet
from ..files import FerError
from ..training.config import TrainConfig
from ..training.distributed import current_context
from ..training.optim import lr_factor
from ..training.prediction import choose_device, choose_precision
from ..training.trainer import Trainer
from ..transforms.augmentation import draw, normalise, policy


def signal_through_depth(model: nn.Module, images: torch.Tensor) -> pd.DataFrame:
    """What is left of the images after each convolution and dense layer.

    One forward pass of uint8 ``images`` (N, 48, 48) through a copy of the network; batch norm with the statistics of
    these images, as in training, dropout off.

    Returns
    -------
    Data frame indexed by layer, 0 for the images themselves, shortcut projections left out: ``signal``, the
    root-mean-square output relative to that of the images, and ``distinct``, the share 0..1 of it that differs between
    images: the root-mean-square deviation from the mean over images. Where it nears 0 all images look alike, and no
    gradient can tell the layers below how to treat them differently (Schoenholz et al. 2017, arXiv:1611.01232).

    Raises
    ------
    FerError
        For fewer than two images.
    """
    if len(images) < 2:
        raise FerError(f"{len(images)} image(s) cannot differ from each other; give signal_through_depth two or more")
    model, batch = copy.deepcopy(model).eval(), normalise(images)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
    rows = [_strength(batch)]
    for layer in _weighted_layers(model):
        # Measured at once: the activation that follows may overwrite the output in place.
        layer.register_forward_hook(lambda _layer, _inputs, output: rows.append(_strength(output)))
    with torch.no_grad():
        model(batch)
    table = pd.DataFrame(rows, columns=["signal", "distinct"]).rename_axis("layer")
    return table.assign(signal=table["signal"] / table["signal"].iloc[0])


def layer_gradients(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> pd.Series:
    """Root-mean-square gradient of the weights of each convolution and dense layer, from the input to the output.

    One backward pass of cross-entropy over uint8 ``images`` (N, 48, 48) and int64 ``labels``, through a copy of the
    network. The index counts layers from 1, shortcut projections left out. A residual branch that starts at zero
    passes no gradient on in its first step, so a batch norm whose scales are all zero counts as one of scale 1.
    """
    model = copy.deepcopy(model).train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d) and not layer.weight.any():
            nn.init.ones_(layer.weight)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout
        F.cross_entropy(model(normalise(images)), labels).backward()
    values = [layer.weight.grad.pow(2).mean().sqrt().item() for layer in _weighted_layers(model)
              if layer.weight.grad is not None]
    return pd.Series(values, index=pd.RangeIndex(1, len(values) + 1, name="layer"))


def first_steps(config: TrainConfig, faces: FaceSet, steps: int) -> pd.DataFrame:
    """Train for ``steps`` steps: a data frame indexed by step, from 1, with columns rate and loss (before the step).

    Parameters
    ----------
    config : its warm-up and schedule run over its own number of epochs, as in `trainer.fit`.
    faces : result of `trainer.prepare_faces`; only its train split is looked at.

    Raises
    ------
    FerError
        If there are fewer train images than one batch takes, or ``steps`` exceeds all epochs.
    """
    rows = []
    with begin_training(config, faces) as (trainer, batches):
        if not 0 < steps <= config.epochs * trainer.steps_per_epoch:
            raise FerError(f"steps={steps}: {config.epochs} epochs of {trainer.steps_per_epoch} steps have no such "
                           "beginning; raise epochs")
        for number, (index, draws) in enumerate(itertools.islice(batches, steps)):
            rate = config.rate * lr_factor(config, number, trainer.steps_per_epoch)
            rows.append((rate, trainer.step(rate, index, draws)[0].item()))
    return pd.DataFrame(rows, pd.RangeIndex(1, steps + 1, name="step"), ["rate", "loss"])


@contextlib.contextmanager
def begin_training(config: TrainConfig, faces: FaceSet) -> Iterator[tuple[Trainer, Iterator[tuple[Any, Any]]]]:
    """A trainer about to take its first step, and its endless batches: index and chance of each, for `Trainer.step`.

    ``faces`` is a result of `trainer.prepare_faces`; `FerError` if its train split has fewer images than a batch.
    """
    train = faces.only("train")
    if len(train) < config.batch_size:
        raise FerError(f"{faces.source}: {len(train)} train images are too few for batch_size={config.batch_size}; "
                       "lower batch_size or add images")
    device, generator = choose_device(), torch.Generator().manual_seed(config.seed)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            order = torch.randperm(len(train), generator=generator)
            for index in order[:len(train) // config.batch_size * config.batch_size].split(config.batch_size):
                yield index, draw(len(index), generator, policy(config.augmentation))

    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(config.seed)  # dropout
        trainer = Trainer(config, train, faces.only("val"), device, choose_precision(config.precision, device),
                          current_context())
        trainer.model.train()
        yield trainer, batches()


def _weighted_layers(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Convolutions and dense layers in order; projections on the shortcuts run beside the main path."""
    return [layer for name, layer in model.named_modules()
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and "downsample" not in name]


def _strength(output: torch.Tensor) -> tuple[float, float]:
    """Root-mean-square of (N, …), and the share of it that differs along the first axis."""
    whole = output.pow(2).mean().sqrt().item()
    return whole, (output - output.mean(0)).pow(2).mean().sqrt().item() / whole if whole else 0.0
