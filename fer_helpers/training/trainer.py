"""The training engine: `fit` turns a `TrainConfig` and a `FaceSet` into a trained network.

Where results are kept is the business of `runs`; what they mean, of `evaluation`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from ..data.emotions import class_setting
from ..data.faceset import IMAGE_SIZE, FaceSet
from ..data.regions import planes, region_bits
from ..files import FerError, bar_options, digest
from ..models.base import Network
from ..models.factory import create_model
from ..transforms.augmentation import augment, blend, draw, policy, warp
from .checkpoints import load_checkpoint, save_checkpoint
from .config import TrainConfig
from .cuda_graph import CudaGraph, Tensors
from .distributed import DistributedContext, current_context
from .losses import confusion_weights
from .objective import Objective, pretraining_loss, training_loss
from .optim import average_weights, create_optimizer, lr_factor
from .prediction import choose_device, choose_precision, predict_logits
from .prefetch import Prefetcher
from .train_sets import select_train

#: Share of the epochs from which a progressive training uses images of so many pixels a side.
PROGRESSION = ((0.0, 32), (0.4, 40), (0.7, 48))


#: Overlap of images that the effective number of a class allows for, as `TrainConfig.class_weights` cites it.
EFFECTIVE_BETA = 0.999


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
    best_epoch : number of the epoch whose weights are kept, from 1.
    precision : "fp32" or "bf16", the one really used.
    device : "cpu", "cuda" or "mps".
    """

    model: Network
    history: pd.DataFrame
    best_epoch: int
    precision: str
    device: str


def settle_classes(config: TrainConfig, faces: FaceSet) -> TrainConfig:
    """The configuration with the classes of the data in the place of "data"; any other as it is."""
    if config.classes != "data":
        return config
    return dataclasses.replace(config, classes=class_setting(faces.with_classes("data").classes))


def prepare_faces(config: TrainConfig, faces: FaceSet) -> FaceSet:
    """The view that ``config`` trains on: its classes, its train set and validation split, its limit of train images.
    """
    _ = faces.near_groups  # found once on the whole set, then handed on to the view of every run
    view = select_train(faces.with_classes(config.classes), config.train_set, config.seed)
    view = view.split_last(config.val_fraction) if config.validation == "last" else \
        view.split_validation(config.val_fraction, config.seed)
    return view if config.train_limit is None else view.limit_train(config.train_limit, config.seed)


def fit(config: TrainConfig, faces: FaceSet, checkpoint: Path | str | None = None, device: str = "auto",
        progress: bool = True, teacher: nn.Module | None = None) -> Fitted:
    """Train a network. Inside `distributed.connect` several processes train one together.

    Parameters
    ----------
    config : what to train and how.
    faces : result of `prepare_faces`; only its train and val splits are looked at.
    checkpoint : file to save to after every epoch and to resume from if it exists; None keeps nothing. The epoch
        before is kept beside it, in case the disk damages the last one.
    device : "cpu", "cuda", "mps" or "auto" (the first that is there of cuda, mps, cpu).
    progress : show a bar.
    teacher : the trained network that ``config.teacher`` asks for; `runs.train_run` trains it.

    Raises
    ------
    FerError
        If a split is empty, the device or the teacher is missing, the checkpoint belongs to another configuration or
        data, or several processes are to train by a contrastive loss.
    Diverged
        If the loss stops being finite.
    """
    train, val = faces.only("train"), faces.only("test" if config.keep == "best_on_test" else "val")
    if len(train) < config.batch_size or not len(val):
        raise FerError(f"{faces.source}: {len(train)} train and {len(val)} validation images are too few for "
                       f"batch_size={config.batch_size}; lower batch_size or add images")
    where = choose_device(device)
    precision = choose_precision(config.precision, where)
    context = current_context()
    check_shareable(config, context)
    if (config.teacher is None) != (teacher is None):
        raise FerError(f"teacher={config.teacher!r}, but {'a' if teacher else 'no'} trained network was given; "
                       "runs.train_run trains what is asked for")
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if where == "cuda" else []), _quick(where):
        trainer = Trainer(config, train, val, where, precision, context, teacher,
                          progress and context.is_main)
        del train, val  # what it does not need of them, such as names, is much where images are millions
        return trainer.run(Path(checkpoint) if checkpoint else None, faces.fingerprint, progress)


