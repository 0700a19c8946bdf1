"""Reads faces (class folders, a pixel CSV, a zip of either) into a `FaceSet`, and caches or maps what it read.

Finding the files is the business of `sources`, decoding them that of `image_files` and `tables`, judging the data that
of `validation`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import shutil
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from posixpath import basename, splitext

import numpy as np
import torch
from tqdm.auto import tqdm

from ..files import FerError, bar_options, digest, explain_os_errors, needs_extra
from . import emotions, mapped, rendering, synthetic
from .cache import cache_folder, load_cache, save_cache
from .containers import Files
from .emotions import TAXONOMY
from .faceset import IMAGE_SIZE, FaceSet
from .image_files import MAX_IMAGE_BYTES, Unreadable, decode
from .layouts import Picture, find_pictures, find_table
from .sources import (
    LABELS_FILE,
    VOTES_FILE,
    Faults,
    Labels,
    Table,
    find_csvs,
    find_labels,
    find_votes,
    given_table,
    kinds_of,
    open_source,
)
from .synthetic import embedded_faces
from .tables import BLOCK, read_csvs
from .votes import join_votes

_READER_VERSION = 5  # raise when the same files would be read differently: old caches are then ignored


def load_faces(source: str | Path | None = None, *, cache: bool = True, votes: str | Path | None = None,
               labels: str | Path | None = None, progress: bool = True) -> FaceSet:
    """Read a dataset into memory; a second call takes the cached copy while the files are unchanged.

    Parameters
    ----------
    source : one of
        "synthetic", the drawn faces that ship with the package;
        a folder of class folders, ``train/<class>/*.png`` with ``test`` and perhaps ``val`` beside, or ``<class>``
        directly; split and class names in any case and the usual spellings;
        ``fer2013.csv``, ``icml_face_data.csv`` or ``train.csv`` as Kaggle has them, or a folder with one of them; a
        labelled ``test.csv`` or ``val.csv`` beside ``train.csv`` is that split;
        a table of pictures, CSV or Parquet, with columns path, label and perhaps split and subject, or its folder;
        RAF-DB, AffectNet, CK+, JAFFE, KDEF, FER+ or a Parquet of the Hugging Face Hub as they come (`layouts`);
        a zip, tar or gzip of any of these; a folder that `map_faces` wrote, whose pixels then stay on disk.
        ``labels.yaml`` in the folder, or beside the file, says what unusual labels mean: ``0: neutral``, ``bored:
        null`` for what is to be left out, or only ``AffectNet``, a name of `emotions.CODINGS`.
        None or "" reads the environment variable FER_DATA, and "synthetic" where that is unset.
    cache : keep and use a copy in ``$FER_CACHE``, else in ``fer_helpers`` in the user's cache folder.
    votes : FER+ table; by default `VOTES_FILE` in the data's folder or its parent, if there.
    labels : table of pictures as above, whose paths start in the folder ``source``.
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
    if labels is not None and (source == "synthetic" or mapped.is_mapped(os.path.expanduser(source))):
        raise FerError(f"{source}: has labels already; leave out the table {labels}, or name the folder of its "
                       "pictures")
    if source == "synthetic":
        return _embedded_faces() if cache else embedded_faces()
    path = Path(os.path.expanduser(source))
    if mapped.is_mapped(path):
        if votes is not None:
            raise FerError(f"{path}: has the votes that it was written with; leave out votes=")
        return mapped.open_mapped(path, source)
    with open_source(path) as files:
        given = _find_given(files, votes, labels)
        # A chosen table and its folder are not the same data.
        key = digest(str(_READER_VERSION), os.fsencode(files.root.resolve()), files.stamp, files.chosen,
                     *(one.stamp if one else "" for one in given))
        stored = cache_folder() / f"{digest(os.fsencode(path.resolve()))}.npz"  # one per source: no pile of old ones
        faces, trouble = load_cache(stored, key) if cache else (None, ())
        if faces is not None:
            return dataclasses.replace(faces, source=source)
        faces = _read(files, source, *given, votes is not None, progress, _InMemory())
    if cache:
        trouble += save_cache(stored, key, faces)
    return dataclasses.replace(faces, notes=faces.notes + trouble)


def map_faces(source: str | Path | None, target: str | Path, *, votes: str | Path | None = None,
              labels: str | Path | None = None, progress: bool = True) -> FaceSet:
    """Read a dataset as `load_faces` does, but lay its pixels in the new folder ``target``, where they stay.

    Only one block of pixels is in memory at a time. `load_faces` then opens the folder, on any machine, and a training
    reads from it batch by batch, with the same result to the last bit. Parameters and errors are those of `load_faces`;
    ``target`` must not exist.
    """
    source = _or_usual(source)
    path, target = Path(os.path.expanduser(source)), Path(os.path.expanduser(target))
    with mapped.Writer(target) as writer:
        if source == "synthetic" or mapped.is_mapped(path):
            faces = load_faces(source, votes=votes, labels=labels)
            for part in faces.images.split(BLOCK):
                writer.append(part.numpy())
            faces = dataclasses.replace(faces, images=writer.images())
        else:
            with open_source(path) as files:
                faces = _read(files, source, *_find_given(files, votes, labels), votes is not None, progress, writer)
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
        raise FerError(f"{target}: already exists; choose another folder")
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


def _find_given(files: Files, votes: str | Path | None, labels: str | Path | None
                ) -> tuple[Table | None, Table | None, Labels]:
    """The table of votes, that of pictures which was given, and what labels mean."""
    table = None if labels is None else given_table(labels, "table of pictures; correct labels=")
    return find_votes(files, votes), table, find_labels(files, table)


def _read(files: Files, source: str, votes: Table | None, table: Table | None, labels: Labels, required: bool,
          progress: bool, pixels: Pixels) -> FaceSet:
    table = table or find_table(files)
    csvs = [] if table or files.chosen else find_csvs(files)
    if csvs:
        rows = read_csvs(files, csvs, labels, progress, pixels.append)
        used = {name for name, _ in csvs}
        if not rows.ids:
            raise FerError(f"{files.where(csvs[0][0])}: every row is left out; look at {labels.where}")
        faces = _face_set(pixels.images(), rows.emotions, rows.ids, rows.splits)
        notes = rows.notes
    else:
        pictures, notes, others = find_pictures(files, labels, table)
        used = {*others, *(picture.path for picture in pictures)}
        faces = _read_pictures(files, pictures, progress, pixels)
    faces = _complete_splits(dataclasses.replace(faces, source=source))
    if votes is not None and (faces.votes is None or required):
        faces = join_votes(faces, votes, by_row=bool(csvs), required=required)
    unread = sorted(name for name in files.sizes.keys() - used if not name.lower().endswith((VOTES_FILE, LABELS_FILE)))
    if unread and not files.chosen:
        notes += (f"{len(unread):,} {'file was' if len(unread) == 1 else 'files were'} not read ({kinds_of(unread)}), "
                  f"such as {unread[0]}.",)
    return dataclasses.replace(faces, notes=faces.notes + notes)


# Pictures

def _read_pictures(files: Files, pictures: list[Picture], progress: bool, pixels: Pixels) -> FaceSet:
    block, changes = np.empty((min(len(pictures), BLOCK), IMAGE_SIZE, IMAGE_SIZE), np.uint8), Counter[str]()
    faults = Faults(f"{files.root}/")
    # One thread on purpose: at 48×48, handing over the interpreter lock costs more than decoding.
    for row, picture in enumerate(tqdm(pictures, "reading faces", unit="image", **bar_options(progress))):
        name = picture.path
        try:
            if files.sizes.get(name, 0) > MAX_IMAGE_BYTES:
                raise Unreadable(f"{files.sizes[name]:,} bytes are too many for a face", "bring a smaller copy")
            with explain_os_errors(files.where(name), "reading"), (picture.open or partial(files.open, name))() as file:
                block[row % BLOCK] = decode(file, changes)
        except Unreadable as error:
            faults.add(f"{name}: {error.reason}", error.fix)
        if not faults.count and (row % BLOCK == BLOCK - 1 or row == len(pictures) - 1):
            pixels.append(block[:row % BLOCK + 1].copy())
    faults.check()
    stems = [splitext(basename(picture.path))[0] for picture in pictures]
    repeats = Counter(stems)
    ids = [stem if repeats[stem] == 1 else picture.path for stem, picture in zip(stems, pictures, strict=True)]
    notes = tuple(f"{count} {'image was' if count == 1 else 'images were'} {change}."
                  for change, count in sorted(changes.items()))
    faces = _face_set(pixels.images(), [one.emotion for one in pictures], ids, [one.split for one in pictures], notes)
    if any(one.votes for one in pictures):
        faces = dataclasses.replace(faces, votes=torch.tensor([one.votes for one in pictures], dtype=torch.float32))
    if any(one.subject for one in pictures):  # whom nobody names is a person of their own
        people = np.unique([one.subject or f"/{one.path}" for one in pictures], return_inverse=True)[1]
        faces = dataclasses.replace(faces, people=torch.from_numpy(people))
    return faces


# Assembly and cache

def _face_set(images: torch.Tensor, emotions: list[str], ids: list[str], splits: list[str],
              notes: tuple[str, ...] = ()) -> FaceSet:
    classes = tuple(name for name in TAXONOMY if name in set(emotions))
    number = {name: label for label, name in enumerate(classes)}
    return FaceSet(images, torch.tensor([number[name] for name in emotions]), np.array(ids),
                   np.array(splits), classes, notes=notes)


def _complete_splits(faces: FaceSet) -> FaceSet:
    present = set(faces.split)
    if "test" in present:
        return faces
    if present == {"train"}:
        faces, rare = _set_aside(faces)
        note = "There is no test split: a fifth of each class was set aside as test, near copies kept together" + (
            f", but for {', '.join(rare)}, of which there is one image." if rare else ".")
        if faces.subjects is not None:
            note = "There is no test split: about a fifth was set aside as test, all images of a person kept together."
    else:
        note = "There is no test split: the validation images serve as test."
    return dataclasses.replace(faces, split=np.where(faces.split == "val", "test", faces.split),
                               notes=(*faces.notes, note))


def _set_aside(faces: FaceSet) -> tuple[FaceSet, list[str]]:
    """A fifth of each class as "val", and the classes that have one distinct image, which stay whole: a setting that
    does not use them need not know."""
    first = np.unique(faces.near_groups, return_index=True)[1]
    distinct = np.bincount(faces.labels.numpy()[first], minlength=len(faces.classes))
    common = np.flatnonzero((distinct != 1)[faces.labels.numpy()])
    if not len(common) or len(common) == len(faces):
        return faces.split_validation(0.2, seed=0), []
    split = faces.split.astype("<U5")
    split[common] = faces.take(common).split_validation(0.2, seed=0).split
    return dataclasses.replace(faces, split=split), [name for name, count in zip(faces.classes, distinct, strict=True)
                                                     if count == 1]


@functools.lru_cache(maxsize=1)
def _embedded_faces() -> FaceSet:
    """`embedded_faces`, from the cache: drawing them takes many seconds, and every kernel of a report needs them.

    What is cached belongs to the code that drew it, so a change of that code draws anew.
    """
    stored = cache_folder() / "embedded.npz"
    key = digest(str(_READER_VERSION), *(inspect.getsource(module) for module in (emotions, rendering, synthetic)))
    faces, trouble = load_cache(stored, key)
    if faces is None:
        faces = embedded_faces()
        trouble += save_cache(stored, key, faces)
    return dataclasses.replace(faces, notes=faces.notes + trouble)
