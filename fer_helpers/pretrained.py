"""Networks ready to answer: the shipped one, a run's, or one that was shared; and how a run becomes a folder that
can be handed on: its weights, what is known of them, and a model card."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from .confidence import Calibration, calibrate, rescale
from .config import TrainConfig
from .emotions import CLASS_SETS
from .evaluation import Evaluation, evaluate
from .files import FerError, read_json, write_atomic, write_json
from .models import Network
from .runs import Run, default_store, load_weights
from .training import predict_logits

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


def load_network(run: str = "", store: Path | str | None = None) -> Pretrained:
    """The shipped network, that of a finished run, or one that somebody shared.

    Parameters
    ----------
    run : "" for the shipped network; "hf://user/name" for what `hub.push` shared (fetched once, then kept); else the
        folder of a run, or its name in ``store`` (None takes `runs.default_store`).

    Raises
    ------
    FerError
        If there is no such run, or its files are missing or damaged.
    """
    if not run:
        return load_pretrained()
    if run.startswith(HUB):
        from .hub import pull

        return pull(run.removeprefix(HUB))
    found = find_run(run, store)
    return Pretrained(found.model(), found.config, found.metrics, _calibrated(found))


def find_run(run: str, store: Path | str | None = None) -> Run:
    """The finished run of that folder, or of that name in ``store`` (None takes `runs.default_store`).

    Raises
    ------
    FerError
        If there is none.
    """
    folder = Path(run) if os.path.isdir(run) else Path(store or default_store()) / run
    if not os.path.exists(folder / "metrics.json"):  # unlike Path.exists, also of a name that no disk could hold
        raise FerError(f"{folder}: is no finished run; fer runs lists them")
    return Run(folder)


def probabilities(network: Pretrained, images: torch.Tensor) -> np.ndarray:
    """float64 (N, C): calibrated probabilities of uint8 faces (N, 48, 48), averaged over the network's usual views."""
    logits = predict_logits(network.model, images, tta=network.config.tta)
    return rescale(logits.double().softmax(1).numpy(), network.calibration.temperature)


def _calibrated(run: Run) -> Calibration:
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
    weights = {name: value.half() if value.is_floating_point() else value
               for name, value in run.model().state_dict().items()}
    if broken := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise FerError(f"{run.folder}: {broken[0]} does not fit float16; train with more weight_decay")
    calibration = _calibrated(run)
    card, content = model_card(run, calibration), safetensors.torch.save(
        {key: value.contiguous() for key, value in weights.items()})
    write_atomic(folder / f"{NAME}.safetensors", lambda path: path.write_bytes(content))
    write_json(folder / f"{NAME}.json", {"config": run.config.to_dict(), "metrics": {
        split: scores.to_dict() for split, scores in run.metrics.items()}, "calibration": asdict(calibration)})
    write_atomic(folder / "README.md", lambda path: path.write_text(card, encoding="utf-8"))
    return folder / "README.md"


def asked_only(run: Run, classes: int, split: str = "test") -> Evaluation:
    """A run on the images of some of its classes, its other answers forbidden.

    Not what a network trained on those classes reaches: this one spent its training on all of its own.

    Parameters
    ----------
    classes : 3, 6 or 7, at most those of the run, see `emotions.CLASS_SETS`.
    split : "test" or "clean_test".
    """
    names, rows = CLASS_SETS[classes], run.predictions
    rows = rows[(rows["split"] == "test") & rows["true"].isin(names)]
    if split == "clean_test":
        rows = rows[~rows["in_train"]]
    probs = rows[[f"prob_{name}" for name in names]].to_numpy()
    # Happiness is the most frequent class of FER2013 in every setting.
    return evaluate(rows["true"].map(names.index).to_numpy(), probs / probs.sum(1, keepdims=True).clip(1e-12), names,
                    names.index("happiness"))


