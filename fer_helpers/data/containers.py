"""Lists a folder, a zip or a tar as named byte streams, which look the same from here on; nothing is decoded here."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..files import FerError, digest, explain_os_errors

AGAIN = "download the data again"  # the fix for whatever arrived damaged
_LITTER = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle", "@recycle", "$recycle.bin",
           "recycler", "system volume information", "lost+found"}
_MAX_FILES, _MAX_DEPTH, _MAX_BYTES = 1_000_000, 8, 4 << 30
_IN_MEMORY = 256 << 20  # bytes of a packed tar; a larger one is unpacked to a file that has no name
_AT_ONCE = 64 << 20  # bytes of a file in a zip that are unpacked as a whole, which pictures need; tables are streamed


@dataclass(frozen=True)
class Files:
    """Files of a source: sizes by POSIX path below ``root``, folders, a stamp that changes with any of them, and the
    table among them that was chosen as the source, if one was."""

    root: Path
    sizes: dict[str, int]
    folders: list[str]
    stamp: str
    open: Callable[[str], BinaryIO]
    chosen: str = ""

    def where(self, name: str) -> str:
        """Full name for messages."""
        return f"{self.root}/{name}" if name else str(self.root)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Files | None]:
    """The files of a zip, a tar, or either or a CSV in gzip, known by what it holds whatever it is called; else None.

    Raises
    ------
    FerError
        If it is damaged, holds more than faces need, or is not to be trusted.
    """
    with contextlib.ExitStack() as stack:
        with explain_os_errors(path, "reading"):
            files = _open_archive(path, stack)
        yield files


def _open_archive(path: Path, stack: contextlib.ExitStack) -> Files | None:
    name, file = path.name.lower(), cast(BinaryIO, stack.enter_context(path.open("rb")))
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if packed:
        name = re.sub(r"\.gz$", "", re.sub(r"\.tgz$", ".tar", name))
    head = (_Gunzip(path) if packed else file).read(512)
    if head[257:262] == b"ustar" or name.endswith(".tar") and not head.startswith(b"PK"):
        if packed:  # its files are read in another order
            file = cast(BinaryIO, stack.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY)))
            whole = _Gunzip(path)
            while piece := whole.read(1 << 20):
                file.write(piece)
        file.seek(0)
        return _list_tar(path, file)
    if packed:
        return Files(path, {re.sub(r"(?i)\.gz$", "", path.name): path.stat().st_size}, [], stamp_of(path),
                     lambda _: io.BufferedReader(_Unpacked(lambda: _Gunzip(path), str(path), "gzip")))
    if head.startswith(b"PK") or name.endswith(".zip"):
        with _explain_damage(path, "zip"):
            archive = stack.enter_context(zipfile.ZipFile(path))
        return _list_zip(path, archive)
    return None


class _Gunzip:
    """A gzip, unpacked piece by piece, as long as it is no bomb."""

    def __init__(self, path: Path) -> None:
        self.path, self.file, self.total = path, gzip.open(path), 0

    def read(self, size: int) -> bytes:
        with _explain_damage(self.path, "gzip"):
            data = self.file.read(size)
        self.total += len(data)
        _check_sizes(self.path, 1, self.total)
        return data


def list_folder(root: Path) -> Files:
    sizes: dict[str, int] = {}
    folders: list[str] = []
    stamps: list[str] = []
    todo = [""]
    while todo:
        folder = todo.pop()
        with explain_os_errors(root / folder, "reading"), os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if is_litter(entry.name):
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
                    raise FerError(f"{root / name}: is neither a file nor a folder (a broken link?); mend it, or "
                                   "choose a folder without it")
    _refuse_undecodable(root, [*sizes, *folders])
    return Files(root, sizes, folders, digest("\n".join(sorted(stamps))), lambda name: open(f"{root}/{name}", "rb"))


def _list_zip(path: Path, archive: zipfile.ZipFile) -> Files:
    infos, folders = dict[str, Any](), set[str]()
    for info in archive.infolist():
        if stat.S_ISLNK(info.external_attr >> 16):
            raise FerError(f"{path}: {info.filename!r} is a symbolic link; pack the files themselves")
        if info.flag_bits & 1:
            raise FerError(f"{path}: {info.filename!r} is encrypted; unpack it with its password and choose the folder")
        # Of bzip2 and LZMA a few bytes can unpack to gigabytes at once, whatever length the archive states.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FerError(f"{path}: {info.filename!r} is packed in an unusual way; pack it again, by deflate")
        _take_in(path, info.filename, info, info.is_dir(), infos, folders)
    sizes = {name: info.file_size for name, info in infos.items()}
    _check_sizes(path, len(sizes), sum(sizes.values()))
    return _packed(path, sizes, folders, lambda name: _Unpacked(lambda: archive.open(infos[name]), f"{path}/{name}",
                                                                "zip"))


def _list_tar(path: Path, file: BinaryIO) -> Files:
    infos, folders, total = dict[str, Any](), set[str](), 0
    with _explain_damage(path, "tar"):
        archive = tarfile.open(fileobj=_Headers(file), mode="r:")  # type: ignore[call-overload]
        for info in archive:
            if not (info.isreg() or info.isdir()) or info.issparse():
                raise FerError(f"{path}: {info.name!r} is a link, a device or sparse; pack the files themselves")
            _take_in(path, info.name, info, info.isdir(), infos, folders)
            total += info.size
            _check_sizes(path, len(infos), total)
        file.seek(archive.offset)
        if file.read(512) != bytes(512):  # tarfile takes a damaged header for the end
            raise ValueError("it breaks off")
    return _packed(path, {name: info.size for name, info in infos.items()}, folders,
                   lambda name: _Unpacked(lambda: archive.extractfile(infos[name]), f"{path}/{name}", "tar"))


class _Headers:
    """A tar as tarfile reads it, but for headers that claim to have gigabytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        if size > _AT_ONCE:
            raise ValueError(f"a header of {size:,} bytes")
        return self.file.read(size)


