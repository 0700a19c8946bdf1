"""One training, from its configuration to a finished run: losses, optimizers, the loop, checkpoints, results.
Many of them are the business of `experiments`."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .config import TrainConfig
    from .methods import METHODS, OUTCOMES, compare_methods, configure, with_method
    from .optim import optimizer_name
    from .prediction import choose_device, choose_precision, embed, predict_logits
    from .runs import (
        Run,
        compare_runs,
        default_store,
        load_or_train,
        load_runs,
        markdown_table,
        record_run,
        recorded_runs,
        results_folder,
        run_table,
        train_run,
    )
    from .settings import notebook_parameters
    from .trainer import Diverged, Fitted, fit, prepare_faces
else:
    __getattr__ = hand_on(__name__, {
        "TrainConfig": "config",
        "METHODS": "methods", "OUTCOMES": "methods", "compare_methods": "methods", "configure": "methods",
        "with_method": "methods",
        "optimizer_name": "optim",
        "choose_device": "prediction", "choose_precision": "prediction", "embed": "prediction",
        "predict_logits": "prediction",
        "Run": "runs", "compare_runs": "runs", "default_store": "runs", "load_runs": "runs", "markdown_table": "runs",
        "load_or_train": "runs",
        "record_run": "runs", "recorded_runs": "runs", "results_folder": "runs", "run_table": "runs",
        "train_run": "runs",
        "notebook_parameters": "settings",
        "Diverged": "trainer", "Fitted": "trainer", "fit": "trainer", "prepare_faces": "trainer",
    })

__all__ = [
    "METHODS", "OUTCOMES", "Diverged", "Fitted", "Run", "TrainConfig", "choose_device", "choose_precision",
    "compare_methods", "compare_runs", "configure", "default_store", "embed", "fit", "load_or_train", "load_runs",
    "markdown_table", "notebook_parameters", "optimizer_name", "predict_logits", "prepare_faces", "record_run",
    "recorded_runs", "results_folder", "run_table", "train_run", "with_method",
]
