"""Learning rates, optimizers and the running average of the weights: what a step makes of a gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from .config import TrainConfig


def lr_factor(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Share of the peak rate at ``step``, counted from 0; in 0..1. Plateau's halving is the trainer's to add.

    Pre-training and what follows it go through the schedule once each.
    """
    epochs, before = config.epochs - config.pretrain_epochs, config.pretrain_epochs * steps_per_epoch
    epochs, step = (config.pretrain_epochs, step) if step < before else (epochs, step - before)
    done = step / (epochs * steps_per_epoch)
    warmup = config.warmup_epochs * steps_per_epoch
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    if config.schedule == "step":
        return rise * (1.0 if done < 0.6 else 0.1 if done < 0.85 else 0.01)
    if config.schedule == "cosine":
        return rise * (1 + math.cos(math.pi * done)) / 2
    if config.schedule == "onecycle":
        return rise * (max(done, 0.01) / 0.3 if done < 0.3 else (1 + math.cos(math.pi * (done - 0.3) / 0.7)) / 2)
    return rise


def optimizer_name(optimizer: str) -> str:
    """What readers call an optimizer: ``optimizer_name("rmsprop") == "RMSprop"``."""
    return {"sgd": "SGD", "adamw": "AdamW", "rmsprop": "RMSprop"}.get(optimizer, optimizer.capitalize())


def create_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of ``config`` over all parameters; weight decay on those of two or more dimensions.

    On a GPU its rate is a tensor and its steps can be recorded.
    """
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    rate = torch.tensor(config.rate, device=device) if on_gpu else config.rate
    if config.optimizer == "muon":
        # Neither filters on the pixels nor the classifier: their rows mean something one by one.
        hidden = {p for p in model.parameters() if p.ndim > 1 and p.shape[1] > 3 and len(p) > 10}
        return Muon([{"params": [p for p in model.parameters() if p in hidden], "orthogonal": True},
                     {"params": [p for p in model.parameters() if p not in hidden], "orthogonal": False}],
                    rate, config.momentum, config.weight_decay)
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    # Fused: one pass over the weights a step, not one per operation: the step of Adam takes a fifth to a half the time.
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum=config.momentum, nesterov=config.momentum > 0, fused=True)
    if config.root_eps is not None:
        return RootRMSprop(groups, rate, config.momentum, config.root_eps)
    if config.optimizer == "rmsprop":  # torch has no fused form of it
        return torch.optim.RMSprop(groups, rate, momentum=0.0, alpha=config.momentum, capturable=on_gpu)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, rate, betas=(config.momentum, 0.999), fused=True, capturable=on_gpu)


class RootRMSprop(torch.optim.Optimizer):
    """RMSprop (Hinton 2012) as Keras has it: w ← w − lr · g / √(v + ε), v the running mean of g² with decay ρ, from 0.

    ``torch.optim.RMSprop`` divides by √v + ε.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float | torch.Tensor, rho: float, eps: float) -> None:
        super().__init__(groups, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # nobody here hands over a closure
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            grads: Any = [p.grad for p in weights]
            if group["weight_decay"]:
                grads = torch._foreach_add(grads, weights, alpha=group["weight_decay"])
            squares = [self.state[p].setdefault("square", torch.zeros_like(p)) for p in weights]
            torch._foreach_mul_(squares, group["rho"])
            torch._foreach_addcmul_(squares, grads, grads, 1 - group["rho"])
            roots = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            steps = torch._foreach_div(grads, roots)
            torch._foreach_mul_(steps, group["lr"])
            torch._foreach_sub_(weights, steps)


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton–Schulz iteration (Jordan et al. 2024): every direction of a layer's weights
    moves equally far, not the strongest ones alone.

    ``torch.optim.Muon`` takes matrices only; here the filters of a convolution are rows of a matrix. Groups with
    ``orthogonal`` False are trained by SGD with Nesterov momentum at the same rate.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float | torch.Tensor, momentum: float, weight_decay: float
                 ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # nobody here hands over a closure
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            updates = []
            for p in weights:
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
                buffer = self.state[p]["momentum_buffer"].mul_(group["momentum"]).add_(p.grad)
                updates.append(p.grad.add(buffer, alpha=group["momentum"]))
            if group["orthogonal"]:
                updates = orthogonalise(updates)
            for p, update in zip(weights, updates, strict=True):
                if group["orthogonal"]:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(update.mul_(group["lr"]))


def orthogonalise(weights: Sequence[torch.Tensor], steps: int = 5) -> list[torch.Tensor]:
    """For each of ``weights``, float32 (D, …) with its rows flattened, the nearest semi-orthogonal matrix; singular
    values end in 0.7..1.2.

    Tall matrices are scaled up by the root of their ratio of sides, so that an output moves as far as in a square one.
    """
    matrices = [part.flatten(1) for part in weights]
    wide = [(matrix.T if len(matrix) > matrix.shape[1] else matrix) for matrix in matrices]
    wide = [matrix / matrix.norm().clamp_min(1e-7) for matrix in wide]
    found: list[torch.Tensor] = list(weights)
    # Those with equal short sides together: on a GPU the work is in the number of products, not in their size.
    for side in sorted({len(matrix) for matrix in wide}):
        rows = [row for row, matrix in enumerate(wide) if len(matrix) == side]
        for row, factor in zip(rows, _polynomial(torch.stack([wide[row] @ wide[row].T for row in rows]), steps),
                               strict=True):
            high, width = matrices[row].shape
            x = factor @ wide[row]
            found[row] = (x.T if high > width else x).mul(max(1.0, high / width) ** 0.5).reshape(weights[row].shape)
    return found


def _polynomial(gram: torch.Tensor, steps: int) -> torch.Tensor:
    """(N, D, D): what the iteration multiplies each x by from the left, of x xᵀ.

    Every step multiplies x by a polynomial of x xᵀ. All of them commute, so the steps are taken with the small square
    matrices alone, and the long side is met twice, not twice a step.
    """
    product: torch.Tensor | None = None
    for _ in range(steps):
        # Coefficients of Jordan's quintic: steepest at 0, at the price of not converging exactly to 1.
        factor = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        factor.diagonal(dim1=1, dim2=2).add_(3.4445)
        product = factor if product is None else factor @ product
        gram = factor @ gram @ factor
    assert product is not None  # there is at least one step
    return product


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential running average of a network's floating-point state (Polyak & Juditsky 1992), which moves with
    every ``update_parameters``; the first steps average over few, as timm has it. What is not floating point is the
    network's own.
    """
    @torch.no_grad()
    def move(averaged: Any, current: Any, updates: Any) -> None:
        count = int(updates)
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - min(decay, count / (9 + count)))
        else:
            torch._foreach_copy_(averaged, current)

    average = AveragedModel(model, multi_avg_fn=move, use_buffers=True)
    average.n_averaged += 1  # the weights at the start
    return average
