"""What the notebooks ask of data and networks: image statistics, classical floor, human votes, hiding.

Functions take sets, networks and tables and return tables; drawing is in `plots`, sentences are in `narrative`.
"""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from .augment import normalise
from .data import IMAGE_SIZE, FaceSet
from .emotions import ACTION_UNITS, REGIONS
from .evaluation import Evaluation, compare, evaluate
from .files import FerError
from .training import predict_logits

#: Rows and columns (first, past the last) of each region on the average face, where no mask is known.
LAYOUT = {"brows": (9, 16, 6, 42), "eyes": (16, 24, 6, 42), "nose": (22, 33, 16, 32), "mouth": (32, 43, 11, 37)}


def image_statistics(faces: FaceSet) -> pd.DataFrame:
    """Class, split, brightness (mean), contrast (standard deviation) and sharpness (standard deviation of the
    Laplacian) of each image, in grey levels 0..255."""
    images = faces.images.float()
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    edges = torch.cat([F.conv2d(part[:, None], kernel).flatten(1).std(1) for part in images.split(2048)])
    return pd.DataFrame({
        "id": faces.ids, "class": np.array(faces.classes)[faces.labels.numpy()], "split": faces.split,
        "brightness": images.mean((1, 2)).numpy(), "contrast": images.flatten(1).std(1).numpy(),
        "sharpness": edges.numpy()})


def pca_baseline(faces: FaceSet, components: int = 60, limit: int = 6000, seed: int = 0) -> Evaluation:
    """The classical floor: eigenfaces (Turk & Pentland 1991) and logistic regression, scored on the test split.

    ``limit`` caps the train images, class shares kept.
    """
    train, test = faces.limit_train(limit, seed).only("train"), faces.only("test")
    pixels = [part.images.flatten(1).float().numpy() / 255 for part in (train, test)]
    model = make_pipeline(StandardScaler(), PCA(components, random_state=seed), StandardScaler(),
                          LogisticRegression(max_iter=500))
    model.fit(pixels[0], train.labels.numpy())
    probs = np.zeros((len(test), len(faces.classes)))
    probs[:, model.classes_] = model.predict_proba(pixels[1])
    return evaluate(test.labels.numpy(), probs, faces.classes, int(np.bincount(train.labels).argmax()))


def human_confusion(faces: FaceSet) -> pd.DataFrame:
    """Mean FER+ vote share of each class (columns) over the images of each label (rows); images without votes left out.

    Raises
    ------
    FerError
        If the data has no votes.
    """
    shares, labels = faces.vote_shares().numpy(), faces.labels.numpy()
    known = ~np.isnan(shares).any(1)
    rows = {name: shares[known & (labels == number)].mean(0) for number, name in enumerate(faces.classes)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(faces.classes))


def human_agreement(faces: FaceSet) -> np.ndarray:
    """float64 (N,): share of an image's FER+ votes that went to its own label; NaN where FER+ does not cover it."""
    shares = faces.vote_shares().numpy()
    return shares[np.arange(len(faces)), faces.labels.numpy()].astype(np.float64)


def action_unit_means(faces: FaceSet) -> pd.DataFrame:
    """Mean intensity 0..1 of each drawn action unit (columns "AU1" …) by class (rows); synthetic faces only."""
    if faces.action_units is None:
        raise FerError(f"{faces.source}: has no action units; use the synthetic faces")
    rows = {name: faces.action_units[faces.labels == number].mean(0).numpy()
            for number, name in enumerate(faces.classes)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=[f"AU{unit}" for unit in ACTION_UNITS])


def error_sources(faces: FaceSet, correct: np.ndarray) -> dict[str, pd.DataFrame]:
    """`accuracy_by` for every property known of the images, by its name."""
    values = image_statistics(faces)[["brightness", "contrast", "sharpness"]].to_dict("series")
    if faces.action_units is not None:
        values["strength of the expression"] = faces.action_units.sum(1).numpy()
    if faces.votes is not None:
        values["human agreement"] = human_agreement(faces)
    return {name: accuracy_by(correct, np.asarray(value), name=name) for name, value in values.items()}


