"""Where a network looks: attributions by captum, matched successes, and how much of a map falls on parts of a face."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from torch import nn

from ..data.emotions import ACTION_UNITS, PROTOTYPES, REGIONS
from ..data.faceset import IMAGE_SIZE, FaceSet
from ..data.regions import grow
from ..files import FerError
from ..metrics.intervals import BOOTSTRAPS
from ..transforms.augmentation import normalise

METHODS = ("integrated gradients", "occlusion", "Grad-CAM")

#: The region in which `rendering` changes the picture most for each action unit, against its area; tested against it.
UNIT_REGIONS = {1: "brows", 2: "brows", 4: "brows", 5: "eyes", 6: "eyes", 7: "eyes", 9: "nose", 12: "mouth",
                15: "mouth", 16: "mouth", 20: "mouth", 23: "mouth", 26: "mouth"}
VISIBLE = 0.25  # intensity from which a unit counts as drawn; a face at rest reaches 0.22


def attribute(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, method: str, steps: int = 32,
              window: int = 8, stride: int = 4, batch_size: int = 8) -> torch.Tensor:
    """What speaks for (positive) and against (negative) the logit of a class, pixel by pixel.

    Parameters
    ----------
    model : float32, on the CPU; its mode, weights and gradients are left as they were.
    images : uint8 (N, 48, 48).
    targets : int64 (N,), the class asked about in each image: the answer given, or the true one.
    method : "integrated gradients" (Sundararajan et al. 2017, arXiv:1703.01365; ``steps`` points of the integral),
        "occlusion" (Zeiler & Fergus 2014, arXiv:1311.2901; squares of ``window`` pixels every ``stride``), both
        measured from the image's own mean grey, as `regions.hide` paints; or "Grad-CAM" (Selvaraju et al. 2017,
        arXiv:1610.02391; without its final ReLU, so that the sign stays; at `last_maps`).
    batch_size : images at a time; captum holds ``steps`` or 16 variants of each.

    Returns
    -------
    float32 (N, 48, 48).

    Raises
    ------
    FerError
        If the method is unknown, or the images and targets differ in number.
    """
    if method not in METHODS:
        raise FerError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}")
    if len(images) != len(targets):
        raise FerError(f"{len(targets)} targets for {len(images)} images; give one class number an image")
    if not len(images):
        return torch.empty(0, IMAGE_SIZE, IMAGE_SIZE)
    was_training, parts = model.training, []
    model.eval()
    for part, target in zip(images.split(batch_size), targets.split(batch_size), strict=True):
        inputs = normalise(part)
        grey = inputs.mean((1, 2, 3), keepdim=True).expand_as(inputs)
        if method == "integrated gradients":
            maps = IntegratedGradients(model).attribute(inputs, grey, target, n_steps=steps)
        elif method == "occlusion":
            maps = Occlusion(model).attribute(inputs, (1, window, window), (1, stride, stride), grey, target,
                                              perturbations_per_eval=16)
        else:
            maps = LayerGradCam(model, last_maps(model)).attribute(inputs, target)
            maps = LayerAttribution.interpolate(maps, (IMAGE_SIZE, IMAGE_SIZE), "bilinear")
        parts.append(maps.detach()[:, 0].float())
    model.train(was_training)
    return torch.cat(parts)


def last_maps(model: nn.Module) -> nn.Module:
    """The module whose output Grad-CAM weighs: the last convolution's maps, after norm, shortcut and activation.

    Found by following one image through ``model`` (in evaluation mode): of all modules that end after the last
    convolution, the last whose output still has its height and width. So it is any network's, `models` or not.

    Raises
    ------
    FerError
        If the network has no convolution.
    """
    ended: list[tuple[nn.Module, torch.Size]] = []
    hooks = [module.register_forward_hook(lambda module, _, output: ended.append((module, output.shape[-2:])))
             for module in model.modules()]
    try:
        with torch.no_grad():
            model(torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE))
    finally:
        for hook in hooks:
            hook.remove()
    convolutions = [number for number, (module, _) in enumerate(ended) if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise FerError("Grad-CAM needs a network with a convolution; choose another method")
    after = ended[convolutions[-1]:]
    return [module for module, shape in after if shape == after[0][1]][-1]


def match_successes(answers: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    """A right answer to set beside each wrong one: same true class, nearest confidence, none used twice.

    Parameters
    ----------
    answers : a row per image with ``true``, ``correct`` and ``confidence``, as `error_analysis.describe_answers` gives.
    rows : int (K,), positions of wrong answers, in the order in which they choose.

    Returns
    -------
    int (M, 2), pairs of positions (wrong, right); failures whose class has no right answer left are left out.
    """
    true, confidence = answers["true"].to_numpy(), answers["confidence"].to_numpy()
    free, pairs = answers["correct"].to_numpy(bool).copy(), []
    for row in rows:
        own = np.flatnonzero(free & (true == true[row]))
        if len(own):
            pairs.append((row, own[np.abs(confidence[own] - confidence[row]).argmin()]))
            free[pairs[-1][1]] = False
    return np.array(pairs, dtype=int).reshape(-1, 2)


def causal_regions(faces: FaceSet) -> torch.Tensor:
    """bool (N, 48, 48): where each drawn face shows its class, with a margin of one pixel.

    The rule: an action unit tells the class of an image if it belongs to the class's prototype (`emotions.PROTOTYPES`,
    every unit of which some other class lacks) and is drawn at `VISIBLE` intensity or more. A region is causal if one
    of these units is drawn there, by `UNIT_REGIONS`. The mask is empty where there is none, as in neutral faces, which
    show their class by what is absent, and where hair or an occluder covers it.

    Raises
    ------
    FerError
        If the faces are not synthetic.
    """
    if faces.action_units is None or faces.regions is None:
        raise FerError(f"{faces.source}: which regions are causal is known for the synthetic faces only")
    shown = faces.action_units >= VISIBLE
    mask = torch.zeros(faces.images.shape, dtype=torch.bool)
    for region in REGIONS:
        tells = torch.tensor([[unit in PROTOTYPES[name] and UNIT_REGIONS[unit] == region for unit in ACTION_UNITS]
                              for name in faces.classes])[faces.labels]
        mask |= (tells & shown).any(1)[:, None, None] & faces.region_mask(region)
    return grow(mask)


def focus(maps: Mapping[str, torch.Tensor], mask: torch.Tensor, correct: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """How much of each attribution falls inside ``mask``, against the share of the picture that the mask takes.

    "energy" is the share of absolute attribution inside (Wang et al. 2020, arXiv:1910.01279), "pointing game" how often
    the largest absolute attribution lies inside (Zhang et al. 2018, arXiv:1608.00507). Thrown blindly, both would be
    the mask's share of the area. Images with an empty mask or an attribution of zero are left out.

    Parameters
    ----------
    maps : float (N, 48, 48) by method. mask : bool (N, 48, 48). correct : bool (N,), divides the answers.

    Returns
    -------
    Data frame with a row per method, answers ("right", "wrong") and measure: method, answers, measure, inside,
    chance (0..1), value (their ratio), low, high (95% bootstrap over images) and images.
    """
    flat, area = mask.flatten(1), mask.flatten(1).float().mean(1).numpy().astype(float)
    random, rows = np.random.default_rng(seed), []
    for method, signed in maps.items():
        size = signed.flatten(1).abs().double()
        total = size.sum(1)
        measures = {"energy": ((size * flat).sum(1) / total.clamp_min(1e-300)).numpy(),
                    "pointing game": flat.gather(1, size.argmax(1, keepdim=True))[:, 0].double().numpy()}
        for answers, chosen in (("right", correct), ("wrong", ~correct)):
            own = np.flatnonzero(chosen & (area > 0) & (total > 0).numpy())
            if not len(own):
                continue
            drawn = own[random.integers(0, len(own), (BOOTSTRAPS, len(own)))]
            for measure, inside in measures.items():
                low, high = np.quantile(inside[drawn].mean(1) / area[drawn].mean(1), (0.025, 0.975))
                chance = area[own].mean()
                rows.append((method, answers, measure, inside[own].mean(), chance, inside[own].mean() / chance,
                             low, high, len(own)))
    return pd.DataFrame(rows, columns=["method", "answers", "measure", "inside", "chance", "value", "low", "high",
                                       "images"])


def attribution_by_region(maps: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor]) -> pd.DataFrame:
    """Mean share of absolute attribution in each region and "elsewhere" (rows) by method (columns), beside their area.

    ``masks`` are those of `regions.region_masks`, grown by a pixel; where two overlap the first keeps it.
    """
    left = torch.ones_like(next(iter(masks.values())))
    parts = {}
    for region, mask in masks.items():
        parts[region] = grow(mask) & left
        left = left & ~parts[region]
    parts["elsewhere"] = left
    columns = {"area": torch.ones(left.shape)} | {method: signed.abs() for method, signed in maps.items()}
    return pd.DataFrame({name: {region: float(((size * part).sum((1, 2)) / size.sum((1, 2)).clamp_min(1e-30)).mean())
                                for region, part in parts.items()} for name, size in columns.items()})
