"""Trainings that end themselves by SIGKILL. Every such process imports this module, so it is a small one: importing all
that a test file does takes longer than to train and to die."""

import os
import signal
from pathlib import Path

import torch

from fer_helpers.data.faceset import FaceSet
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.trainer import fit


def fit_until_killed(config: TrainConfig, faces: FaceSet, path: Path, step: int) -> None:
    """Train in a process that ends as step number ``step`` of its life begins."""
    steps, backward = iter(range(step)), torch.Tensor.backward

    def fatal(*args, **options):
        if next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return backward(*args, **options)

    torch.Tensor.backward = fatal
    torch.set_num_threads(1)
    fit(config, faces, path, device="cpu", progress=False)


def fit_until_killed_while_saving(config: TrainConfig, faces: FaceSet, path: Path, rename: int) -> None:
    """Train in a process that ends just before its rename number ``rename``."""
    renames, replace_file = iter(range(rename)), Path.replace

    def fatal(*args):
        if next(renames, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace_file(*args)

    Path.replace = fatal
    torch.set_num_threads(1)
    fit(config, faces, path, device="cpu", progress=False)
