"""Reads faces (class folders, a pixel CSV, a zip of either) into a `FaceSet`, and caches or maps what it read.

Finding the files is the business of `sources`, judging the data that of `validation`, drawing faces that of
`synthetic`.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import inspect
import io
import os
import re
import shutil
import sys
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from posixpath import basename, splitext
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from ..files import (
    FerError,
    bar_options,
    check_file,
    check_unpacked,
    digest,
    explain_os_errors,
    needs_extra,
    write_atomic,
)
from . import emotions, mapped, rendering, synthetic
from .emotions import EMOTIONS, VOTE_COLUMNS, canonical
from .faceset import IMAGE_SIZE, OPTIONAL, FaceSet
from .sources import AGAIN, CSV_FILES, VOTES_FILE, Files, Table, find_csv, find_votes, open_source, plan_tree, split_of
from .synthetic import embedded_faces

_READER_VERSION = 2  # raise when the same files would be read differently: old caches are then ignored
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # Pillow's other plugins are attack surface, not data
_MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS = 64 << 20, 50_000_000  # such a picture takes up to 1.3 GiB with its copies
_MAX_PHOTO_BYTES = 512 << 20  # so many pixels of eight bytes; what a camera writes has a tenth
_MAX_ROW = 1 << 20  # characters of a row in a CSV, a hundred times those of a face
_MAX_TABLE = 64 << 20  # bytes of a table of votes: of one and a half million images
Changes = dict[str, tuple[Callable[[Any], bool], Callable[[Any], Any]]]
_BLOCK = 1024  # faces read at a time: large enough for numpy, small enough for the processor's cache


def load_faces(source: str | Path | None = None, *, cache: bool = True, votes: str | Path | None = None,
               progress: bool = True) -> FaceSet:
    """Read a dataset into memory; a second call takes the cached copy while the files are unchanged.

    Parameters
    ----------
    source : one of
        "synthetic", the drawn faces that ship with the package;
        a folder of class folders, ``train/<class>/*.png`` with ``test`` and perhaps ``val`` beside, or ``<class>``
        directly; split and class names in any case and the usual spellings;
        ``fer2013.csv``, ``icml_face_data.csv`` or ``train.csv`` as Kaggle has them, or a folder with one of them;
        a zip of any of these; a folder that `map_faces` wrote, whose pixels then stay on disk.
        None or "" reads the environment variable FER_DATA, and "synthetic" where that is unset.
    cache : keep and use a copy in ``$FER_CACHE``, else in ``fer_helpers`` in the user's cache folder.
    votes : FER+ table; by default `VOTES_FILE` in the data's folder or its parent, if there.
    progress : show a progress bar.

    Returns
    -------
    FaceSet, ordered by path or CSV row. Images of other modes and sizes are turned into 48×48 grayscale (transparency
    laid on white, EXIF rotation applied, centre square cut out); ``notes`` counts them. Data without a test split is
    divided 80/20 by `FaceSet.split_validation`, so near copies stay together; a lone ``val`` serves as test.

    Raises
    ------
    FerError
        If the source is missing, unlabelled or damaged. The message names the file, the line of a CSV, and the fix.
    """
    source = _or_usual(source)
    if source == "synthetic":
        return _embedded_faces() if cache else embedded_faces()
    path = Path(os.path.expanduser(source))
    if mapped.is_mapped(path):
        if votes is not None:
            raise FerError(f"{path}: has the votes that it was written with; leave out votes=")
        return mapped.open_mapped(path, source)
    with open_source(path) as files:
        table = find_votes(files, votes)
        key = digest(str(_READER_VERSION), os.fsencode(files.root.resolve()), files.stamp, table.stamp if table else "")
        stored = _cache_folder() / f"{digest(os.fsencode(path.resolve()))}.npz"  # one per source: no pile of old ones
        faces, trouble = _load_cache(stored, key) if cache else (None, ())
        if faces is not None:
            return dataclasses.replace(faces, source=source)
        faces = _read(files, source, table, votes is not None, progress, _InMemory())
    if cache:
        trouble += _save_cache(stored, key, faces)
    return dataclasses.replace(faces, notes=faces.notes + trouble)


def map_faces(source: str | Path | None, target: str | Path, *, votes: str | Path | None = None, progress: bool = True
              ) -> FaceSet:
    """Read a dataset as `load_faces` does, but lay its pixels in the new folder ``target``, where they stay.

    Only one block of pixels is in memory at a time. `load_faces` then opens the folder, on any machine, and a training
    reads from it batch by batch, with the same result to the last bit. Parameters and errors are those of `load_faces`;
    ``target`` must not exist.
    """
    source = _or_usual(source)
    path, target = Path(os.path.expanduser(source)), Path(os.path.expanduser(target))
    with mapped.Writer(target) as writer:
        if source == "synthetic" or mapped.is_mapped(path):
            faces = load_faces(source, votes=votes)
            for part in faces.images.split(_BLOCK):
                writer.append(part.numpy())
            faces = dataclasses.replace(faces, images=writer.images())
        else:
            with open_source(path) as files:
                faces = _read(files, source, find_votes(files, votes), votes is not None, progress, writer)
        writer.keep(faces)
    return load_faces(target)


def download_faces(target: str | Path, dataset: str = "msambare/fer2013") -> Path:
    """Fetch a Kaggle dataset into the new folder ``target`` and return it. Needs the ``download`` extra.

    Raises
    ------
    FerError
        If kagglehub is missing, ``target`` exists, or Kaggle cannot be reached or refuses. Nothing is left behind.
    """
    target = Path(os.path.expanduser(target))
    if target.exists():
        raise FerError(f"{target}: already exists; delete it or choose another folder")
    with needs_extra("download"):
        import kagglehub
    try:
        fetched = kagglehub.dataset_download(dataset)
    except Exception as error:  # kagglehub passes on whatever requests, its login and its unpacking raise
        raise FerError(f"{dataset}: Kaggle did not deliver it ({error}); check the connection, or download it from "
                       f"https://www.kaggle.com/datasets/{dataset} and unpack it to {target}") from error
    with explain_os_errors(target, "writing"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            shutil.copytree(fetched, Path(folder) / "data")
            (Path(folder) / "data").rename(target)
    return target


class _InMemory(list[np.ndarray]):
    """Blocks of pixels, appended as to a `mapped.Writer`."""

    def images(self) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(self))


Pixels = _InMemory | mapped.Writer


def _or_usual(source: str | Path | None) -> str:
    return str(source or os.environ.get("FER_DATA") or "synthetic")


def _read(files: Files, source: str, table: Table | None, required: bool, progress: bool, pixels: Pixels) -> FaceSet:
    csv_name = find_csv(files)
    faces = _read_csv(files, csv_name, progress, pixels) if csv_name else _read_tree(files, progress, pixels)
    faces = _complete_splits(dataclasses.replace(faces, source=source))
    return faces if table is None else _join_votes(faces, table, by_row=bool(csv_name), required=required)


# Class folders

def _read_tree(files: Files, progress: bool, pixels: Pixels) -> FaceSet:
    plan = plan_tree(files)
    block, changes = np.empty((min(len(plan), _BLOCK), IMAGE_SIZE, IMAGE_SIZE), np.uint8), Counter[str]()
    # One thread on purpose: at 48×48, handing over the interpreter lock costs more than decoding.
    for row, (name, _, _) in enumerate(tqdm(plan, "reading faces", unit="image", **bar_options(progress))):
        if files.sizes[name] > _MAX_IMAGE_BYTES:
            raise FerError(f"{files.where(name)}: {files.sizes[name]:,} bytes are too many for a face; delete it")
        with explain_os_errors(files.where(name), "reading"), files.open(name) as file:
            block[row % _BLOCK] = _decode(file, files.where(name), changes)
        if row % _BLOCK == _BLOCK - 1 or row == len(plan) - 1:
            pixels.append(block[:row % _BLOCK + 1].copy())
    stems = [splitext(basename(name))[0] for name, _, _ in plan]
    repeats = Counter(stems)
    ids = [stem if repeats[stem] == 1 else name for stem, (name, _, _) in zip(stems, plan, strict=True)]
    notes = tuple(f"{count} {'image was' if count == 1 else 'images were'} {change}."
                  for change, count in sorted(changes.items()))
    return _face_set(pixels.images(), [label for _, _, label in plan], ids, [split for _, split, _ in plan], notes)


def read_photograph(path: Path | str) -> np.ndarray:
    """A picture of any size as uint8 (H, W, 3): upright, 8 bits a channel, on white where it is transparent.

    Raises
    ------
    FerError
        If it cannot be read, or has more than 50 million pixels.
    """
    with explain_os_errors(path, "reading"), open(check_file(path, _MAX_PHOTO_BYTES), "rb") as file:
        return _decode(file, str(path), Counter(), _UPRIGHT | _COLOUR)


def _decode(file: BinaryIO, where: str, changes: Counter[str], steps: Changes | None = None) -> np.ndarray:
    """A picture file after ``steps``, by default those to uint8 (48, 48); ``changes`` counts what had to be altered."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise FerError(f"{where}: {image.width}×{image.height} pixels are too many; shrink or delete it")
            image.load()
            for change, (needed, apply) in (steps or _CHANGES).items():
                if needed(image):
                    image = apply(image)
                    changes[change] += 1
            return np.asarray(image)
    except FerError:
        raise
    except Exception as error:  # Pillow's plugins raise ValueError, SyntaxError, struct.error and more on bad files
        reason = str(error).replace(repr(file), "the file")
        raise FerError(f"{where}: is no readable image ({reason}); delete it or {AGAIN}") from error


def _is_not_8_bit(image: Image.Image) -> bool:
    return image.mode in ("1", "F") or image.mode.startswith("I")


def _to_8_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    # Integer pixels span 16 bits in every format Pillow opens so; floats come as 0..1 or as 0..255.
    top = 65535 if image.mode.startswith("I") else 1 if values.max() <= 1 else 255
    if not (values.min() >= 0 and values.max() <= top):
        raise ValueError(f"values {values.min():g} to {values.max():g} outside 0 to {top}")
    # A part at a time: float64 of the largest pictures, and its copies, would take gigabytes.
    return Image.fromarray(np.concatenate([np.rint(part.astype(np.float64) * (255 / top)).astype(np.uint8)
                                           for part in np.array_split(values, len(values) // 256 + 1)]))


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _on_white(image: Image.Image) -> Image.Image:
    mode = "L" if image.mode in ("L", "LA", "La") else "RGB"
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert(mode)


#: What is done to an image, in this order, with the test that calls for it.
_UPRIGHT: Changes = {
    "rotated as their EXIF entry says": (lambda image: image.getexif().get(0x0112) in range(2, 9),
                                         ImageOps.exif_transpose),
    "converted to 8 bits a pixel": (_is_not_8_bit, _to_8_bit),
    "laid on white where transparent": (_is_transparent, _on_white),
}
_COLOUR: Changes = {"converted to RGB": (lambda image: image.mode != "RGB", lambda image: image.convert("RGB"))}
_CHANGES: Changes = _UPRIGHT | {
    "converted from colour to grayscale": (lambda image: image.mode != "L",
                                           lambda image: image.convert("RGB").convert("L")),
    "resized from other sizes to 48×48": (lambda image: image.size != (IMAGE_SIZE, IMAGE_SIZE),
                                          lambda image: ImageOps.fit(image, (IMAGE_SIZE, IMAGE_SIZE),
                                                                     Image.Resampling.LANCZOS)),
}


# Pixel CSV

def _read_csv(files: Files, name: str, progress: bool, pixels: Pixels) -> FaceSet:
    where = files.where(name)
    with explain_os_errors(where, "reading"), files.open(name) as file:
        rows = _csv_rows(file, where)
        _, header = next(rows, (0, []))
        columns = {title.strip().lower(): position for position, title in enumerate(header)}
        if not header:
            raise FerError(f"{where}: is empty; {AGAIN}")
        if "pixels" not in columns:
            raise FerError(f"{where}: line 1: no column 'pixels'; choose one of {', '.join(CSV_FILES)}")
        if "emotion" not in columns:
            raise FerError(f"{where}: line 1: no column 'emotion', so the images have no labels (Kaggle's test.csv?); "
                           f"choose one of {', '.join(CSV_FILES)}")
        labels, usages, texts, lines = [], [], [], []
        for line, fields in tqdm(rows, f"reading {basename(name)}", unit="row", **bar_options(progress)):
            if len(fields) != len(header):
                raise FerError(f"{where}: line {line}: {len(fields)} columns where the first line has {len(header)}; "
                               f"the file is cut short or damaged, {AGAIN}")
            labels.append(_emotion_numbered(fields[columns["emotion"]], where, line))
            usages.append(fields[columns["usage"]].strip() if "usage" in columns else "")
            if usages[-1] and not split_of(usages[-1]) or "usage" in columns and not usages[-1]:
                raise FerError(f"{where}: line {line}: unknown Usage {usages[-1][:40]!r}, known are Training, "
                               f"PublicTest and PrivateTest; correct it or {AGAIN}")
            texts.append(fields[columns["pixels"]])
            lines.append(line)
            if len(texts) == _BLOCK:
                pixels.append(_parse_pixels(texts, lines, where))
                texts, lines = [], []
        pixels.append(_parse_pixels(texts, lines, where))
    if not labels:
        raise FerError(f"{where}: holds no rows below the first line; {AGAIN}")
    # Not FER+'s names: those skip images, so its number is not the row of this file.
    stem = splitext(basename(name))[0]
    ids = [f"{usage or stem}_{row:07d}" for row, usage in enumerate(usages)]
    return _face_set(pixels.images(), labels, ids, [split_of(usage) or "train" for usage in usages])


def _csv_rows(file: BinaryIO, where: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each row that is not blank."""
    text, left = io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), _MAX_ROW

    def lines() -> Iterator[str]:
        """A file without line ends, or a row that goes on in quotes, must not fill the memory."""
        nonlocal left
        while line := text.readline(left + 1):
            left -= len(line)
            if left < 0:
                raise csv.Error(f"a row of more than {_MAX_ROW:,} characters")
            yield line

    reader = csv.reader(lines())
    try:
        for fields in reader:
            left = _MAX_ROW
            if fields:
                yield reader.line_num, fields
    except (csv.Error, UnicodeDecodeError) as error:
        raise FerError(f"{where}: after line {reader.line_num}: not a CSV text file ({error}); {AGAIN}") from error


def _emotion_numbered(text: str, where: str, line: int) -> str:
    text = text.strip()
    emotion = canonical(text) or (EMOTIONS[int(text)] if re.fullmatch("[0-6]", text) else None)
    if emotion is None:
        raise FerError(f"{where}: line {line}: unknown emotion {text[:40]!r}, known are 0 to 6 and "
                       f"{', '.join(EMOTIONS)}; correct or delete the row")
    return emotion


def _parse_pixels(texts: list[str], lines: list[int], where: str) -> np.ndarray:
    """uint8 (N, 48, 48) from N strings of 2304 numbers, without a Python step per number."""
    wanted = IMAGE_SIZE**2
    data = np.frombuffer(" ".join([*texts, ""]).encode("ascii", "replace"), np.uint8)
    digit = data - np.uint8(ord("0"))  # wraps around: everything that is no digit lands above 9
    inside = np.concatenate([[False], digit < 10, [False]])
    first, stop = np.flatnonzero(inside[1:] > inside[:-1]), np.flatnonzero(inside[1:] < inside[:-1])
    length, last = stop - first, stop - 1
    value = digit[last].astype(np.int16)
    for place in (1, 2):
        value += np.where(length > place, digit[last - place], 0).astype(np.int16) * 10**place
    ends = np.cumsum([len(text) + 1 for text in texts], dtype=np.int64)
    counts = np.diff(np.searchsorted(first, ends), prepend=0)
    clean = len(data) == np.count_nonzero(inside) + np.count_nonzero(data == ord(" "))
    if not (clean and (counts == wanted).all() and (length <= 3).all() and (value <= 255).all()):
        # Something is unusual: read row by row, to name the culprit or to accept what is merely odd (tabs, 007).
        value = np.array([_parse_row(text, line, where) for text, line in zip(texts, lines, strict=True)])
    return value.astype(np.uint8).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)


def _parse_row(text: str, line: int, where: str) -> list[int]:
    words = text.split()
    for word in words:
        if not re.fullmatch("0*[0-9]{1,3}", word) or int(word) > 255:
            raise FerError(f"{where}: line {line}: pixel {word[:20]!r} is no whole number from 0 to 255; correct or "
                           "delete the row")
    if len(words) != IMAGE_SIZE**2:
        raise FerError(f"{where}: line {line}: {len(words)} pixels where 48×48 = 2304 are needed; the file is cut "
                       f"short or damaged, {AGAIN}")
    return [int(word) for word in words]


# FER+ votes

def _join_votes(faces: FaceSet, table: Table, by_row: bool, required: bool) -> FaceSet:
    """Add the votes, by image name, or row by row for a CSV, whose images have no FER+ names."""
    usages, names, votes = _read_votes(table)
    if by_row:
        known = len(votes) == len(faces) and all(
            name.startswith(f"{usage}_") for usage, name in zip(usages, faces.ids, strict=True))
        rows = np.arange(len(faces)) if known else np.full(len(faces), -1)
    else:
        position = {splitext(name)[0]: row for row, name in enumerate(names) if name}
        rows = np.array([position.get(name, -1) for name in faces.ids])
    matched = rows >= 0
    if not matched.any():
        reason = (f"{table.where}: its {len(votes):,} votes do not belong to these {len(faces):,} images "
                  f"({'other rows' if by_row else 'other names'})")
        if required:
            raise FerError(f"{reason}; choose the table of this data or leave out votes=")
        return dataclasses.replace(faces, notes=(*faces.notes, f"{reason}, so none were joined."))
    known_votes = torch.from_numpy(np.where(matched[:, None], votes[rows], np.float32("nan")))
    note = f"FER+ votes were joined to {matched.sum():,} of {len(faces):,} images."
    return dataclasses.replace(faces, votes=known_votes, notes=(*faces.notes, note))


def _read_votes(table: Table) -> tuple[list[str], list[str], np.ndarray]:
    """Usage, image name and float32 (M, 10) votes of each row."""
    with explain_os_errors(table.where, "reading"), table.open() as file:
        rows = _csv_rows(file, table.where)
        header = [title.strip().lower() for title in next(rows, (0, []))[1]]
        titles = ["usage", "image name", *(name.lower() for name in VOTE_COLUMNS)]
        if missing := [title for title in titles if title not in header]:
            raise FerError(f"{table.where}: no column {', '.join(missing)}; fetch {VOTES_FILE} from FER+ again")
        columns = [header.index(title) for title in titles]
        usages, names, votes, width, size = [], [], array("f"), len(VOTE_COLUMNS), 0
        first: dict[str, int] = {}
        for row, (line, fields) in enumerate(rows):
            try:
                usage, name, *counts = [fields[column].strip() for column in columns]
                numbers = array("f", map(float, counts))
                if not all(0 <= number < 1000 for number in numbers):
                    raise ValueError("votes must be numbers of people")
                votes.extend(numbers)
                before = width * first.setdefault(name, row)
                if name and votes[before:before + width] != numbers:
                    raise ValueError(f"{name} has other votes further up")
                size += sum(map(len, fields)) + len(fields)
                if size > _MAX_TABLE:
                    raise ValueError(f"the table has more than {_MAX_TABLE:,} bytes")
            except (ValueError, IndexError) as error:
                raise FerError(f"{table.where}: line {line}: {error}; fetch {VOTES_FILE} from FER+ again") from error
            usages.append(sys.intern(usage))
            names.append(name)
    return usages, names, np.array(votes, np.float32).reshape(-1, width)


# Assembly and cache

def _face_set(images: torch.Tensor, emotions: list[str], ids: list[str], splits: list[str],
              notes: tuple[str, ...] = ()) -> FaceSet:
    classes = tuple(name for name in EMOTIONS if name in set(emotions))
    number = {name: label for label, name in enumerate(classes)}
    return FaceSet(images, torch.tensor([number[name] for name in emotions]), np.array(ids),
                   np.array(splits), classes, notes=notes)


def _complete_splits(faces: FaceSet) -> FaceSet:
    present = set(faces.split)
    if "test" in present:
        return faces
    if present == {"train"}:
        faces = faces.split_validation(0.2, seed=0)
        note = "There is no test split: a fifth of each class was set aside as test, near copies kept together."
        if faces.subjects is not None:
            note = "There is no test split: about a fifth was set aside as test, all images of a person kept together."
    else:
        note = "There is no test split: the validation images serve as test."
    return dataclasses.replace(faces, split=np.where(faces.split == "val", "test", faces.split),
                               notes=(*faces.notes, note))


@functools.lru_cache(maxsize=1)
def _embedded_faces() -> FaceSet:
    """`embedded_faces`, from the cache: drawing them takes many seconds, and every kernel of a report needs them.

    What is cached belongs to the code that drew it, so a change of that code draws anew.
    """
    stored = _cache_folder() / "embedded.npz"
    key = digest(str(_READER_VERSION), *(inspect.getsource(module) for module in (emotions, rendering, synthetic)))
    faces, trouble = _load_cache(stored, key)
    if faces is None:
        faces = embedded_faces()
        trouble += _save_cache(stored, key, faces)
    return dataclasses.replace(faces, notes=faces.notes + trouble)


def _cache_folder() -> Path:
    if chosen := os.environ.get("FER_CACHE"):
        return Path(os.path.expanduser(chosen))
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "fer_helpers"


def _save_cache(path: Path, key: str, faces: FaceSet) -> tuple[str, ...]:
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


def _load_cache(path: Path, key: str) -> tuple[FaceSet | None, tuple[str, ...]]:
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
        return None, ()  # `_save_cache` will say so
    except Exception as error:  # a damaged file can break zipfile, numpy and FaceSet each in its own way
        return None, (f"The cached copy {path} was damaged ({error}) and has been read anew.",)
