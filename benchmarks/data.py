"""How long the data takes: reading, reading again from the cache, finding copies, drawing faces.

    python benchmarks/data.py [SOURCE]      a folder, CSV or zip; without one, drawn faces are written to disk and read

Prints seconds, images a second, and what the second read costs as a share of the first, measured in this one run.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from fer_helpers.data import FaceSet, load_faces, make_faces, near_groups


def timed(name: str, count: int, action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = action()
    seconds = time.perf_counter() - start
    print(f"{name:<28} {seconds:8.2f} s {count / seconds:12,.0f} images/s")
    return seconds, result


def write_tree(faces: FaceSet, root: Path) -> None:
    for image, label, name, split in zip(faces.images.numpy(), faces.labels, faces.ids, faces.split, strict=True):
        place = root / split / faces.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{name}.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FER_CACHE"] = f"{folder}/cache"
        _, drawn = timed("draw", 10_000, lambda: make_faces(8_000, test=2_000))
        source = sys.argv[1] if len(sys.argv) > 1 else f"{folder}/faces"
        if len(sys.argv) == 1:
            write_tree(drawn, Path(source))
        count = len(load_faces(source, cache=False, progress=False))  # warms the disk cache: both reads below are fair
        first, faces = timed("read, decoding", count, lambda: load_faces(source, progress=False))
        second, _ = timed("read, from the cache", count, lambda: load_faces(source, progress=False))
        timed("find near copies", count, lambda: near_groups(faces.images))
        print(f"the second read takes {second / first:.1%} of the first")


if __name__ == "__main__":
    main()
