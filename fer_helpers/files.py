"""Errors, files and bars: the one exception users see, atomic writes, content hashes. Knows nothing of faces."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import itertools
import json
import math
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

#: Bytes of a JSON file: a hundred times what any of ours has. Parsed, a byte can become twenty.
MAX_JSON = 2 << 20
#: Bytes of a YAML file: a plan of ten thousand runs. Parsed, a byte takes a hundred.
MAX_YAML = 1 << 20
_DEEPEST, _MAX_VALUES = 20, 100_000  # lists in lists, and values, of a YAML file
_LONGEST = 6000  # characters of a message: a path may have 4,096


class FerError(Exception):
    """Something the user can mend. The message names the file or setting at fault and the fix.

    It stays one line that any terminal shows, whatever a file is called or holds: see `printable`; of a message longer
    than a path can make it, the middle is left out.
    """

    def __init__(self, message: object = "") -> None:
        text = printable(str(message))
        super().__init__(text if len(text) <= _LONGEST else f"{text[:_LONGEST - 1000]} … {text[-900:]}")


def printable(text: str) -> str:
    """``text`` with escapes in place of what is no letter, mark or space: line ends, terminal codes, undecodable
    bytes."""
    return text if text.isprintable() else "".join(
        letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def listing(items: Iterable[str], word: str = "and") -> str:
    """"a", "a and b", "a, b and c", or with another word; "none" of nothing."""
    *first, last = list(items) or ["none"]
    return f"{', '.join(first)} {word} {last}" if first else last


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


def home() -> Path:
    """The repository, which holds the notebooks and what is recorded, wherever a kernel or command starts: around the
    current folder, else around this package, else a clone in the current folder; that folder where there is none."""
    here, package = Path.cwd(), Path(__file__).resolve().parents[1]
    clones = (path.parent for path in sorted(here.glob("*/pyproject.toml")))
    return next(filter(_is_repository, itertools.chain((here, *here.parents, package), clones)), here)


def _is_repository(folder: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return 'name = "fer_helpers"' in (folder / "pyproject.toml").read_text(encoding="utf-8")
    return False


def refuse_address(path: Path | str) -> None:
    """`FerError` if ``path`` is an address, in a network or a cloud: nothing is fetched unasked."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise FerError(f"{path}: is an address, and nothing is fetched; download it and give the file")


def check_file(path: Path | str, most: int | None = None) -> Path:
    """``path``, if it is a file of at most ``most`` bytes: reading a pipe might never begin, a device never end.

    Raises
    ------
    FerError
        If it is missing, something else, or larger.
    """
    with explain_os_errors(path, "reading"):
        status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        what = "Is a directory" if stat.S_ISDIR(status.st_mode) else "Is a pipe, socket or device, no file,"
        raise FerError(f"{path}: {what} while reading; check the path")
    if most is not None and status.st_size > most:
        raise FerError(f"{path}: has {status.st_size:,} bytes, and no such file that we wrote has more than {most:,}; "
                       "check the path")
    return Path(path)


def check_unpacked(path: Path | str, most: int | None = None) -> None:
    """``ValueError`` if a zip, as numpy and torch write them, unpacks to more than ``most`` bytes, or its own size."""
    with zipfile.ZipFile(check_file(path)) as archive:
        files = archive.infolist()
    total, limit = sum(info.file_size for info in files), os.path.getsize(path) if most is None else most
    # Of bzip2 and LZMA a few bytes can unpack to gigabytes before anybody sees their length.
    if total > limit or any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in files):
        raise ValueError(f"would unpack to {total:,} bytes, {limit:,} are plausible")


def write_atomic(path: Path | str, write: Callable[[Path], object]) -> None:
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
    """Parse a JSON file of at most `MAX_JSON` bytes, its numbers finite; ``fix`` is what to tell the user when it is
    missing or broken (`FerError`)."""
    path = Path(path)
    if not os.path.lexists(path):
        raise FerError(f"{path}: is missing; {fix}")
    try:
        with explain_os_errors(path, "reading"):
            text = check_file(path, MAX_JSON).read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
        return value
    except (ValueError, RecursionError) as error:
        raise FerError(f"{path}: not valid JSON ({error}); {fix}") from error


