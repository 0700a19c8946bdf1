"""Networks built by name, with the head and the attention asked for; their size and cost."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import nn

from ..data.emotions import class_set
from ..data.faceset import IMAGE_SIZE
from ..files import FerError, listing
from . import architectures  # noqa: F401 - so that they register
from .base import REGISTRY, Network, initialise
from .heads import CBAM, HEADS, AttentionPool, RegionPool, TextClassifier, on_blank
from .layers import speed_up
from .text_embeddings import prototypes


def attach_head(model: Network, head: str, num_classes: int, class_names: tuple[str, ...] | None = None) -> None:
    """Give a network with ``maps``, ``pool`` and a dense ``classifier`` another head, in place.

    Raises
    ------
    FerError
        If ``head`` is none of `HEADS`.
    """
    if head not in HEADS:
        raise FerError(f"head={head!r} is unknown; choose one of {', '.join(HEADS)}")
    if head == "plain":
        return
    regional, last = (part.shape[1] for part in on_blank(model, model.maps))
    if head == "attention":
        model.pool = AttentionPool(last)
    elif head == "regions":
        model.pool = RegionPool(regional, last)
        model.classifier = nn.Linear(model.pool.width, num_classes)
    else:
        model.classifier = TextClassifier(last, prototypes(class_names or class_set(num_classes), centred=True))


def attach_cbam(model: nn.Module) -> None:
    """Put `CBAM` at the end of every residual branch of ``model``, before the shortcut is added, in place."""
    block: Any
    for block in model.modules():
        if hasattr(block, "bn3"):  # a bottleneck of torchvision's ResNet
            block.bn3 = nn.Sequential(block.bn3, CBAM(block.conv3.out_channels))
        elif isinstance(branch := getattr(block, "branch", None), nn.Sequential):
            channels = [layer for layer in branch.modules() if isinstance(layer, nn.Conv2d)][-1].out_channels
            branch.append(CBAM(channels))


def list_models(any_size: bool = False) -> list[str]:
    """Names of all registered architectures, simplest first; or only of those that take images of any size."""
    return [name for name, network in REGISTRY.items() if network.any_size or not any_size]


def check_arch(arch: str) -> None:
    """Raise `FerError`, listing the choices, unless ``arch`` is registered."""
    if arch not in list(REGISTRY):  # of a list it can also be asked whether it holds what cannot be hashed
        raise FerError(f"arch={arch!r} is unknown; choose one of {', '.join(REGISTRY)}")


def create_model(arch: str, num_classes: int = 6, in_chans: int = 1, batch_norm: bool = True,
                 seed: int | None = None, head: str = "plain", cbam: bool = False,
                 class_names: tuple[str, ...] | None = None, init: str = "default", votes: bool = False) -> Network:
    """A freshly initialised network.

    Parameters
    ----------
    arch : one of `list_models`.
    num_classes, in_chans : sizes of the output and of the channel axis of the input.
    batch_norm : False leaves out batch normalisation, to study what it is worth; ``simple_cnn`` has none anyway.
    seed : initialise from this seed without disturbing torch's global generator. Whatever the head, the same seed
        gives the layers below it the same weights.
    head : one of `heads.HEADS`; any but "plain" needs a network with ``any_size``.
    cbam : attention to channels and places in every residual block, see `heads.CBAM`; with ``any_size`` only.
    init : "default" for the architecture's own weights, "glorot" or "he", see `initialise`.
    class_names : of the outputs, for ``head="text"``; None takes those of the class setting of that size.
    votes : a second dense classifier of the features, ``voter``, which the logits do not depend on.

    Raises
    ------
    FerError
        If ``arch`` or ``head`` is unknown, or the network cannot have that head.
    """
    check_arch(arch)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        model = REGISTRY[arch](num_classes, in_chans, batch_norm)
        if init != "default":
            initialise(model, init)
        if (cbam or head != "plain") and not model.any_size:
            raise FerError(f"head={head!r}, cbam={cbam}: {arch} does not pool over a map; choose "
                           f"{listing(list_models(any_size=True), 'or')}")
        if cbam:
            attach_cbam(model)
        attach_head(model, head, num_classes, class_names)
        if votes:
            model.voter = nn.Linear(on_blank(model, model.features).shape[1], num_classes)
        return speed_up(model)


def weight_count(arch: str, num_classes: int = 6) -> int:
    """Weights of an architecture, biases and normalisation included; nothing is allocated for them."""
    with torch.device("meta"):
        return sum(weights.numel() for weights in REGISTRY[arch](num_classes, 1, True).parameters())


def model_table(archs: list[str] | None = None, num_classes: int = 6) -> pd.DataFrame:
    """Parameters and multiply–add cost of each architecture.

    Returns
    -------
    Data frame indexed by arch: ``parameters`` (count), ``mflops`` (10⁶ floating-point operations of one forward
    pass of one image, a multiply–add counted as two), ``layers`` (convolutional and linear), ``features`` (width
    of the vector before the classifier).
    """
    from torch.utils.flop_counter import FlopCounterMode  # takes a second

    rows = {}
    for arch in archs or list_models():
        model = create_model(arch, num_classes, seed=0).eval()
        image = torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(image)
        with torch.no_grad():
            width = model.features(image).shape[1]
        # Projections on the shortcuts run beside the main path, so they do not count as depth.
        weighted = [name for name, layer in model.named_modules()
                    if isinstance(layer, (nn.Conv2d, nn.Linear)) and "downsample" not in name]
        rows[arch] = {"parameters": sum(p.numel() for p in model.parameters()),
                      "mflops": counter.get_total_flops() / 1e6, "layers": len(weighted), "features": width}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("arch")
