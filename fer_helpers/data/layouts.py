"""Which pictures a set has, with split, emotion and person of each, in the layouts that the field has made usual.

Opening the files is the business of `containers`, decoding them that of `image_files`.
"""

from __future__ import annotations

import functools
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from posixpath import basename, dirname, normpath, splitext
from typing import BinaryIO, NamedTuple

import numpy as np

from ..files import FerError, explain_os_errors
from .containers import AGAIN, Files
from .emotions import CODINGS, EMOTIONS, TAXONOMY, VOTE_COLUMNS
from .image_files import PICTURES, is_picture
from .parquet import StoredFiles, columns_of, read_rows
from .sources import (
    CSV_FILES,
    LABELS_FILE,
    PIXEL_FILES,
    TABLES,
    Faults,
    Labels,
    Table,
    explain_numbers,
    has_classes,
    kinds_of,
    split_of,
)
from .subjects import NAMES
from .tables import csv_rows, header_of, read_table, titles_of

_MAX_NOTE = 4096  # bytes of a file that holds one label
_CODES = {"AN": "anger", "DI": "disgust", "AF": "fear", "FE": "fear", "HA": "happiness", "NE": "neutral",
          "SA": "sadness", "SU": "surprise"}  # of JAFFE and KDEF
_KNOWN = (f"known are {', '.join(TAXONOMY)}; say in {LABELS_FILE} beside the data which of them each is "
          f"(NAME: {EMOTIONS[0]}), or that it is left out (NAME: null)")


class Picture(NamedTuple):
    """Where a picture lies, its split ("" where the layout names none), emotion and person ("" unknown), FER+'s ten
    votes where the layout has them, and how to open it where it is no file of its own."""

    path: str
    split: str
    emotion: str
    subject: str = ""
    votes: tuple[float, ...] = ()
    open: Callable[[], BinaryIO] | None = None


class Layout(NamedTuple):
    """Pictures by path, notes about what was left out, and what else was read or is told of in the notes."""

    pictures: list[Picture]
    notes: tuple[str, ...] = ()
    used: Iterable[str] = ()


def find_pictures(files: Files, labels: Labels, table: Table | None = None) -> Layout:
    """The pictures of a ``table``, or else of the first layout that knows the files. Split is "train" throughout where
    nothing names one.

    Raises
    ------
    FerError
        If no layout does, or a picture is missing, or its label unknown. Names all of them by kind.
    """
    found = ((recognise(files, labels) for recognise in _RECOGNISERS) if table is None
             else iter([_listed(files, labels, table)]))
    pictures, notes, used = next(layout for layout in found if layout is not None)
    if not pictures:
        raise FerError(f"{files.root}: every picture is left out ({' '.join(notes)}); look at "
                       f"{labels.where or 'what the labels mean'}")
    pictures = sorted(pictures, key=lambda one: one.path)
    return Layout([one._replace(split=one.split or "train") for one in pictures], notes, used)


def find_table(files: Files) -> Table | None:
    """The table of pictures among the files: the one that was chosen as the source, or in a folder without class
    folders ``labels`` at the top, or the only CSV there that has the columns of one."""
    tops = {name.partition("/")[0] for name in files.sizes}
    top = tops.pop() if len(tops) == 1 else ""
    known = [name for name in sorted(files.sizes) if dirname(name) in ("", top) and name.lower().endswith(TABLES)]
    if files.chosen:
        found = [files.chosen]
    elif has_classes(files):
        found = []
    else:
        found = ([name for name in known if splitext(basename(name))[0].lower() == "labels"]
                 or [name for name in known if not name.lower().endswith(TABLES[2]) and _lists_pictures(files, name)])
    if len(found) != 1 or found[0].lower().endswith(TABLES[2]) and _stored(files, found[0]):
        return None
    return Table(files.where(found[0]), "", partial(files.open, found[0]), dirname(found[0]))


