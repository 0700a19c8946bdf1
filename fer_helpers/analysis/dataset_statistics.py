"""What can be said of a set of faces before anything is trained: image statistics, position, eigenfaces, human votes.

Functions take sets and return tables; learners without a network are in `baselines`, drawing is in `viz`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import f_oneway, pearsonr
from sklearn.decomposition import PCA

from ..data.emotions import ACTION_UNITS, VOTE_COLUMNS
from ..data.faceset import IMAGE_SIZE, FaceSet
from ..files import FerError
from ..metrics.intervals import bootstrap_mean, resample

#: Top, left, height and width of the part of the mean face that `face_positions` looks for, and how far it looks.
TEMPLATE, REACH = (12, 8, 24, 32), 6


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


def face_positions(faces: FaceSet) -> pd.DataFrame:
    """Where the face sits in each picture, and how far its two halves differ; from pixels alone.

    Returns
    -------
    Data frame with a row per image. ``down`` and ``right``: pixels, −6..6, by which the middle of the set's mean face
    must move to correlate best with the picture (template matching; Lewis 1995), which needs no brightness of its own.
    ``sidelight``: mean of the right half of the picture minus that of the left, in grey levels. ``asymmetry``:
    see `asymmetry`. NaN for blank images.
    """
    top, left, height, width = TEMPLATE
    template = faces.images.float().mean(0)[top:top + height, left:left + width]
    template = (template - template.mean()) / template.std()
    # The window of every shift as a column: three matrix products replace a correlation per image.
    windows = torch.zeros(2, (2 * REACH + 1) ** 2, height + 2 * REACH, width + 2 * REACH)
    for number, (down, right) in enumerate(np.ndindex(2 * REACH + 1, 2 * REACH + 1)):
        windows[0, number, down:down + height, right:right + width] = template
        windows[1, number, down:down + height, right:right + width] = 1
    shifted, box = windows.flatten(2).mT
    rows = []
    for images in faces.images.split(2048):
        images = images.float()
        near = images[:, top - REACH:top + height + REACH, left - REACH:left + width + REACH].flatten(1)
        variance = (near.square() @ box - (near @ box).square() / template.numel()).clamp_min(1)
        best = (near @ shifted / variance.sqrt()).argmax(1)
        blank = images.flatten(1).std(1) == 0
        side = images[:, :, IMAGE_SIZE // 2:].mean((1, 2)) - images[:, :, :IMAGE_SIZE // 2].mean((1, 2))
        values = torch.stack([best // (2 * REACH + 1) - REACH, best % (2 * REACH + 1) - REACH, side,
                              asymmetry(images)], 1)
        rows.append(torch.where(blank[:, None], torch.nan, values))
    return pd.DataFrame(torch.cat(rows).numpy(), columns=["down", "right", "sidelight", "asymmetry"])


def asymmetry(images: torch.Tensor) -> torch.Tensor:
    """float32 (N,): 1 − the correlation of each image (N, 48, 48) with its mirror image, 0..2.

    The nearest that a photograph offers to pose; light from the side and hair count too.
    """
    values = images.float()
    values = values - values.mean((1, 2), keepdim=True)
    return 1 - (values * values.flip(2)).sum((1, 2)) / values.square().sum((1, 2)).clamp_min(1)


def position_errors(faces: FaceSet, positions: pd.DataFrame) -> pd.DataFrame:
    """How well ``down`` and ``right`` of `face_positions` tell where the eyes were drawn; synthetic faces only.

    Returns
    -------
    Data frame indexed by "down", "right": value, low, high (correlation with the middle of the drawn eyes, 95% by
    Fisher's z), error (mean absolute, in pixels, both sides measured from their means), constant (the error of always
    answering the mean), images (those with visible eyes).
    """
    eyes = faces.region_mask("eyes").float()
    grid = torch.arange(IMAGE_SIZE, dtype=torch.float32)
    area = eyes.sum((1, 2))
    truth = {"down": eyes.sum(2) @ grid / area, "right": eyes.sum(1) @ grid / area}
    rows = {}
    for name, position in truth.items():
        known = (area > 0).numpy() & positions[name].notna().to_numpy()
        true, found = position.numpy()[known], positions[name].to_numpy()[known]
        result = pearsonr(found, true)
        true, found = true - true.mean(), found - found.mean()
        rows[name] = (result.statistic, *result.confidence_interval(), np.abs(found - true).mean(),
                      np.abs(true).mean(), int(known.sum()))
    columns = ["value", "low", "high", "error", "constant", "images"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def explained_by(table: pd.DataFrame, values: Sequence[str], by: str = "class", seed: int = 0) -> pd.DataFrame:
    """Share of the variance of each statistic that the groups of column ``by`` explain (epsilon squared; Kelley 1935).

    Returns
    -------
    Data frame indexed by ``values``, largest first: value (up to 1; near 0, on either side, where the groups do not
    differ), low, high (95%, bias-corrected bootstrap over images), p (one-way analysis of variance, multiplied by the
    number of statistics: Bonferroni), images. Rows with NaN are left out.

    Raises
    ------
    FerError
        If there are fewer than two groups.
    """
    table = table.dropna(subset=list(values))
    groups, member = np.unique(table[by], return_inverse=True)
    if len(groups) < 2:
        raise FerError(f"column {by} names fewer than two groups; nothing to compare")
    standard = (table[list(values)] - table[list(values)].mean()) / table[list(values)].std().clip(1e-9)
    one_hot = np.eye(len(groups))[member]
    sums = np.concatenate([one_hot, *(one_hot * standard[[name]].to_numpy() for name in values),
                           standard.to_numpy() ** 2], 1)

    def shares(sums: np.ndarray) -> np.ndarray:
        """(B, V) from the group sizes, each statistic's sums by group, and its sum of squares (B, …)."""
        end = len(groups) * (1 + len(values))
        sizes, totals = sums[:, None, :len(groups)], sums[:, len(groups):end].reshape(len(sums), len(values), -1)
        middle = totals.sum(2) ** 2 / len(table)
        whole = (sums[:, end:] - middle).clip(1e-9)
        within = whole + middle - (totals ** 2 / sizes.clip(1)).sum(2)
        return np.asarray(1 - within / whole * (len(table) - 1) / max(len(table) - len(groups), 1))

    value, drawn = shares(sums.sum(0)[None])[0], shares(resample(sums, seed=seed))
    # Resampling noise looks like a difference between groups: what it adds on average is taken off again.
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0) - drawn.mean(0) + value
    tests = [f_oneway(*(standard[name][member == group] for group in range(len(groups)))).pvalue for name in values]
    result = pd.DataFrame({"value": value, "low": low, "high": high, "p": np.multiply(tests, len(values)).clip(max=1),
                           "images": len(table)}, index=pd.Index(values, name=by))
    return result.sort_values("value", ascending=False)


