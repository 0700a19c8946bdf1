"""The pixels of a training's batches: gathered from the device, from memory, or ahead of time from disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from typing import Any

import torch


class Prefetcher:
    """Gathers batches of some rows of uint8 tensors (M, 48, 48).

    Parameters
    ----------
    columns : the tensors, such as a data set's images and region masks, in memory or mapped from disk.
    rows : int64 (N,), the rows that indices are into.
    device : where the rows are kept, unless they are ``streamed`` or already there.
    streamed : read the next batch in a thread while one is worked on.
    """

    def __init__(self, columns: Sequence[torch.Tensor], rows: torch.Tensor, device: str, streamed: bool) -> None:
        if device != "cpu" and not streamed:
            columns = [column[rows].to(device) for column in columns]
            rows = torch.arange(len(rows), device=device)
        self.columns, self.rows, self.streamed = columns, rows, streamed

    def gather(self, index: torch.Tensor) -> list[torch.Tensor]:
        """Of each column, uint8 (B, 48, 48) at ``index``, int64 (B,) on the CPU."""
        rows = self.rows[index.to(self.rows.device, non_blocking=self.rows.is_cuda)]
        return [column[rows] for column in self.columns]

    def iterate(self, batches: Iterable[torch.Tensor]) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
        """Every index of ``batches``, with what `gather` gives of it."""
        if not self.streamed:
            yield from ((index, self.gather(index)) for index in batches)
            return
        with ThreadPoolExecutor(1) as reader:
            reads: Iterator[Any] = ((index, reader.submit(self.gather, index)) for index in batches)
            for (index, pixels), _ in pairwise(chain(reads, [None])):  # asks for the next before it gives this one
                yield index, pixels.result()
