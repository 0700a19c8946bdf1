"""What a path holds: opens a folder, a zip or a lone file as named byte streams and finds faces and votes among them.

Nothing is decoded here; that is the business of `image_files` and `tables`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename, dirname
from typing import Any, BinaryIO

from ..files import FerError, check_file, digest, explain_os_errors
from .emotions import EMOTIONS, canonical

VOTES_FILE = "fer2013new.csv"  # FER+'s own name for its vote table
CSV_FILES = ("fer2013.csv", "icml_face_data.csv", "train.csv")  # Kaggle's names; the first one present is read
AGAIN = "download the data again"  # the fix for whatever arrived damaged

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
           "testing": "test", "publictest": "test", "privatetest": "test"}
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_JUNK = {"__macosx", "thumbs.db", "desktop.ini"}
_MAX_FILES, _MAX_DEPTH, _MAX_BYTES = 1_000_000, 8, 4 << 30
_AT_ONCE = 64 << 20  # bytes of a file in a zip that are unpacked as a whole, which pictures need; tables are streamed


@dataclass(frozen=True)
class Files:
    """Files of a source: sizes by POSIX path below ``root``, folders, a stamp that changes with any of them."""

    root: Path
    sizes: dict[str, int]
    folders: list[str]
    stamp: str
    open: Callable[[str], BinaryIO]

    def where(self, name: str) -> str:
        """Full name for messages."""
        return f"{self.root}/{name}" if name else str(self.root)


@dataclass(frozen=True)
class Table:
    """A table of FER+ votes: name for messages, a stamp that changes with it, how to open it."""

    where: str
    stamp: str
    open: Callable[[], BinaryIO]


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[Files]:
    """The files of a folder, a zip (also the only one in a folder) or a lone CSV, which look the same from here on.

    Raises
    ------
    FerError
        If ``path`` is missing or something else, holds more than faces need, or, as a zip, is damaged or not to be
        trusted.
    """
    with explain_os_errors(path, "reading"):
        mode = path.stat().st_mode if path.exists() else 0
    if not mode:
        raise FerError(f"{path}: does not exist; check the path, or use the source 'synthetic'")
    if stat.S_ISDIR(mode):
        files = _list_folder(path)
        zips = [name for name in files.sizes if name.lower().endswith(".zip")]
        if len(zips) == 1 and not find_csv(files) and not _has_classes(files):
            with open_source(path / zips[0]) as packed:
                yield packed
        else:
            yield files
    elif path.suffix.lower() == ".zip":
        with _explain_zip(path), explain_os_errors(check_file(path), "reading"):
            archive = zipfile.ZipFile(path)
        with archive:
            yield _list_zip(path, archive)
    elif path.suffix.lower() == ".csv" and stat.S_ISREG(mode):
        yield Files(path.parent, {path.name: path.stat().st_size}, [], _stamp(path), lambda name: path.open("rb"))
    else:
        raise FerError(f"{path}: is no folder, .csv or .zip; choose a folder of class folders or one of "
                       f"{', '.join(CSV_FILES)}")


def find_csv(files: Files) -> str | None:
    """The pixel CSV to read, or None where there are class folders or no such file."""
    if len(files.sizes) == 1 and (only := next(iter(files.sizes))).lower().endswith(".csv"):
        return only
    known = {basename(name).lower(): name for name in sorted(files.sizes, reverse=True) if name.endswith(".csv")}
    found = [known[name] for name in CSV_FILES if name in known]
    return found[0] if found and not _has_classes(files) else None


def plan_tree(files: Files) -> list[tuple[str, str, str]]:
    """(path, split, emotion) of every image, by path. Split is "train" throughout where the folders name none."""
    plan = []
    parents: set[str] = set()
    filled: set[str] = set()
    for name in sorted(files.sizes):
        *folders, _ = name.split("/")
        filled.add("/".join(folders))
        splits = [split for folder in folders if (split := split_of(folder))]
        emotion = canonical(folders[-1]) if folders else None
        if emotion:
            plan.append((name, splits[-1] if splits else "", emotion))
            parents.update(() if splits else ["/".join(folders[:-1])])
        elif name.lower().endswith(_SUFFIXES) or (splits and not split_of(folders[-1])):
            if not folders or split_of(folders[-1]):
                raise FerError(f"{files.where(name)}: lies in no class folder; move it into one, such as "
                               "train/happiness, or delete it")
            raise FerError(f"{files.where('/'.join(folders))}: unknown class folder; rename it to one of "
                           f"{', '.join(EMOTIONS)}, or delete it")
    filled.update(map(dirname, files.folders))
    for folder in files.folders:
        if canonical(basename(folder)) and folder not in filled:
            raise FerError(f"{files.where(folder)}: the class folder is empty; fill it or delete it")
    if not plan:
        raise FerError(f"{files.root}: holds no class folders such as train/happiness and none of "
                       f"{', '.join(CSV_FILES)}; choose the folder that does, or {AGAIN}")
    if parents and (len(parents) > 1 or any(split for _, split, _ in plan)):
        raise FerError(f"{files.root}: class folders stand in {', '.join(sorted(parent or '.' for parent in parents))} "
                       "outside train and test; rename those folders to train, val and test")
    return [(name, split or "train", emotion) for name, split, emotion in plan]


def find_votes(files: Files, chosen: str | Path | None) -> Table | None:
    """The table ``chosen`` (`FerError` where there is none), or by default the one among the files or beside them."""
    inside = [name for name in sorted(files.sizes) if name.lower().endswith(VOTES_FILE)]
    if chosen is None and inside:
        return Table(files.where(inside[0]), "", lambda: files.open(inside[0]))  # the files' stamp covers it
    candidates = [files.root / VOTES_FILE, files.root.resolve().parent / VOTES_FILE]
    if chosen is not None:
        candidates = [Path(os.path.expanduser(chosen))]
    for path in candidates:
        if os.path.isfile(path):  # unlike Path.is_file, False below a folder that may not be entered
            return Table(str(path), str(path) + _stamp(path), _opener(path))
    if chosen is not None:
        raise FerError(f"{chosen}: no such FER+ table; correct votes= or leave it out")
    return None


def split_of(name: str) -> str | None:
    """The split, "train", "val" or "test", that a folder or a CSV's Usage means in any usual spelling, or None."""
    return _SPLITS.get(re.sub("[-_ ]|set$", "", name.lower()))  # "Training set" too


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _list_folder(root: Path) -> Files:
    sizes: dict[str, int] = {}
    folders: list[str] = []
    stamps: list[str] = []
    todo = [""]
    while todo:
        folder = todo.pop()
        with explain_os_errors(root / folder, "reading"), os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if _is_junk(entry.name):
                    continue
                if name.count("/") > _MAX_DEPTH or len(sizes) + len(folders) > _MAX_FILES:
                    raise FerError(f"{root / name}: too deep or too many files; choose the folder of the faces alone")
                if entry.is_dir():
                    folders.append(name)
                    todo.append(name)
                elif entry.is_file():
                    status = entry.stat()
                    sizes[name] = status.st_size
                    stamps.append(f"{name}/{status.st_size}/{status.st_mtime_ns}")
                else:
                    raise FerError(f"{root / name}: is neither a file nor a folder (a broken link?); delete it")
    _refuse_undecodable(root, [*sizes, *folders])
    return Files(root, sizes, folders, digest("\n".join(sorted(stamps))), lambda name: open(f"{root}/{name}", "rb"))


