"""A trained network at work: the shipped or a shared one, faces in photographs, export.
It trains nothing."""

from typing import TYPE_CHECKING

from ..files import hand_on

if TYPE_CHECKING:
    from .detection import DetectedFace, align_faces, crop_face, find_faces
    from .hub import pull, push
    from .loading import find_run, load_network
    from .onnx_export import export_onnx, quantise, session
    from .photographs import FacePrediction, annotate, find_pictures, predict, save_annotated
    from .pretrained import Pretrained, load_pretrained, probabilities, publish, save_network
else:
    __getattr__ = hand_on(__name__, {
        "DetectedFace": "detection", "align_faces": "detection", "crop_face": "detection", "find_faces": "detection",
        "pull": "hub", "push": "hub",
        "find_run": "loading", "load_network": "loading",
        "export_onnx": "onnx_export", "quantise": "onnx_export", "session": "onnx_export",
        "FacePrediction": "photographs", "annotate": "photographs", "find_pictures": "photographs",
        "predict": "photographs", "save_annotated": "photographs",
        "Pretrained": "pretrained", "load_pretrained": "pretrained", "probabilities": "pretrained",
        "publish": "pretrained", "save_network": "pretrained",
    })

__all__ = [
    "DetectedFace", "FacePrediction", "Pretrained", "align_faces", "annotate", "crop_face", "export_onnx", "find_faces",
    "find_pictures", "find_run", "load_network", "load_pretrained", "predict", "probabilities", "publish", "pull",
    "push", "quantise", "save_annotated", "save_network", "session",
]
