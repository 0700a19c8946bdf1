"""The shipped network, and how a run becomes a folder that can be handed on: its weights, what is known of them, and
a model card. `loading` finds a network by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from ..files import FerError, read_json, write_atomic, write_json
from ..metrics.calibration import Calibration, calibrate, rescale
from ..metrics.evaluation import Evaluation
from ..models.base import Network
from ..training.config import TrainConfig
from ..training.prediction import predict_logits
from ..training.runs import Run, half_weights, load_weights
from .model_card import model_card

#: The shipped network: network.safetensors, network.json and the model card, README.md.
WEIGHTS = Path(__file__).parent / "weights"
NAME = "network"
HUB = "hf://"
_REINSTALL = "install fer_helpers again"


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A trained network and what is known of it.

    Attributes
    ----------
    model : the network in evaluation mode, float32 on the CPU.
    config : what it was trained with; ``config.tta`` is what its accuracy was measured with.
    metrics : `Run.metrics` of its run.
    calibration : of its confidence, from the validation images of its run.
    """

    model: Network
    config: TrainConfig
    metrics: dict[str, Evaluation]
    calibration: Calibration


def load_pretrained(folder: Path | str = WEIGHTS, fix: str = _REINSTALL) -> Pretrained:
    """The network that `save_network` wrote to a folder; without one the shipped network, for FER2013's seven classes.

    Raises
    ------
    FerError
        If its files are missing or damaged; ``fix`` is what mends that.
    """
    path = Path(folder) / f"{NAME}.json"
    card = read_json(path, fix)
    try:
        config = TrainConfig.from_dict(card["config"])
        metrics = {split: Evaluation.from_dict(values) for split, values in card["metrics"].items()}
        calibration = Calibration(**card["calibration"])
        if not (all(isinstance(value, (int, float)) for value in asdict(calibration).values())
                and calibration.temperature > 0):
            raise ValueError(f"{calibration} is no calibration")
    except (AttributeError, FerError, KeyError, TypeError, ValueError) as error:
        raise FerError(f"{path}: is not what was written ({error}); {fix}") from error
    model = load_weights(Path(folder) / f"{NAME}.safetensors", config, fix)
    return Pretrained(model, config, metrics, calibration)


def probabilities(network: Pretrained, images: torch.Tensor) -> np.ndarray:
    """float64 (N, C): calibrated probabilities of uint8 faces (N, 48, 48), averaged over the network's usual views."""
    logits = predict_logits(network.model, images, tta=network.config.tta)
    return rescale(logits.double().softmax(1).numpy(), network.calibration.temperature)


def calibration_of(run: Run) -> Calibration:
    """Of the confidence of a finished run, from its validation images."""
    rows, probs = run.predictions.query("split == 'val'"), run.probabilities("val")
    return calibrate(rows["true"].map(run.metrics["val"].classes.index).to_numpy(), probs)


def publish(run: Run, folder: Path | str = WEIGHTS) -> Path:
    """`save_network` in place of the shipped one.

    Raises
    ------
    FerError
        If the run is not of the compact network with seven classes, or as `save_network`.
    """
    config = run.config
    if (config.arch, config.classes) != ("compact", 7):
        raise FerError(f"{run.folder}: is a {config.classes}-class {config.arch}; publish a 7-class compact network")
    return save_network(run, folder)


def save_network(run: Run, folder: Path | str) -> Path:
    """Write a finished run's weights in float16, its configuration and metrics, and its model card.

    Returns
    -------
    The model card's path.

    Raises
    ------
    FerError
        If a weight does not fit float16.
    """
    folder = Path(folder)
    weights, calibration = half_weights(run), calibration_of(run)
    card, content = model_card(run, calibration), safetensors.torch.save(
        {key: value.contiguous() for key, value in weights.items()})
    write_atomic(folder / f"{NAME}.safetensors", lambda path: path.write_bytes(content))
    write_json(folder / f"{NAME}.json", {"config": run.config.to_dict(), "metrics": {
        split: scores.to_dict() for split, scores in run.metrics.items()}, "calibration": asdict(calibration)})
    write_atomic(folder / "README.md", lambda path: path.write_text(card, encoding="utf-8"))
    return folder / "README.md"
