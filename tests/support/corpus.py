"""Writes tiny datasets to disk in every layout that `readers` knows."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from fer_helpers.data.emotions import EMOTIONS, VOTE_COLUMNS


def faces_of(count: int, seed: int = 0) -> np.ndarray:
    """uint8 (count, 48, 48) of noise: no two alike."""
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 48), dtype=np.uint8)


def png(image: np.ndarray | Image.Image, format: str = "PNG", **options) -> bytes:
    """The bytes of a picture file."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format, **options)
    return file.getvalue()


def write_tree(root: Path, folders: Iterable[str] = ("train/angry", "train/happy", "test/angry", "test/happy"),
               count: int = 2) -> Path:
    """``count`` PNGs in each folder, named fer0000000.png and on."""
    for place, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for number, image in enumerate(faces_of(count, seed=place)):
            (root / folder / f"fer{place * count + number:07d}.png").write_bytes(png(image))
    return root


def csv_text(images: np.ndarray, labels: Iterable[object], usages: Iterable[str] | None = None,
             header: tuple[str, ...] = ("emotion", "pixels", "Usage")) -> str:
    """fer2013.csv for ``images``; without ``usages`` the two columns of Kaggle's train.csv."""
    columns = [labels, [" ".join(map(str, image.ravel())) for image in images], *([usages] if usages else [])]
    rows = zip(*columns, strict=True)
    return "\n".join([",".join(header[:len(columns)]), *(",".join(map(str, row)) for row in rows), ""])


def votes_text(names: Iterable[str], usages: Iterable[str] | None = None, votes: np.ndarray | None = None) -> str:
    """fer2013new.csv with ten votes for the first column, or with ``votes`` (N, 10)."""
    names = list(names)
    votes = np.eye(len(VOTE_COLUMNS), dtype=int)[np.zeros(len(names), int)] * 10 if votes is None else votes
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["Usage", "Image name", *VOTE_COLUMNS])
    for name, usage, row in zip(names, usages or ["Training"] * len(names), votes, strict=True):
        writer.writerow([usage, name, *row])
    return file.getvalue()


def write_zip(path: Path, members: dict[str, bytes | str] | Path, top: str = "") -> Path:
    """Pack ``members``, or the files of a folder, below ``top`` in the archive."""
    if isinstance(members, Path):
        members = {file.relative_to(members).as_posix(): file.read_bytes()
                   for file in sorted(members.rglob("*")) if file.is_file()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(top + name, data)
    return path


LABELS = list(range(7)) * 2
USAGES = ["Training"] * 7 + ["PublicTest"] * 4 + ["PrivateTest"] * 3
NAMES = [EMOTIONS[label] for label in LABELS]
