"""What a path holds: finds pictures, tables and votes among its files, and what their labels mean.

Opening the files is the business of `containers`, decoding them that of `image_files` and `tables`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import basename, dirname, splitext
from types import MappingProxyType
from typing import BinaryIO

from ..files import FerError, explain_os_errors, read_yaml, refuse_address
from .containers import Files, list_folder, open_archive, stamp_of
from .emotions import CODINGS, EMOTIONS, TAXONOMY, canonical, coding_of, explain_codings
from .image_files import PICTURES

VOTES_FILE = "fer2013new.csv"  # FER+'s own name for its vote table
LABELS_FILE = "labels.yaml"  # what the labels of a set mean, where they are not what is usual
TABLES = (".csv", ".tsv", ".parquet")  # endings of a table of pictures
PIXEL_FILES = ("fer2013.csv", "icml_face_data.csv")  # never tables of pictures
CSV_FILES = (*PIXEL_FILES, "train.csv")  # Kaggle's names; the first one present is read

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
    """A table of FER+ votes or of pictures: name for messages, a stamp that changes with it, how to open it, and the
    folder in the source where the paths of pictures start."""

    where: str
    stamp: str
    open: Callable[[], BinaryIO]
    folder: str = ""


@dataclass(frozen=True)
class Labels:
    """What the labels of a set mean: the usual spellings, and the numbers of a coding where the layout implies one,
    unless a `LABELS_FILE` says otherwise, which is then ``where``."""

    table: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    stamp: str = ""

    def emotion(self, label: str, coding: Mapping[str, str] = MappingProxyType({})) -> str | None:
        """The emotion of a label, "" where it is to be left out, None where it is unknown; the numbers of ``coding``
        (of `emotions.CODINGS`) count where the file has none."""
        label = re.sub(r"^([0-9]+)\.0+$", r"\1", label.strip().lower())  # as data frames write what has gaps
        usual = canonical(label) if self.numbered or label not in coding else coding[label]
        return self.table.get(label, self.table.get(usual, usual) if usual else usual)

    @property
    def numbered(self) -> bool:
        """Whether the file says what numbers mean."""
        return any(label.isdecimal() for label in self.table)


@contextlib.contextmanager
def open_source(path: Path) -> Iterator[Files]:
    """The files of a folder, an archive (also the only one in a folder without pictures), a lone CSV, with its like for
    other splits, or a table of pictures, with its folder.

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
        unpacked = has_classes(files) or any(name.lower().endswith(PICTURES) for name in files.sizes)
        only = [name for name, _ in find_csvs(files)] or ([] if unpacked or len(archives) > 1 else archives)
        with open_archive(path / only[0]) if only else contextlib.nullcontext() as packed:
            yield packed or files
        return
    with open_archive(path) if stat.S_ISREG(mode) else contextlib.nullcontext() as packed:
        if packed is None and stat.S_ISREG(mode) and _lists_pictures(path):
            packed = dataclasses.replace(list_folder(path.parent), chosen=path.name)
        elif packed is None and path.suffix.lower() == ".csv" and stat.S_ISREG(mode):
            with explain_os_errors(path.parent, "reading"):
                beside = _siblings(path.name, os.listdir(path.parent)) if path.name.lower() == CSV_FILES[-1] else []
                paths = [path, *(other for name in beside if os.path.isfile(other := path.parent / name))]
                packed = Files(path.parent, {one.name: one.stat().st_size for one in paths}, [],
                               "/".join(map(stamp_of, paths)), lambda name: (path.parent / name).open("rb"))
        if packed is None:
            raise FerError(f"{path}: is no folder, CSV, zip or tar; choose a folder of class folders or one of "
                           f"{', '.join(CSV_FILES)}")
        yield packed


def _lists_pictures(path: Path) -> bool:
    """Whether a file is a table of pictures: any but a CSV that has pixels, or has the name of one."""
    if path.suffix.lower() != ".csv" or path.name.lower() in PIXEL_FILES:
        return path.suffix.lower() in TABLES[1:]
    with explain_os_errors(path, "reading"), path.open("rb") as file:
        header = file.readline(1 << 16).lower()
    return b"pixels" not in header and any(delimiter in header for delimiter in (b",", b"\t", b";"))


