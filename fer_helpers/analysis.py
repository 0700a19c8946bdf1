"""What the notebooks ask of data and networks: image statistics, classical floor, human votes, embeddings.

Functions take sets, networks and tables and return tables; drawing is in `plots`, sentences are in `narrative`.
"""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from .augment import normalise
from .data import FaceSet
from .emotions import ACTION_UNITS
from .evaluation import Evaluation, evaluate
from .files import FerError


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


def embed(model: nn.Module, images: torch.Tensor, batch_size: int = 512) -> np.ndarray:
    """float32 (N, D): the features before the classifier of uint8 images (N, 48, 48)."""
    with torch.inference_mode():
        return torch.cat([model.features(normalise(part)) for part in images.split(batch_size)]).numpy()


def class_similarity(embedded: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> pd.DataFrame:
    """Cosine similarity −1..1 between the mean embeddings of the classes, measured from the mean of all of them."""
    centers = np.stack([embedded[labels == number].mean(0) for number in range(len(classes))])
    centers = centers - centers.mean(0)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    return pd.DataFrame(centers @ centers.T, index=list(classes), columns=list(classes))


def pair_evidence(scores: Evaluation, faces: FaceSet) -> pd.DataFrame:
    """Per pair of classes: how often the network confuses them, and how similar they are without any network.

    Returns
    -------
    Data frame indexed by "a and b", most confused first: ``confusion`` (mean of the rates a → b and b → a), and one
    column of evidence: "action units drawn" (cosine similarity of the classes' mean intensities), "human votes"
    (mean of the vote shares a → b and b → a) or, where neither is known, "mean faces" (correlation of pixels).
    """
    if faces.action_units is not None:
        source, units = "action units drawn", action_unit_means(faces).to_numpy()
        norm = np.linalg.norm(units, axis=1).clip(1e-9)
        similar = (units @ units.T) / norm[:, None] / norm
    elif faces.votes is not None:
        source, votes = "human votes", human_confusion(faces).to_numpy()
        similar = (votes + votes.T) / 2
    else:
        source, images = "mean faces", faces.images.flatten(1).float()
        similar = np.corrcoef([images[faces.labels == number].mean(0).numpy() for number in range(len(faces.classes))])
    rates = scores.confusion / scores.confusion.sum(1, keepdims=True).clip(1)
    rows = {f"{first} and {scores.classes[b]}": ((rates[a, b] + rates[b, a]) / 2, similar[a, b])
            for a, first in enumerate(scores.classes) for b in range(a + 1, len(scores.classes))}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["confusion", source])
    return table.sort_values("confusion", ascending=False)


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
