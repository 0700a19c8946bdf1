"""What deep CNNs learn about facial emotion, and why they confuse one emotion with another."""

import os
from typing import TYPE_CHECKING

from .files import hand_on

# Nothing leaves the machine unasked: these libraries would otherwise report to their makers, from their import on.
for _telemetry in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_telemetry, "1")

if TYPE_CHECKING:
    from .data.readers import load_faces
    from .inference.photographs import predict
    from .training.config import TrainConfig
    from .training.runs import load_runs, train_run
else:
    __getattr__ = hand_on(__name__, {
        "load_faces": "data.readers",
        "predict": "inference.photographs",
        "TrainConfig": "training.config",
        "load_runs": "training.runs", "train_run": "training.runs",
    })

__all__ = ["TrainConfig", "load_faces", "load_runs", "predict", "train_run"]
