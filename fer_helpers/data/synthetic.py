"""Synthetic faces: random parameters for `rendering` that show an emotion, and the data that comes with the package.

Like a drawing, a sample is the same to the last bit on every machine, and by the same rule: see `rendering`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch

from ..files import FerError
from .emotions import ACTION_UNITS, EMOTIONS, PROTOTYPES, action_unit_vector
from .faceset import FaceSet
from .rendering import RANGES, SEEDS, FaceParams, render

#: Class shares close to FER2013's: happiness most, disgust rare.
CLASS_SHARES = {"anger": 0.135, "disgust": 0.02, "fear": 0.14, "happiness": 0.25, "sadness": 0.165,
                "surprise": 0.115, "neutral": 0.175}


def sample_params(labels: torch.Tensor, generator: torch.Generator) -> FaceParams:
    """Random people, views and pictures showing the emotions ``labels``.

    Parameters
    ----------
    labels : int64 (N,), index into `emotions.EMOTIONS`.
    generator : a CPU generator.

    Raises
    ------
    FerError
        If a label is no index into EMOTIONS.
    """
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise FerError(f"labels must be int64 (N,), got {labels.dtype} {tuple(labels.shape)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(EMOTIONS):
        raise FerError(f"labels must lie in 0..{len(EMOTIONS) - 1}, the order of EMOTIONS, "
                       f"got {int(labels.min())}..{int(labels.max())}")
    count = len(labels)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=generator)

    fields = {}
    for name, (low, middle, high) in RANGES.items():
        bell = (uniform() + uniform() + uniform()) * (2 / 3) - 1
        fields[name] = middle + bell.clamp(min=0) * (high - middle) + bell.clamp(max=0) * (middle - low)
    for name in ("skin", "hair_tone", "age", "hair_length", "background", "parting"):  # no typical value
        low, _, high = RANGES[name]
        fields[name] = low + uniform() * (high - low)
    fields["parting"] = 1 - fields["parting"] * fields["parting"]
    dark = fields["hair_tone"] * (0.35 + 0.65 * (fields["skin"] - 0.2))  # the darker the skin, the darker the hair
    fields["hair_tone"] = dark.clamp(min=RANGES["hair_tone"][0])
    fields["glasses"] = (uniform() < 0.14).float()
    fields["beard"] = torch.where((uniform() < 0.22) & (fields["hair_length"] < 0.55), uniform(), 0.0)
    chance = uniform()
    fields["occluder"] = (chance < 0.1).float() + (chance < 0.06).float()
    seed = (uniform() * SEEDS).floor().to(torch.int64)
    return FaceParams(action_units=_sample_units(labels, uniform), seed=seed, **fields)


def make_faces(count: int | dict[str, int], test: int | dict[str, int] = 0, copies: float = 0.0,
               seed: int = 0) -> FaceSet:
    """A data set of ``count`` train and ``test`` test faces.

    Parameters
    ----------
    count, test : number of faces, divided by `CLASS_SHARES`, or faces by emotion.
    copies : share of the test images that are replaced by exact copies of train images of the same class, for leakage
        checks to find. A tenth of them (rounded) copies a train image of another class instead: a label conflict.
    seed : of everything random.

    Raises
    ------
    FerError
        For counts that are not positive, unknown emotions, or more copies than fitting originals.
    """
    if not 0 <= copies <= 1:
        raise FerError(f"copies={copies} must lie between 0 and 1")
    generator = torch.Generator().manual_seed(seed)
    sizes = [_class_counts(count, "count"), _class_counts(test, "test") if test else {}]
    parts = [torch.tensor([EMOTIONS.index(name) for name, number in size.items() for _ in range(number)],
                          dtype=torch.int64) for size in sizes]
    parts = [part[torch.rand(len(part), generator=generator).argsort(stable=True)] for part in parts]
    labels = torch.cat(parts)
    params = sample_params(labels, generator)
    images, regions = render(params)
    units = params.action_units
    if copied := round(copies * len(parts[1])):
        to, source = _choose_copies(labels, len(parts[0]), copied, generator)
        for column in (images, regions, units):
            column[to] = column[source]
    return FaceSet(
        images=images, labels=labels, ids=np.array([f"synthetic-{number:06d}" for number in range(len(labels))]),
        split=np.repeat(["train", "test"], [len(part) for part in parts]), classes=EMOTIONS,
        action_units=units, regions=regions, source=f"synthetic faces (seed {seed})")


@functools.lru_cache(maxsize=2)
def embedded_faces(seed: int = 0) -> FaceSet:
    """The data that comes with the package: 10,000 train and 2,000 test faces of 7 classes, unbalanced as FER2013.

    Like FER2013, where 7.8% of the test images also stand in train, it has a leak for checks to find: 40 test images
    (2%) are exact copies of train images, and 4 of these carry another label than their original.
    """
    return make_faces(10_000, test=2_000, copies=0.02, seed=seed)


#: For each emotion: the one it is mixed with, how often, and the chance of each of its action units to stay out.
#: Joy is shown most plainly, fear least.
_MIXTURES = {"anger": ("disgust", 0.25, 0.12), "disgust": ("anger", 0.25, 0.10), "fear": ("surprise", 0.4, 0.38),
             "happiness": ("surprise", 0.1, 0.08), "sadness": ("anger", 0.25, 0.12),
             "surprise": ("fear", 0.06, 0.10), "neutral": ("sadness", 0.12, 0.0)}


def _sample_units(labels: torch.Tensor, uniform: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Action units around the prototypes: often weak, incomplete or mixed, never at perfect rest.

    So the classes overlap: a classifier that is told the units themselves, not the picture, is right for about 86% of
    the embedded faces (boosted trees on 30,000 samples: happiness 93%, fear 80%), which bounds every network.
    """
    prototypes = torch.tensor([action_unit_vector(PROTOTYPES[name]) for name in EMOTIONS])
    partner = torch.tensor([EMOTIONS.index(_MIXTURES[name][0]) for name in EMOTIONS])[labels]
    chance, missing = torch.tensor([_MIXTURES[name][1:] for name in EMOTIONS])[labels].split(1, 1)
    width = len(ACTION_UNITS)
    strength = 0.15 + 0.5 * (uniform(1) + uniform(1))
    strength = strength * torch.where(uniform(1) < 0.15, 0.4, 1.0)
    share = (uniform(1) < chance) * uniform(1) * 1.2
    own, other = (prototypes[emotion] * (uniform(width) > missing) * (0.6 + 0.8 * uniform(width))
                  for emotion in (labels, partner))
    own, other = own * (1 - 0.6 * share), other * share
    units = torch.maximum(own, other) * strength
    rest = 0.22 * uniform(width) * uniform(width)
    stray = (uniform(width) < 0.07) * 0.6 * uniform(width)
    return torch.maximum(units, torch.maximum(rest, stray)).clamp(0, 1)


