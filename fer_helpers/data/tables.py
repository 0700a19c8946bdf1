"""Reads tables: faces as a CSV of pixels, and the votes of FER+."""

from __future__ import annotations

import csv
import io
import re
import sys
from array import array
from collections.abc import Callable, Iterator
from posixpath import basename, splitext
from typing import BinaryIO

import numpy as np
from tqdm.auto import tqdm

from ..files import FerError, bar_options, explain_os_errors
from .emotions import EMOTIONS, VOTE_COLUMNS, canonical
from .faceset import IMAGE_SIZE
from .sources import AGAIN, CSV_FILES, VOTES_FILE, Files, Table, split_of

BLOCK = 1024  # faces read at a time: large enough for numpy, small enough for the processor's cache
_MAX_ROW = 1 << 20  # characters of a row in a CSV, a hundred times those of a face
_MAX_TABLE = 64 << 20  # bytes of a table of votes: of one and a half million images


def read_csv(files: Files, name: str, progress: bool, append: Callable[[np.ndarray], None]
             ) -> tuple[list[str], list[str], list[str]]:
    """Emotion, id and split of every row; ``append`` takes the pixels, uint8 (N, 48, 48) at a time.

    Raises
    ------
    FerError
        If the file is damaged or has no labels; names the line.
    """
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
            if len(texts) == BLOCK:
                append(_parse_pixels(texts, lines, where))
                texts, lines = [], []
        append(_parse_pixels(texts, lines, where))
    if not labels:
        raise FerError(f"{where}: holds no rows below the first line; {AGAIN}")
    # Not FER+'s names: those skip images, so its number is not the row of this file.
    stem = splitext(basename(name))[0]
    ids = [f"{usage or stem}_{row:07d}" for row, usage in enumerate(usages)]
    return labels, ids, [split_of(usage) or "train" for usage in usages]


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


def read_votes(table: Table) -> tuple[list[str], list[str], np.ndarray]:
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
