"""Taxonomies: the emotion classes, their names in the wild, their action units, the FER+ vote columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..files import FerError

#: FER2013's own order, so that its integer labels 0..6 index this tuple.
EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")

#: Every class that data may have: those of `EMOTIONS`, and contempt, which CK+, AffectNet and FER+ know.
TAXONOMY = (*EMOTIONS, "contempt")

#: Class settings by number of classes. Each keeps the order of `TAXONOMY`.
CLASS_SETS: dict[int, tuple[str, ...]] = {
    3: ("anger", "fear", "happiness"),
    6: ("anger", "fear", "happiness", "sadness", "surprise", "neutral"),
    7: EMOTIONS,
    8: TAXONOMY,
}

#: Columns of the FER+ vote table (Barsoum et al. 2016, arXiv:1608.01041), in its file's order.
VOTE_COLUMNS = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)

#: What numbers mean as labels, by the data set that numbers its classes so; "" is no emotion, to be left out.
CODINGS: dict[str, dict[str, str]] = {
    "FER2013": {str(number): name for number, name in enumerate(EMOTIONS)},
    "RAF-DB": {str(number): name for number, name in enumerate(
        ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"), 1)},
    "AffectNet": {str(number): name for number, name in enumerate(
        ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt", "", "", ""))},
    "CK+": {str(number): name for number, name in enumerate(
        ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"))},
}

#: Face regions with a ground-truth mask on synthetic faces, in the order of the bits of `faceset.FaceSet.regions`.
REGIONS = ("brows", "eyes", "nose", "mouth")

_SYNONYMS = {
    "anger": ("angry",),
    "disgust": ("disgusted",),
    "fear": ("fearful", "scared", "afraid"),
    "happiness": ("happy", "joy"),
    "sadness": ("sad",),
    "surprise": ("surprised", "suprise", "suprised"),  # the spelling of apollo2506's Kaggle folders
    "neutral": ("neutrality",),
    "contempt": ("contemptuous",),
}
_AROUND = re.compile("^[0-9]+[-_. ]+|[-_ ]+(faces?|images?|pictures?|photos?)$")  # what folders add to a name
_CANONICAL = {alias: name for name, aliases in _SYNONYMS.items() for alias in (name, *aliases)}

#: Facial action units drawn by `rendering` (Ekman & Friesen 1978), with what each does to a face.
ACTION_UNITS: dict[int, str] = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    12: "lip corner puller",
    15: "lip corner depressor",
    16: "lower lip depressor",
    20: "lip stretcher",
    23: "lip tightener",
    26: "jaw drop",
}

#: EMFACS prototypes (Friesen & Ekman 1983): the action units of each emotion at full expression.
PROTOTYPES: dict[str, tuple[int, ...]] = {
    "anger": (4, 5, 7, 23),
    "disgust": (9, 15, 16),
    "fear": (1, 2, 4, 5, 20, 26),
    "happiness": (6, 12),
    "sadness": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
    "neutral": (),
}


def canonical(name: str) -> str | None:
    """Emotion named by ``name`` in any case or usual spelling, or None: ``canonical("Suprise") == "surprise"``, and
    so does ``"5_Surprised faces"``."""
    return _CANONICAL.get(_AROUND.sub("", name.strip().lower()))


def coding_of(name: str) -> dict[str, str] | None:
    """The coding in `CODINGS` of that name, in any case, with dashes or without, or None."""
    plain = {re.sub("[-_ ]", "", known.lower()): coding for known, coding in CODINGS.items()}
    return plain.get(re.sub("[-_ ]", "", name.lower()))


def explain_codings() -> str:
    """The known codings, as messages list them: ``"FER2013 (0 anger, 1 disgust, …), RAF-DB (…)"``."""
    return ", ".join(f"{known} ({', '.join(f'{number} {name}' for number, name in coding.items() if name)})"
                     for known, coding in CODINGS.items())


def adjective(emotion: str) -> str:
    """What a face of that emotion is called: ``adjective("fear") == "fearful"``."""
    return next(iter(_SYNONYMS[emotion])) if emotion != "neutral" else emotion


def class_set(classes: int | str | Sequence[str], present: Sequence[str] = ()) -> tuple[str, ...]:
    """Class names of a setting, in the order of `TAXONOMY`.

    Parameters
    ----------
    classes : a key of `CLASS_SETS`, as a number or its digits; two or more names, in a sequence or joined by "+" or
        ","; or "data", the classes ``present``.

    Raises
    ------
    FerError
        For any other value.
    """
    if not isinstance(classes, (str, int)):
        parts = [str(name) for name in classes] if isinstance(classes, Sequence) else []
    elif (known := str(classes)).isdecimal() and int(known) in CLASS_SETS:
        return CLASS_SETS[int(known)]
    else:
        parts = re.split("[+,]", known)
    names = list(present) if classes == "data" else [canonical(part) for part in parts]
    if len(names) < 2 or None in names or len(set(names)) < len(names):
        raise FerError(f"classes={classes!r} is not a class setting; choose one of {', '.join(map(str, CLASS_SETS))}, "
                       f"two or more of {', '.join(TAXONOMY)} as in anger+fear, or data for all that the data has")
    return tuple(name for name in TAXONOMY if name in names)


def class_setting(names: Sequence[str]) -> int | str:
    """The shortest setting that `class_set` turns into these names: a key of `CLASS_SETS`, or the names joined by "+".
    """
    return next((count for count, known in CLASS_SETS.items() if known == tuple(names)), "+".join(names))


def action_unit_vector(active: Iterable[int]) -> tuple[float, ...]:
    """0/1 intensity per entry of `ACTION_UNITS`, 1 for the units in ``active``."""
    wanted = set(active)
    return tuple(float(unit in wanted) for unit in ACTION_UNITS)
