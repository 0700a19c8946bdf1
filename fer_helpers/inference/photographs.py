"""An answer for a photograph, a folder of them or a film: find the faces, ask a network, draw what it said."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from ..data.containers import is_litter
from ..data.image_files import PICTURES, read_photograph
from ..files import FerError, check_file, digest, needs_extra, refuse_address, write_atomic
from ..viz.style import COLORS, INK, STYLE
from .detection import DetectedFace, find_faces, seems_cropped, whole_picture
from .films import ANIMATIONS, FILMS, Tracker, animation_frames, film_frames
from .pretrained import Pretrained, answers, load_pretrained

#: How the files of `save_annotated` end that `Drawings` names, and the text in them that says what they show.
SUFFIX, _SHOWS = ".fer.png", "fer_helpers"
#: What goes with every answer.
MEANING = ("The answer is what people would call this expression in a photograph; it does not say what anybody feels, "
           "and must not be used to judge people.")


@dataclass(frozen=True, eq=False)
class FacePrediction:
    """What a network says of one face.

    Attributes
    ----------
    face : where it is, and the crop that the network saw.
    probs : calibrated probability of each emotion; they add up to 1.
    sure : whether ``confidence`` reaches the network's threshold, see `calibration.calibrate`.
    votes : share of votes that people would give to each emotion; None of a network that did not learn them.
    """

    face: DetectedFace
    probs: dict[str, float]
    sure: bool
    votes: dict[str, float] | None = None

    @property
    def emotion(self) -> str:
        """The most probable, sure or not."""
        return max(self.probs, key=self.probs.__getitem__)

    @property
    def confidence(self) -> float:
        """The probability of `emotion`."""
        return max(self.probs.values())

    @property
    def answer(self) -> str:
        """The emotion, or "unsure"."""
        return self.emotion if self.sure else "unsure"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the box in pixels, left, top, right, bottom."""
        score = None if np.isnan(self.face.score) else round(self.face.score, 4)
        told = {"box": [round(value, 1) for value in self.face.box], "detection_score": score, "answer": self.answer,
                "most_probable": self.emotion, "confidence": round(self.confidence, 4),
                "probabilities": {name: round(value, 4) for name, value in self.probs.items()}}
        if self.votes is not None:
            told["votes"] = {name: round(value, 4) for name, value in self.votes.items()}
        return told


@functools.cache
def _shipped() -> Pretrained:
    return load_pretrained()


def predict(photograph: np.ndarray | Path | str, network: Pretrained | None = None,
            detector: str = "auto", cropped: bool = False) -> list[FacePrediction]:
    """The emotions that a network sees in the faces of a photograph, largest face first; none found is an empty list.

    It says what people would call an expression, not what anybody feels.

    Parameters
    ----------
    photograph : a picture file, or uint8 (H, W, 3) RGB or (H, W) grey.
    network : from `loading.load_network`; None takes the small one that ships (seven emotions).
    detector : see `detection.find_faces`.
    cropped : the picture is a face already, see `detection.whole_picture`; no detector is needed then.

    Raises
    ------
    FerError
        If the picture cannot be read, or the detector is unknown or not installed.
    """
    if isinstance(photograph, (str, Path)):
        photograph = read_photograph(photograph)
    found, network = [whole_picture(photograph)] if cropped else find_faces(photograph, detector), network or _shipped()
    if not found:
        return []
    probs, votes = answers(network, torch.stack([face.crop for face in found]))
    named = functools.partial(zip, network.config.class_names, strict=True)
    return [FacePrediction(face, dict(named(row.tolist())), bool(row.max() >= network.calibration.threshold),
                           None if votes is None else dict(named(votes[number].tolist())))
            for number, (face, row) in enumerate(zip(found, probs, strict=True))]


def ten_people(shares: dict[str, float]) -> dict[str, int]:
    """How ten people would vote, most votes first: what the shares come to, rounded by largest remainder; nobody's
    emotions are left out."""
    votes = {name: int(10 * share) for name, share in shares.items()}
    short = 10 - sum(votes.values())
    for name in sorted(shares, key=lambda name: votes[name] - 10 * shares[name])[:short]:
        votes[name] += 1
    return {name: count for name, count in sorted(votes.items(), key=lambda vote: -vote[1]) if count}


