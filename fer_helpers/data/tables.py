"""Reads tables: faces as a CSV of pixels, and lists of pictures."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from posixpath import basename, splitext
from typing import BinaryIO

import numpy as np
from tqdm.auto import tqdm

from ..files import FerError, bar_options, explain_os_errors
from .containers import AGAIN, Files
from .emotions import CODINGS, EMOTIONS, TAXONOMY
from .faceset import IMAGE_SIZE
from .parquet import columns_of, read_rows
from .sources import CSV_FILES, LABELS_FILE, Faults, Labels, Table, split_of

BLOCK = 1024  # faces read at a time: large enough for numpy, small enough for the processor's cache
DOUBT = "Doubtful: "  # how a note begins that `validation` makes a warning of
_FER2013 = (4953, 547, 5121, 8989, 6077, 4002, 6198)  # images of each class (Goodfellow et al. 2013, arXiv:1307.0414)
_MAX_UNLIKE = 0.1  # share of the labels that would have to be others for the shares to be FER2013's
_SAY = (f"say so in {LABELS_FILE} beside the data, where the name of a coding is enough "
        f"({', '.join(name for name in CODINGS if name != 'FER2013')})")
_MAX_ROW = 1 << 20  # characters of a row in a CSV, a hundred times those of a face
#: What a column of a table of pictures may be called.
_TITLES = {"path": ("path", "image", "image_path", "img_path", "file", "filename", "file_name", "pth", "img"),
           "label": ("label", "labels", "emotion", "expression", "class"), "split": ("split", "usage", "set"),
           "subject": ("subject", "person", "identity")}


@dataclass
class Rows:
    """What the rows of pixel CSVs say but for the pixels: emotion, unique name and split of each, and notes."""

    emotions: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def read_csvs(files: Files, parts: list[tuple[str, str]], labels: Labels, progress: bool,
              append: Callable[[np.ndarray], None]) -> Rows:
    """The rows of CSVs, see `sources.find_csvs`; ``append`` takes their pixels, uint8 (N, 48, 48) at a time.

    A CSV but the first that has no labels is left out.

    Raises
    ------
    FerError
        If a file is damaged or has no labels; names the lines.
    """
    rows, numbers = Rows(), Counter[str]()
    for place, (name, split) in enumerate(parts):
        if place and "emotion" not in header_of(files, name):
            rows.notes += (f"{basename(name)} was left out: it has no column 'emotion', so its images have no labels.",)
        else:
            _read_rows(files, name, split, labels, progress, append, rows, numbers)
    rows.notes += tuple(_mapping_notes(numbers, labels))
    return rows


def _read_rows(files: Files, name: str, default: str, labels: Labels, progress: bool,
               append: Callable[[np.ndarray], None], into: Rows, numbers: Counter[str]) -> None:
    where, header = files.where(name), header_of(files, name)
    columns = {title: position for position, title in enumerate(header)}
    if not header:
        raise FerError(f"{where}: is empty; {AGAIN}")
    if "pixels" not in columns:
        raise FerError(f"{where}: line 1: no column 'pixels'; choose one of {', '.join(CSV_FILES)}")
    if "emotion" not in columns:
        raise FerError(f"{where}: line 1: no column 'emotion', so the images have no labels (Kaggle's test.csv?); "
                       f"choose one of {', '.join(CSV_FILES)}")
    faults, left, row = Faults(f"{where}: "), 0, -1
    texts, lines, stem = list[str](), list[int](), splitext(basename(name))[0]

    def flush() -> None:
        pixels = _parse_pixels(texts, lines, faults)
        if not faults.count:
            append(pixels)
        texts.clear()
        lines.clear()

    with explain_os_errors(where, "reading"), files.open(name) as file:
        rows = csv_rows(file, where)
        next(rows)
        for row, (line, fields) in enumerate(tqdm(rows, f"reading {basename(name)}", unit="row",
                                                  **bar_options(progress))):
            if len(fields) != len(header):
                faults.add(f"line {line}: {len(fields)} columns where the first line has {len(header)}",
                           f"the file is cut short or damaged, {AGAIN}")
                continue
            label = fields[columns["emotion"]].strip()
            if label.isdecimal():
                numbers[label] += 1
            emotion = labels.emotion(label, CODINGS["FER2013"])
            if emotion is None:
                faults.add(f"line {line}: unknown emotion {label[:40]!r}",
                           f"known are {', '.join(TAXONOMY)}{'' if labels.numbered else ', and 0 to 6 for these'}; say "
                           f"in {LABELS_FILE} beside the file what its labels mean, or correct the rows")
            usage = fields[columns["usage"]].strip() if "usage" in columns else ""
            if "usage" in columns and not split_of(usage):
                faults.add(f"line {line}: unknown Usage {usage[:40]!r}",
                           f"known are Training, PublicTest and PrivateTest; correct it or {AGAIN}")
            if emotion:
                into.emotions.append(emotion)
                # Not FER+'s names: those skip images, so its number is not the row of this file.
                into.ids.append(f"{usage or stem}_{row:07d}")
                into.splits.append(split_of(usage) or default)
                texts.append(fields[columns["pixels"]])
                lines.append(line)
            left += emotion == ""
            if len(texts) == BLOCK:
                flush()
    flush()
    faults.check()
    if row < 0:
        raise FerError(f"{where}: holds no rows below the first line; {AGAIN}")
    if left:
        into.notes += (f"{left:,} rows of {basename(name)} were left out, as {labels.where} says.",)


def _mapping_notes(numbers: Counter[str], labels: Labels) -> Iterator[str]:
    """What numbers were taken to mean, and what speaks against it."""
    if not numbers:
        return
    meant = {label: labels.emotion(label, CODINGS["FER2013"]) or "left out" for label in sorted(numbers, key=int)}
    yield (f"Numbered labels were read as {', '.join(f'{label} {name}' for label, name in meant.items())}, "
           + (f"as {labels.where} says." if labels.numbered else f"as FER2013 numbers them; if they mean something "
              f"else, {_SAY}."))
    if labels.numbered:
        return
    total = sum(numbers.values())
    counts = np.array([sum(count for label, count in numbers.items() if int(label) == place) for place in range(7)])
    usual = np.array(_FER2013) / sum(_FER2013)
    if (counts == 0).sum() == 1:
        yield (f"{DOUBT}Of the numbers 0 to 6 all but {counts.argmin()} occur as labels: were the classes numbered "
               f"anew when {EMOTIONS[counts.argmin()]} was left out, the numbers mean others than FER2013's; "
               f"then {_SAY}.")
    # Half the sum of differences of shares; that of a sample differs by chance, too.
    if np.abs(counts / total - usual).sum() / 2 > _MAX_UNLIKE + total**-0.5:
        worst = np.abs(counts / total - usual).argmax()
        yield (f"{DOUBT}The numbers do not occur as often as FER2013's: {worst} ({EMOTIONS[worst]}) makes up "
               f"{counts[worst] / total:.0%} of the labels and {usual[worst]:.0%} of FER2013's; look whether they mean "
               f"the same; if not, {_SAY}.")


def csv_rows(file: BinaryIO, where: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each row that is not blank, divided by what divides the first: commas, tabs or
    semicolons."""
    text, left, place = io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), _MAX_ROW, 0

    def lines() -> Iterator[str]:
        """A file without line ends, or a row that goes on in quotes, must not fill the memory."""
        nonlocal left
        while line := text.readline(left + 1):
            left -= len(line)
            if left < 0:
                raise csv.Error(f"a row of more than {_MAX_ROW:,} characters")
            yield line

    try:
        first = next(rest := lines(), "")
        reader = csv.reader(itertools.chain([first], rest), delimiter=max(",\t;", key=first.count))
        for fields in reader:
            left, place = _MAX_ROW, reader.line_num
            if fields:
                yield place, fields
    except (csv.Error, UnicodeDecodeError) as error:
        raise FerError(f"{where}: after line {place}: not a CSV text file ({error}); {AGAIN}") from error


