"""Settings as people give them, on a command line, in a plan or to papermill: read, checked, and explained.

`config` says what each may be.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable
from typing import Any

from ..data.emotions import canonical
from ..files import FerError
from .config import DEFAULT_LR, KINDS, RANGES, TrainConfig, convert, read_setting


def explain_settings() -> list[str]:
    """A line for each field of `TrainConfig`: name, default, range, and what its docstring says of it."""
    meanings = dict(re.findall(r"^(\w+) : (.*(?:\n .*)*)", inspect.getdoc(TrainConfig) or "", re.MULTILINE))
    lines = []
    for field in dataclasses.fields(TrainConfig):
        between = "; {:.10g} to {:.10g}".format(*RANGES[field.name]) if field.name in RANGES else ""
        meaning = " ".join(meanings.get(field.name, "").split()).replace("`", "")
        lines.append(f"{field.name}={field.default}{between}: {meaning}")
    return [*lines, "DEFAULT_LR: " + ", ".join(f"{name} {rate:g}" for name, rate in DEFAULT_LR.items())]


def read_settings(pairs: Iterable[str]) -> dict[str, list[Any]]:
    """KEY=V1,V2 pairs as lists of values, by name: settings as `config.read_setting` reads them, all else as
    `config.read_value` does; a list or mapping in brackets is one value.

    Raises
    ------
    FerError
        If a pair is none, or a name stands there twice.
    """
    settings: dict[str, list[Any]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise FerError(f"{pair!r} is not a setting; write KEY=VALUE, as in epochs=10")
        if key in settings:
            raise FerError(f"{key} is given twice; leave one of them out")
        parts = [text] if text[:1] in ("[", "{") else text.split(",")
        if key == "classes" and len(parts) > 1 and all(map(canonical, parts)):
            parts = ["+".join(parts)]  # the names of one setting, not settings of one class each
        settings[key] = [read_setting(key, part) for part in parts]
    return settings


def notebook_parameters(cells: dict[str, Any], **kinds: type | str | list[str]) -> None:
    """Make a notebook's parameters, which papermill's ``-p`` gives as text or numbers, what they mean, in place.

    Those that are settings of `TrainConfig` by their names need no mention. Called in the cell after ``parameters``:
    ``notebook_parameters(globals(), record=bool, archs=["arch"])``.

    Parameters
    ----------
    cells : the notebook's ``globals()``.
    kinds : of the other parameters: a type; the name of the setting that it stands for; or that in a list, for a list
        of its values. ``settings``, a mapping, is known.

    Raises
    ------
    FerError
        If a value means nothing of its kind.
    """
    for name, kind in {**{name: name for name in KINDS}, "settings": dict, **kinds}.items():
        if name not in cells:
            continue
        value = cells[name]
        if isinstance(kind, str):
            cells[name] = read_setting(kind, value)
            continue
        wanted = list if isinstance(kind, list) else kind
        found = convert(value, wanted)
        fits = isinstance(found, wanted) and (wanted is bool or not isinstance(found, bool))
        if not fits:
            raise FerError(f"{name}={value!r} must be {_WANTED[wanted][0]}; give it to papermill as "
                           f"-y '{{{name}: {_WANTED[wanted][1]}}}'")
        cells[name] = [read_setting(kind[0], one) for one in found] if isinstance(kind, list) else found


_WANTED = {bool: ("true or false", "true"), int: ("a whole number", "1"), float: ("a number", "0.5"),
           str: ("a text", "a text"), list: ("a list", "[a, b]"), dict: ("a mapping", "{lr: 1e-3}")}
