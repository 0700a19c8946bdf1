"""What a path holds: finds pictures, tables and votes among its files, and what their labels mean.

Opening the files is the business of `containers`, decoding them that of `image_files` and `tables`.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import basename, dirname, splitext
from typing import BinaryIO

from ..files import FerError, explain_os_errors, read_yaml, refuse_address
from .containers import AGAIN, Files, list_folder, open_archive, stamp_of
from .emotions import EMOTIONS, TAXONOMY, canonical
from .image_files import PICTURES, is_picture

VOTES_FILE = "fer2013new.csv"  # FER+'s own name for its vote table
LABELS_FILE = "labels.yaml"  # what the labels of a set mean, where they are not what is usual
CSV_FILES = ("fer2013.csv", "icml_face_data.csv", "train.csv")  # Kaggle's names; the first one present is read

_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
           "testing": "test", "publictest": "test", "privatetest": "test"}
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz")
_NAMED = 3  # faults of a kind that are named, the others counted


class Faults:
    """What is wrong with a set, told at once: of each kind the first few, how many more, and the fix."""

    def __init__(self, where: str) -> None:
        self.where, self.first, self.count = where, dict[str, list[str]](), Counter[str]()

    def add(self, text: str, fix: str) -> None:
        """``text`` goes on from the ``where`` of the set; equal fixes are of one kind."""
        self.count[fix] += 1
        if self.count[fix] <= _NAMED:
            self.first.setdefault(fix, []).append(text)

    def check(self) -> None:
        """`FerError` if there were any."""
        kinds = [f"{', '.join(texts)}{f' and {more:,} more' if (more := self.count[fix] - len(texts)) else ''}; {fix}"
                 for fix, texts in self.first.items()]
        if kinds:
            raise FerError(self.where + ". Also: ".join(kinds))


@dataclass(frozen=True)
class Table:
    """A table of FER+ votes: name for messages, a stamp that changes with it, how to open it."""

    where: str
    stamp: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class Labels:
    """What the labels of a set mean: the usual spellings, and in a CSV FER2013's numbers, unless a `LABELS_FILE` says
    otherwise, which is then ``where``."""

    table: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    stamp: str = ""

    def emotion(self, label: str, numbers: bool = False) -> str | None:
        """The emotion of a label, "" where it is to be left out, None where it is unknown; FER2013's ``numbers`` count
        where the file has none."""
        label = label.strip().lower()
        usual = EMOTIONS[int(label)] if numbers and not self.numbered and re.fullmatch("[0-6]", label) else None
        return self.table.get(label, canonical(label) or usual)

    @property
    def numbered(self) -> bool:
        """Whether the file says what numbers mean."""
        return any(label.isdecimal() for label in self.table)


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[Files]:
    """The files of a folder, an archive (also the only one in a folder) or a lone CSV, with its like for other splits.

    Raises
    ------
    FerError
        If ``path`` is missing or something else, holds more than faces need, or, as an archive, is damaged or not to be
        trusted.
    """
    refuse_address(path)
    with explain_os_errors(path, "reading"):
        mode = path.stat().st_mode if path.exists() else 0
    if not mode:
        raise FerError(f"{path}: does not exist; check the path, or use the source 'synthetic'")
    if stat.S_ISDIR(mode):
        files = list_folder(path)
        archives = [name for name in files.sizes if name.lower().endswith(_ARCHIVES)]
        only = [name for name, _ in find_csvs(files)] or ([] if _has_classes(files) or len(archives) > 1 else archives)
        with open_archive(path / only[0]) if only else contextlib.nullcontext() as packed:
            yield packed or files
        return
    with open_archive(path) if stat.S_ISREG(mode) else contextlib.nullcontext() as packed:
        if packed is None and path.suffix.lower() == ".csv" and stat.S_ISREG(mode):
            with explain_os_errors(path.parent, "reading"):
                beside = _siblings(path.name, os.listdir(path.parent)) if path.name.lower() == CSV_FILES[-1] else []
                paths = [path, *(other for name in beside if os.path.isfile(other := path.parent / name))]
                packed = Files(path.parent, {one.name: one.stat().st_size for one in paths}, [],
                               "/".join(map(stamp_of, paths)), lambda name: (path.parent / name).open("rb"))
        if packed is None:
            raise FerError(f"{path}: is no folder, CSV, zip or tar; choose a folder of class folders or one of "
                           f"{', '.join(CSV_FILES)}")
        yield packed


def find_csvs(files: Files) -> list[tuple[str, str]]:
    """(path, split of rows that tell none) of the pixel CSV to read, and of ``test.csv`` and its like beside
    ``train.csv``; empty where there are class folders or no such file."""
    if len(files.sizes) == 1 and (only := next(iter(files.sizes))).lower().endswith(".csv"):
        return [(only, "train")]
    known = {basename(name).lower(): name for name in sorted(files.sizes, reverse=True) if name.endswith(".csv")}
    main = next((known[name] for name in CSV_FILES if name in known), None)
    if main is None or _has_classes(files):
        return []
    beside = _siblings(main, files.sizes) if basename(main).lower() == CSV_FILES[-1] else []
    return [(main, "train"), *((name, split_of(splitext(basename(name))[0]) or "") for name in beside)]


def _siblings(name: str, others: Iterable[str]) -> list[str]:
    """CSV files in the same folder that are named for val or test."""
    return sorted(other for other in others if dirname(other) == dirname(name) and other.lower().endswith(".csv")
                  and split_of(splitext(basename(other))[0]) in ("val", "test"))


def plan_tree(files: Files, labels: Labels) -> tuple[list[tuple[str, str, str]], tuple[str, ...]]:
    """(path, split, emotion) of every image, by path, and notes about what was left out. Split is "train" throughout
    where the folders name none.

    Raises
    ------
    FerError
        If there are no class folders, or pictures whose class nobody can know. Names all of them.
    """
    plan, faults = [], Faults(f"{files.root}/")
    parents, filled = set[str](), set[str]()
    nameless, left = Counter[str](), Counter[str]()
    for name in sorted(files.sizes):
        *folders, _ = name.split("/")
        emotion = labels.emotion(folders[-1]) if folders else None
        if not (name.lower().endswith(PICTURES) or emotion and _holds_picture(files, name)):
            continue
        filled.add("/".join(folders))
        splits = [split for folder in folders if (split := split_of(folder))]
        if emotion:
            plan.append((name, splits[-1] if splits else "", emotion))
            parents.update(() if splits else ["/".join(folders[:-1])])
        elif emotion == "":
            left[folders[-1]] += 1
        elif splits and split_of(folders[-1]):
            faults.add(f"{name}: lies in no class folder", "move it into one, such as train/happiness")
        else:
            nameless["/".join(folders)] += 1
    for folder, count in nameless.items():
        # Elsewhere a folder of pictures is no business of ours.
        if folder and (any(map(split_of, folder.split("/"))) or dirname(folder) in parents):
            faults.add(f"{folder}: unknown class folder ({count:,} pictures)",
                       f"known are {', '.join(TAXONOMY)}; say in {LABELS_FILE} beside the data which of them each is "
                       f"(NAME: {EMOTIONS[0]}), or that it is left out (NAME: null)")
    faults.check()
    if not plan:
        kinds = f" (it holds {kinds_of(files.sizes)})" if files.sizes else ""
        raise FerError(f"{files.root}: holds no class folders such as train/happiness and none of "
                       f"{', '.join(CSV_FILES)}{kinds}; choose the folder that does, or {AGAIN}")
    if parents and (len(parents) > 1 or any(split for _, split, _ in plan)):
        raise FerError(f"{files.root}: class folders stand in {', '.join(sorted(parent or '.' for parent in parents))} "
                       "outside train and test; lay them in folders train, val and test")
    notes = [f"{count:,} images of {label} were left out, as {labels.where} says." for label, count in left.items()]
    empty = [folder for folder in files.folders if labels.emotion(basename(folder)) and folder not in filled]
    if empty:
        notes.append(f"Class folders without a picture: {', '.join(empty)}.")
    return [(name, split or "train", emotion) for name, split, emotion in plan], tuple(notes)


def _holds_picture(files: Files, name: str) -> bool:
    with explain_os_errors(files.where(name), "reading"), files.open(name) as file:
        return is_picture(file.read(32))


def kinds_of(names: Iterable[str]) -> str:
    """How many files of each ending: ``"3 .npy, 1 .txt"``."""
    counts = Counter(splitext(name)[1].lower() or "without ending" for name in names)
    ranked = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{count:,} {ending}" for ending, count in ranked)


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
            return Table(str(path), str(path) + stamp_of(path), _opener(path))
    if chosen is not None:
        raise FerError(f"{chosen}: no such FER+ table; correct votes= or leave it out")
    return None


def find_labels(files: Files) -> Labels:
    """What a `LABELS_FILE` says that lies among the files of a folder, or beside the archive.

    Raises
    ------
    FerError
        If it is no mapping from labels to emotions, or null for what is to be left out, nor a list of them.
    """
    folder = files.root if os.path.isdir(files.root) else files.root.parent
    inside = [folder / name for name in sorted(files.sizes) if basename(name).lower() == LABELS_FILE]
    path = next((path for path in (folder / LABELS_FILE, *inside) if os.path.lexists(path)), None)
    if path is None:
        return Labels()
    fix = f"write a line for every label, such as 0: {EMOTIONS[-1]}, with null for what is to be left out"
    given = read_yaml(path, fix)
    if isinstance(given, list):
        given = dict(enumerate(given))
    if not isinstance(given, dict):
        raise FerError(f"{path}: is no mapping of labels to emotions; {fix}")
    table = {}
    for label, name in given.items():
        emotion = "" if name is None else canonical(str(name))
        if emotion is None:
            raise FerError(f"{path}: {label}: unknown emotion {str(name)[:40]!r}, known are {', '.join(TAXONOMY)}; "
                           f"{fix}")
        table[str(label).strip().lower()] = emotion
    return Labels(table, str(path), str(path) + stamp_of(path))


def split_of(name: str) -> str | None:
    """The split, "train", "val" or "test", that a folder or a CSV's Usage means in any usual spelling, or None."""
    return _SPLITS.get(re.sub("[-_ ]|set$", "", name.lower()))  # "Training set" too


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _has_classes(files: Files) -> bool:
    return any(canonical(basename(name)) for name in files.folders)
