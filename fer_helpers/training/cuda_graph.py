"""A training step on a GPU as one launch: its hundreds of small kernels take less time than their launching does."""

from __future__ import annotations

from collections.abc import Callable

import torch

#: Calls before recording, in which libraries choose their kernels and optimizers make their buffers.
WARM_UP = 3

Tensors = tuple[torch.Tensor, ...]


class CudaGraph:
    """``work``, recorded as a CUDA graph at its fourth call and replayed from then on.

    Whatever ``work`` reads and writes besides its arguments must stay where it is in memory, and it must not wait for
    the GPU. Arguments keep their shapes; results are copies.
    """

    def __init__(self, work: Callable[..., Tensors]) -> None:
        self.work, self.calls = work, 0
        self.side = torch.cuda.Stream()
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: torch.Tensor) -> Tensors:
        self.calls += 1
        if self.calls <= WARM_UP:
            # What autograd sets up belongs to a stream; recording needs another than the usual one.
            self.side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.side):
                outputs = self.work(*inputs)
            torch.cuda.current_stream().wait_stream(self.side)
            return outputs
        if self.graph is None:
            self.inputs = tuple(value.clone() for value in inputs)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.side):
                self.outputs = self.work(*self.inputs)
        for kept, value in zip(self.inputs, inputs, strict=True):
            kept.copy_(value)
        self.graph.replay()
        return tuple(value.clone() for value in self.outputs)