def _lists_pictures(files: Files, name: str) -> bool:
    if basename(name).lower() in PIXEL_FILES:
        return False
    try:
        header = header_of(files, name)
    except FerError:  # some other file that is called CSV
        return False
    return {"path", "label"} <= titles_of(header).keys() and "pixels" not in header


def _listed(files: Files, labels: Labels, table: Table) -> Layout:
    """One table for everything."""
    faults, left, pictures = Faults(f"{table.where}: "), Counter[str](), dict[str, Picture]()
    start = files.where(table.folder)
    for place, row in read_table(table):
        given = row["path"].replace("\\", "/")
        path = normpath(f"{table.folder}/{given}" if table.folder else given)
        if given.startswith("/") or path.partition("/")[0] == ".." or re.match("[A-Za-z]:", given):
            faults.add(f"{place}: {given[:80]!r} points outside {start}", "write paths that start in that folder")
        elif path not in files.sizes:
            faults.add(f"{place}: no picture {given[:80]!r}", f"paths start in {start}; correct them, or name the "
                       "folder where they start: --images FOLDER --labels TABLE")
        elif path in pictures:
            faults.add(f"{place}: {given[:80]!r} stands further up", "give each picture one row")
        elif emotion := _emotion(place, row["label"], labels, faults, left):
            pictures[path] = Picture(path, _split(place, row, faults), emotion, row.get("subject", ""))
    faults.check()
    return Layout(list(pictures.values()), _left(left, labels), [table.where.removeprefix(f"{files.root}/")])


def _raf_db(files: Files, labels: Labels) -> Layout | None:
    """``list_patition_label.txt``, or ``partition``, and ``Image/aligned`` or ``Image/original``."""
    lists = [name for name in files.sizes if basename(name) in ("list_patition_label.txt", "list_partition_label.txt")]
    if not lists:
        return None
    faults, left, pictures = Faults(f"{files.where(lists[0])}: "), Counter[str](), []
    paths = {splitext(basename(name))[0]: name for name in sorted(files.sizes) if name.lower().endswith(PICTURES)}
    for number, line in enumerate(_text(files, lists[0], 64 << 20).splitlines(), 1):
        stem, _, label = line.strip().rpartition(" ")
        stem = splitext(stem)[0]
        path = paths.get(f"{stem}_aligned") or paths.get(stem)
        if line.strip() and path is None:
            faults.add(f"line {number}: no picture of {stem[:80]!r} in Image/aligned or Image/original", AGAIN)
        elif path and (emotion := _emotion(f"line {number}", label, labels, faults, left, "RAF-DB")):
            pictures.append(Picture(path, split_of(stem.partition("_")[0]) or "", emotion))
    faults.check()
    return Layout(pictures, _left(left, labels, "RAF-DB"), lists)


def _affectnet(files: Files, labels: Labels) -> Layout | None:
    """``train_set/images/0.jpg`` and ``train_set/annotations/0_exp.npy``, and ``val_set``."""
    found = {name: match for name in files.sizes if (match := re.fullmatch(r"(.*?)annotations/(\d+)_exp\.npy", name))}
    if not found:
        return None
    faults, left, pictures = Faults(f"{files.root}/"), Counter[str](), []
    paths = {splitext(name)[0]: name for name in files.sizes if name.lower().endswith(PICTURES)}
    used = set(found)
    for name, match in found.items():
        path, label = paths.get(f"{match[1]}images/{match[2]}"), ""
        try:
            label = str(int(np.load(io.BytesIO(_read(files, name, _MAX_NOTE)), allow_pickle=False).item()))
        except FerError:
            raise
        except Exception as error:  # numpy raises many types on what is no array of its
            faults.add(f"{name}: is no annotation ({error})", AGAIN)
        if path is None:
            faults.add(f"{name}: no picture images/{match[2]}", AGAIN)
        elif label and (emotion := _emotion(name, label, labels, faults, left, "AffectNet")):
            pictures.append(Picture(path, split_of(basename(match[1].strip("/"))) or "", emotion))
        else:
            used.add(path)
    faults.check()
    return Layout(pictures, _left(left, labels, "AffectNet"), used)


