"""Finds copies of the same photograph: pixel-identical groups and near copies. Works on bare image tensors."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

#: Images looked at or written at a time where all of them may be more than memory holds.
PART = 4096
#: Images beyond which near copies are not looked for: comparing every pair takes minutes here, hours of two millions.
MOST_COMPARED = 200_000
_MOST_CORRELATIONS = 1 << 26  # held at a time, a quarter of a gigabyte


def exact_groups(images: torch.Tensor) -> np.ndarray:
    """Group number of each image; two images share one if and only if all pixels are equal.

    Parameters
    ----------
    images : uint8 tensor (N, H, W).

    Returns
    -------
    int64 array (N,), values 0..G-1 in order of first appearance.
    """
    # 16 bytes stand for the pixels: no two of a billion pictures will ever agree in them by chance.
    keys = [b"".join(hashlib.blake2b(row, digest_size=16).digest() for row in part.flatten(1).contiguous().numpy())
            for part in images.split(PART)]
    halves = [pd.factorize(half)[0] for half in np.frombuffer(b"".join(keys), np.uint64).reshape(-1, 2).T]
    return np.asarray(pd.factorize(halves[0] * len(images) + halves[1])[0], np.int64)


def near_groups(images: torch.Tensor, min_correlation: float = 0.98, block: int = 2048,
                exact: np.ndarray | None = None) -> np.ndarray:
    """Group number of each image, near copies joined: same picture re-encoded, rescaled or relit.

    Two images are linked when their pixels correlate at ``min_correlation`` or more, which ignores a change of
    brightness or contrast; groups are the connected components, so they contain every exact group.
    Candidates come from 8×8 thumbnails and are then confirmed at full size.

    Parameters
    ----------
    images : uint8 tensor (N, H, W). Constant images correlate with nothing and group only with exact copies.
    min_correlation : Pearson correlation in (0, 1].
    block : rows compared at a time, or fewer where their correlations with all others would take too much memory.
    exact : `exact_groups` of the images, where they are known.

    Returns
    -------
    int64 array (N,). Of more than `MOST_COMPARED` different images it only joins exact copies.
    """
    count = len(images)
    exact = exact_groups(images) if exact is None else exact
    # One representative per exact group: comparing copies with everything again would find nothing new.
    keep = torch.from_numpy(np.unique(exact, return_index=True)[1])
    if not 0 < len(keep) <= MOST_COMPARED:
        return exact
    block = min(block, max(_MOST_CORRELATIONS // len(keep), 1))
    thumbs = torch.cat([_standardise(torch.nn.functional.adaptive_avg_pool2d(part[:, None].float(), 8))
                        for part in map(images.__getitem__, keep.split(PART))])
    pairs = []
    for start in range(0, len(keep), block):
        close = thumbs[start:start + block] @ thumbs[start:].T >= min_correlation - 0.02
        left, right = close.nonzero(as_tuple=True)
        left, right = left[left < right] + start, right[left < right] + start
        for index in torch.arange(len(left)).split(block):
            a, b = (_standardise(images[keep[side[index]]].float()) for side in (left, right))
            sure = (a * b).sum(1) >= min_correlation
            pairs.append(torch.stack([left[index][sure], right[index][sure]]))
    left, right = (torch.cat(pairs, 1) if pairs else torch.empty(2, 0, dtype=torch.long)).numpy()
    graph = coo_array((np.ones(len(left)), (left, right)), shape=(len(keep), len(keep)))
    component = connected_components(graph, directed=False)[1].astype(np.int64)
    assert len(component) == int(exact.max()) + 1 <= count
    return np.asarray(component[exact])


def _standardise(images: torch.Tensor) -> torch.Tensor:
    """Flatten to (N, P), mean 0 and norm 1 per row; constant rows become 0."""
    flat = images.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    return flat.div(flat.norm(dim=1, keepdim=True).clamp_min(1e-6))
