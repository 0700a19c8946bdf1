"""Explorers for JupyterLab: faces and confusions, the drawn face, a training as it runs, runs compared.
Each shows what the wings below compute."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .browser import confusion_browser, face_browser
    from .comparer import run_comparer
    from .face_editor import face_studio
    from .monitor import training_monitor
else:
    __getattr__ = hand_on(__name__, {
        "confusion_browser": "browser", "face_browser": "browser",
        "run_comparer": "comparer",
        "face_studio": "face_editor",
        "training_monitor": "monitor",
    }, extra="lab")

__all__ = ["confusion_browser", "face_browser", "face_studio", "run_comparer", "training_monitor"]