def _ck_plus(files: Files, labels: Labels) -> Layout | None:
    """``cohn-kanade-images/S005/001/S005_001_00000011.png`` and
    ``Emotion/S005/001/S005_001_00000011_emotion.txt``: the last picture of each labelled sequence, its peak."""
    told = {match[1]: name for name in sorted(files.sizes)
            if (match := re.fullmatch(r"(S\d{3}_\d{3})_\d{8}_emotion\.txt", basename(name)))}
    if not told:
        return None
    faults, left, pictures = Faults(f"{files.root}/"), Counter[str](), []
    frames = {name: match[1] for name in sorted(files.sizes)
              if (match := re.fullmatch(r"(S\d{3}_\d{3})_\d{8}\.(png|tiff?|jpe?g)", basename(name)))}
    peaks = {sequence: name for name, sequence in frames.items()}
    for sequence, name in told.items():
        text = _text(files, name, _MAX_NOTE).strip()
        label = text if re.fullmatch(r"[0-9](\.0*(e\+00)?)?", text) else ""
        if not label:
            faults.add(f"{name}: is no label ({text[:20]!r})", AGAIN)
        elif sequence not in peaks:
            faults.add(f"{name}: its sequence {sequence} has no pictures", AGAIN)
        elif emotion := _emotion(name, label[0], labels, faults, left, "CK+"):
            pictures.append(Picture(peaks[sequence], "", emotion, sequence[:4]))
    faults.check()
    unlabelled = len(peaks.keys() - told.keys())
    notes = (f"Of {len(told):,} labelled sequences the last picture was read, of {len(frames):,} pictures in all"
             f"{f'; {unlabelled:,} sequences without a label were left out' if unlabelled else ''}.",)
    return Layout(pictures, notes + _left(left, labels, "CK+"), {*told.values(), *frames})


def _fer_plus(files: Files, labels: Labels) -> Layout | None:
    """``FER2013Train/fer0000000.png`` and ``FER2013Train/label.csv``, also Valid and Test: the most voted emotion."""
    lists = [name for name in sorted(files.sizes)
             if basename(name) == "label.csv" and basename(dirname(name)).lower().startswith("fer2013")]
    if not lists:
        return None
    faults, left, pictures, used = Faults(f"{files.root}/"), Counter[str](), [], set(lists)
    unclear = 0
    for name in lists:
        with explain_os_errors(files.where(name), "reading"), files.open(name) as file:
            for line, fields in csv_rows(file, files.where(name)):
                path, texts = f"{dirname(name)}/{fields[0].strip()}", [text.strip() for text in fields[2:]]
                if len(texts) != len(VOTE_COLUMNS) or not all(re.fullmatch(r"\d{1,3}", text) for text in texts):
                    faults.add(f"{name}: line {line}: no ten votes after name and box", AGAIN)
                elif path not in files.sizes:
                    faults.add(f"{name}: line {line}: no picture {fields[0][:80]!r}", AGAIN)
                else:
                    votes = tuple(map(float, texts))
                    most = [column for column, count in zip(VOTE_COLUMNS, votes, strict=True) if count == max(votes)]
                    clear = len(most) == 1 and most[0] in TAXONOMY
                    unclear += not clear
                    used.add(path)
                    if clear and (emotion := _emotion(f"{name}: line {line}", most[0], labels, faults, left)):
                        split = split_of(basename(dirname(name))[len("fer2013"):]) or ""
                        pictures.append(Picture(path, split, emotion, votes=votes))
    faults.check()
    notes = (f"{unclear:,} images that most called unknown or no face, or two emotions equally often, were left out.",)
    return Layout(pictures, (notes if unclear else ()) + _left(left, labels), used)


