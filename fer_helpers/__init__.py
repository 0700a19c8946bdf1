"""What deep CNNs learn about facial emotion, and why they confuse one emotion with another."""

from typing import TYPE_CHECKING

from .files import hand_on

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
