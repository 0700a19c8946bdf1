"""Keeps a copy of what was read, so that the next read takes seconds no more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files import FerError, check_unpacked, write_atomic
from .faceset import OPTIONAL, FaceSet


def cache_folder() -> Path:
    if chosen := os.environ.get("FER_CACHE"):
        return Path(os.path.expanduser(chosen))
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "fer_helpers"


def save_cache(path: Path, key: str, faces: FaceSet) -> tuple[str, ...]:
    arrays: dict[str, Any] = {"images": faces.images.numpy(), "labels": faces.labels.numpy(), "ids": faces.ids,
                              "split": faces.split}
    arrays |= {name: getattr(faces, name).numpy() for name in OPTIONAL if getattr(faces, name) is not None}
    try:
        write_atomic(path, lambda temporary: np.savez(
            temporary, **arrays, key=np.array(key), classes=np.array(faces.classes), notes=np.array(faces.notes, str),
            source=np.array(faces.source)))
    except FerError as error:
        return (f"No cached copy was kept, so the next read is as slow ({error}).",)
    return ()


def load_cache(path: Path, key: str) -> tuple[FaceSet | None, tuple[str, ...]]:
    """The cached set if it is whole and belongs to ``key``, and a note if it is damaged."""
    try:
        if not path.is_file():
            return None, ()
        check_unpacked(path)  # numpy.savez packs nothing
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None, ()
            # The zip inside .npz carries a CRC-32 of each array, checked here as the last byte is read.
            arrays = {name: stored[name] for name in stored.files}
        optional = {name: torch.from_numpy(arrays[name]) for name in OPTIONAL if name in arrays}
        return FaceSet(torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"]), arrays["ids"],
                       arrays["split"], tuple(arrays["classes"].tolist()), **optional,
                       source=str(arrays["source"]), notes=tuple(arrays["notes"].tolist())), ()
    except PermissionError:
        return None, ()  # `save_cache` will say so
    except Exception as error:  # a damaged file can break zipfile, numpy and FaceSet each in its own way
        return None, (f"The cached copy {path} was damaged ({error}) and has been read anew.",)
