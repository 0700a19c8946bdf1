"""One training spread over several processes, as started by ``torchrun``: who is who, shares of a batch, sums over all.

Every process holds the same network and the same data, and works through its share of each batch. What comes out is,
up to rounding, what one process computes from the whole batch; so batch normalisation shares its statistics too.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce

from ..files import FerError

_LOST = "another process of this training was lost"
_GO_ON = "the last finished epoch is kept, the same command goes on from there"


@dataclass(frozen=True)
class DistributedContext:
    """The processes of one training.

    Attributes
    ----------
    rank : number of this process, from 0; only rank 0 writes files.
    size : number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def shard(self, values: torch.Tensor) -> torch.Tensor:
        """This process's part of ``values`` along the first axis; the parts of all are disjoint and cover it."""
        return values.tensor_split(self.size)[self.rank]

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Elementwise sum of ``value`` over all processes; without gradient."""
        if self.size > 1:
            dist.all_reduce(value := value.detach().clone())
        return value

    def wait(self) -> None:
        """Go on only when all processes have come here."""
        if self.size > 1:
            dist.barrier()

    def broadcast(self, value: bool) -> bool:
        """What rank 0 says; the others' ``value`` does not count."""
        said = [value]
        if self.size > 1:
            dist.broadcast_object_list(said)
        return said[0]

    def wrap(self, model: nn.Module, device: str) -> nn.Module:
        """``model`` with gradients averaged, and batch statistics taken, over all processes; shares its weights."""
        if self.size == 1:
            return model
        if device == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        else:
            for module in model.modules():
                if type(module) is nn.BatchNorm2d:
                    module.__class__ = _SharedBatchNorm2d
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)


def current_context() -> DistributedContext:
    """That which `connect` has set up, or one of a single process."""
    if dist.is_available() and dist.is_initialized():
        return DistributedContext(dist.get_rank(), dist.get_world_size())
    return DistributedContext()


@contextlib.contextmanager
def connect() -> Iterator[DistributedContext]:
    """Meet the other processes that torchrun started; without torchrun there are none.

    Raises
    ------
    FerError
        If another process is lost meanwhile.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield DistributedContext()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    # torchrun tells the others to stop as soon as one is lost, often before their sockets notice.
    before = signal.signal(signal.SIGTERM, _told_to_stop)
    try:
        yield current_context()
    except RuntimeError as error:
        # gloo and nccl say which socket closed, not what to do.
        raise FerError(f"{_LOST} ({str(error).splitlines()[0]}); {_GO_ON}") from error
    else:
        signal.signal(signal.SIGTERM, before)
    finally:
        if signal.getsignal(signal.SIGTERM) is not before:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left is to say what happened
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def _told_to_stop(number: int, frame: Any) -> None:
    del frame
    signal.signal(number, signal.SIG_IGN)
    raise FerError(f"{_LOST}, or it was told to stop ({signal.Signals(number).name}); {_GO_ON}")


class _SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes; torch's own `SyncBatchNorm` is for GPUs only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        wide = x.float()
        count = x.numel() / x.shape[1] * dist.get_world_size()
        mean, square = all_reduce(torch.stack([wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3))])) / count
        variance = square - mean * mean
        assert self.num_batches_tracked is not None and self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None  # torch's defaults: it tracks, by a running mean
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (wide * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]).to(x.dtype)