def _named(files: Files, labels: Labels) -> Layout | None:
    """JAFFE, ``KA.AN1.39.tiff``, and KDEF, ``AF01/AF01ANS.JPG``, of which only faces seen from the front are read."""
    shown = [name for name in files.sizes if name.lower().endswith(PICTURES)]
    for kind in ("JAFFE", "KDEF"):
        found = {name: match for name in shown if (match := NAMES[kind].fullmatch(basename(name)))}
        if not found or len(found) < len(shown) / 2 or has_classes(files):
            continue
        left, faults = Counter[str](), Faults(f"{files.root}/")  # none: the codes are known
        front = {name: match for name, match in found.items() if kind == "JAFFE" or match["angle"].upper() == "S"}
        pictures = [Picture(name, "", emotion, match[1].upper()) for name, match in front.items()
                    if (emotion := _emotion(name, _CODES[match["code"].upper()], labels, faults, left))]
        notes = (f"{len(found) - len(front):,} images in profile or half profile were left out.",)
        return Layout(pictures, (notes if len(front) < len(found) else ()) + _left(left, labels), found)
    return None


def _hub(files: Files, labels: Labels) -> Layout | None:
    """Parquet files of the Hugging Face Hub, which hold the pictures: ``data/train-00000-of-00001.parquet``."""
    stored = [name for name in ([files.chosen] if files.chosen else sorted(files.sizes))
              if name.lower().endswith(TABLES[2])]
    if not stored or not files.chosen and has_classes(files) or not all(_stored(files, name) for name in stored):
        return None
    pictures, left, held = [], Counter[str](), StoredFiles(files)
    faults = Faults(f"{files.root}/")
    for name in stored:
        titles, stem = titles_of(columns_of(files.where(name), partial(files.open, name))), splitext(basename(name))[0]
        if "label" not in titles:
            faults.add(f"{name}: no column of labels", "call it label or emotion")
            continue
        split = split_of(re.split("[-_.0-9]", stem)[0]) or split_of(basename(dirname(name))) or ""
        image = titles.pop("path")
        for place, row in read_rows(files.where(name), partial(files.open, name), titles):
            if emotion := _emotion(f"{name}: {place}", row["label"], labels, faults, left):
                number = int(place.split()[1]) - 1
                pictures.append(Picture(f"{name}/{stem}_{number:07d}", _split(place, row, faults) or split, emotion,
                                        row.get("subject", ""), open=partial(held.open, name, image, number)))
    faults.check()
    return Layout(pictures, _left(left, labels), stored)


def _class_folders(files: Files, labels: Labels) -> Layout:
    """``train/happy/a.png``, or deeper: ``train/happy/S01/a.png``."""
    place_of = functools.cache(partial(_class_above, labels))
    plan, below, faults = [], [], Faults(f"{files.root}/")
    parents, filled = set[str](), set[str]()
    nameless, left = Counter[str](), Counter[str]()
    for name in sorted(files.sizes):
        folders = name.split("/")[:-1]
        depth, emotion, splits = place_of(dirname(name))
        if not (name.lower().endswith(PICTURES) or emotion and _holds_picture(files, name)):
            continue
        filled.add("/".join(folders[:depth + 1]))
        if emotion:
            plan.append(Picture(name, splits[-1] if splits else "", emotion))
            below.append([folder for folder in folders[depth + 1:] if not split_of(folder)])
            parents.update(() if splits else ["/".join(folders[:depth])])
        elif emotion == "":
            left[folders[depth]] += 1
        elif splits and split_of(folders[-1]):
            faults.add(f"{name}: lies in no class folder", "move it into one, such as train/happiness")
        else:
            nameless["/".join(folders)] += 1
    for folder, count in nameless.items():
        ours = place_of(folder)[2] or dirname(folder) in parents  # no other folder of pictures is our business
        if basename(folder).isdecimal() and (ours or not plan):
            faults.add(*explain_numbers(f"{folder}: the class folder ({count:,} pictures)"))
        elif folder and ours:
            faults.add(f"{folder}: unknown class folder ({count:,} pictures)", _KNOWN)
    faults.check()
    if not plan and not left:
        kinds = f" (it holds {kinds_of(files.sizes)})" if files.sizes else ""
        raise FerError(f"{files.root}: holds no class folders such as train/happiness, no labels.csv and none of "
                       f"{', '.join(CSV_FILES)}{kinds}; choose the folder that does, or {AGAIN}")
    if parents and (len(parents) > 1 or any(one.split for one in plan)):
        raise FerError(f"{files.root}: class folders stand in {', '.join(sorted(parent or '.' for parent in parents))} "
                       "outside train and test; lay them in folders train, val and test")
    if all(len(one) == 1 for one in below) and len({one[0] for one in below}) >= 3:
        plan = [picture._replace(subject=one[0]) for picture, one in zip(plan, below, strict=True)]
    notes = _left(left, labels)
    empty = [folder for folder in files.folders if labels.emotion(basename(folder)) and folder not in filled]
    if empty:
        notes += (f"Class folders without a picture: {', '.join(empty)}.",)
    return Layout(plan, notes)


