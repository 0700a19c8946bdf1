"""Finds copies of the same photograph: pixel-identical groups, near copies, and copies that were mirrored, shifted,
rotated or cropped. Works on bare image tensors."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.sparse import block_array, coo_array
from scipy.sparse.csgraph import connected_components

#: Images looked at or written at a time where all of them may be more than memory holds.
PART = 4096
#: Images beyond which near copies are not looked for: comparing every pair takes minutes here, hours of two millions.
MAX_COMPARED = 200_000
_MAX_CORRELATIONS = 1 << 26  # held at a time, a quarter of a gigabyte

#: What `augmented_pairs` looks for, in degrees, as a scale, and in pixels of 48.
MAX_DEGREES, MAX_SCALE, MAX_SHIFT = 15.0, 1.3, 8.0
_DIRECTIONS, _COMPONENTS = 8, 64  # of gradients
_PROPOSED = 3  # images for each image and pose
_MIN_CANDIDATE = 0.8  # correlation at half size below which a pair is not aligned at full size


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
    int64 array (N,). Of more than `MAX_COMPARED` different images it only joins exact copies.
    """
    count = len(images)
    exact = exact_groups(images) if exact is None else exact
    # One representative per exact group: comparing copies with everything again would find nothing new.
    keep = torch.from_numpy(np.unique(exact, return_index=True)[1])
    if not 0 < len(keep) <= MAX_COMPARED:
        return exact
    block = min(block, max(_MAX_CORRELATIONS // len(keep), 1))
    thumbs = torch.cat([_standardise(F.adaptive_avg_pool2d(part[:, None].float(), 8))
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


def join_groups(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """int64 (N,): images that share a number (0 or more) in either int array (N,), directly or through others, share
    one here; numbered from 0."""
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(first.max(initial=-1) + 1,
                                                                     second.max(initial=-1) + 1))
    component = connected_components(block_array([[None, graph], [graph.T, None]]), directed=False)[1]
    return np.asarray(pd.factorize(component[first])[0], np.int64)


def _standardise(images: torch.Tensor) -> torch.Tensor:
    """Flatten to (N, P), mean 0 and norm 1 per row; constant rows become 0."""
    flat = images.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    return flat.div(flat.norm(dim=1, keepdim=True).clamp_min(1e-6))


def augmented_pairs(images: torch.Tensor, others: torch.Tensor | None = None, min_correlation: float = 0.95,
                    block: int = 1024) -> pd.DataFrame:
    """Pairs of images of which one is the other mirrored, shifted, rotated or cropped, alone or together.

    Each image, in every pose of `_POSES`, proposes three of ``others`` whose histograms of gradients (Dalal and
    Triggs 2005, principal components) are most like its own. Proposed pairs are aligned by the inverse compositional
    method (Baker and Matthews 2004), first at half size, and kept where their middle then correlates.

    Parameters
    ----------
    images : uint8 tensor (N, 48, 48).
    others : uint8 tensor (M, 48, 48) to compare them with; by default the images with each other.
    min_correlation : Pearson correlation in (0, 1] of the middle 32×32 pixels, slightly smoothed.
    block : images compared at a time, or fewer where that would take too much memory.

    Returns
    -------
    One row per pair, best first: ``first`` and ``second``, rows of ``images`` and of ``others``; what was done to the
    second to give the first: ``mirrored`` (bool), then rotated by ``degrees`` (clockwise), enlarged by ``scale``,
    shifted by ``x`` and ``y`` pixels to the right and down; ``correlation``. Copies that `near_groups` joins are among
    them. Not looked for: rotations beyond `MAX_DEGREES`, scales beyond `MAX_SCALE`, shifts beyond `MAX_SHIFT`, images
    upside down, stretched, sheared or largely covered, negatives.
    """
    itself = others is None
    others = images if others is None else others
    found = []
    if len(images) and len(others) > itself:
        halves = torch.cat([_halve(part) for part in others.split(PART)])
        basis = _principal_gradients(halves[::len(halves) // PART + 1])
        known = torch.cat([_describe(part, basis) for part in halves.split(PART)])
        for rows in torch.arange(len(images)).split(max(min(block, _MAX_CORRELATIONS // len(others)), 1)):
            first, second, pose = _propose(rows, _halve(images[rows]), known, basis, itself)
            for shrink, rounds, least in ((_halve, 8, _MIN_CANDIDATE), (_detail, 6, min_correlation)):
                pose, correlation = _align(shrink(images[first]), shrink(others[second]), pose, rounds)
                sure = correlation >= least
                first, second, pose, correlation = first[sure], second[sure], pose[sure], correlation[sure]
            found.append(_describe_pairs(first, second, pose, correlation))
    pairs = pd.concat(found or [_describe_pairs(*map(torch.empty, ((0,), (0,), (0, 3, 3), (0,))))])
    pairs = pairs[(pairs["degrees"].abs() <= MAX_DEGREES) & pairs["scale"].between(1 / MAX_SCALE, MAX_SCALE)
                  & (pairs[["x", "y"]].abs() <= MAX_SHIFT).all(axis=1)]
    once = np.sort(pairs[["first", "second"]], axis=1) if itself else pairs[["first", "second"]].to_numpy()
    pairs = pairs.assign(low=once[:, 0], high=once[:, 1]).sort_values("correlation", ascending=False, kind="stable")
    return pairs.drop_duplicates(["low", "high"]).drop(columns=["low", "high"]).reset_index(drop=True)


def _halve(images: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(images[:, None].float(), 2)[:, 0]


def _detail(images: torch.Tensor) -> torch.Tensor:
    """Without the finest grain, which a rotation does not keep, and the light and shade that many faces share."""
    images = images[:, None].float()
    fine = F.avg_pool2d(F.avg_pool2d(F.pad(images, (1, 1, 1, 1), "replicate"), 2, 1), 2, 1)
    return (fine - F.avg_pool2d(images, 9, 1, 4, count_include_pad=False))[:, 0]


def _gradients(halves: torch.Tensor) -> torch.Tensor:
    """(N, 288): square roots of gradients by direction, in 6×6 overlapping cells."""
    across = halves[:, None, 1:-1, 2:] - halves[:, None, 1:-1, :-2]
    down = halves[:, None, 2:, 1:-1] - halves[:, None, :-2, 1:-1]
    angle = torch.arange(_DIRECTIONS)[:, None, None] * (2 * math.pi / _DIRECTIONS)
    cells = F.avg_pool2d(F.avg_pool2d((across * angle.cos() + down * angle.sin()).relu(), 4, 3), 2, 1).flatten(1)
    return F.normalize(cells).sqrt()


def _principal_gradients(halves: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (288,) of `_gradients` and (288, 64), their principal components, almost whitened."""
    cells = _gradients(halves)
    variance, components = torch.linalg.eigh(torch.cov(cells.T, correction=0))
    spread = variance[-_COMPONENTS:].clamp_min(0).sqrt()
    return cells.mean(0), components[:, -_COMPONENTS:] / (spread + 0.05 * spread[-1] + 1e-6)


def _describe(halves: torch.Tensor, basis: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return F.normalize((_gradients(halves) - basis[0]) @ basis[1])


def _propose(rows: torch.Tensor, halves: torch.Tensor, known: torch.Tensor, basis: tuple[torch.Tensor, torch.Tensor],
             itself: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of images, of the most similar others, and poses (K, 3, 3), which map points of the latter to the former."""
    best = []
    for pose in _POSES:
        grid = F.affine_grid(pose[None, :2].expand(len(halves), 2, 3), [len(halves), 1, 24, 24], align_corners=False)
        turned = F.grid_sample(halves[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
        similarity = _describe(turned, basis) @ known.T
        if itself:
            similarity[torch.arange(len(rows)), rows] = -torch.inf
        best.append(similarity.topk(min(_PROPOSED, len(known) - itself)).indices)
    second = torch.stack(best)  # (poses, rows, proposed)
    first = rows[None, :, None].expand(second.shape)
    pose = _POSES[:, None, None].expand(*second.shape, 3, 3)
    return first.flatten(), second.flatten(), pose.flatten(0, 2)


def _align(moving: torch.Tensor, still: torch.Tensor, pose: torch.Tensor, rounds: int
           ) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses (K, 3, 3) refined by rotation, scale and shift, and the correlation (K,) of the middle of ``still`` with
    what ``moving`` shows there; brightness and contrast may differ."""
    size = still.shape[-1]
    middle = slice(size // 6, size - size // 6)
    axis = ((torch.arange(size) + 0.5) * (2 / size) - 1)[middle]
    y, x = (axis.flatten() for axis in torch.meshgrid(axis, axis, indexing="ij"))
    down, across = ((size / 2) * slope[:, middle, middle].flatten(1) for slope in torch.gradient(still, dim=(1, 2)))
    target = still[:, middle, middle].flatten(1)
    contrast = (target - target.mean(1, keepdim=True)).norm(dim=1).clamp_min(1e-6)[:, None, None]
    target = _standardise(target)
    # What a small enlargement, rotation or shift adds, beyond what another brightness or contrast would.
    change = torch.stack([across * x + down * y, down * x - across * y, across, down], 2) / contrast
    change = change - change.mean(1, keepdim=True)
    change = change - target[:, :, None] * (target[:, None] @ change)
    square = change.mT @ change
    damping = 1e-4 * square.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-6)[:, None, None] * torch.eye(4)
    solver = torch.linalg.solve(square + damping, change.mT)
    points = torch.stack([x, y, torch.ones_like(x)])
    for left in range(rounds, -1, -1):
        grid = (pose[:, :2] @ points).mT.reshape(len(pose), len(axis), len(axis), 2)
        seen = _standardise(F.grid_sample(moving[:, None], grid, padding_mode="border", align_corners=False))
        if left:
            grow, turn, right, low = (solver @ (seen - target)[:, :, None])[:, :, 0].clamp(-0.2, 0.2).T
            zero = torch.zeros_like(grow)
            step = torch.stack([1 + grow, -turn, right, turn, 1 + grow, low, zero, zero, zero + 1], 1)
            pose = pose @ torch.linalg.inv(step.reshape(-1, 3, 3))
    return pose, (seen * target).sum(1)


def _pose(mirrored: bool, degrees: float, x: float, y: float) -> torch.Tensor:
    """(3, 3): a map of points in coordinates of -1 to 1; ``x`` and ``y`` in pixels of 48."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    side = -1 if mirrored else 1
    return torch.tensor([[side * cos, -sin, x / 24], [side * sin, cos, y / 24], [0, 0, 1]])


#: Poses from which pairs are aligned, with and without mirroring; all between is within reach of `_align`.
_POSES = torch.stack([_pose(mirrored, *start) for mirrored in (False, True) for start in
                      ((0, 0, 0), (-10, 0, 0), (10, 0, 0), (0, -2, -2), (0, -2, 2), (0, 2, -2), (0, 2, 2))])


def _describe_pairs(first: torch.Tensor, second: torch.Tensor, pose: torch.Tensor, correlation: torch.Tensor
                    ) -> pd.DataFrame:
    side = torch.linalg.det(pose[:, :2, :2])
    columns = {"first": first.long(), "second": second.long(), "mirrored": side < 0,
               "degrees": torch.rad2deg(torch.atan2(-pose[:, 0, 1], pose[:, 1, 1])), "scale": side.abs().sqrt(),
               "x": pose[:, 0, 2] * 24, "y": pose[:, 1, 2] * 24, "correlation": correlation}
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})
