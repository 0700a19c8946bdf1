"""How well a network bears worse pictures and partly hidden faces: the errors that `corruptions` cause."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd
from torch import nn
from tqdm.auto import tqdm

from ..data.faceset import FaceSet
from ..files import FerError, bar_options
from ..training.prediction import predict_logits
from ..transforms.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from ..transforms.occlusions import OCCLUSIONS


def corruption_errors(model: nn.Module, faces: FaceSet, names: Sequence[str] = (*CORRUPTIONS, *OCCLUSIONS),
                      severities: Sequence[int] = SEVERITIES, seed: int = 0, precision: str = "fp32",
                      progress: bool = True) -> pd.DataFrame:
    """How often a network errs on corrupted faces. Every row costs one forward pass of all of them.

    Parameters
    ----------
    model : gives logits for the classes of ``faces``.
    faces : the images to corrupt, all of them: give one split of a set.
    names, severities, seed : see `corrupt`.
    precision : see `prediction.predict_logits`.
    progress : show a progress bar.

    Returns
    -------
    Data frame with a row for the images as they are (corruption "none", severity 0), then one per corruption and
    severity: corruption, severity, errors, images, error (their share, 0..1).

    Raises
    ------
    FerError
        As `corrupt`, or if there is no image, or the network has other classes.
    """
    if not len(faces):
        raise FerError(f"{faces.source}: has no image to corrupt; choose another split")
    for name, severity in itertools.product(names, severities):  # a wrong one fails now, not after minutes
        corrupt(faces.images[:0], name, severity)
    todo = [("none", 0), *itertools.product(names, severities)]
    rows = []
    for name, severity in tqdm(todo, desc="corruptions", leave=False, **bar_options(progress)):
        images = faces.images if name == "none" else corrupt(faces.images, name, severity, seed)
        logits = predict_logits(model, images, precision)
        if logits.shape[1] != len(faces.classes):
            raise FerError(f"{faces.source}: the network knows {logits.shape[1]} classes, the faces "
                           f"{len(faces.classes)}; take the class view that it was trained on")
        errors = int((logits.argmax(1) != faces.labels).sum())
        rows.append((name, int(severity), errors, len(faces), errors / len(faces)))
    return pd.DataFrame(rows, columns=["corruption", "severity", "errors", "images", "error"])
