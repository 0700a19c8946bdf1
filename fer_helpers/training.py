"""The training engine: a frozen configuration and `fit`, which turns it and a `FaceSet` into a trained network.

Where results are kept is the business of `runs`; what they mean, of `evaluation`.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from .augment import augment, normalise, policy
from .data import FaceSet
from .emotions import class_set
from .files import FerError, digest, explain_os_errors, write_atomic
from .models import check_arch, create_model

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "step", "cosine", "onecycle", "plateau")
LOSSES = ("cross_entropy", "soft_votes", "binary_cross_entropy")
#: Peak learning rate used when a configuration names none.
DEFAULT_LR = {"sgd": 0.05, "adam": 5e-4, "adamw": 5e-4, "rmsprop": 3e-4}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a run, apart from the data. Immutable, checked, JSON both ways.

    Attributes
    ----------
    arch : a name of `models.list_models`.
    classes : 3, 6 or 7, see `emotions.CLASS_SETS`.
    batch_norm : whether the network normalises its activations.
    optimizer : "sgd" (Nesterov momentum), "adam", "adamw" or "rmsprop".
    lr : peak learning rate; None takes `DEFAULT_LR` of the optimizer.
    momentum : of sgd; the decay of the running averages of rmsprop (Keras's rho) and adam, adamw (β₁).
    weight_decay : L2 penalty (decoupled for adamw), on all weights of two or more dimensions.
    schedule : "constant"; "step" (÷10 at 60% and 85%); "cosine" to 0; "onecycle" (up over 30%, then cosine to 0);
        "plateau" (÷2 after three epochs without a better validation loss).
    warmup_epochs : linear rise of the rate from 0 before the schedule takes over its full value.
    epochs, batch_size : passes over the train split, images per step (the last, smaller batch is dropped).
    loss : "cross_entropy"; "soft_votes" (cross-entropy to the FER+ vote shares); "binary_cross_entropy" (on a
        softmax, as in the original study: for its reproduction only).
    label_smoothing : share of the target spread over all classes, 0 to 1.
    class_weights : "none" or "balanced" (inverse class frequency in train).
    augmentation : a name of `augment.POLICIES`.
    precision : "fp32", "bf16" (autocast) or "auto" (see `choose_precision`).
    clip_norm : largest gradient norm; None does not clip.
    patience : stop after this many epochs without a better validation loss; None never stops early.
    val_fraction : share of train held out for model selection.
    train_limit : train on so many images only (class shares kept); None uses all.
    seed : of the initial weights, the order of images, augmentation, dropout, and the validation split.
    """

    arch: str = "compact"
    classes: int = 6
    batch_norm: bool = True
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "onecycle"
    warmup_epochs: float = 1.0
    epochs: int = 10
    batch_size: int = 128
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    class_weights: str = "none"
    augmentation: str = "standard"
    precision: str = "auto"
    clip_norm: float | None = None
    patience: int | None = None
    val_fraction: float = 0.1
    train_limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_arch(self.arch)
        # papermill and the command line may pass "6": keep one spelling, so that one setting has one run id.
        object.__setattr__(self, "classes", len(class_set(self.classes)))
        policy(self.augmentation)
        for name, allowed in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("loss", LOSSES),
                              ("class_weights", ("none", "balanced")), ("precision", ("auto", "fp32", "bf16")),
                              ("batch_norm", (True, False))):
            if getattr(self, name) not in allowed:
                raise FerError(f"{name}={getattr(self, name)!r} is unknown; choose one of "
                               f"{', '.join(map(str, allowed))}")
        object.__setattr__(self, "batch_norm", bool(self.batch_norm))
        if self.loss == "binary_cross_entropy" and self.label_smoothing:
            raise FerError("label_smoothing does nothing with loss='binary_cross_entropy'; leave one of them out")
        if self.lr is None:
            object.__setattr__(self, "lr", DEFAULT_LR[self.optimizer])
        whole, real = (int,), (int, float)
        for name, kinds, low, high in (
                ("lr", real, 0, 100), ("momentum", real, 0, 0.9999), ("weight_decay", real, 0, 10),
                ("warmup_epochs", real, 0, 1000), ("epochs", whole, 1, 100_000), ("batch_size", whole, 2, 1 << 20),
                ("label_smoothing", real, 0, 1), ("clip_norm", real, 1e-9, 1e9), ("patience", whole, 1, 100_000),
                ("val_fraction", real, 0.001, 0.9), ("train_limit", whole, 2, 1 << 40), ("seed", whole, 0, 2**31)):
            value = getattr(self, name)
            if value is None and name in ("clip_norm", "patience", "train_limit"):
                continue
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                raise FerError(f"{name}={value!r} must be {'a whole' if kinds is whole else 'a'} number "
                               f"from {low} to {high}")
            if kinds is real:
                object.__setattr__(self, name, float(value))  # 1 and 1.0 are one setting: one run id

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The inverse of `to_dict`; missing keys take their defaults, unknown ones raise `FerError`."""
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or (unknown := set(values) - names):
            what = f"unknown setting {sorted(unknown)}" if isinstance(values, dict) else "not a set of settings"
            raise FerError(f"configuration: {what}; known are {', '.join(sorted(names))}")
        return cls(**values)


class Diverged(FerError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Fitted:
    """What `fit` returns.

    Attributes
    ----------
    model : the network with the weights of ``best_epoch``, in evaluation mode, on the CPU.
    history : one row per epoch: epoch, lr, train_loss, train_accuracy (both under augmentation), grad_norm (mean),
        val_loss, val_accuracy, seconds.
    best_epoch : number of the epoch with the lowest validation loss, from 1.
    precision : "fp32" or "bf16", the one really used.
    device : "cpu", "cuda" or "mps".
    """

    model: nn.Module
    history: pd.DataFrame
    best_epoch: int
    precision: str
    device: str


def prepare_faces(config: TrainConfig, faces: FaceSet) -> FaceSet:
    """The view that ``config`` trains on: its classes, its validation split, its limit of train images."""
    _ = faces.near_groups  # found once on the whole set, then handed on to the view of every run
    view = faces.with_classes(config.classes).split_validation(config.val_fraction, config.seed)
    return view if config.train_limit is None else view.limit_train(config.train_limit, config.seed)


def fit(config: TrainConfig, faces: FaceSet, checkpoint: Path | str | None = None, device: str = "auto",
        progress: bool = True) -> Fitted:
    """Train a network.

    Parameters
    ----------
    config : what to train and how.
    faces : result of `prepare_faces`; only its train and val splits are looked at.
    checkpoint : file to save to after every epoch and to resume from if it exists; None keeps nothing.
    device : "cpu", "cuda", "mps" or "auto" (the first that is there of cuda, mps, cpu).
    progress : show a bar.

    Raises
    ------
    FerError
        If a split is empty, the device is missing or the checkpoint belongs to another configuration or data.
    Diverged
        If the loss stops being finite.
    """
    train, val = faces.only("train"), faces.only("val")
    if len(train) < config.batch_size or not len(val):
        raise FerError(f"{faces.source}: {len(train)} train and {len(val)} validation images are too few for "
                       f"batch_size={config.batch_size}; lower batch_size or add images")
    where = choose_device(device)
    precision = choose_precision(config.precision, where)
    with torch.random.fork_rng(devices=[0] if where == "cuda" else []):
        return _Trainer(config, train, val, where, precision).run(checkpoint, faces.fingerprint, progress)


class _Trainer:
    """The state of one training, and the loop over it."""

    def __init__(self, config: TrainConfig, train: FaceSet, val: FaceSet, device: str, precision: str) -> None:
        self.config, self.device, self.precision = config, device, precision
        self.images, self.targets = train.images.to(device), _targets(config, train).to(device)
        self.val_images, self.val_labels = val.images.to(device), val.labels
        self.hard_labels = train.labels.to(device)
        self.class_weight = None
        if config.class_weights == "balanced":
            share = torch.bincount(train.labels, minlength=len(train.classes)) / len(train)
            self.class_weight = (1 / (share * len(train.classes))).to(device)
        self.model = create_model(config.arch, len(train.classes), batch_norm=config.batch_norm, seed=config.seed)
        self.model.to(device=device, memory_format=torch.channels_last)
        self.optimizer = _optimizer(config, self.model)
        self.steps_per_epoch = len(train) // config.batch_size
        self.history: list[dict[str, float]] = []
        self.best_loss, self.best_epoch, self.best_state = math.inf, 0, copy.deepcopy(self.model.state_dict())
        self.plateau, self.since_better = 1.0, 0

    def run(self, checkpoint: Path | str | None, fingerprint: str, progress: bool) -> Fitted:
        identity = digest(repr(sorted(self.config.to_dict().items())), fingerprint)
        if checkpoint is not None and Path(checkpoint).exists():
            self._restore(Path(checkpoint), identity)
        config = self.config
        with tqdm(total=config.epochs * self.steps_per_epoch, initial=len(self.history) * self.steps_per_epoch,
                  desc=f"{config.arch} {config.optimizer}", unit="step", disable=not progress, leave=False) as bar:
            while len(self.history) < config.epochs and not self._out_of_patience():
                self._epoch(bar)
                bar.set_postfix({key: f"{self.history[-1][key]:.3f}" for key in ("train_loss", "val_accuracy")})
                if checkpoint is not None:
                    self._save(Path(checkpoint), identity)
        self.model.load_state_dict(self.best_state)
        return Fitted(self.model.cpu().eval(), pd.DataFrame(self.history), self.best_epoch, self.precision,
                      self.device)

    def _epoch(self, bar: tqdm) -> None:
        config, epoch, start = self.config, len(self.history), time.perf_counter()
        # Every epoch starts from a seed of its own: resuming needs no saved generator to repeat it exactly.
        torch.manual_seed(_epoch_seed(config.seed, epoch))
        random = torch.Generator().manual_seed(_epoch_seed(config.seed, epoch))
        how, rate = policy(config.augmentation), 0.0
        losses, norms, correct = [], [], torch.zeros((), device=self.device)
        self.model.train()
        for step, index in enumerate(_batches(len(self.images), config.batch_size, random)):
            rate = config.lr * lr_factor(config, epoch * self.steps_per_epoch + step,
                                         self.steps_per_epoch) * self.plateau
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            index = index.to(self.device)
            batch = augment(self.images[index], how, random).contiguous(memory_format=torch.channels_last)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
                logits = self.model(batch)
            loss = compute_loss(config, logits.float(), self.targets[index], self.class_weight)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm or math.inf))
            self.optimizer.step()
            losses.append(loss.detach())
            correct += (logits.detach().argmax(1) == self.hard_labels[index]).sum()
            bar.update()
        losses = torch.stack(losses).cpu()
        if not losses.isfinite().all():
            step = epoch * self.steps_per_epoch + int((~losses.isfinite()).nonzero()[0])
            raise Diverged(f"{config.arch}: loss became {losses[~losses.isfinite()][0]:.0f} at step {step} (epoch "
                           f"{epoch + 1}, lr {rate:.3g}); lower lr, add warmup_epochs or set clip_norm. The last "
                           f"good state is that of epoch {epoch}")
        val_loss, val_accuracy = self._validate()
        if not math.isfinite(val_loss):
            raise Diverged(f"{config.arch}: validation loss is not finite after epoch {epoch + 1} (lr {rate:.3g}); "
                           f"lower lr, add warmup_epochs or set clip_norm. The last good state is that of epoch "
                           f"{epoch}")
        better = val_loss < self.best_loss
        self.history.append({
            "epoch": epoch + 1, "lr": rate, "train_loss": losses.mean().item(),
            "train_accuracy": correct.item() / (self.steps_per_epoch * config.batch_size),
            "grad_norm": torch.stack(norms).mean().item(), "val_loss": val_loss, "val_accuracy": val_accuracy,
            "seconds": time.perf_counter() - start})
        self.since_better = 0 if better else self.since_better + 1
        if better:
            self.best_loss, self.best_epoch = val_loss, epoch + 1
            self.best_state = copy.deepcopy(self.model.state_dict())
        elif config.schedule == "plateau" and self.since_better % 3 == 0:
            self.plateau /= 2

    def _validate(self) -> tuple[float, float]:
        logits = predict_logits(self.model, self.val_images, self.precision)
        loss = F.cross_entropy(logits, self.val_labels).item()
        # A NaN here would never count as better; infinity says the same and survives comparison.
        return loss if math.isfinite(loss) else math.inf, (logits.argmax(1) == self.val_labels).float().mean().item()

    def _out_of_patience(self) -> bool:
        return self.config.patience is not None and self.since_better >= self.config.patience

    def _save(self, path: Path, identity: str) -> None:
        state = {"identity": identity, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "best_state": self.best_state, "history": self.history, "best_loss": self.best_loss,
                 "best_epoch": self.best_epoch, "plateau": self.plateau, "since_better": self.since_better}
        # Serialised in memory first: torch's own writer reports a full disk as a RuntimeError without errno.
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomic(path, lambda temporary: temporary.write_bytes(buffer.getbuffer()))

    def _restore(self, path: Path, identity: str) -> None:
        with explain_os_errors(path, "reading"):
            try:
                state = torch.load(path, map_location=self.device, weights_only=True)
                if state["identity"] != identity:
                    raise FerError(f"{path}: belongs to another configuration or other data; delete it to start anew")
                self.model.load_state_dict(state["model"])
                self.optimizer.load_state_dict(state["optimizer"])
                for name in ("best_state", "history", "best_loss", "best_epoch", "plateau", "since_better"):
                    setattr(self, name, state[name])
            except (FerError, OSError):
                raise
            except Exception as error:  # torch.load raises many kinds for a damaged or foreign file
                raise FerError(f"{path}: not a checkpoint of this run ({type(error).__name__}); delete it to start "
                               "anew") from error


def predict_logits(model: nn.Module, images: torch.Tensor, precision: str = "fp32",
                   batch_size: int = 512) -> torch.Tensor:
    """Logits of uint8 images (N, 48, 48), float32 (N, C) on the CPU. The model's device and mode are kept."""
    parameter = next(model.parameters())
    was_training = model.training
    model.eval()
    parts = []
    with torch.inference_mode(), torch.autocast(parameter.device.type, torch.bfloat16, enabled=precision == "bf16"):
        for part in images.split(batch_size):
            batch = normalise(part.to(parameter.device)).contiguous(memory_format=torch.channels_last)
            parts.append(model(batch).float().cpu())
    model.train(was_training)
    return torch.cat(parts)


