"""Reads the ten human votes that FER+ has of each image of FER2013, and joins them to images by name or by row."""

from __future__ import annotations

import dataclasses
import re
import sys
from array import array
from posixpath import splitext

import numpy as np
import torch

from ..files import FerError, explain_os_errors
from .emotions import VOTE_COLUMNS
from .faceset import NOT_JOINED, FaceSet
from .sources import VOTES_FILE, Table
from .tables import csv_rows

_MAX_TABLE = 64 << 20  # bytes of a table: of one and a half million images
#: FER2013's labels are what most voted for on 63% of images, by chance on 18%: of 500 together 26 deviations more.
_TOGETHER, _DEVIATIONS = 500, 4


def join_votes(faces: FaceSet, table: Table, by_row: bool, required: bool) -> FaceSet:
    """``faces`` with the votes of a FER+ table; a note counts them, or says why none were joined.

    Parameters
    ----------
    by_row : the images are rows of CSVs, whose numbers count all rows of a file.
    required : it is a `FerError` if none belong to these images.

    Raises
    ------
    FerError
        If the table is damaged. Names the line.
    """
    usages, names, votes = _read_votes(table)
    rows, reason = _vote_rows(faces, np.array(usages, str), names, votes, by_row)
    matched = rows >= 0
    if not matched.any():
        reason = f"{table.where}: its {len(votes):,} votes do not belong to these {len(faces):,} images ({reason})"
        if required:
            raise FerError(f"{reason}; choose the table of this data or leave out votes=")
        return dataclasses.replace(faces, notes=(*faces.notes, f"{reason}, {NOT_JOINED}"))
    known_votes = torch.from_numpy(np.where(matched[:, None], votes[rows], np.float32("nan")))
    note = f"FER+ votes were joined to {matched.sum():,} of {len(faces):,} images"
    return dataclasses.replace(faces, votes=known_votes, notes=(
        *faces.notes, f"{note}{f', not to the others ({reason})' if reason else ''}."))


def _read_votes(table: Table) -> tuple[list[str], list[str], np.ndarray]:
    """Usage, image name and float32 (M, 10) votes of each row."""
    with explain_os_errors(table.where, "reading"), table.open() as file:
        rows = csv_rows(file, table.where)
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


def _vote_rows(faces: FaceSet, usages: np.ndarray, names: list[str], votes: np.ndarray, by_row: bool
               ) -> tuple[np.ndarray, str]:
    """Of each image its row among the votes, -1 where it has none, and why.

    FER+ names images as it does (fer0000000.png). Kaggle's pictures (Training_123.jpg) and images of a CSV here have
    numbers, which are rows of the table, or of its part for train or test, only where the labels bear it out.
    """
    rows, position = np.full(len(faces), -1), {splitext(name)[0]: row for row, name in enumerate(names) if name}
    if not by_row and (named := np.array([position.get(name, -1) for name in faces.ids])).max() >= 0:
        return named, ""
    found = [match for name in faces.ids if (match := re.fullmatch(r"(?:([A-Za-z]+)_)?0*(\d{1,7})", name))]
    if len(found) < len(faces):
        return rows, "other names"
    number, file = np.array([int(match[2]) for match in found]), np.array([match[1] or "" for match in found])
    if by_row:
        file[np.isin(file, usages)] = ""  # rows of several usages in one file
    training, emotions = usages == "Training", np.array([VOTE_COLUMNS.index(name) for name in faces.classes])
    parts = [np.flatnonzero(part) for part in (
        np.full(len(usages), True), training, ~training, usages == "PublicTest", usages == "PrivateTest")]
    reasons = []
    for one in np.unique(file):
        mine = np.flatnonzero(file == one)
        count = number[mine].max() + 1
        fitting = [part[number[mine]] for part in parts if count == len(part) or count < len(part) and not by_row]
        labels = emotions[faces.labels.numpy()[mine]]
        wanted = next((part for part in fitting if _bear_out(labels, votes[part].argmax(1), part)), None)
        if wanted is not None:
            rows[mine] = wanted
        elif fitting:
            reasons.append("by number, most votes are for the labels no more often than by chance")
        else:
            reasons.append(f"no part of it, such as the {training.sum():,} for Training, has {count:,} rows" if by_row
                           else "the numbers in their names are not rows of fer2013.csv")
    return rows, ", ".join(dict.fromkeys(reasons))


def _bear_out(labels: np.ndarray, voted: np.ndarray, rows: np.ndarray) -> bool:
    """Whether labels are what was voted far more often than by chance, everywhere: a missing row shifts those below."""
    for part in np.array_split(np.argsort(rows), max(1, len(rows) // _TOGETHER)):
        shares = [np.bincount(one[part], minlength=len(VOTE_COLUMNS)) / len(part) for one in (labels, voted)]
        chance = shares[0] @ shares[1]
        excess = (labels[part] == voted[part]).mean() - chance
        if excess <= _DEVIATIONS * (chance * (1 - chance) / len(part)) ** 0.5:
            return False
    return True
