"""Whose face an image shows, where the data set's file names tell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from posixpath import basename

import numpy as np

#: Names of one data set each, without folder; the first group is the person.
_PATTERNS = {
    "CK+": r"(S\d{3})_\d{3}_\d{8}",  # S005_001_00000011: subject, sequence, frame
    "JAFFE": r"([A-Z]{2})[.-](?P<code>AN|DI|FE|HA|NE|SA|SU)\d[.-]\d+",  # KA.AN1.39: initials, expression, number
    # AF01ANS: session, person, expression, angle
    "KDEF": r"[AB]([FM]\d\d)(?P<code>AF|AN|DI|HA|NE|SA|SU)(?P<angle>S|HL|HR|FL|FR)",
}
#: The same, compiled, by data set.
NAMES = {known: re.compile(rf"{pattern}(?:\.[a-z]{{3,4}})?", re.IGNORECASE) for known, pattern in _PATTERNS.items()}


def subjects_of(names: Iterable[str]) -> np.ndarray | None:
    """str array (N,), the person in each image, or None unless all names follow the pattern of one data set."""
    names = list(names)
    for pattern in NAMES.values() if names else ():
        people = []
        for name in names:
            if not (match := pattern.fullmatch(basename(name))):
                break
            people.append(match[1].upper())
        else:
            return np.array(people)
    return None
