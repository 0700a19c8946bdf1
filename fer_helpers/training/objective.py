"""A network with what only its training needs, a projection and the evidence behind a label, and what of its outputs a
step minimises."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..models.base import Network
from ..models.heads import on_blank
from .config import TrainConfig
from .losses import compute_loss, contrastive_loss, distillation_loss, spread_loss, vote_loss


class Outputs(NamedTuple):
    """What `Objective` says of B images: logits (B, C); projected (B, 128), or None; evidence (B, H, W), or None;
    votes, logits of the shares of people's votes (B, C), or None."""

    logits: torch.Tensor
    projected: torch.Tensor | None = None
    evidence: torch.Tensor | None = None
    votes: torch.Tensor | None = None


class Objective(nn.Module):
    """Wraps ``model``, a result of `factory.create_model`, for one training; its weights are the model's own.

    The projection, two dense layers, is thrown away after training: a contrastive loss on the features themselves would
    cost them what the views differ in (Chen et al. 2020, arXiv:2002.05709).
    """

    projection = 128

    def __init__(self, config: TrainConfig, model: Network) -> None:
        super().__init__()
        self.model, self.guided = model, config.guide > 0
        self.projector: nn.Sequential | None = None
        if config.two_views:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)
                width = on_blank(model, model.features).shape[1]
                self.projector = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True),
                                               nn.Linear(width, self.projection))

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> Outputs:
        """``images`` float (V·B, 1, H, W), the views of a batch one after another; ``labels`` int64 (B,)."""
        if not self.guided and self.projector is None and self.model.voter is None:
            return Outputs(self.model(images))
        evidence = None
        if self.guided:
            maps = self.model.maps(images)
            features = self.model.pool(maps)
            # A dense classifier of a weighted mean over places: the logit of a class is a sum over places, too.
            last, weights = maps[1][:len(labels)], self.model.pool.weights(maps)[:len(labels)]
            evidence = torch.einsum("bchw,bc->bhw", last, self.model.classifier.weight[labels])
            evidence = evidence * weights.view(evidence.shape)
        else:
            features = self.model.features(images)
        projected = None if self.projector is None else self.projector(features)
        votes = None if self.model.voter is None else self.model.voter(features)
        return Outputs(self.model.classify(features), projected, evidence, votes)


def pretraining_loss(config: TrainConfig, out: Outputs, labels: torch.Tensor) -> torch.Tensor:
    """The contrastive loss of two views of B images, by their ``labels`` (B,) or, for SimCLR, each for itself."""
    own = labels if config.pretrain == "supcon" else torch.arange(len(labels), device=labels.device)
    assert out.projected is not None
    # Fused optimizers take no step without a gradient for every weight, the classifiers' included.
    silent = 0 * sum(logits.float().sum() for logits in (out.logits, out.votes) if logits is not None)
    return contrastive_loss(out.projected.float(), own.repeat(2), config.temperature) + silent


def training_loss(config: TrainConfig, out: Outputs, labels: torch.Tensor, targets: torch.Tensor,
                  class_weight: torch.Tensor | None = None, taught: torch.Tensor | None = None,
                  masks: torch.Tensor | None = None, pair_weight: torch.Tensor | None = None,
                  votes: torch.Tensor | None = None) -> torch.Tensor:
    """All that ``config`` asks for of B images, added up; of two views, all but the projections are of the first.

    Parameters
    ----------
    labels, targets : int64 (B,) and float (B, C), see `losses.compute_loss`, as is class_weight.
    taught : logits of the teacher, float (B, C).
    masks : float (B, R, 48, 48), the regions that `losses.spread_loss` spreads the evidence over.
    pair_weight : of `losses.contrastive_loss`.
    votes : shares of people's votes, float (B, C), NaN where there are none.
    """
    logits = out.logits[:len(labels)].float()
    loss = compute_loss(config, logits, targets, class_weight)
    if taught is not None:
        loss = (1 - config.distill) * loss + config.distill * distillation_loss(logits, taught)
    if config.contrast:
        assert out.projected is not None
        apart = contrastive_loss(out.projected.float(), labels.repeat(2), config.temperature, pair_weight)
        loss = loss + config.contrast * apart
    if config.guide:
        assert out.evidence is not None and masks is not None
        places = F.adaptive_avg_pool2d(masks, (out.evidence.shape[1], out.evidence.shape[2]))
        loss = loss + config.guide * spread_loss(out.evidence.flatten(1).float(), places.flatten(2))
    if votes is not None:
        assert out.votes is not None
        loss = loss + config.votes * vote_loss(out.votes[:len(labels)].float(), votes)
    return loss