def _parse_pixels(texts: list[str], lines: list[int], faults: Faults) -> np.ndarray:
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
        # Something is unusual: read row by row, to name the culprits or to accept what is merely odd (tabs, 007).
        value = np.array([_parse_row(text, line, faults) for text, line in zip(texts, lines, strict=True)])
    return value.astype(np.uint8).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)


def _parse_row(text: str, line: int, faults: Faults) -> list[int]:
    """The pixels of a row; zeros where it has a fault."""
    words = text.split()
    odd = next((word for word in words if not re.fullmatch("0*[0-9]{1,3}", word) or int(word) > 255), None)
    if odd is not None:
        faults.add(f"line {line}: pixel {odd[:20]!r} is no whole number from 0 to 255",
                   f"correct the row or {AGAIN}")
    elif len(words) != IMAGE_SIZE**2:
        faults.add(f"line {line}: {len(words)} pixels where 48×48 = 2304 are needed",
                   f"the file is cut short or damaged, {AGAIN}")
    else:
        return [int(word) for word in words]
    return [0] * IMAGE_SIZE**2


def titles_of(header: Iterable[str]) -> dict[str, str]:
    """Which titles of a header are a picture's path, label, split and subject; those that there are."""
    usual = {title.strip().lower(): title for title in header}
    return {role: usual[name] for role, names in _TITLES.items() if (name := next(filter(usual.get, names), ""))}


def read_table(table: Table) -> Iterator[tuple[str, dict[str, str]]]:
    """Place ("line 3") and path, label, and where there are such columns split and subject, of each row of a table of
    pictures.

    Raises
    ------
    FerError
        If it is damaged or has no column of paths or of labels.
    """
    if table.where.lower().endswith(".parquet"):
        titles = _check_titles(table.where, columns_of(table.where, table.open))
        yield from read_rows(table.where, table.open, titles)
        return
    with explain_os_errors(table.where, "reading"), table.open() as file:
        rows = csv_rows(file, table.where)
        header = next(rows, (0, []))[1]
        titles = _check_titles(table.where, header)
        columns = {role: header.index(title) for role, title in titles.items()}
        for line, fields in rows:
            if len(fields) != len(header):
                raise FerError(f"{table.where}: line {line}: {len(fields)} columns where the first line has "
                               f"{len(header)}; correct the row")
            yield f"line {line}", {role: fields[column].strip() for role, column in columns.items()}


def _check_titles(where: str, header: Iterable[str]) -> dict[str, str]:
    titles = titles_of(header)
    if missing := [role for role in ("path", "label") if role not in titles]:
        raise FerError(f"{where}: no column {' and none '.join(missing)}; a table of pictures needs path and "
                       "label, and may have split and subject")
    return titles


def header_of(files: Files, name: str) -> list[str]:
    """The titles of a CSV, in lower case."""
    with explain_os_errors(files.where(name), "reading"), files.open(name) as file:
        return [title.strip().lower() for title in next(csv_rows(file, files.where(name)), (0, []))[1]]
