"""Images that stay on disk, and what a training sees of images, wherever they are. Knows nothing of labels.

Parts are read (``pread``), although the file is one that numpy can map: pages of a map count as this process's memory
until the kernel wants them back, and a file cut short under a map kills the process instead of raising an error.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from ..files import FerError, check_file, explain_os_errors

#: Images that may be read into memory at once where something wants them all: half a gigabyte of 48×48 pixels.
MOST_IN_MEMORY = 200_000
#: Images looked at or written at a time where all of them may be more than memory holds.
PART = 4096
#: What mends a file of pixels that is not what it was.
WRITE_AGAIN = "delete the folder and write it again with fer data cache"


class DiskImages:
    """uint8 images (N, H, W) in a ``.npy`` file, or some of them. Whatever is taken out of it by index is a tensor.

    Stands in for a tensor in a `faceset.FaceSet`: `take` and `tensor_split` give parts that stay on disk, indexing and
    `split` read. Anything else that a tensor can do is done to all the images in memory if they are no more than
    `MOST_IN_MEMORY`, so that small parts go wherever tensors go.

    Parameters
    ----------
    path : the file.
    rows : int array, which of its images and in which order; None for all.

    Raises
    ------
    FerError
        If the file is missing, no such file, or of another length than its header says; when reading, if it has
        become shorter.
    """

    dtype = torch.uint8

    def __init__(self, path: Path | str, rows: np.ndarray | None = None) -> None:
        self.path = Path(path)
        with explain_os_errors(path, "reading"):
            self.file: BinaryIO = open(check_file(path), "rb", buffering=0)
        try:
            if np.lib.format.read_magic(self.file) != (1, 0):
                raise ValueError("another version of its format")
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(self.file)
            if len(shape) != 3 or by_columns or dtype != np.uint8 or min(shape) < 0:
                raise ValueError(f"{dtype} {shape} are no images")
        except ValueError as error:
            raise FerError(f"{path}: holds no images ({error}); {WRITE_AGAIN}") from error
        self.start, self.sides = self.file.tell(), shape[1:]
        wanted, found = self.start + math.prod(shape), os.fstat(self.file.fileno()).st_size
        if wanted != found:
            raise FerError(f"{path}: has {found:,} bytes where its {shape[0]:,} images take {wanted:,}; it was cut "
                           f"short or damaged, {WRITE_AGAIN}")
        # Numbers as small as they can be: a training holds several views of millions of images.
        self.rows = np.arange(shape[0], dtype=np.min_scalar_type(shape[0])) if rows is None else rows

    def __reduce__(self) -> tuple[Any, ...]:
        return DiskImages, (self.path, self.rows)  # another process opens the file for itself

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self.sides))

    def __getitem__(self, key: Any) -> torch.Tensor:
        """Images as a tensor; ``key`` is a number, a slice, or an int or bool array or tensor."""
        rows = self.rows[key.numpy() if torch.is_tensor(key) else key]
        images = torch.from_numpy(self._read(np.atleast_1d(rows).astype(np.int64)))
        return images if np.ndim(rows) else images[0]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # how Python asks what an object can do
            raise AttributeError(name)
        if len(self) > MOST_IN_MEMORY:
            raise FerError(f"{self.path}: {name} would read {len(self):,} images into memory; take {MOST_IN_MEMORY:,} "
                           "of them or fewer first (FaceSet.take, FaceSet.limit_train)")
        return getattr(self[:], name)

    def take(self, index: np.ndarray) -> DiskImages:
        """Those at ``index``, an int array, still on disk."""
        part = object.__new__(DiskImages)
        vars(part).update(vars(self) | {"rows": self.rows[index]})  # one open file for all parts
        return part

    def tensor_split(self, count: int) -> list[DiskImages]:
        """As `torch.tensor_split`, still on disk."""
        return [self.take(index) for index in np.array_split(np.arange(len(self)), count)]

    def split(self, size: int) -> Iterator[torch.Tensor]:
        """As `torch.split`, each part read when it is asked for."""
        return (self[start:start + size] for start in range(0, len(self), size))

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """Images by their number in the file; in the file's order, neighbours in one go."""
        order = np.argsort(rows, kind="stable")
        images = np.empty((len(rows), *self.sides), np.uint8)
        buffer, size, ordered = images.reshape(-1).data, int(np.prod(self.sides)), rows[order]
        first = np.flatnonzero(np.diff(ordered, prepend=-2) != 1)
        parts = [(buffer[here * size:there * size], self.start + row * size)
                 for (here, there), row in zip(pairwise([*first, len(rows)]), ordered[first].tolist(), strict=True)]
        with explain_os_errors(self.path, "reading"):
            # All asked for before the first is waited for: of a cold file, 128 scattered images in 4 ms instead of 17.
            if hasattr(os, "posix_fadvise"):
                for part, offset in parts:
                    os.posix_fadvise(self.file.fileno(), offset, len(part), os.POSIX_FADV_WILLNEED)
            for part, offset in parts:
                self._fill(part, offset)
        if (order[1:] > order[:-1]).all():
            return images
        placed = np.empty_like(images)
        placed[order] = images
        return placed

    def _fill(self, buffer: memoryview, offset: int) -> None:
        while buffer:
            if not (count := os.preadv(self.file.fileno(), [buffer], offset)):
                raise FerError(f"{self.path}: was cut short while it was read; {WRITE_AGAIN}")
            buffer, offset = buffer[count:], offset + count


class Window:
    """What the steps of a training see of its images: all of them, on the device.

    Attributes
    ----------
    pixels : uint8 tensor on the device, at the same place throughout, which a batch is an index into.
    """

    def __init__(self, images: torch.Tensor, device: str) -> None:
        self.pixels = images.to(device)

    def follow(self, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The batches of an epoch, each an index into the images, in the order in which `show` will be asked."""
        return iter(batches)

    def show(self, index: torch.Tensor) -> torch.Tensor:
        """int64 (B,): where in `pixels` the images ``index`` are now."""
        return index


class DiskWindow(Window):
    """The same of images on disk: `pixels` holds one batch, and a thread reads the next meanwhile.

    Parameters
    ----------
    images : all of them.
    own : int64, the places of a batch whose images this process of a team looks at; the others are not read.
    size : of a batch.
    """

    def __init__(self, images: DiskImages, own: torch.Tensor, size: int, device: str) -> None:
        super().__init__(torch.zeros(size, *images.sides, dtype=torch.uint8), device)
        self.images, self.own, self.places = images, own, torch.arange(size)
        self.ahead: list[tuple[torch.Tensor, Future[torch.Tensor]]] = []

    def follow(self, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        with ThreadPoolExecutor(1) as reader:
            try:
                for index, later in pairwise(chain(batches, [None])):
                    self.ahead += [] if later is None else [(later, reader.submit(self._read, later))]
                    assert index is not None  # only what follows the last is
                    yield index
            finally:
                self.ahead.clear()

    def show(self, index: torch.Tensor) -> torch.Tensor:
        known = bool(self.ahead) and self.ahead[0][0] is index
        own = self._own(index)
        self.pixels[own] = (self.ahead.pop(0)[1].result() if known else self._read(index)).to(self.pixels.device)
        return self.places[:len(index)]

    def _read(self, index: torch.Tensor) -> torch.Tensor:
        return self.images[index[self._own(index)]]

    def _own(self, index: torch.Tensor) -> torch.Tensor:
        return self.own[self.own < len(index)]  # the last batch of an epoch may be smaller