@dataclass(frozen=True, eq=False)
class Eigenfaces:
    """Principal components of images (Turk & Pentland 1991).

    Attributes
    ----------
    mean : float32 (48, 48), grey levels.
    faces : float32 (K, 48, 48), unit length each.
    explained : float (K,), share 0..1 of the variance of the pixels.
    scores : float32 (N, K), where each image lies on each component.
    """

    mean: np.ndarray
    faces: np.ndarray
    explained: np.ndarray
    scores: np.ndarray


def eigenfaces(images: torch.Tensor, count: int = 6, seed: int = 0, like: Eigenfaces | None = None) -> Eigenfaces:
    """The first ``count`` eigenfaces of uint8 ``images`` (N, 48, 48); `FerError` where there are no more images.

    A component's sign means nothing. Here it brightens more than it darkens, or resembles its namesake in ``like``.
    """
    if len(images) <= count:
        raise FerError(f"{len(images)} images are too few for {count} eigenfaces; ask for fewer")
    pixels = images.flatten(1).float().numpy()
    model = PCA(count, svd_solver="randomized", random_state=seed)
    scores = model.fit_transform(pixels)
    reference = np.ones_like(model.components_) if like is None else like.faces.reshape(count, -1)
    sign = np.where((model.components_ * reference).sum(1) < 0, -1, 1).astype(np.float32)
    return Eigenfaces(model.mean_.reshape(IMAGE_SIZE, IMAGE_SIZE),
                      (model.components_ * sign[:, None]).reshape(count, IMAGE_SIZE, IMAGE_SIZE),
                      model.explained_variance_ratio_, scores * sign)