def compute_loss(config: TrainConfig, logits: torch.Tensor, targets: torch.Tensor,
                 class_weight: torch.Tensor | None = None) -> torch.Tensor:
    """Mean loss of float logits (B, C) to target probabilities (B, C)."""
    if config.loss == "binary_cross_entropy":
        # Keras averages the C binary terms and clips at 1e-7; both shape how weak this gradient is.
        probs = logits.softmax(1).clamp(1e-7, 1 - 1e-7)
        return F.binary_cross_entropy(probs, targets, class_weight)
    return F.cross_entropy(logits, targets, class_weight, label_smoothing=config.label_smoothing)


def lr_factor(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Share of the peak rate at ``step``, counted from 0; in 0..1. Plateau's halving is the trainer's to add."""
    done = step / (config.epochs * steps_per_epoch)
    warmup = config.warmup_epochs * steps_per_epoch
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if config.schedule == "step":
        return rise * (1.0 if done < 0.6 else 0.1 if done < 0.85 else 0.01)
    if config.schedule == "cosine":
        return rise * (1 + math.cos(math.pi * done)) / 2
    if config.schedule == "onecycle":
        return rise * (max(done, 0.01) / 0.3 if done < 0.3 else (1 + math.cos(math.pi * (done - 0.3) / 0.7)) / 2)
    return rise


def choose_device(device: str = "auto") -> str:
    """"cpu", "cuda" or "mps"; `FerError` if the one asked for is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, present in there.items() if present)
    if not there.get(device):
        raise FerError(f"device={device!r} is not available here; choose one of "
                       f"{', '.join(name for name, present in there.items() if present)} or auto")
    return device


