"""The shipped networks, and how a run becomes a folder that can be handed on: its weights, what is known of them, and
a model card. `loading` finds a network by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from ..files import FerError, listing, read_json, write_atomic, write_json
from ..metrics.calibration import Calibration, calibrate, fit_temperature, rescale
from ..metrics.evaluation import Evaluation
from ..models.base import Network
from ..training.config import TrainConfig
from ..training.prediction import predict_logits
from ..training.runs import Run, half_weights, load_weights
from .model_card import model_card

#: The shipped networks, the usual one first, and their architectures. Each has a folder: network.safetensors,
#: network.json and the model card, README.md.
SHIPPED = {"small": "mobile", "best": "compact"}
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


def load_pretrained(folder: Path | str = WEIGHTS / "small", fix: str = _REINSTALL) -> Pretrained:
    """The network that `save_network` wrote to a folder; without one the small network that ships, for FER2013's seven
    classes.

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
    return answers(network, images)[0]


def answers(network: Pretrained, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray | None]:
    """`probabilities`, and float64 (N, C) the shares of votes that people would give, as the ten of FER+ did; None of
    a network that did not learn them."""
    logits = predict_logits(network.model, images, tta=network.config.tta, votes=True).double()
    own, *votes = (part.softmax(1).numpy() for part in logits.split(len(network.config.class_names), 1))
    calibration = network.calibration
    return (rescale(own, calibration.temperature),
            rescale(votes[0], calibration.vote_temperature) if votes else None)


def calibration_of(run: Run) -> Calibration:
    """Of the confidence of a finished run, from its validation images."""
    rows, probs = run.predictions.query("split == 'val'"), run.probabilities("val")
    found = calibrate(rows["true"].map(run.metrics["val"].classes.index).to_numpy(), probs)
    people, told = run.votes("val")
    return replace(found, vote_temperature=fit_temperature(people, told)) if len(people) else found


def publish(run: Run, folder: Path | str = WEIGHTS) -> Path:
    """`save_network` in place of the shipped one of that architecture.

    Raises
    ------
    FerError
        If the run is of none of their architectures or not of seven classes, or as `save_network`.
    """
    config = run.config
    places = [name for name, arch in SHIPPED.items() if arch == config.arch and config.classes == 7]
    if not places:
        raise FerError(f"{run.folder}: is a {config.classes}-class {config.arch}; publish a 7-class "
                       f"{listing(SHIPPED.values(), 'or')}")
    return save_network(run, Path(folder) / places[0])


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