def _class_above(labels: Labels, folder: str) -> tuple[int, str | None, list[str]]:
    """Depth and emotion of the class that a folder belongs to, and the splits on the way."""
    folders = folder.split("/") if folder else []
    meant = [labels.emotion(name) for name in folders]
    depth = max((place for place, emotion in enumerate(meant) if emotion is not None), default=-1)
    return depth, meant[depth] if meant else None, [split for one in folders if (split := split_of(one))]


_RECOGNISERS: tuple[Callable[[Files, Labels], Layout | None], ...] = (
    _raf_db, _affectnet, _ck_plus, _fer_plus, _named, _hub, _class_folders)


def _emotion(place: str, label: str, labels: Labels, faults: Faults, left: Counter[str], coding: str = "") -> str:
    """The emotion of a label; "" where it is left out, which is counted, or unknown, which is a fault."""
    emotion = labels.emotion(label, CODINGS[coding] if coding else {})
    if emotion == "":
        left[label] += 1
    elif emotion is None and re.fullmatch(r"\d+(\.0+)?", label) and not labels.numbered and not coding:
        faults.add(*explain_numbers(f"{place}: the label {label[:20]}"))
    elif emotion is None:
        faults.add(f"{place}: unknown label {label[:40]!r}", _KNOWN)
    return emotion or ""


def _split(place: str, row: dict[str, str], faults: Faults) -> str:
    split = split_of(row["split"]) if "split" in row else ""
    if split is None:
        faults.add(f"{place}: unknown split {row['split'][:40]!r}", "write train, val or test")
    return split or ""


def _left(left: Counter[str], labels: Labels, coding: str = "") -> tuple[str, ...]:
    return tuple(f"{count:,} images of {label} were left out, as {labels.where or f'the coding of {coding}'} says."
                 for label, count in left.items())


def _stored(files: Files, name: str) -> bool:
    """Whether a Parquet file holds the pictures themselves."""
    columns = columns_of(files.where(name), partial(files.open, name))
    return columns.get(titles_of(columns).get("path", ""), False)


def _holds_picture(files: Files, name: str) -> bool:
    with explain_os_errors(files.where(name), "reading"), files.open(name) as file:
        return is_picture(file.read(32))


def _read(files: Files, name: str, most: int) -> bytes:
    if files.sizes[name] > most:
        raise FerError(f"{files.where(name)}: has {files.sizes[name]:,} bytes, and no such file has more than "
                       f"{most:,}; {AGAIN}")
    with explain_os_errors(files.where(name), "reading"), files.open(name) as file:
        return file.read(most)


def _text(files: Files, name: str, most: int) -> str:
    return _read(files, name, most).decode("utf-8", "replace")
