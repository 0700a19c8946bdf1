"""How many faces `fer predict` finds, by the size of the face and of the photograph it stands in.

    python benchmarks/detection.py                    # the one portrait that scikit-image brings
    python benchmarks/detection.py --data fer2013     # test images of a data set

Twelve faces are laid on a grid over a picture without any (scikit-image's coffee cup, enlarged). A face counts as found
where the centre of a found box lies in its picture; what is found elsewhere is false. Time is in units
of the smallest picture's, in the same run.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from PIL import Image
from skimage import data as pictures

from fer_helpers.data.readers import load_faces
from fer_helpers.inference.detection import find_faces

#: Left, top, right, bottom of the face in the portrait, and of the head that is pasted with it.
FACE, HEAD = (174, 64, 275, 204), (120, 0, 330, 260)
SIZES, SIDES = (20, 30, 40, 60, 100, 200), (800, 1600, 3000, 6000)


def portraits(data: str, count: int = 12) -> list[tuple[Image.Image, float]]:
    """Pictures with a face each, and the face's share of the picture's width."""
    if not data:
        return [(Image.fromarray(pictures.astronaut()).crop(HEAD), (FACE[2] - FACE[0]) / (HEAD[2] - HEAD[0]))] * count
    faces = load_faces(data).only("test")
    rows = np.random.default_rng(0).permutation(len(faces))[:count]
    return [(Image.fromarray(image).convert("RGB"), 0.75) for image in faces.images[rows].numpy()]


def photograph(heads: list[tuple[Image.Image, float]], size: int, side: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture ``side`` wide with ``heads`` on it, their faces ``size`` wide, and the boxes of the pasted heads."""
    picture = Image.fromarray(pictures.coffee()).resize((side, side * 2 // 3))
    boxes = []
    for number, (head, share) in enumerate(heads):
        width = round(size / share)
        small = head.resize((width, round(width * head.height / head.width)))
        centre = (number % 4 + 0.5) * side / 4, (number // 4 + 0.5) * side * 2 / 9
        left, top = (round(place - width / 2) for place in centre)
        picture.paste(small, (left, top))
        boxes.append(np.array([left, top, left + small.width, top + small.height]))
    return np.asarray(picture), boxes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="", help="folder, CSV or zip of faces; the portrait without it")
    heads = portraits(parser.parse_args().data)
    find_faces(pictures.astronaut())  # what is loaded once is not timed
    rows = []
    for side in SIDES:
        for size in SIZES:
            if size * 6 > side:
                continue
            picture, boxes = photograph(heads, size, side)
            start = time.perf_counter()
            found = [face.box for face in find_faces(picture)]
            seconds = time.perf_counter() - start
            centres = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in found]
            hits = [any(left < x < right and top < y < bottom for x, y in centres)
                    for left, top, right, bottom in boxes]
            rows.append((side, size, np.mean(hits), len(centres) - sum(hits), seconds))
    table = pd.DataFrame(rows, columns=["picture", "face", "found", "false", "time"])
    table["time"] /= table["time"].min()
    print(table.pivot(index="face", columns="picture", values="found").to_string(float_format="{:.0%}".format))
    print(f"false: {table['false'].sum()}; time by picture:")
    print(table.groupby("picture")["time"].mean().to_string(float_format="{:.1f}".format))


if __name__ == "__main__":
    main()
