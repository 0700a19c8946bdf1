"""How far apart the classes lie: for a network, in pixels, by the words that name them; and whether these agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.metrics import pairwise_distances, silhouette_samples

#: Mean valence and arousal, 1..9, that about twenty people each gave to the words that name the classes (Warriner,
#: Kuperman & Brysbaert 2013, doi:10.3758/s13428-012-0314-x): the axes of Russell's circumplex (1980). They rate words,
#: not faces or feelings, and others' norms differ: the word "surprise" is a pleasant one here.
VALENCE_AROUSAL = {"anger": (2.50, 5.93), "disgust": (3.32, 5.00), "fear": (2.93, 6.14), "happiness": (8.48, 6.50),
                   "sadness": (2.40, 2.81), "surprise": (7.44, 6.57), "neutral": (5.50, 3.45)}


def separation(embedded: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], bootstraps: int = 300,
               seed: int = 0) -> pd.DataFrame:
    """How far apart the classes lie, for all classes and for each: intra- against inter-class spread, silhouette.

    Returns
    -------
    Data frame indexed by "all" and the classes: images; ``ratio``, ratio_low, ratio_high: the class's own spread
    (root-mean-square distance to its mean) over the mean distance of its mean to the other classes' means, above 1
    where a class is wider than its distance to the others; ``silhouette`` (−1..1, Rousseeuw 1987) with silhouette_low,
    silhouette_high; ``nearest``: the class whose mean is closest. Percentile bootstrap over images; each image keeps
    its silhouette, since copies of an image would be neighbours of their own.
    """
    between, spread = _resampled(embedded, labels, len(classes), bootstraps, seed)
    nearest = np.array(classes)[(between[0] + np.diag(np.full(len(classes), np.inf))).argmin(1)]
    ratio = spread / between.sum(2) * (len(classes) - 1)
    silhouettes, random = silhouette_samples(embedded, labels), np.random.default_rng(seed)
    rows = {}
    for number, name in enumerate(("all", *classes), start=-1):
        own = silhouettes[labels == number] if number >= 0 else silhouettes
        means = random.choice(own, (bootstraps, len(own))).mean(1)
        values = ratio[:, number] if number >= 0 else ratio.mean(1)
        rows[name] = (len(own), values[0], *np.quantile(values[1:], (0.025, 0.975)), own.mean(),
                      *np.quantile(means, (0.025, 0.975)), nearest[number] if number >= 0 else "")
    return pd.DataFrame.from_dict(rows, orient="index", columns=[
        "images", "ratio", "ratio_low", "ratio_high", "silhouette", "silhouette_low", "silhouette_high", "nearest"])


def looks_and_meaning(embedded: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], bootstraps: int = 300,
                      seed: int = 0) -> pd.DataFrame:
    """Every pair of classes by the distance of its means, in spreads within classes (root-mean-square distance of an
    image to the mean of its class, classes weighted alike), and of its words (`word_distances`).

    Returns
    -------
    Data frame with columns first, second; look, look_low, look_high; meaning; and the ranks of the pair from close to
    far, from 1: look_rank, look_rank_low, look_rank_high, meaning_rank. Percentile bootstrap over images.
    """
    between, spread = _resampled(embedded, labels, len(classes), bootstraps, seed)
    first, second = np.triu_indices(len(classes), 1)
    look = (between / np.sqrt((spread ** 2).mean(1))[:, None, None])[:, first, second]
    ranks, meaning = rankdata(look, axis=1), word_distances(classes).to_numpy()[first, second]
    ends, rank_ends = (np.quantile(part[1:], (0.025, 0.975), axis=0) for part in (look, ranks))
    names = np.array(classes)
    return pd.DataFrame({
        "first": names[first], "second": names[second], "look": look[0], "look_low": ends[0], "look_high": ends[1],
        "meaning": meaning, "look_rank": ranks[0].astype(int), "look_rank_low": np.floor(rank_ends[0]).astype(int),
        "look_rank_high": np.ceil(rank_ends[1]).astype(int), "meaning_rank": rankdata(meaning, "ordinal")})


def word_distances(classes: tuple[str, ...]) -> pd.DataFrame:
    """Euclidean distance of the classes' words in the plane of `VALENCE_AROUSAL`."""
    points = np.array([VALENCE_AROUSAL[name] for name in classes])
    return pd.DataFrame(pairwise_distances(points), index=list(classes), columns=list(classes))


def _resampled(embedded: np.ndarray, labels: np.ndarray, size: int, bootstraps: int,
               seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances of the class means (1 + B, C, C) and spreads within classes (1 + B, C), of the sample and resamples."""
    random = np.random.default_rng(seed)
    embedded = (embedded - embedded.mean(0)).astype(np.float32)  # centred, so that squares lose no digits
    centers = np.empty((bootstraps + 1, size, embedded.shape[1]), np.float32)
    spread = np.empty((bootstraps + 1, size))
    for number in range(size):
        own = embedded[labels == number]
        weights = random.multinomial(len(own), np.full(len(own), 1 / len(own)), bootstraps)
        weights = (np.concatenate([np.ones((1, len(own))), weights]) / len(own)).astype(np.float32)
        centers[:, number] = weights @ own
        spread[:, number] = np.sqrt((weights @ (own ** 2).sum(1) - (centers[:, number] ** 2).sum(1)).clip(0))
    return np.stack([pairwise_distances(sample) for sample in centers]), spread