def read_yaml(path: Path | str, fix: str) -> Any:
    """Parse a YAML file of at most `MAX_YAML` bytes, plain values of at most some 100,000 once its aliases are written
    out; ``fix`` is what to tell the user when it is missing or something else (`FerError`)."""
    with explain_os_errors(path, "reading"):
        data = check_file(path, MAX_YAML).read_bytes()
    try:
        text, depth = data.decode("utf-8"), 0
        for token in yaml.scan(text):  # deep brackets take the loader hours
            depth += (isinstance(token, yaml.BlockSequenceStartToken | yaml.BlockMappingStartToken
                                 | yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken)
                      - isinstance(token, yaml.BlockEndToken | yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken))
            if depth > _DEEPEST:
                raise ValueError("lists in lists in lists")
        if _values(yaml.compose(text), {}) > _MAX_VALUES:
            raise ValueError("aliases that stand for too many values")
        return yaml.safe_load(text)
    except Exception as error:  # odd numbers, dates and tags break the loader in many ways
        reason = str(error).partition("\n")[0]
        if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
            reason = f"line {error.problem_mark.line + 1}: {error.problem}"
        raise FerError(f"{path}: is no YAML that is read here ({reason}); {fix}") from error


def _values(node: yaml.Node | None, known: dict[yaml.Node, int]) -> int:
    """How many values a node stands for, its aliases written out; too many if it holds itself."""
    if node is None:
        return 0
    if node not in known:
        known[node] = _MAX_VALUES + 1  # to whom meets it within itself
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        known[node] = 1 + sum(_values(one, known) for part in parts
                              for one in (part if isinstance(part, tuple) else [part]))
    return known[node]


def _finite(text: str) -> float:
    """What `write_json` never writes is refused: NaN and Infinity, which Python's JSON knows, and 1e999."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:20]} is no number of JSON")
    return number


def digest(*parts: bytes | str | tuple[int, Iterable[Any]], length: int = 16) -> str:
    """First ``length`` hexadecimal digits of the SHA-256 over the parts, each prefixed with its size.

    What is too large to be held at once is given as its size and its pieces.
    """
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        size, pieces = data if isinstance(data, tuple) else (len(data), (data,))
        state.update(f"{size}:".encode())
        for piece in pieces:
            state.update(piece)
    return state.hexdigest()[:length]


def bar_options(progress: bool) -> dict[str, Any]:
    """Options of a tqdm bar shown only with ``progress``, and not at all where the environment sets TQDM_DISABLE.

    tqdm's notebook form ignores that variable and sends a message a step. A reader that looks when the cell is done, as
    nbval does, loses all beyond some eight thousand, the one that says so among them.
    """
    return {} if progress and os.environ.get("TQDM_DISABLE", "0") in ("", "0") else {"disable": True}


@contextlib.contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Imports of libraries that only the extra ``name`` brings: a missing one becomes a `FerError` that says so."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == __package__:
            raise
        raise FerError(f"{error.name} is not installed; run pip install 'fer_helpers[{name}]'") from error


def hand_on(package: str, rooms: Mapping[str, str], extra: str = "") -> Callable[[str], Any]:
    """The ``__getattr__`` of a package that hands on names of its modules: each is imported when it is first asked for.

    Parameters
    ----------
    package : its ``__name__``.
    rooms : the module of each name, as seen from the package.
    extra : the one that brings what the modules need, if the core does not.
    """

    def get(name: str) -> Any:
        if name not in rooms:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with needs_extra(extra) if extra else contextlib.nullcontext():
            return getattr(importlib.import_module(f".{rooms[name]}", package), name)

    return get