def _class_counts(count: int | dict[str, int], name: str) -> dict[str, int]:
    """Faces of each emotion, checked; whole numbers closest to `CLASS_SHARES` that add up to ``count``."""
    if isinstance(count, dict):
        if unknown := set(count) - set(EMOTIONS):
            raise FerError(f"{name}: unknown emotion {sorted(unknown)}; use names of {', '.join(EMOTIONS)}")
        if any(number < 0 for number in count.values()) or not sum(count.values()) > 0:
            raise FerError(f"{name}={count} must hold numbers of 0 or more, and one above 0")
        return count
    if count < 1:
        raise FerError(f"{name}={count} must be at least 1")
    wanted = {emotion: CLASS_SHARES[emotion] * count for emotion in EMOTIONS}
    sizes = {emotion: int(number) for emotion, number in wanted.items()}
    for emotion in sorted(EMOTIONS, key=lambda e: sizes[e] - wanted[e])[:count - sum(sizes.values())]:
        sizes[emotion] += 1
    return sizes


def _choose_copies(labels: torch.Tensor, train: int, copied: int,
                   generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Test rows to overwrite and train rows to copy, no row twice; the last tenth with another label."""
    to = train + torch.rand(len(labels) - train, generator=generator).argsort(stable=True)[:copied]
    free = torch.rand(train, generator=generator).argsort(stable=True)
    source = []
    for position, row in enumerate(to):
        conflict = position >= copied - round(copied / 10)
        fitting = free[(labels[free] == labels[row]) != conflict]
        if not len(fitting):
            raise FerError(f"copies: too few train faces to copy {copied} of them to test; lower copies")
        source.append(fitting[0])
        free = free[free != fitting[0]]
    return to, torch.stack(source)
