"""Errors, files and bars: the one exception users see, atomic writes, content hashes. Knows nothing of faces."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class FerError(Exception):
    """Something the user can mend. The message names the file or setting at fault and the fix."""


@contextlib.contextmanager
def explain_os_errors(path: Path | str, doing: str) -> Iterator[None]:
    """Turn an ``OSError`` raised while ``doing`` something to ``path`` into a `FerError` with a fix."""
    try:
        yield
    except PermissionError as error:
        raise FerError(f"{path}: no permission while {doing}; change the folder's rights or choose another")\
            from error
    except OSError as error:
        reason = error.strerror or str(error)
        fix = "free some space or choose another folder" if error.errno == 28 else "check the path and the disk"
        raise FerError(f"{path}: {reason} while {doing}; {fix}") from error


def write_atomic(path: Path | str, write: Callable[[Path], None]) -> None:
    """Call ``write(temporary_path)`` beside ``path``, then rename: readers see the old file or the whole new one.

    Raises
    ------
    FerError
        If the folder cannot be written (no permission, no space). Nothing is left behind.
    """
    path = Path(path)
    with explain_os_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            temporary.chmod(0o644)
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are refused (``ValueError``)."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path | str, fix: str) -> Any:
    """Parse a JSON file; ``fix`` is what to tell the user when it is missing or broken (`FerError`)."""
    path = Path(path)
    if not path.exists():
        raise FerError(f"{path}: is missing; {fix}")
    try:
        with explain_os_errors(path, "reading"):
            return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FerError(f"{path}: not valid JSON ({error}); {fix}") from error


def digest(*parts: bytes | str, length: int = 16) -> str:
    """First ``length`` hexadecimal digits of the SHA-256 over the parts, each prefixed with its size."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(f"{len(data)}:".encode())
        state.update(data)
    return state.hexdigest()[:length]


def bar_options(progress: bool) -> dict[str, bool]:
    """Options of a tqdm bar shown only with ``progress``, and not at all where the environment sets TQDM_DISABLE.

    tqdm's notebook form ignores that variable and sends a message a step. A reader that looks when the cell is done, as
    nbval does, loses all beyond some eight thousand, the one that says so among them.
    """
    return {} if progress and os.environ.get("TQDM_DISABLE", "0") in ("", "0") else {"disable": True}