def find_pictures(paths: Iterable[Path | str]) -> list[Path]:
    """Files as they are; of a folder every picture and film in it and below, in order of name, but for litter and
    the drawings that `Drawings` put there.

    Raises
    ------
    FerError
        If a path does not exist, or a folder holds none.
    """
    files = []
    for path in map(Path, paths):
        refuse_address(path)
        if os.path.isdir(path):  # unlike Path.is_dir, also of a name that no disk could hold
            own = sorted(inside for inside in path.rglob("*") if inside.suffix.lower() in PICTURES + FILMS
                         and not any(map(is_litter, inside.relative_to(path).parts))
                         and not (inside.name.endswith(SUFFIX) and _shown(inside)))
            if not own:
                raise FerError(f"{path}: holds no picture ({', '.join(PICTURES)}) and no film ({', '.join(FILMS)})")
            files += own
        elif os.path.exists(path):
            files.append(path)
        else:
            raise FerError(f"{path}: does not exist; give a picture, a film or a folder")
    return list(dict.fromkeys(files))


class Drawings:
    """Names of annotated pictures below ``out``, which lie there as the photographs do below what was ``given``, or
    below the folder that all of it lies in: ``a/x.jpg`` becomes ``a/x.jpg.fer.png``, a frame of a film
    ``film.mp4-00012.500s.fer.png``. A drawing takes the place of an older one of the same photograph, of nothing else.
    """

    def __init__(self, out: Path, given: Iterable[Path], files: Iterable[Path]) -> None:
        self.out, self.inputs, self.named = out, {os.path.abspath(file) for file in files}, set[str]()
        self.root = os.path.commonpath([os.path.abspath(path if os.path.isdir(path) else path.parent)
                                        for path in given])

    def save(self, path: Path, seconds: float | None, photograph: np.ndarray, predictions: Sequence[FacePrediction],
             attribution: Pretrained | None = None) -> Path:
        """`save_annotated` for a photograph, or a frame of a film; where it is."""
        place, when = os.path.abspath(path), "" if seconds is None else f"-{seconds:09.3f}s"
        shows = digest(os.fsencode(place), when)
        for number in itertools.count(1):
            name = f"{os.path.relpath(place, self.root)}{when}{'' if number == 1 else f'-{number}'}{SUFFIX}"
            target = self.out / name
            if os.path.abspath(target) not in self.inputs | self.named and (
                    not os.path.lexists(target) or _shown(target) == shows):
                break
        self.named.add(os.path.abspath(target))
        save_annotated(target, photograph, predictions, attribution, shows)
        return target


def _shown(path: Path) -> str:
    """What a file of `save_annotated` says that it shows; "" for any other."""
    try:
        with Image.open(check_file(path)) as image:
            return str(image.info.get(_SHOWS, ""))
    except Exception:  # whatever else it is
        return ""


def frames(path: Path, every_seconds: float = 1.0) -> Iterator[tuple[float | None, np.ndarray]]:
    """(None, picture) of a picture file; of a film, or of a GIF or WebP that moves, (seconds, picture) every so often,
    see `films.film_frames`. Pictures are uint8 (H, W, 3) RGB.

    Raises
    ------
    FerError
        If the file cannot be read, or is a film and the "photo" extra is not installed.
    """
    if path.suffix.lower() in FILMS:
        yield from film_frames(path, every_seconds)
        return
    moving = animation_frames(path, every_seconds) if path.suffix.lower() in ANIMATIONS else iter(())
    if (first := next(moving, None)) is None:
        yield None, read_photograph(path)
    else:
        yield from itertools.chain([first], moving)


# Of one picture: seconds into a film, None of a photograph; its faces for JSON; whether it seems to be a face already.
Look = tuple[float | None, list[dict[str, Any]], bool]


def looks(path: Path, network: Pretrained, detector: str = "auto", cropped: bool = False, every_seconds: float = 1.0,
          drawings: Drawings | None = None, attribution: bool = False) -> Iterator[Look]:
    """`predict` for a picture file, or for frames of a film, see `frames`; ``drawings`` keeps an annotated picture.

    Faces are those of `FacePrediction.to_dict`, in a film with "track", the number of a face from one look to the next.

    Raises
    ------
    FerError
        As `frames` and `predict`.
    """
    tracker = Tracker()
    for seconds, picture in frames(path, every_seconds):
        found = predict(picture, network, detector, cropped)
        tracks: list[dict[str, int]] = [{}] * len(found) if seconds is None else [
            {"track": number} for number in tracker.track([one.face.box for one in found])]
        yield (seconds, [one.to_dict() | track for one, track in zip(found, tracks, strict=True)],
               not found and seems_cropped(picture))
        if drawings:
            drawings.save(path, seconds, picture, found, network if attribution else None)