def layer_gradients(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> pd.Series:
    """Root-mean-square gradient of the weights of each convolution and dense layer, from the input to the output.

    One backward pass of cross-entropy over uint8 ``images`` (N, 48, 48) and int64 ``labels``, through a copy of the
    network. The index counts layers from 1, shortcut projections left out. A residual branch that starts at zero
    passes no gradient on in its first step, so a batch norm whose scales are all zero counts as one of scale 1.
    """
    model = copy.deepcopy(model).train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d) and not layer.weight.any():
            nn.init.ones_(layer.weight)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout
        F.cross_entropy(model(normalise(images)), labels).backward()
    layers = [layer for name, layer in model.named_modules()
              if isinstance(layer, (nn.Conv2d, nn.Linear)) and "downsample" not in name]
    values = [layer.weight.grad.pow(2).mean().sqrt().item() for layer in layers]
    return pd.Series(values, index=pd.RangeIndex(1, len(values) + 1, name="layer"))


def region_masks(faces: FaceSet) -> dict[str, torch.Tensor]:
    """bool (N, 48, 48) for each of `emotions.REGIONS`: the true masks, or `LAYOUT`'s boxes for photographs."""
    if faces.regions is not None:
        return {region: faces.region_mask(region) for region in REGIONS}
    masks = {}
    for region, (top, bottom, left, right) in LAYOUT.items():
        box = torch.zeros(IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool)
        box[top:bottom, left:right] = True
        masks[region] = box.expand(len(faces), -1, -1)
    return masks


def hide(images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Images with the masked pixels, and one pixel around them, replaced by the mean grey of the rest.

    Both (N, 48, 48), uint8 and bool. The margin keeps the outline of the hidden part from giving it away.
    """
    mask = F.max_pool2d(mask[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
    rest = (~mask).flatten(1)
    mean = (images.flatten(1).float() * rest).sum(1) / rest.sum(1).clamp_min(1)
    return torch.where(mask, mean.round().to(torch.uint8)[:, None, None], images)


def region_importance(model: nn.Module, faces: FaceSet) -> pd.DataFrame:
    """How much accuracy falls when a region is hidden, with a paired 95% interval.

    Returns
    -------
    Data frame with a row per region and class ("all" for all of them): region, class, value, low, high, the loss of
    accuracy in −1..1, and images.
    """
    labels = faces.labels.numpy()
    right = predict_logits(model, faces.images).argmax(1).numpy() == labels
    rows = []
    for region, mask in region_masks(faces).items():
        still = predict_logits(model, hide(faces.images, mask)).argmax(1).numpy() == labels
        for number, name in enumerate(("all", *faces.classes), start=-1):
            own = labels == number if number >= 0 else np.ones(len(labels), dtype=bool)
            if not own.any():
                continue
            loss = compare(right[own], still[own]).difference
            rows.append((region, name, loss.value, loss.low, loss.high, int(own.sum())))
    return pd.DataFrame(rows, columns=["region", "class", "value", "low", "high", "images"])


def accuracy_by(correct: np.ndarray, values: np.ndarray, bins: int = 4, name: str = "value") -> pd.DataFrame:
    """Accuracy within quantile bins of ``values``, each with a Wilson 95% interval (Wilson 1927).

    Parameters
    ----------
    correct : bool (N,).
    values : float (N,); NaN rows are left out.

    Returns
    -------
    Data frame indexed by the bins' ranges as text: value, low, high, images.
    """
    correct, values = np.asarray(correct, bool), np.asarray(values, float)
    known = ~np.isnan(values)
    binned = pd.qcut(values[known], bins, duplicates="drop")
    rows = {}
    for bin_ in binned.categories:
        own = correct[known][binned == bin_]
        test = binomtest(int(own.sum()), len(own))
        interval = test.proportion_ci(method="wilson")
        rows[f"{bin_.left:.3g} to {bin_.right:.3g}"] = (test.statistic, interval.low, interval.high, len(own))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high", "images"]).rename_axis(name)
