"""What a network says of images: logits and features; and where it computes them, in which precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ..files import FerError
from ..models.base import Network
from ..transforms.augmentation import normalise, views


def embed(model: Network, images: torch.Tensor, batch_size: int = 512) -> np.ndarray:
    """float32 (N, D): the features before the classifier of uint8 images (N, 48, 48)."""
    with torch.inference_mode():
        return torch.cat([model.features(normalise(part)) for part in images.split(batch_size)]).numpy()


def predict_logits(model: nn.Module, images: torch.Tensor, precision: str = "fp32", tta: str = "none",
                   batch_size: int | None = None, votes: bool = False) -> torch.Tensor:
    """Logits of uint8 images (N, 48, 48), float32 (N, C) on the CPU. The model's device and mode are kept.

    ``tta`` averages the logits over several views of each image, see `augmentation.views`. ``batch_size`` None takes
    128 on a processor, whose caches larger batches overflow, and 512 elsewhere. With ``votes`` they are those of
    `base.Network.with_votes`, (N, 2C) where the network tells people's votes, too.
    """
    say: Any = model.with_votes if votes else model
    parameter = next(model.parameters())
    batch_size = batch_size or (128 if parameter.device.type == "cpu" else 512)
    was_training = model.training
    model.eval()
    parts = []
    with torch.inference_mode(), torch.autocast(parameter.device.type, torch.bfloat16, enabled=precision == "bf16"):
        for part in images.split(batch_size):
            logits = [say(view.contiguous(memory_format=torch.channels_last)).float().cpu()
                      for view in views(normalise(part.to(parameter.device)), tta)]
            parts.append(torch.stack(logits).mean(0))
    model.train(was_training)
    return torch.cat(parts)


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
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)() if device == "cpu" else {}
    return "bf16" if any(there for name, there in capabilities.items() if "bf16" in name) else "fp32"
