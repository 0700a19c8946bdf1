"""A data set as a folder whose pixels stay on disk, for more faces than fit in memory: written in parts, then mapped.

``images.npy`` (and ``regions.npy``) hold pixels as numpy does, ``columns.npz`` all the rest of a `FaceSet`, and
``faces.json`` how long the files are, when they were written and what they hashed to.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files import FerError, check_unpacked, explain_os_errors, read_json, write_json
from .duplicates import PART
from .faceset import IMAGE_SIZE, OPTIONAL, FaceSet

MANIFEST = "faces.json"
WRITE_AGAIN = "write it again into another folder with fer data cache"
_IMAGES, _REGIONS, _COLUMNS = "images.npy", "regions.npy", "columns.npz"
_MAX_BYTES_OF_FACE = 4096  # bytes of `columns.npz` for a face: 300 usually, more where names are long
_FORMAT = 1


class Writer:
    """Writes the new folder ``target``, of which nothing is seen until `keep` has finished it; a context manager.

    Raises
    ------
    FerError
        If ``target`` exists or cannot be written. Nothing is left behind.
    """

    def __init__(self, target: Path | str) -> None:
        self.target, self.count, self._open = Path(target), 0, contextlib.ExitStack()

    def __enter__(self) -> Writer:
        if self.target.exists():
            raise FerError(f"{self.target}: already exists; choose another folder")
        with explain_os_errors(self.target, "writing"), contextlib.ExitStack() as stack:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(
                prefix=f".{self.target.name}.", dir=self.target.parent, ignore_cleanup_errors=True)))
            self.file = stack.enter_context(open(self.folder / _IMAGES, "wb"))
            _write_header(self.file, 0)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *trouble: object) -> None:
        self._open.close()

    def append(self, images: np.ndarray) -> None:
        """Add uint8 (N, 48, 48)."""
        with explain_os_errors(self.target, "writing"):
            self.file.write(np.ascontiguousarray(images, dtype=np.uint8).data)
        self.count += len(images)

    def images(self) -> torch.Tensor:
        """What was appended, for the `FaceSet` to `keep`."""
        with explain_os_errors(self.target, "writing"):
            _write_header(self.file, self.count)
            self.file.seek(0, os.SEEK_END)
            self.file.flush()
        return _map(self.folder / _IMAGES)

    def keep(self, faces: FaceSet) -> None:
        """Finish the folder; the images of ``faces`` are those appended, in that order."""
        if len(faces) != len(self.images()):
            raise FerError(f"{self.target}: {len(faces):,} faces for {self.count:,} images that were appended")
        columns: dict[str, Any] = {"labels": faces.labels.numpy(), "ids": faces.ids, "split": faces.split,
                                   "groups": faces.groups}
        columns |= {name: column.numpy() for name in OPTIONAL if name != "regions"
                    and (column := getattr(faces, name)) is not None}
        with explain_os_errors(self.target, "writing"):
            if faces.regions is not None:
                with open(self.folder / _REGIONS, "wb") as file:
                    _write_header(file, len(faces))
                    for part in faces.regions.split(PART):
                        file.write(part.contiguous().numpy().data)
            np.savez_compressed(self.folder / _COLUMNS, **columns)
            files = {path.name: {"sha256": _hash(path, sync=True)} | _stamp(path)
                     for path in sorted(self.folder.iterdir())}
            write_json(self.folder / MANIFEST, {
                "format": _FORMAT, "images": len(faces), "classes": faces.classes, "notes": faces.notes,
                "fingerprint": faces.fingerprint, "files": files})
            self.folder.chmod(0o755)
            self.folder.rename(self.target)


def is_mapped(folder: Path | str) -> bool:
    """Whether a `Writer` has written ``folder``."""
    return os.path.isfile(Path(folder) / MANIFEST)  # unlike Path.is_file, False below a folder that may not be entered


def open_mapped(folder: Path | str, source: str = "") -> FaceSet:
    """The set in ``folder``, its pixels on disk; ``source`` is what it is called, by default the folder.

    Files copied or touched since they were written are read once, to see that they are still the same.

    Raises
    ------
    FerError
        If a file is missing, cut short, or not what was written.
    """
    folder = Path(folder)
    manifest = read_json(folder / MANIFEST, WRITE_AGAIN)
    try:
        if manifest["format"] != _FORMAT:
            raise ValueError(f"format {manifest['format']!r} is that of another version")
        # A name must not lead to a file elsewhere.
        if foreign := set(manifest["files"]) - {_IMAGES, _COLUMNS, _REGIONS}:
            raise ValueError(f"{sorted(foreign)[0]!r} is none of its files")
        for name in {_IMAGES, _COLUMNS, *manifest["files"]}:
            _check(folder / name, manifest["files"][name])
        check_unpacked(folder / _COLUMNS, (1 << 20) + _MAX_BYTES_OF_FACE * manifest["images"])
        with np.load(folder / _COLUMNS, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in stored.files}
        known: dict[str, Any] = {name: torch.from_numpy(columns[name]) for name in OPTIONAL if name in columns}
        if _REGIONS in manifest["files"]:
            known["regions"] = _map(folder / _REGIONS)
        faces = FaceSet(_map(folder / _IMAGES), torch.from_numpy(columns["labels"]), columns["ids"],
                        columns["split"], tuple(manifest["classes"]), **known, source=source or str(folder),
                        notes=tuple(manifest["notes"]))
        # Known already: finding either again would read every pixel.
        vars(faces).update(fingerprint=manifest["fingerprint"], groups=columns["groups"],
                           _reopen=(open_mapped, (folder, source)))
    except FerError:
        raise
    except Exception as error:  # an edited manifest may lack anything, or hold it in another form
        raise FerError(f"{folder / MANIFEST}: does not describe this folder ({error!r}); {WRITE_AGAIN}") from error
    return faces


def _map(path: Path) -> torch.Tensor:
    """uint8 (N, 48, 48): the pixels in a file, read when they are looked at, in pages that the system may take back.

    Mapped for reading only, although torch knows no such tensor and writing to it ends the process: Linux refuses a
    map to be written to that is larger than its memory.
    """
    try:
        with explain_os_errors(path, "reading"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            pixels = np.lib.format.open_memmap(path, mode="r")
            if pixels.dtype != np.uint8 or pixels.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
                raise ValueError(f"{pixels.dtype} {pixels.shape} are no images")
            return torch.from_numpy(pixels)
    except ValueError as error:
        raise FerError(f"{path}: holds no images ({error}); {WRITE_AGAIN}") from error


def _check(path: Path, known: dict[str, Any]) -> None:
    """`FerError` if a file is not what was written; what it holds is looked at if its time has changed."""
    if not path.is_file():
        raise FerError(f"{path}: is missing; {WRITE_AGAIN}")
    found = _stamp(path)
    if found["bytes"] != known["bytes"]:
        raise FerError(f"{path}: has {found['bytes']:,} bytes where {known['bytes']:,} were written; it was cut short "
                       f"or damaged, {WRITE_AGAIN}")
    if found["time"] != known["time"] and _hash(path) != known["sha256"]:
        raise FerError(f"{path}: was changed after it was written; {WRITE_AGAIN}")


def _stamp(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"bytes": status.st_size, "time": status.st_mtime_ns}


def _hash(path: Path, sync: bool = False) -> str:
    with explain_os_errors(path, "reading"), path.open("rb") as file:
        if sync:  # the folder's new name must not reach the disk before what it holds
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_header(file: Any, count: int) -> None:
    """The header of a ``.npy`` file; numpy leaves room in it for any count, so that it can be written again."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": (count, IMAGE_SIZE, IMAGE_SIZE)})
