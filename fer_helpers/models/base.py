"""What the architectures share: the class `Network`, the registry of networks by name, and their first weights.

Every network maps float images (N, in_chans, 48, 48) to logits (N, num_classes), and offers ``features(images)``,
the (N, D) vector before the classifier, for the study of embeddings. Those with ``any_size`` offer ``maps(images)``
instead, what their ``pool`` makes that vector of, so that one of `heads` can take its place.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

Maps = tuple[torch.Tensor, torch.Tensor]

#: Networks by name, simplest first.
REGISTRY: dict[str, type[Network]] = {}
Entry = TypeVar("Entry", bound="Network")


def register_model(build: type[Entry]) -> type[Entry]:
    """Class decorator: make the network available to `create_model` under its ``name`` attribute."""
    REGISTRY[build.name] = build
    return build


def initialise(model: nn.Module, init: str) -> None:
    """Draw the weights of every convolution and dense layer anew, in place; biases become 0.

    ``init`` is "glorot" (uniform, of variance 2 / (fan in + fan out), Glorot & Bengio 2010, Keras's default) or "he"
    (normal, of variance 2 / fan in, He et al. 2015, arXiv:1502.01852: twice as much where both fans are equal, which
    makes up for the half that a ReLU cuts off).
    """
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            if init == "glorot":
                nn.init.xavier_uniform_(layer.weight)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Network(nn.Module):
    """What the architectures share: logits are a dense classifier's of the features."""

    name: str
    #: Whether it pools over a map, and so takes images of any size, and any of `heads`.
    any_size: ClassVar[bool] = False
    # Any of `heads` may have taken their place; only networks with ``any_size`` have a pool, and maps.
    pool: Any
    classifier: Any
    #: A second classifier of the features, of the shares of votes that people would give; None if none was asked for.
    voter: nn.Linear | None

    def __init__(self, *_: Any) -> None:  # an architecture takes num_classes, in_chans and batch_norm
        super().__init__()
        self.register_module("voter", None)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.pool(self.maps(images))

    def maps(self, images: torch.Tensor) -> Maps:
        raise NotImplementedError

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(images))

    def with_votes(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C) logits or, where there is a ``voter``, (N, 2C): its logits of the shares of votes after them."""
        features = self.features(images)
        logits = self.classify(features)
        return logits if self.voter is None else torch.cat([logits, self.voter(features)], 1)


def network_name(arch: str) -> str:
    """What readers call an architecture: ``network_name("resnet50") == "ResNet50"``."""
    return {"simple_cnn": "simple CNN", "resnet50": "ResNet50"}.get(arch, arch.upper() if arch[:3] == "vgg" else arch)
