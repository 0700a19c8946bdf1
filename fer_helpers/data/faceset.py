"""`FaceSet`, the one form of a dataset, with its class views and splits. Reading is in `readers`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ..files import FerError, digest
from .duplicates import PART, exact_groups, join_groups, near_groups
from .emotions import REGIONS, VOTE_COLUMNS, class_set
from .subjects import subjects_of

IMAGE_SIZE = 48  # pixels, height and width
SPLITS = ("train", "val", "test")
#: Fields of a `FaceSet` that not every source has.
OPTIONAL = ("votes", "action_units", "regions", "people")
#: How a note ends that says why a table of FER+ votes was not used.
NOT_JOINED = "so none were joined."
#: Images of a set on disk that may be read into memory at once: half a gigabyte.
MAX_IN_MEMORY = 200_000
_PIXELS = ("images", "regions")
_DRAWS = 200  # of persons to validate on


@dataclass(frozen=True, eq=False)
class FaceSet:
    """Labelled 48×48 grayscale faces. Immutable: every operation returns a new set sharing no indices with the old.

    Attributes
    ----------
    images : uint8 tensor (N, 48, 48), 0 black to 255 white. That of a set on disk (`readers.map_faces`) is mapped from
        its file and must not be written to. Part of a set gathers its images when they are first asked for, which is
        a `FerError` where more than `MAX_IN_MEMORY` would be read from disk: take fewer, or see `parts`.
    labels : int64 tensor (N,), index into ``classes``.
    ids : str array (N,), unique name of each image.
    split : str array (N,), each "train", "val" or "test".
    classes : emotion names, in the order of the labels.
    votes : float32 tensor (N, 10) of FER+ votes in the order of `emotions.VOTE_COLUMNS`, or None.
        A row of NaN is an image that FER+ does not cover.
    action_units : float32 tensor (N, 13), intensity 0..1 of each of `emotions.ACTION_UNITS`, or None.
        Known only for synthetic faces.
    regions : uint8 tensor (N, 48, 48); bit k is set where a pixel belongs to the k-th of `emotions.REGIONS`, or None.
        Known only for synthetic faces. Gathered as ``images`` are.
    people : int64 tensor (N,), number of the person in each image, where a table or the folders tell, or None.
    source : where the data came from, for titles and reports.
    notes : what reading had to change (conversions, skipped files), one sentence each.
    """

    images: torch.Tensor
    labels: torch.Tensor
    ids: np.ndarray
    split: np.ndarray
    classes: tuple[str, ...]
    votes: torch.Tensor | None = None
    action_units: torch.Tensor | None = None
    regions: torch.Tensor | None = field(default_factory=lambda: None)  # an attribute of the class would hide a view's
    people: torch.Tensor | None = None
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        images = vars(self).get("images")  # a view has none yet
        if images is not None and (images.dtype != torch.uint8 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE)):
            raise FerError(f"{self.source}: images must be uint8 (N, {IMAGE_SIZE}, {IMAGE_SIZE}), "
                           f"got {images.dtype} {tuple(images.shape)}")
        count = len(self if images is None else images)
        for name in ("labels", "ids", "split", *OPTIONAL):
            column = vars(self).get(name)
            if column is not None and len(column) != count:
                raise FerError(f"{self.source}: {len(column)} {name} for {count} images")
        if count and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise FerError(f"{self.source}: labels outside 0..{len(self.classes) - 1}")
        # Ids in ascending order, as most are, need no sorting, which takes seconds of a million.
        names = self.ids if (self.ids[1:] > self.ids[:-1]).all() else np.sort(self.ids)
        if (names[1:] == names[:-1]).any():
            raise FerError(f"{self.source}: image ids repeat; each image needs its own name")
        if unknown := set(np.unique(self.split)) - set(SPLITS):
            raise FerError(f"{self.source}: unknown split {sorted(unknown)}; use one of {SPLITS}")

    def __len__(self) -> int:
        return len(self.labels)

    if not TYPE_CHECKING:  # to a type checker every name would be an attribute
        def __getattr__(self, name: str) -> Any:
            if name not in _PIXELS or "_origin" not in vars(self):
                raise AttributeError(name)
            root, rows = vars(self)["_origin"]
            if self.streamed and not isinstance(rows, slice):
                raise FerError(f"{self.source}: {name} would read {len(self):,} faces into memory; take "
                               f"{MAX_IN_MEMORY:,} of them or fewer first (FaceSet.take, FaceSet.limit_train)")
            column = getattr(root, name)
            vars(self)[name] = None if column is None else column[rows]
            return vars(self)[name]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return vars(self).get("_reopen") or super().__reduce_ex__(protocol)  # pixels on disk are not copied

    @property
    def origin(self) -> tuple[FaceSet, np.ndarray]:
        """The set as it was read, whose ``images`` are at hand however many they are, and int64 (N,), which of its
        rows this one has."""
        root, rows = vars(self).get("_origin", (self, slice(None)))
        return root, np.arange(len(root))[rows] if isinstance(rows, slice) else rows

    @property
    def streamed(self) -> bool:
        """Whether the images are on disk and too many to be read into memory at once."""
        root, _ = vars(self).get("_origin", (self, None))
        return "_reopen" in vars(root) and len(self) > MAX_IN_MEMORY

    def parts(self, size: int = PART) -> Iterator[torch.Tensor]:
        """The images in order, ``size`` at a time, each part read when it is asked for."""
        root, rows = vars(self).get("_origin", (self, slice(None)))
        if isinstance(rows, slice):  # as they lie: nothing is gathered
            return iter(root.images[rows].split(size))
        return (root.images[rows[start:start + size]] for start in range(0, len(rows), size))

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change whenever an image, label, id, split, class, vote or person changes."""
        pixels = (part.numpy() for part in self.parts())
        votes = b"" if self.votes is None else self.votes.numpy().tobytes()
        people = () if self.people is None else (self.people.numpy().tobytes(),)
        return digest((len(self) * IMAGE_SIZE**2, pixels), self.labels.numpy().tobytes(), _lines(self.ids),
                      _lines(self.split), "\n".join(self.classes), votes, *people)

    @functools.cached_property
    def groups(self) -> np.ndarray:
        """int64 (N,): images with equal numbers are pixel-identical; numbered in order of first appearance."""
        if "_origin" in vars(self):
            parent, index = vars(self)["_origin"]
            return np.asarray(pd.factorize(parent.groups[index])[0], np.int64)
        return exact_groups(self.images)

    @functools.cached_property
    def near_groups(self) -> np.ndarray:
        """int64 (N,): images with equal numbers are near copies, see `duplicates.near_groups`.

        Found once, on the set as it was read: in a view they may join two images through a third that it dropped.
        """
        if "_origin" in vars(self):  # asked of the whole set, whenever: a seed must not depend on who asked first
            parent, index = vars(self)["_origin"]
            return np.asarray(parent.near_groups[index])
        return near_groups(self.images, exact=self.groups)

    @functools.cached_property
    def subjects(self) -> np.ndarray | None:
        """str array (N,): whose face each image shows, by ``people`` or else by the names (`subjects.subjects_of`), or
        None where neither tells."""
        if "_origin" in vars(self):  # of the whole set: names of a part must not tell what those of the set do not
            parent, index = vars(self)["_origin"]
            return None if parent.subjects is None else np.asarray(parent.subjects[index])
        return subjects_of(self.ids) if self.people is None else self.people.numpy().astype(str)

    def take(self, index: np.ndarray) -> FaceSet:
        """The images at ``index`` (int or bool array), in that order."""
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else np.ascontiguousarray(index, dtype=np.int64)
        rows = torch.from_numpy(index)
        known = {name: column[rows] for name in ("labels", "votes", "action_units", "people")
                 if (column := getattr(self, name)) is not None}
        return self._view(index, ids=self.ids[index], split=self.split[index], **known)

    def only(self, split: str) -> FaceSet:
        """The images of one split."""
        return self.take(self.split == split)

    def with_classes(self, classes: int | str | Sequence[str]) -> FaceSet:
        """The view with the classes of a setting, see `emotions.class_set`: other images dropped, labels renumbered.

        "data" takes the classes that have images in both train and test.

        Raises
        ------
        FerError
            If a class of the setting has no image in train or in test.
        """
        known = self.counts()
        names = class_set(classes, [name for name in self.classes if known.loc[name, ["train", "test"]].all()])
        number = {name: position for position, name in enumerate(names)}
        renumber = np.array([number.get(name, -1) for name in self.classes])
        labels = renumber[self.labels.numpy()]
        part = self.take(labels >= 0)
        left = [f"{count:,} of {name}" for name, count in known.sum(axis=1).items() if name not in names and count]
        notes = (f"Images left out, whose class is none of {', '.join(names)}: {', '.join(left)}.",) if left else ()
        view = part._view(classes=names, labels=torch.from_numpy(labels[labels >= 0]), notes=self.notes + notes)
        for split in ("train", "test"):
            counts = view.counts()[split]
            if empty := [name for name in names if counts[name] == 0]:
                raise FerError(f"{self.source}: no {split} image of class {', '.join(empty)}; add some, or set classes "
                               "to data, which takes the classes that have both train and test images")
        return view

    def counts(self) -> pd.DataFrame:
        """Images per class (rows) and split (columns train, val, test)."""
        columns = {split: np.bincount(self.labels.numpy()[self.split == split], minlength=len(self.classes))
                   for split in SPLITS}
        return pd.DataFrame(columns, pd.Index(self.classes, name="class")).rename_axis(columns="split")

    def in_train(self) -> np.ndarray:
        """bool (N,): an image of train or val has exactly these pixels (True for those images themselves)."""
        return np.isin(self.groups, self.groups[self.split != "test"])

    def clean_test(self) -> FaceSet:
        """Without the test images that also stand in train or val, pixel for pixel."""
        return self.take((self.split != "test") | ~self.in_train())

    def split_validation(self, fraction: float = 0.1, seed: int = 0) -> FaceSet:
        """Move a stratified ``fraction`` of train to "val", near copies staying together.

        Whole groups of near copies (`duplicates.near_groups`; of exact ones, in a very large set) are drawn class by
        class, so no picture stands on both sides. Where `subjects` are known, whole persons are drawn, and of
        `_DRAWS` draws the one is taken that is fairest to the classes. Any earlier validation split is merged back
        first.

        Raises
        ------
        FerError
            If ``fraction`` is outside (0, 1), or a class has one group or person only. One without any stays without.
        """
        _check_fraction(fraction)
        pool = np.flatnonzero(self.split != "test")
        group, labels = self.near_groups[pool], self.labels.numpy()[pool]
        if self.subjects is not None:
            group = join_groups(group, pd.factorize(self.subjects[pool])[0])
            return self._move_to_validation(pool, np.isin(group, self._draw_people(group, labels, fraction, seed)))
        # A group belongs to the class of its first member: conflicting labels must not split it.
        first = np.unique(group, return_index=True)[1]
        size = np.bincount(group)
        random = np.random.default_rng(seed)
        chosen: list[int] = []
        for label, name in enumerate(self.classes):
            own = group[first[labels[first] == label]]
            if not len(own):
                continue
            if len(own) < 2:
                raise FerError(f"{self.source}: class {name} has 1 distinct train image, too few for a validation "
                               "split; add images or choose another class setting")
            own = random.permutation(own)
            wanted = fraction * (labels == label).sum()
            take = int(np.searchsorted(np.cumsum(size[own]), wanted)) + 1
            chosen.extend(own[:min(take, len(own) - 1)])
        return self._move_to_validation(pool, np.isin(group, chosen))

    def _draw_people(self, group: np.ndarray, labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
        """Of the groups 0..G-1 those to validate on, about ``fraction`` of the images of every class."""
        counts = np.zeros((group.max(initial=-1) + 1, len(self.classes)), int)
        np.add.at(counts, (group, labels), 1)
        if (alone := (counts > 0).sum(0) == 1).any():
            raise FerError(f"{self.source}: one person alone shows {self.classes[alone.argmax()]}, too few for a "
                           "validation split by persons; add images or choose another class setting")
        present, random = counts.sum(0) > 0, np.random.default_rng(seed)
        best, chosen = np.inf, np.arange(0)
        for _ in range(_DRAWS):
            order = random.permutation(len(counts))
            size = np.cumsum(counts[order].sum(1))[:-1]  # one group at least stays in train
            drawn = order[:np.abs(size - fraction * len(labels)).argmin() + 1] if len(size) else order[:0]
            shares = counts[drawn].sum(0)[present] / counts.sum(0)[present]
            unfair = np.abs(shares - fraction).sum() + len(shares) * ((shares == 0) | (shares == 1)).sum()
            if unfair < best:
                best, chosen = unfair, drawn
        return chosen

    def _move_to_validation(self, pool: np.ndarray, chosen: np.ndarray) -> FaceSet:
        split = self.split.astype("<U5")
        split[pool] = np.where(chosen, "val", "train")
        return self._view(split=split)

    def split_last(self, fraction: float) -> FaceSet:
        """Move the last ``fraction`` of train in folder order, classes by their names, to "val", as Keras's
        ``validation_split`` does: whole classes, most of the time.

        Raises
        ------
        FerError
            If ``fraction`` is outside (0, 1).
        """
        _check_fraction(fraction)
        pool = np.flatnonzero(self.split != "test")
        order = pool[np.argsort(np.array(self.classes)[self.labels.numpy()[pool]], kind="stable")]
        split = self.split.astype("<U5")
        split[order] = np.where(np.arange(len(order)) < int(len(order) * (1 - fraction)), "train", "val")
        return self._view(split=split)

    def limit_train(self, count: int, seed: int = 0) -> FaceSet:
        """Keep ``count`` random train images with the class shares unchanged (at least one each).

        Raises
        ------
        FerError
            If ``count`` is smaller than the number of classes.
        """
        train = np.flatnonzero(self.split == "train")
        if count >= len(train):
            return self
        if count < len(self.classes):
            raise FerError(f"{self.source}: {count} train images cannot show {len(self.classes)} classes; set "
                           f"train_limit to {len(self.classes)} or more")
        labels = self.labels.numpy()[train]
        order = np.random.default_rng(seed).permutation(len(train))
        # Rank of each image within its class, scaled to 0..1: the smallest ranks of all classes keep the shares.
        rank = np.empty(len(train))
        for label in np.unique(labels):
            own = order[labels[order] == label]
            rank[own] = np.arange(len(own)) / len(own)
        keep = np.ones(len(self), dtype=bool)
        keep[train[np.argsort(rank, kind="stable")[count:]]] = False
        return self.take(keep)

    def region_mask(self, region: str) -> torch.Tensor:
        """bool (N, 48, 48): where ``region``, one of `emotions.REGIONS`, lies in each image.

        Raises
        ------
        FerError
            If the data has no masks: only synthetic faces have them.
        """
        if self.regions is None:
            raise FerError(f"{self.source}: has no region masks; use the synthetic faces")
        if region not in REGIONS:
            raise FerError(f"region={region!r} is unknown; choose one of {', '.join(REGIONS)}")
        return (self.regions >> REGIONS.index(region)) % 2 == 1

    def vote_shares(self) -> torch.Tensor:
        """float32 (N, C): FER+ votes for each class of this view, normalised to 1; NaN where no vote is left.

        Raises
        ------
        FerError
            If the data has no votes.
        """
        if self.votes is None:
            reason = next((note.rstrip(".") for note in self.notes if note.endswith(NOT_JOINED)),
                          "FER+ (fer2013new.csv) must lie beside the images")
            raise FerError(f"{self.source}: has no human votes; {reason}")
        votes = self.votes[:, [VOTE_COLUMNS.index(name) for name in self.classes]]
        return votes / votes.sum(1, keepdim=True)

    def _view(self, index: np.ndarray | slice = slice(None), **columns: Any) -> FaceSet:
        """This set with other ``columns``, or the images at ``index`` of it, whose columns these are.

        It keeps the set as it was read, for the pixels, and because near copies are found there once, which costs
        seconds; views between that and this one need not be kept, names of millions of images.
        """
        root, rows = vars(self).get("_origin", (self, slice(None)))
        view = object.__new__(FaceSet)
        vars(view).update({known.name: vars(self)[known.name] for known in dataclasses.fields(self)
                           if known.name not in _PIXELS} | columns,
                          _origin=(root, index if isinstance(rows, slice) else rows[index]))
        view.__post_init__()
        return view


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise FerError(f"val_fraction={fraction} must lie between 0 and 1")


def _lines(names: np.ndarray) -> tuple[int, Iterator[bytes]]:
    """The names, one a line, as `files.digest` takes what may be too large to be held at once."""
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(names), PART):
            yield ("\n" * (start > 0) + "\n".join(names[start:start + PART].tolist())).encode()
    return sum(map(len, pieces())), pieces()