def _take_in(path: Path, name: str, info: Any, folder: bool, infos: dict[str, Any], folders: set[str]) -> None:
    """Add a member of an archive and its folders, unless it is litter."""
    name = name.replace("\\", "/")
    parts = [part for part in name.rstrip("/").split("/") if part != "."]
    if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", name):
        raise FerError(f"{path}: {name!r} points outside the archive; do not trust this file, {AGAIN}")
    if any(map(is_litter, parts)):
        return
    folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + folder))
    if not folder and infos.setdefault("/".join(parts), info) is not info:
        raise FerError(f"{path}: holds {name!r} twice; pack it again")


def _check_sizes(path: Path, count: int, total: int) -> None:
    # Pictures and pixel text shrink to a quarter at best; only a bomb shrinks to a hundredth.
    if count > _MAX_FILES or total > _MAX_BYTES or (total > 100 << 20 and total > 100 * path.stat().st_size):
        raise FerError(f"{path}: would unpack to {count:,} files of {total:,} bytes or more, which no set of faces "
                       f"needs; {AGAIN}")


def _packed(path: Path, sizes: dict[str, int], folders: set[str], unpack: Callable[[str], _Unpacked]) -> Files:
    _refuse_undecodable(path, [*sizes, *folders])

    def read(name: str) -> BinaryIO:  # into memory, never extracted: nothing in the archive can place a file
        stream = unpack(name)
        return io.BytesIO(stream.read()) if sizes[name] <= _AT_ONCE else io.BufferedReader(stream)

    return Files(path, sizes, sorted(folders), stamp_of(path), read)


class _Unpacked(io.RawIOBase):
    """A file of an archive, unpacked piece by piece: `ZipFile.read` would unpack all there is before it looks at the
    length that the archive states, and that can be a gigabyte of a megabyte."""

    def __init__(self, open: Callable[[], Any], where: str, kind: str) -> None:
        self.where, self.kind = where, kind
        with _explain_damage(where, kind):
            self.file = open()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _explain_damage(self.where, self.kind):
            data = self.file.read(len(buffer))
        buffer[:len(data)] = data
        return len(data)


@contextlib.contextmanager
def _explain_damage(where: Path | str, kind: str) -> Iterator[None]:
    try:
        yield
    except FerError:
        raise
    except Exception as error:  # the libraries and their decompressors raise a dozen types on damaged archives
        raise FerError(f"{where}: the {kind} is damaged ({error}); {AGAIN}") from error


def stamp_of(path: Path) -> str:
    """Changes when the file does."""
    status = path.stat()
    return f"{path.name}/{status.st_size}/{status.st_mtime_ns}"


def is_litter(name: str) -> bool:
    """Whether a file or folder is what systems leave behind, not what people keep: hidden files, the Mac's ``._x.jpg``,
    thumbnails, trash."""
    return name.startswith(".") or name.lower() in _LITTER


def _refuse_undecodable(root: Path, names: list[str]) -> None:
    for name in names:
        if not name.isascii():
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise FerError(f"{root}: the file name {name!r} is not valid UTF-8; copy it under another name"
                               ) from error