def check_shareable(config: TrainConfig, context: DistributedContext) -> None:
    """`FerError` if so many processes cannot share the batches of a training."""
    if config.batch_size % (context.size * config.accumulate):
        raise FerError(f"batch_size={config.batch_size} cannot be shared equally by {context.size} processes in "
                       f"accumulate={config.accumulate} parts; choose a multiple")
    if context.size > 1 and (config.two_views or not config.drop_last):
        raise FerError("contrastive losses compare all images of a batch, which several processes share; use one"
                       if config.two_views else
                       "a smaller last batch cannot be shared equally; set drop_last to true or use one process")


class Trainer:
    """The state of one training, and the loop over it; `fit` is the door to it."""

    def __init__(self, config: TrainConfig, train: FaceSet, val: FaceSet, device: str, precision: str,
                 processes: DistributedContext, teacher: nn.Module | None = None, progress: bool = False) -> None:
        self.config, self.device, self.precision, self.context = config, device, precision, processes
        self.targets, self.hard_labels = _targets(config, train).to(device), train.labels.to(device)
        root, rows = train.origin
        columns = [root.images, region_bits(root)] if config.guide else [root.images]
        self.pixels = Prefetcher(columns, torch.from_numpy(rows), device, train.streamed)
        self.val, self.val_count = val.take(self.context.shard(torch.arange(len(val))).numpy()), len(val)
        self.votes = train.vote_shares().to(device) if config.votes else None
        self.classes, self.class_weight = train.classes, _class_weight(config, train)
        if self.class_weight is not None:
            self.class_weight = self.class_weight.to(device)
        self.model = self._network_of()
        self.objective = Objective(config, self.model).to(device)
        #: What a step runs: the objective, or among several processes its wrapper, which trains the same weights.
        self.network: Any = self.context.wrap(self.objective, device)
        self.teacher = teacher and copy.deepcopy(teacher).to(device).to(memory_format=torch.channels_last).eval()
        self.taught: torch.Tensor | None = None
        if self.teacher is not None and config.teaching == "once":
            bar = tqdm(train.parts(4096), "teacher", -(-len(train) // 4096), leave=False, **bar_options(progress))
            self.taught = torch.cat([predict_logits(self.teacher, part, precision, "flip") for part in bar]).to(device)
            self.teacher = None
        self.optimizer = create_optimizer(config, self.objective)
        self.average = None if config.ema is None else average_weights(self.model, config.ema)
        full, rest = divmod(len(train), config.batch_size)
        self.steps_per_epoch = full + (rest > 1 and not config.drop_last)
        self.history: list[dict[str, float]] = []
        self.best_loss, self.best_epoch, self.best_state = math.inf, 0, copy.deepcopy(self.model.state_dict())
        self.plateau, self.since_better = 1.0, 0
        #: What the validation images were taken for last, rows true; nothing is known of them at first.
        self.confusion = torch.zeros(len(train.classes), len(train.classes), device=device)
        #: On a GPU, what a step was recorded for, and its recording.
        self.recorded: tuple[object, Callable[..., Tensors] | None] = None, None

    def _network_of(self, state: dict[str, torch.Tensor] | None = None) -> Network:
        """A network of its own with the weights of ``state``, or fresh ones."""
        config = self.config
        model = create_model(config.arch, len(self.classes), batch_norm=config.batch_norm, seed=config.seed,
                             head=config.head, cbam=config.cbam, class_names=self.classes, init=config.init,
                             votes=config.votes > 0)
        if state:
            model.load_state_dict(state)
        return model.to(self.device).to(memory_format=torch.channels_last)

    def run(self, checkpoint: Path | None, fingerprint: str, progress: bool) -> Fitted:
        config = self.config
        identity = digest(config.identity(), fingerprint)
        if checkpoint is not None and (state := load_checkpoint(checkpoint, identity, self.device)):
            self._restore(state, checkpoint)
        with tqdm(total=config.epochs * self.steps_per_epoch, initial=len(self.history) * self.steps_per_epoch,
                  desc=f"{config.arch} {config.optimizer}", unit="step", leave=False,
                  **bar_options(progress and self.context.is_main)) as bar:
            while len(self.history) < config.epochs and not self._out_of_patience():
                self._epoch(bar)
                bar.set_postfix({key: f"{self.history[-1][key]:.3f}" for key in ("train_loss", "val_accuracy")})
                if checkpoint is not None and self.context.is_main:
                    save_checkpoint(checkpoint, self._state(identity))
        return Fitted(self._network_of(self.best_state).cpu().eval(), pd.DataFrame(self.history), self.best_epoch,
                      self.precision, self.device)

    def _epoch(self, bar: tqdm[Any]) -> None:
        config, epoch, start = self.config, len(self.history), time.perf_counter()
        # Every epoch starts from a seed of its own: resuming needs no saved generator to repeat it exactly.
        torch.manual_seed(_epoch_seed(config.seed, epoch) + self.context.rank)
        random = torch.Generator().manual_seed(_epoch_seed(config.seed, epoch))
        rate, losses, norms, counts, how = 0.0, [], [], [], policy(config.augmentation)
        correct: Any = 0  # a tensor after the first step, as the losses of a step are: nothing waits for the GPU
        self.model.train()
        batches = _batches(len(self.hard_labels), config.batch_size, random, self.steps_per_epoch)
        for number, (index, pixels) in enumerate(self.pixels.iterate(batches), epoch * self.steps_per_epoch):
            rate = config.rate * lr_factor(config, number, self.steps_per_epoch) * self.plateau
            loss, hits, norm = self.step(rate, index, draw(len(index), random, how), pixels)
            losses.append(loss)
            norms.append(norm)
            counts.append(len(index))
            correct += hits
            bar.update()
        loss = self.context.sum(torch.stack(losses)).cpu() / self.context.size
        if not loss.isfinite().all():
            bad = int((~loss.isfinite()).nonzero()[0])
            raise self._diverged(f"loss became {loss[bad]:.0f} at step {epoch * self.steps_per_epoch + bad} (epoch "
                                 f"{epoch + 1}, lr {rate:.3g})")
        val_loss, val_accuracy = self._validate()
        if not math.isfinite(val_loss):
            raise self._diverged(f"validation loss is not finite after epoch {epoch + 1} (lr {rate:.3g})")
        # Until pre-training ends the classifier has learned nothing: no epoch of it is better than the next.
        pretraining = epoch < config.pretrain_epochs
        judged = -val_accuracy if config.keep == "best_on_test" else val_loss
        better = pretraining or judged < self.best_loss
        self.history.append({
            "epoch": epoch + 1, "lr": rate, "train_loss": np.average(loss, weights=counts).item(),
            "train_accuracy": self.context.sum(correct).item() / sum(counts),
            "grad_norm": torch.stack(norms).mean().item(), "val_loss": val_loss, "val_accuracy": val_accuracy,
            "seconds": time.perf_counter() - start})
        self.best_loss = math.inf if pretraining else min(judged, self.best_loss)
        self.since_better = 0 if better else self.since_better + 1
        if better or config.keep == "last":
            self.best_epoch = epoch + 1
            self.best_state = copy.deepcopy(self._averaged().state_dict())
        if not better and config.schedule == "plateau" and self.since_better % 3 == 0:
            self.plateau /= 2

    def step(self, rate: float, index: torch.Tensor, draws: torch.Tensor,
             pixels: Sequence[torch.Tensor] | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Train on one batch.

        Parameters
        ----------
        rate : learning rate.
        index : int64 (B,), which train images; of the whole batch, also where several processes share it.
        draws : (B, `augmentation.DRAWS`), see `augmentation.draw`.
        pixels : what ``self.pixels`` gathers of ``index``, if that is known already.

        Returns
        -------
        Loss and number of correct answers, both of this process's share, and the norm of the gradient.
        """
        for group in self.optimizer.param_groups:
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        pixels = self.pixels.gather(index) if pixels is None else pixels
        # Without waiting for the step before: CUDA puts aside what is not pinned before the call returns.
        ahead = self.device == "cuda"
        inputs = (values.to(self.device, non_blocking=ahead) for values in (index, draws, *pixels))
        # A smaller last batch is no step that was recorded.
        loss, hits, norm = (self._work() if len(index) == self.config.batch_size else self._update)(*inputs)
        if self.average:
            self.average.update_parameters(self.model)
        return loss, hits, norm

    def _work(self) -> Callable[..., Tensors]:
        """`_update`, or its recording for the present size of images and kind of loss."""
        if self.device != "cuda" or self.context.size > 1:
            return self._update
        epoch = len(self.history)
        stage = _side(self.config, epoch), epoch < self.config.pretrain_epochs
        kept, work = self.recorded
        if work is None or stage != kept:
            work = CudaGraph(self._update)
            self.recorded = stage, work
        return work

    def _update(self, index: torch.Tensor, draws: torch.Tensor, *pixels: torch.Tensor) -> Tensors:
        """`step` on the device, without what differs from step to step."""
        config = self.config
        loss: Any = 0
        hits: Any = 0
        self.optimizer.zero_grad(set_to_none=True)
        # A second view of an image is changed as the first view of its neighbour is: chance enough, and none is drawn.
        chance = torch.stack([draws, draws.roll(1, 0)][:1 + config.two_views], 1)
        parts = list(zip(*(values.chunk(config.accumulate) for values in (index, chance, *pixels)), strict=True))
        for turn, part in enumerate(parts, 1):
            # Between processes the gradients are exchanged once a batch, with the last part.
            unfinished = self.context.size > 1 and turn < len(parts)
            with self.network.no_sync() if unfinished else contextlib.nullcontext():
                mean, right = self._losses(*map(self.context.shard, part))
                (mean / len(parts)).backward()
            loss += mean.detach() / len(parts)
            hits += right
        norm = nn.utils.clip_grad_norm_(self.objective.parameters(), config.clip_norm or math.inf)
        self.optimizer.step()
        return loss, hits, norm

    def _losses(self, rows: torch.Tensor, chance: torch.Tensor, images: torch.Tensor,
                regions: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss and number of correct answers of the train images ``rows``, changed by ``chance`` (B, views, …)."""
        config, labels, how = self.config, self.hard_labels[rows], policy(self.config.augmentation)
        whole = torch.cat([augment(images, how, draws) for draws in chance.unbind(1)])
        whole, own = blend(whole, how, chance[:, 0]) if how.blends else (whole, None)
        batch = whole
        side = _side(config, len(self.history))
        if side != batch.shape[-1]:
            batch = F.interpolate(batch, (side, side), mode="bilinear", antialias=True)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
            out = self.network(batch.contiguous(memory_format=torch.channels_last), labels)
            taught = None if self.taught is None else self.taught[rows]
            if taught is not None and own is not None:
                taught = _shared(taught.softmax(1), own).clamp_min(1e-12).log()
            if self.teacher is not None:
                with torch.no_grad():  # of the images in full: it may know no other size
                    taught = self.teacher(whole[:len(rows)].contiguous(memory_format=torch.channels_last)).float()
        right = (out.logits[:len(rows)].detach().argmax(1) == labels).sum()
        if len(self.history) < config.pretrain_epochs:
            return pretraining_loss(config, out, labels), right
        masks = None
        if regions is not None:
            masks = warp(planes(regions).float(), how, chance[:, 0])
        pair_weight = None
        if config.hard_negatives:
            pair_weight = confusion_weights(self.confusion, config.hard_negatives)
        return training_loss(config, out, labels, _shared(self.targets[rows], own), self.class_weight, taught, masks,
                             pair_weight, None if self.votes is None else _shared(self.votes[rows], own)), right

    def _averaged(self) -> nn.Module:
        """The network that is validated and kept: the average over the steps so far, where there is one."""
        return self.average.module if self.average else self.model

    def _validate(self) -> tuple[float, float]:
        labels, count = self.val.labels, len(self.classes)
        logits = torch.cat([predict_logits(self._averaged(), images, self.precision) for images in self.val.parts()])
        seen = torch.bincount(labels * count + logits.argmax(1), minlength=count * count).view(count, count)
        self.confusion.copy_(self.context.sum(seen.float().to(self.device)))
        sums = torch.stack([F.cross_entropy(logits, labels, reduction="sum"),
                            (logits.argmax(1) == labels).sum().float()])
        loss, accuracy = (self.context.sum(sums.to(self.device)) / self.val_count).tolist()
        # A NaN here would never count as better; infinity says the same and survives comparison.
        return loss if math.isfinite(loss) else math.inf, accuracy

    def _diverged(self, what: str) -> Diverged:
        return Diverged(f"{self.config.arch}: {what}; lower lr, add warmup_epochs or set clip_norm. The last good "
                        f"state is that of epoch {len(self.history)}")

    def _out_of_patience(self) -> bool:
        return self.config.patience is not None and self.since_better >= self.config.patience

    def _state(self, identity: str) -> dict[str, Any]:
        return {"identity": identity, "learner": self.objective.state_dict(), "optimizer": self.optimizer.state_dict(),
                "average": self.average and self.average.state_dict(),
                **{name: getattr(self, name) for name in self._PLAIN}}

    _PLAIN = ("best_state", "history", "best_loss", "best_epoch", "plateau", "since_better", "confusion")

    def _restore(self, state: dict[str, Any], path: Path) -> None:
        try:
            self.objective.load_state_dict(state["learner"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.average:
                self.average.load_state_dict(state["average"])
            for name in self._PLAIN:
                setattr(self, name, state[name])
        except Exception as error:  # a foreign file may lack anything
            raise FerError(f"{path}: not a checkpoint of this run ({type(error).__name__}); move it elsewhere to "
                           "start anew") from error


@contextlib.contextmanager
def _quick(device: str) -> Iterator[None]:
    """On a GPU, fp32 products by the matrix units' own format, which is near enough, and convolutions by trial."""
    if device != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _shared(targets: torch.Tensor, own: torch.Tensor | None) -> torch.Tensor:
    """What blended images are to be taken for: probabilities (B, C) of each and its neighbour, by the share (B, 1) that
    is its own."""
    return targets if own is None else torch.lerp(targets.roll(1, 0), targets, own)


def _class_weight(config: TrainConfig, train: FaceSet) -> torch.Tensor | None:
    """float32 (C,): how much the loss of each class counts, 1 on average over the train images; None for all alike."""
    if config.class_weights == "none":
        return None
    count = torch.bincount(train.labels, minlength=len(train.classes)).double()
    present = count.clamp(min=1)  # a class that train lacks has no loss to weigh
    weight = 1 / present if config.class_weights == "balanced" else 1 / (1 - EFFECTIVE_BETA**present)
    return (weight * count.sum() / (weight * count).sum()).float()


def _targets(config: TrainConfig, faces: FaceSet) -> torch.Tensor:
    """float32 (N, C) target probabilities: one-hot labels, or vote shares where the loss asks and votes exist."""
    hard = torch.eye(len(faces.classes))[faces.labels]
    if config.loss != "soft_votes":
        return hard
    shares = faces.vote_shares()
    return torch.where(shares.isnan(), hard, shares)


def _side(config: TrainConfig, epoch: int) -> int:
    """Pixels a side of the training images in ``epoch``, counted from 0."""
    if not config.progressive:
        return IMAGE_SIZE
    return max(side for start, side in PROGRESSION if epoch >= start * config.epochs)


def _batches(count: int, batch_size: int, generator: torch.Generator, steps: int) -> Iterator[torch.Tensor]:
    order = torch.randperm(count, generator=generator)
    return iter(order[:steps * batch_size].split(batch_size))


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