def looks_in_turn(files: Sequence[Path], jobs: int, *options: Any) -> Iterator[tuple[Path, Iterable[Look], str]]:
    """Each file with its `looks`, and what is wrong with it; in order, from so many processes at a time."""
    if jobs == 1:  # a long film is told of while it lasts
        yield from ((path, looks(path, *options), "") for path in files)
    else:
        threads = max(1, (os.cpu_count() or 1) // jobs)
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
            yield from pool.map(functools.partial(_all_looks, options=options), files)


def _all_looks(path: Path, options: Sequence[Any]) -> tuple[Path, list[Look], str]:
    found: list[Look] = []
    try:
        found.extend(looks(path, *options))  # those before an error stay
    except FerError as error:
        return path, found, str(error)
    return path, found, ""


def annotate(photograph: np.ndarray, predictions: Sequence[FacePrediction],
             attribution: Pretrained | None = None) -> Figure:
    """The photograph with its faces numbered and framed, and of each the crop that was judged and its probabilities.

    ``attribution`` is the network that answered: what spoke for each answer (occlusion, `attribution.attribute`) is
    then laid over the crop, orange for, blue against.
    """
    if attribution is not None:
        with needs_extra("lab"):
            from ..analysis.attribution import attribute
    shown = list(predictions)[:6]
    height = 5.2 * min(photograph.shape[0] / photograph.shape[1], 1.2)
    rows = max(len(shown), round(height / 1.5), 1)  # a row is about 1.5 inches high, however few faces there are
    figure = Figure(figsize=(9, max(height, 1.5 * rows) + 0.4), layout="constrained")
    grid = figure.add_gridspec(rows, 3, width_ratios=[3.6, 0.9, 1.2])
    picture = figure.add_subplot(grid[:, 0])
    picture.imshow(photograph, cmap="gray", vmin=0, vmax=255)
    picture.set_axis_off()
    picture.set_anchor("NW")
    picture.set_title(f"{len(predictions)} {'face' if len(predictions) == 1 else 'faces'} found"
                      + (f", the {len(shown)} largest shown" if len(predictions) > len(shown) else ""))
    for number, one in enumerate(shown, 1):
        left, top, right, bottom = one.face.box
        color = COLORS[one.emotion] if one.sure else INK
        picture.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, lw=2, edgecolor=color))
        picture.text(left, top, f" {number} {one.answer} ", va="bottom", fontsize=8, color="white", clip_on=True,
                     bbox={"facecolor": color, "edgecolor": "none", "pad": 1})
        crop = figure.add_subplot(grid[number - 1, 1])
        crop.imshow(one.face.crop, cmap="gray", vmin=0, vmax=255)
        if attribution is not None:
            target = torch.tensor([list(one.probs).index(one.emotion)])
            heat = attribute(attribution.model, one.face.crop[None], target, "occlusion")[0]
            limit = max(float(heat.abs().max()), 1e-9)
            crop.imshow(heat, cmap="PuOr_r", vmin=-limit, vmax=limit, alpha=0.5)
        crop.set_axis_off()
        crop.set_title(str(number), fontsize=8)
        bars = figure.add_subplot(grid[number - 1, 2])
        bars.barh(list(one.probs), list(one.probs.values()), color=[COLORS[name] for name in one.probs])
        bars.set(xlim=(0, 1), xticks=[])
        bars.tick_params(labelsize=7)
        bars.invert_yaxis()
        bars.set_title(f"{one.answer}, {one.confidence:.0%}" if one.sure else
                       f"unsure ({one.emotion} {one.confidence:.0%})", fontsize=8)
    figure.supxlabel(MEANING, fontsize=7, x=0.01, ha="left")
    return figure


def save_annotated(target: Path, photograph: np.ndarray, predictions: Sequence[FacePrediction],
                   attribution: Pretrained | None = None, shows: str = "") -> None:
    """`annotate` as a PNG; ``shows``, if any, is kept in it."""
    with matplotlib.rc_context(STYLE):
        figure = annotate(photograph, predictions, attribution)
        write_atomic(target, lambda path: figure.savefig(path, dpi=150, bbox_inches="tight", metadata={_SHOWS: shows}))
