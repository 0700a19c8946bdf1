"""What a training step minimises: losses of logits, and those that look at embeddings, a teacher or the evidence."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .config import TrainConfig

#: Softening of both sides in `distillation_loss`, Hinton's usual one.
DISTILL_TEMPERATURE = 4.0


def compute_loss(config: TrainConfig, logits: torch.Tensor, targets: torch.Tensor,
                 class_weight: torch.Tensor | None = None) -> torch.Tensor:
    """Mean loss of float logits (B, C) to target probabilities (B, C)."""
    if config.loss == "sigmoid_cross_entropy":
        return F.binary_cross_entropy_with_logits(logits, targets, class_weight)
    if config.focal:
        return focal_loss(logits, targets, config.focal, class_weight, config.label_smoothing)
    return F.cross_entropy(logits, targets, class_weight, label_smoothing=config.label_smoothing)


def focal_loss(logits: torch.Tensor, targets: torch.Tensor, gamma: float, class_weight: torch.Tensor | None = None,
               label_smoothing: float = 0.0) -> torch.Tensor:
    """Cross-entropy whose terms count (1 − p)^γ: less, the surer the network is already (Lin et al. 2017,
    arXiv:1708.02002). Arguments as of `compute_loss`; γ = 0 is cross-entropy."""
    targets = targets * (1 - label_smoothing) + label_smoothing / targets.shape[1]
    log_probs = logits.log_softmax(1)
    terms = targets * (1 - log_probs.exp()).pow(gamma) * -log_probs
    return (terms if class_weight is None else terms * class_weight).sum(1).mean()


def contrastive_loss(embedded: torch.Tensor, labels: torch.Tensor, temperature: float = 0.1,
                     pair_weight: torch.Tensor | None = None) -> torch.Tensor:
    """Supervised contrastive loss, L_out of Khosla et al. 2020 (arXiv:2004.11362).

    With a label of its own for each image, and two views of it, this is NT-Xent of SimCLR (Chen et al. 2020,
    arXiv:2002.05709). Rows without a partner of the same label are left out of the mean.

    Parameters
    ----------
    embedded : float (B, D), B ≥ 2; brought to unit length here.
    labels : int64 (B,).
    temperature : divides the cosine similarities.
    pair_weight : float (C, C), how much an image of class j (columns) counts in the denominator of one of class i;
        None counts all alike. Above 1 for hard negatives (Robinson et al. 2021, arXiv:2010.04592, by class).
    """
    unit = F.normalize(embedded, dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    logits = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf)
    weighted = logits if pair_weight is None else logits + pair_weight[labels][:, labels].log()
    log_probs = (logits - weighted.logsumexp(1, keepdim=True)).masked_fill(itself, 0)
    same = (labels[:, None] == labels) & ~itself
    partners = same.sum(1)
    means = (log_probs * same).sum(1) / partners.clamp_min(1)
    return -means.sum() / (partners > 0).sum().clamp_min(1)


def distillation_loss(logits: torch.Tensor, teacher: torch.Tensor, temperature: float = DISTILL_TEMPERATURE
                      ) -> torch.Tensor:
    """KL divergence of softened student from softened teacher probabilities, times T² so that its gradient does not
    shrink with T (Hinton et al. 2015, arXiv:1503.02531). Both logits are float (B, C)."""
    soft = (logits / temperature).log_softmax(1)
    return F.kl_div(soft, (teacher / temperature).log_softmax(1), reduction="batchmean",
                    log_target=True) * temperature**2


def vote_loss(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of float logits (B, C) to the shares of people's votes (B, C); an image without votes, whose
    shares are NaN, adds nothing."""
    return F.cross_entropy(logits, shares.nan_to_num(0))


def spread_loss(evidence: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """How far the evidence for an answer falls short of being spread over all regions: 0 for evenly, log R for one.

    The log R minus the entropy of the evidence over regions, each region's divided by its area, since a large region
    should not count for its size. A face without positive evidence counts as evenly spread.

    Parameters
    ----------
    evidence : float (B, P), what each place of a map adds to the logit of the label; what speaks against it is cut off.
    masks : float (B, R, P), 0..1, the share of each place that belongs to each region.
    """
    mass = torch.einsum("bp,brp->br", evidence.clamp_min(0), masks) / masks.sum(2).clamp_min(1e-6)
    shares = (mass + 1e-8) / (mass + 1e-8).sum(1, keepdim=True)
    return (shares * (shares * shares.shape[1]).log()).sum(1).mean()


def confusion_weights(confusion: torch.Tensor, strength: float) -> torch.Tensor:
    """`contrastive_loss`'s ``pair_weight`` from float counts (C, C), rows true, columns answered.

    1 on the diagonal; off it 1 + strength × the pair's share of its row's errors × (C − 1): 1 + strength on average.
    A row without errors counts as one of errors evenly spread.
    """
    count = len(confusion)
    errors = confusion.clone().fill_diagonal_(0)
    even = torch.full_like(errors, 1 / (count - 1)).fill_diagonal_(0)
    total = errors.sum(1, keepdim=True)
    shares = torch.where(total > 0, errors / total.clamp_min(1), even)
    return 1 + strength * (count - 1) * shares
