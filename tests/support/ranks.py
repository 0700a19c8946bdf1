"""One of two processes that train a run, as torchrun would start it: small, as each such process imports it."""

import os

import torch

from fer_helpers.cli import app


def command_of_rank(rank: int, port: int, words: list[str]) -> None:
    """``fer`` with ``words`` in the process number ``rank`` of two, which meet at ``port``."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port)}
    torch.set_num_threads(1)  # threads of two processes on two cores only wait for one another
    app(words)