def _list_zip(path: Path, archive: zipfile.ZipFile) -> Files:
    infos: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        parts = name.rstrip("/").split("/")
        if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", name):
            raise FerError(f"{path}: {name!r} points outside the archive; do not trust this file, {AGAIN}")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise FerError(f"{path}: {name!r} is a symbolic link; pack the files themselves")
        if info.flag_bits & 1:
            raise FerError(f"{path}: {name!r} is encrypted; unpack it with its password and choose the folder")
        # Of bzip2 and LZMA a few bytes can unpack to gigabytes at once, whatever length the archive states.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FerError(f"{path}: {name!r} is packed in an unusual way; pack it again, by deflate")
        if any(map(_is_junk, parts)):
            continue
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + name.endswith("/")))
        if not name.endswith("/") and infos.setdefault(name, info) is not info:
            raise FerError(f"{path}: holds {name!r} twice; pack it again")
    sizes = {name: info.file_size for name, info in infos.items()}
    total, packed = sum(sizes.values()), path.stat().st_size
    # Pictures and pixel text shrink to a quarter at best; only a bomb shrinks to a hundredth.
    if len(sizes) > _MAX_FILES or total > _MAX_BYTES or (total > 100 << 20 and total > 100 * packed):
        raise FerError(f"{path}: would unpack to {len(sizes):,} files of {total:,} bytes, which no set of faces "
                       f"needs; {AGAIN}")
    _refuse_undecodable(path, [*sizes, *folders])

    def read(name: str) -> BinaryIO:  # into memory, never extracted: nothing in the archive can place a file
        stream = _Unpacked(archive, infos[name], f"{path}/{name}")
        return io.BytesIO(stream.read()) if sizes[name] <= _AT_ONCE else io.BufferedReader(stream)

    return Files(path, sizes, sorted(folders), _stamp(path), read)


class _Unpacked(io.RawIOBase):
    """A file of a zip, unpacked piece by piece: `ZipFile.read` would unpack all there is before it looks at the length
    that the archive states, and that can be a gigabyte of a megabyte."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> None:
        self.where = where
        with _explain_zip(where):
            self.file = archive.open(info)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _explain_zip(self.where):
            data = self.file.read(len(buffer))
        buffer[:len(data)] = data
        return len(data)


@contextlib.contextmanager
def _explain_zip(where: Path | str) -> Iterator[None]:
    try:
        yield
    except FerError:
        raise
    except Exception as error:  # zipfile and its decompressors raise a dozen types on damaged archives
        raise FerError(f"{where}: the zip is damaged ({error}); {AGAIN}") from error


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{path.name}/{status.st_size}/{status.st_mtime_ns}"


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK


def _refuse_undecodable(root: Path, names: list[str]) -> None:
    for name in names:
        if not name.isascii():
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise FerError(f"{root}: the file name {name!r} is not valid UTF-8; rename the file") from error


def _has_classes(files: Files) -> bool:
    return any(canonical(basename(name)) for name in files.folders)