def choose_precision(precision: str, device: str) -> str:
    """"fp32" or "bf16"; "auto" takes bf16 where the hardware has instructions for it.

    What the processor says decides, not a stopwatch: a busy machine must not change what a run computes.
    """
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    # torch before 2.10 cannot tell; fp32 is right everywhere.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)() if device == "cpu" else {}
    return "bf16" if any(there for name, there in capabilities.items() if "bf16" in name) else "fp32"


def _targets(config: TrainConfig, faces: FaceSet) -> torch.Tensor:
    """float32 (N, C) target probabilities: one-hot labels, or vote shares where the loss asks and votes exist."""
    hard = F.one_hot(faces.labels, len(faces.classes)).float()
    if config.loss != "soft_votes":
        return hard
    shares = faces.vote_shares()
    return torch.where(shares.isnan(), hard, shares)


def _optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    # Fused: one pass over the weights a step, not one per operation: the step of Adam takes a fifth to a half the time.
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True)
    if config.optimizer == "rmsprop":  # torch has no fused form of it
        return torch.optim.RMSprop(groups, config.lr, momentum=0.0, alpha=config.momentum)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, config.lr, betas=(config.momentum, 0.999), fused=True)


def _batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    order = torch.randperm(count, generator=generator)
    return iter(order[:count // batch_size * batch_size].split(batch_size))


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
