"""What can stand in place of global average pooling and a dense classifier: attention, face regions, text; and CBAM.

A pooling takes what a network's ``maps`` returns, the maps (N, C, H, W) of two stages, the regional and the last one,
and gives features (N, D). Networks are built in `models`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..data.faceset import IMAGE_SIZE
from ..data.regions import FACE_GRID
from .base import Maps

#: "plain" is the network's own.
HEADS = ("plain", "attention", "regions", "text")


class AveragePool(nn.Module):
    """The mean over all places of the last map."""

    def forward(self, maps: Maps) -> torch.Tensor:
        return F.adaptive_avg_pool2d(maps[1], 1).flatten(1)

    def weights(self, maps: Maps) -> torch.Tensor:
        """(N, P): how much each of the P places counts, summing to 1."""
        count = maps[1].shape[2] * maps[1].shape[3]
        return maps[1].new_full((len(maps[1]), count), 1 / count)


class AttentionPool(nn.Module):
    """A weighted mean over the places of the last map; a small network weighs them by what they hold (Ilse et al.
    2018, arXiv:1802.04712). It starts as the plain mean."""

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        first, last = nn.Linear(channels, hidden), nn.Linear(hidden, 1)
        self.score = nn.Sequential(first, nn.Tanh(), last)
        nn.init.zeros_(last.weight)

    def forward(self, maps: Maps) -> torch.Tensor:
        return torch.einsum("ncp,np->nc", maps[1].flatten(2), self.weights(maps))

    def weights(self, maps: Maps) -> torch.Tensor:
        """(N, P): how much each of the P places counts, summing to 1."""
        return self.score(maps[1].flatten(2).transpose(1, 2)).squeeze(2).softmax(1)


class RegionPool(nn.Module):
    """Features of the boxes of `regions.FACE_GRID` and of the whole face, related by attention, then summed by weight.

    Boxes are pooled from the regional map by RoIAlign (He et al. 2017, arXiv:1703.06870), and look at each other in one
    layer of self-attention (Vaswani et al. 2017, arXiv:1706.03762).
    """

    #: Names of the R regions, in the order of `tokens`.
    names = (*FACE_GRID, "whole face")
    boxes: torch.Tensor

    def __init__(self, regional: int, last: int, width: int = 256, attention_heads: int = 4) -> None:
        super().__init__()
        self.width = width
        self.local, self.whole = nn.Linear(regional, width), nn.Linear(last, width)
        self.place = nn.Parameter(torch.randn(len(self.names), width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.relate = nn.MultiheadAttention(width, attention_heads, batch_first=True)
        self.score = nn.Linear(width, 1)
        nn.init.zeros_(self.score.weight)
        self.register_buffer("boxes", torch.tensor(list(FACE_GRID.values()), dtype=torch.float32), persistent=False)

    def tokens(self, maps: Maps) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, R, D) what each region holds after looking at the others, and (N, R) its weight, summing to 1."""
        from torchvision import ops  # takes two seconds, which other heads need not

        regional, last = maps
        count = regional.shape[0]  # not len(): an exported network takes any number
        number = torch.arange(count, device=regional.device, dtype=self.boxes.dtype).repeat_interleave(len(self.boxes))
        boxes = torch.cat([number[:, None], self.boxes.repeat(count, 1)], 1)
        # The boxes are in pixels of a 48×48 face; training may use smaller images of it.
        pooled = ops.roi_align(regional, boxes, 2, regional.shape[-1] / IMAGE_SIZE, 2, aligned=True)
        pooled = pooled.mean((2, 3)).unflatten(0, (-1, len(self.boxes)))
        seen = torch.cat([self.local(pooled.to(last.dtype)), self.whole(last.mean((2, 3)))[:, None]], 1) + self.place
        tokens = self.norm(seen)
        tokens = tokens + self.relate(tokens, tokens, tokens, need_weights=False)[0]
        return tokens, self.score(tokens).squeeze(2).softmax(1)

    def forward(self, maps: Maps) -> torch.Tensor:
        tokens, weights = self.tokens(maps)
        return torch.einsum("nrd,nr->nd", tokens, weights)


class TextClassifier(nn.Module):
    """Logits are cosine similarities to sentence embeddings of the classes, times a learned scale, as CLIP has it
    (Radford et al. 2021, arXiv:2103.00020). The embeddings never change; other ones may be put in ``texts`` later, for
    classes that training never saw."""

    texts: torch.Tensor

    def __init__(self, channels: int, texts: torch.Tensor) -> None:
        super().__init__()
        self.project = nn.Linear(channels, texts.shape[1], bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.register_buffer("texts", texts)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        images = F.normalize(self.project(features).float(), dim=1)
        return images @ self.texts.T * self.log_scale.exp().clamp(max=100)


class CBAM(nn.Module):
    """Attention first to channels, then to places (Woo et al. 2018, arXiv:1807.06521). (N, C, H, W) in and out."""

    def __init__(self, channels: int, reduction: int = 16, kernel: int = 7) -> None:
        super().__init__()
        hidden = max(channels // reduction, 8)
        self.channel = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.place = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * (self.channel(x.mean((2, 3))) + self.channel(x.amax((2, 3)))).sigmoid()[..., None, None]
        return x * self.place(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()


def on_blank(model: nn.Module, call: Callable[[torch.Tensor], Any]) -> Any:
    """What ``call``, a method of ``model``, makes of one blank image in evaluation mode: to learn the shapes of it."""
    parameter, was_training = next(p for p in model.parameters() if p.ndim == 4), model.training  # its first filters
    model.eval()
    with torch.no_grad():
        found = call(torch.zeros(1, parameter.shape[1], IMAGE_SIZE, IMAGE_SIZE, device=parameter.device))
    model.train(was_training)
    return found