def find_csvs(files: Files) -> list[tuple[str, str]]:
    """(path, split of rows that tell none) of the pixel CSV to read, and of ``test.csv`` and its like beside
    ``train.csv``; empty where there are class folders or no such file."""
    if len(files.sizes) == 1 and (only := next(iter(files.sizes))).lower().endswith(".csv"):
        return [(only, "train")]
    known = {basename(name).lower(): name for name in sorted(files.sizes, reverse=True) if name.endswith(".csv")}
    main = next((known[name] for name in CSV_FILES if name in known), None)
    if main is None or has_classes(files):
        return []
    beside = _siblings(main, files.sizes) if basename(main).lower() == CSV_FILES[-1] else []
    return [(main, "train"), *((name, split_of(splitext(basename(name))[0]) or "") for name in beside)]


def _siblings(name: str, others: Iterable[str]) -> list[str]:
    """CSV files in the same folder that are named for val or test."""
    return sorted(other for other in others if dirname(other) == dirname(name) and other.lower().endswith(".csv")
                  and split_of(splitext(basename(other))[0]) in ("val", "test"))


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
    if chosen is not None:
        return given_table(chosen, "FER+ table; correct votes=")
    candidates = (files.root / VOTES_FILE, files.root.resolve().parent / VOTES_FILE)
    return next((given_table(path, "FER+ table") for path in candidates if os.path.isfile(path)), None)


def find_labels(files: Files, table: Table | None = None) -> Labels:
    """What a `LABELS_FILE` says that lies among the files of a folder, beside the archive, or beside a given table.

    Raises
    ------
    FerError
        If it is no mapping from labels to emotions, or null for what is to be left out, no list of them, and no name in
        `emotions.CODINGS`.
    """
    folder = files.root if os.path.isdir(files.root) else files.root.parent
    inside = [folder / name for name in sorted(files.sizes) if basename(name).lower() == LABELS_FILE]
    beside = [Path(table.where).parent / LABELS_FILE] if table else []
    path = next((path for path in (folder / LABELS_FILE, *inside, *beside) if os.path.lexists(path)), None)
    if path is None:
        return Labels()
    fix = (f"write a line for every label, such as 0: {EMOTIONS[-1]}, with null for what is to be left out, or only "
           f"the name of a coding, one of {', '.join(CODINGS)}")
    given = read_yaml(path, fix)
    if isinstance(given, str) and (coding := coding_of(given)):
        return Labels(coding, str(path), str(path) + stamp_of(path))
    if isinstance(given, list):
        given = dict(enumerate(given))
    if not isinstance(given, dict):
        raise FerError(f"{path}: is no mapping of labels to emotions; {fix}")
    meaning = {}
    for label, name in given.items():
        emotion = "" if name is None else canonical(str(name))
        if emotion is None:
            raise FerError(f"{path}: {label}: unknown emotion {str(name)[:40]!r}, known are {', '.join(TAXONOMY)}; "
                           f"{fix}")
        meaning[str(label).strip().lower()] = emotion
    return Labels(meaning, str(path), str(path) + stamp_of(path))


def split_of(name: str) -> str | None:
    """The split, "train", "val" or "test", that a folder or a CSV's Usage means in any usual spelling, or None."""
    return _SPLITS.get(re.sub("[-_ ]|set$", "", name.lower()))  # "Training set" too


def explain_numbers(what: str) -> tuple[str, str]:
    """The fault that ``what`` has numbers for classes, and its fix: what numbers mean is never guessed."""
    return (f"{what} is a number, and what numbers mean is not guessed",
            f"write into {LABELS_FILE} beside the data the name of the coding, one of {explain_codings()}, or a line "
            f"for every number, such as 0: {EMOTIONS[-1]}")


def given_table(path: Path | str, what: str) -> Table:
    """The table at a path that was given as ``what``; `FerError` where there is none."""
    path = Path(os.path.expanduser(path))
    if not os.path.isfile(path):  # unlike Path.is_file, False below a folder that may not be entered
        raise FerError(f"{path}: no such {what} or leave it out")
    return Table(str(path), str(path) + stamp_of(path), _opener(path))


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def has_classes(files: Files) -> bool:
    """Whether a folder is called as a class is."""
    return any(canonical(basename(name)) for name in files.folders)