def model_card(run: Run, calibration: Calibration) -> str:
    """Markdown: what the network is, how it was trained, how well it does by class, and what it must not be used for.

    After Mitchell et al. 2019, arXiv:1810.03993.
    """
    test, env = run.metrics["test"], run.environment
    photographs = "fer2013" in env["data"].lower()
    settings = ", ".join(f"{key} {value}" for key, value in run.config.to_dict().items()
                         if value != getattr(TrainConfig(), key) or key in ("augmentation", "batch_size"))
    lines = [
        f"# Model card: {run.config.arch}, {_WORDS[run.config.classes]} emotions", "",
        "Written by `fer_helpers`; every number is that of the run.", "",
        f"- **Network:** `{run.config.arch}`, {sum(p.numel() for p in run.model().parameters()):,} weights (float16 on "
        "disk), for one 48×48 grayscale face; answers " + ", ".join(test.classes) + ".",
        f"- **Data:** {_FER2013 if photographs else env['data']}, {env['images']['train']:,} train images and "
        f"{env['images']['val']:,} for validation." + photographs * " Found by web search, cropped by a detector, one "
        "label each.",
        f"- **Recipe:** {settings}; seed {run.config.seed}, epoch {env['best_epoch']} kept, "
        f"{env['train_seconds'] / 60:.0f} minutes on {env['threads']} {env['device']} threads ({env['precision']}).",
        "", "## Accuracy", "",
        f"95% bootstrap intervals over test images; logits averaged over views: {run.config.tta}.", "",
        "| classes | test | without copies of train | always the majority |", "| --- | --- | --- | --- |"]
    for classes in (count for count in (7, 6, 3) if count <= run.config.classes):
        official, clean = asked_only(run, classes), asked_only(run, classes, "clean_test")
        note = "" if classes == run.config.classes else " (asked only for these)"
        lines.append(f"| {classes}{note} | {official.accuracy.percent} of {official.count:,} | {clean.accuracy.percent}"
                     f" of {clean.count:,} | {official.majority.percent} |")
    lines += ["", "| class | test images | recall | precision |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {count:,} | {test.recall[name].percent} | {test.precision[name].percent} |"
              for name, count in zip(test.classes, test.confusion.sum(1), strict=True)]
    lines += ["", "Most frequent confusions: " + ", ".join(
        f"{pair.true} called {pair.predicted} {pair.rate:.0%}" for pair in test.confusions().head(5).itertuples()) +
        f". Expected calibration error {test.ece}.", "", confidence_note(calibration), "",
              *_LIMITS, *(_OF_FER2013 if photographs else ()), "", "## Licence", "",
              "The weights are under the package's MIT licence. " + (_CLEAR if photographs else
              "Whoever shares them has to know whether the images they come from allow that.")]
    return "\n".join(lines) + "\n"


def confidence_note(calibration: Calibration) -> str:
    """What a "sure" answer is worth, in one or two sentences."""
    return (f"`fer predict` divides the logits by {calibration.temperature:.2f} and calls an answer unsure below a "
            f"confidence of {calibration.threshold:.2f}: from there on {calibration.accuracy:.0%} of the answers were "
            f"right on {calibration.images:,} validation images, {calibration.coverage:.0%} of which passed.")


_WORDS = {3: "three", 6: "six", 7: "seven"}
_FER2013 = "FER2013 (Goodfellow et al. 2013, arXiv:1307.0414)"
_LIMITS = (
    "## Limits", "",
    "- It says what a stranger would call the expression in a photograph. It does not know what anybody feels, and "
    "must not be used to judge people: not for hiring, policing, schooling, medicine or credit.")
_OF_FER2013 = (
    "- Its photographs are posed or picked by search words; skin tones, ages and cultures are unequally present and "
    "not labelled, so its accuracy on any group of people is unknown.",
    "- People guessed these labels with 65 ± 5% accuracy (Goodfellow et al. 2013); a confident answer can be wrong.")
_CLEAR = ("FER2013 was published for research; whoever uses the weights for anything else has to clear that first. No "
          "image of it is part of this package.")
