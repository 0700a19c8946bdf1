"""The file a training resumes from, in two generations: a torn one falls back to the one before."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from ..files import FerError, check_unpacked, explain_os_errors, write_atomic


def previous(path: Path) -> Path:
    """Where the generation before ``path`` is kept."""
    return path.with_suffix(f".previous{path.suffix}")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state``, tensors and plain values, atomically; the file there so far becomes the previous generation.

    Raises
    ------
    FerError
        If it cannot be written. The generation before is intact then.
    """
    # Serialised in memory first: torch's own writer reports a full disk as a RuntimeError without errno.
    buffer = io.BytesIO()
    torch.save(state, buffer)

    def write(temporary: Path) -> None:
        temporary.write_bytes(buffer.getbuffer())
        if path.exists():
            path.replace(previous(path))

    write_atomic(path, write)


def load_checkpoint(path: Path, identity: str, device: str) -> dict[str, Any] | None:
    """The newest readable generation, its tensors on ``device``; None if there is no file.

    Parameters
    ----------
    identity : what the state's entry ``identity`` must be: a checkpoint of other settings or data is refused.

    Raises
    ------
    FerError
        If no generation can be read, or it belongs to another training.
    """
    there = [file for file in (path, previous(path)) if file.exists()]
    reasons = []
    for file in there:
        try:
            with explain_os_errors(file, "reading"):
                state = _read(file, device)
            found = state["identity"]
        except FerError:
            raise
        except Exception as error:  # torch.load raises many kinds for a damaged or foreign file
            reasons.append(error)
            continue
        if found != identity:
            raise FerError(f"{file}: belongs to another configuration or other data; move it elsewhere to start "
                           "anew")
        if reasons:
            warnings.warn(f"{path}: damaged ({type(reasons[0]).__name__}); going on from the epoch before, "
                          f"{file.name}", stacklevel=2)
        return state
    if reasons:
        raise FerError(f"{' and '.join(map(str, there))}: not a checkpoint of this run ({type(reasons[0]).__name__}); "
                       "move it elsewhere to start anew") from reasons[0]
    return None


def read_history(path: Path) -> list[dict[str, float]]:
    """The epochs that a training has finished so far, for those who watch it; none if there is nothing to read yet."""
    for file in (path, previous(path)):  # while a checkpoint is being replaced, only the one before is there
        try:
            # Mapped, not read: the weights beside the history can take half a gigabyte. Windows would lock the file.
            history = _read(file, "cpu", mmap=os.name == "posix")["history"]
            if all(isinstance(value, (int, float)) for epoch in history for value in epoch.values()):
                return list(history)
        except Exception:  # absent or damaged, in one of many ways; the one who trains will say so
            continue
    return []


def _read(file: Path, device: str, **options: Any) -> dict[str, Any]:
    """What was saved, and nothing that runs code or grows; any error where it was not us who saved."""
    check_unpacked(file)  # torch writes what it reads as it is: nothing in it is packed
    return dict(torch.load(file, map_location=device, weights_only=True, **options))


def delete_checkpoint(path: Path) -> None:
    """Remove both generations."""
    for file in (path, previous(path)):
        file.unlink(missing_ok=True)