def mean_shares(shares: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> pd.DataFrame:
    """Mean answer (columns) to the images of each class (rows), from float ``shares`` (N, C) of the answers to each
    image, such as `faceset.FaceSet.vote_shares`; images with NaN are left out."""
    known = ~np.isnan(shares).any(1)
    rows = {name: shares[known & (labels == number)].mean(0) for number, name in enumerate(classes)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(classes))


def vote_table(faces: FaceSet) -> pd.DataFrame:
    """The FER+ votes of the images that have any: indexed by image id, a column of counts per `VOTE_COLUMNS`."""
    faces.vote_shares()  # says what is missing
    assert faces.votes is not None
    table = pd.DataFrame(faces.votes.numpy(), pd.Index(faces.ids, name="id"), VOTE_COLUMNS).dropna()
    return table[table.sum(axis=1) > 0].astype(int)


def people(votes: pd.DataFrame, ids: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """float64 (N, C): share of the votes of a `vote_table` that each of ``classes`` gets among them, by image of
    ``ids``; NaN where none is for any."""
    own = votes.reindex(ids)[list(classes)].to_numpy(float)
    with np.errstate(invalid="ignore"):
        return np.asarray(own / own.sum(1, keepdims=True))


def human_agreement(faces: FaceSet) -> np.ndarray:
    """float64 (N,): share of an image's FER+ votes that went to its own label; NaN where FER+ does not cover it."""
    shares = faces.vote_shares().numpy()
    return np.asarray(shares[np.arange(len(faces)), faces.labels.numpy()], np.float64)


def agreement_by_class(faces: FaceSet, seed: int = 0) -> pd.DataFrame:
    """How far the FER+ raters agree, by the label of the image and over all of them.

    Returns
    -------
    Data frame: measure, class ("all" for all), value, low, high (95%, bootstrap over images), images. The measures
    are "votes for the label" (share, of all ten answers FER+ offers), "two raters agree" (probability that two of an
    image's raters, drawn without replacement, give the same answer) and "entropy in bits" (of the votes: 0 where all
    agree, 3.32 where ten say ten things; ten votes underestimate it).
    """
    votes, labels = _votes(faces)
    total = votes.sum(1)
    own = np.array([VOTE_COLUMNS.index(name) for name in faces.classes])[labels]
    share = votes / total[:, None]
    entropy = -(share * np.log2(share, out=np.zeros_like(share), where=share > 0)).sum(1)
    measures = {"votes for the label": share[np.arange(len(votes)), own],
                "two raters agree": (votes * (votes - 1)).sum(1) / (total * (total - 1)), "entropy in bits": entropy}
    rows = []
    for number, name in enumerate(("all", *faces.classes), start=-1):
        chosen = labels == number if number >= 0 else np.ones(len(labels), dtype=bool)
        for measure, values in measures.items():
            if chosen.any():
                result = bootstrap_mean(values[chosen], seed=seed)
                rows.append((measure, name, result.value, result.low, result.high, int(chosen.sum())))
    return pd.DataFrame(rows, columns=["measure", "class", "value", "low", "high", "images"])


def rater_confusion(faces: FaceSet, seed: int = 0) -> pd.DataFrame:
    """How people confuse emotions with one another, whatever the label says.

    Returns
    -------
    Data frame: first, second, value, low, high. ``value`` is the probability that a second rater of the same image
    answers ``second`` where the first answered ``first``, the two drawn without replacement from its votes; every
    image counts the same, 95% interval by bootstrap over images. ``second`` is a class of this view or "other" (the
    answers FER+ offers beyond them). Rows in the order of the classes; their probabilities sum to 1.
    """
    votes, _ = _votes(faces)
    own = [VOTE_COLUMNS.index(name) for name in faces.classes]
    second = np.column_stack([votes[:, own], votes.sum(1) - votes[:, own].sum(1)])
    pairs = votes[:, own, None] * (second[:, None] - np.eye(len(own), len(own) + 1))
    pairs /= (votes.sum(1) * (votes.sum(1) - 1))[:, None, None]

    def rates(sums: np.ndarray) -> np.ndarray:
        sums = sums.reshape(-1, len(own), len(own) + 1)
        return np.asarray(sums / sums.sum(2, keepdims=True).clip(1e-12))

    low, high = np.quantile(rates(resample(pairs.reshape(len(pairs), -1), seed=seed)), (0.025, 0.975), axis=0)
    names = pd.MultiIndex.from_product([faces.classes, (*faces.classes, "other")], names=["first", "second"])
    return pd.DataFrame({"value": rates(pairs.sum(0)).ravel(), "low": low.ravel(), "high": high.ravel()},
                        index=names).reset_index()


def action_unit_means(faces: FaceSet) -> pd.DataFrame:
    """Mean intensity 0..1 of each drawn action unit (columns "AU1" …) by class (rows); synthetic faces only."""
    if faces.action_units is None:
        raise FerError(f"{faces.source}: has no action units; use the synthetic faces")
    rows = {name: faces.action_units[faces.labels == number].mean(0).numpy()
            for number, name in enumerate(faces.classes)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=[f"AU{unit}" for unit in ACTION_UNITS])


def _votes(faces: FaceSet) -> tuple[np.ndarray, np.ndarray]:
    """Votes float64 (M, 10) and labels (M,) of the images that at least two people judged."""
    faces.vote_shares()  # says what is missing
    assert faces.votes is not None
    votes = faces.votes.numpy().astype(np.float64)
    known = votes.sum(1) >= 2  # NaN is not
    if not known.any():
        raise FerError(f"{faces.source}: no image has two votes; FER+ must cover the images of these classes")
    return votes[known], faces.labels.numpy()[known]
