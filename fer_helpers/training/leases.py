"""One writer at a time for a folder that many machines see: a file that its holder renews for as long as it lives.

Files, not a database: sqlite's locks are not to be trusted on network file systems, while making a file that must not
be there yet and renaming one are atomic on all of them, NFS since version 3 included. Clocks need not agree: a lease
has ended when its file did not change for a while by the watch of the one who waits.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from ..files import FerError, check_file, explain_os_errors, write_atomic

#: Seconds between renewals, and without one until a lease counts as abandoned.
BEAT, PATIENCE = 2.0, 20.0
_MOST_BYTES = 1024


@contextlib.contextmanager
def lease(path: Path, needless: Callable[[], bool] = lambda: False, beat: float = BEAT, patience: float = PATIENCE
          ) -> Iterator[bool]:
    """Hold ``path`` while the block runs; waits for another holder to finish or to die.

    Parameters
    ----------
    path : the lease's file; its folder is made.
    needless : asked while waiting: once true, nobody needs the lease any more.
    beat, patience : seconds; ``patience`` must be several beats, and more than a file server may keep an old answer.

    Yields
    ------
    Whether the lease is held; False when it became needless.

    Raises
    ------
    FerError
        If the file cannot be written.
    """
    token = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
    if not _take(path, token, needless, beat, patience):
        yield False
        return
    over = threading.Event()
    renewal = threading.Thread(target=_renew, args=(path, token, beat, over), daemon=True)
    renewal.start()
    try:
        yield True
    finally:
        over.set()
        renewal.join()
        if _read(path).startswith(token):
            path.unlink(missing_ok=True)


def _take(path: Path, token: str, needless: Callable[[], bool], beat: float, patience: float) -> bool:
    """Wait until the file is there with this token."""
    seen, since = "", time.monotonic()
    with explain_os_errors(path, "writing"):
        path.parent.mkdir(parents=True, exist_ok=True)
        while not needless():
            if _make(path, token):
                return True
            found = _read(path)
            if found != seen:
                seen, since = found, time.monotonic()
            if time.monotonic() - since > patience or _holder_is_dead(found):
                _remove(path, found)
                continue
            time.sleep(min(beat, patience / 10))
    return False


def _make(path: Path, token: str) -> bool:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(f"{token} 0")
    except FileExistsError:
        return False
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _holder_is_dead(text: str) -> bool:
    """Known of processes of this machine only; others are judged by their silence."""
    host, _, rest = text.partition(" ")
    pid = rest.partition(" ")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False


def _remove(path: Path, abandoned: str) -> None:
    """Of several who give up on a holder at once, one renames its file; who comes late may catch the next holder's, and
    puts it back."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(aside)
        if _read(aside) != abandoned:
            os.link(aside, path)
    except (FileNotFoundError, FileExistsError):
        pass
    finally:
        aside.unlink(missing_ok=True)


def _renew(path: Path, token: str, beat: float, over: threading.Event) -> None:
    count = 0
    while not over.wait(beat):
        count += 1
        # One who slept until another took over must not push that one's file aside.
        if (found := _read(path)) and not found.startswith(token):
            return
        with contextlib.suppress(FerError):  # a full disk: the lease runs out, the work goes on to the same result
            write_atomic(path, lambda temporary, count=count: temporary.write_text(  # type: ignore[misc]
                f"{token} {count}"))


def _read(path: Path) -> str:
    with contextlib.suppress(FerError, OSError, UnicodeDecodeError):  # who waits at a pipe waits for ever
        return check_file(path, _MOST_BYTES).read_text(encoding="utf-8")
    return ""
