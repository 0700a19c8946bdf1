"""Where the time of `fer predict` goes: a photograph of twelve megapixels from its file to the answers, stage by stage;
then the command itself on a folder of them, and on a film of 720p.

    python benchmarks/photographs.py [--networks small,best] [--jobs 1,2] [--pictures 200] [--faces 4] [--seconds 20]

Pictures and film show the portrait that scikit-image brings on its coffee cup, enlarged. Milliseconds are medians.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pandas as pd
import torch
from detection import HEAD
from PIL import Image
from skimage import data as pictures
from tqdm.auto import tqdm

from fer_helpers.data.image_files import read_photograph
from fer_helpers.inference import load_network
from fer_helpers.inference.detection import _grey, crop_face, find_faces
from fer_helpers.inference.pretrained import probabilities

STAGED = 20  # pictures whose stages are timed


def picture(width: int, height: int, faces: int, random: np.random.Generator) -> Image.Image:
    """So many faces, of an eighth to a quarter of the height."""
    shown = Image.fromarray(pictures.coffee()).resize((width, height))
    head = Image.fromarray(pictures.astronaut()).crop(HEAD)
    for place in range(faces):
        tall = round(height * random.uniform(0.25, 0.5))
        left = round(width * (place + random.uniform(0.1, 0.3)) / faces)
        shown.paste(head.resize((tall * head.width // head.height, tall)), (left, random.integers(height - tall)))
    return shown


def film(path: Path, seconds: float, random: np.random.Generator) -> None:
    """A film of 720p, 25 frames a second, a new picture every second."""
    with av.open(str(path), "w") as written:
        stream = written.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 1280, 720, "yuv420p", 4_000_000
        for number in range(round(25 * seconds)):
            if number % 25 == 0:
                shown = av.VideoFrame.from_ndarray(np.asarray(picture(1280, 720, 2, random)), format="rgb24")
            shown.pts = number
            written.mux(stream.encode(shown))
        written.mux(stream.encode())


def stages(files: list[Path], name: str) -> pd.DataFrame:
    """Milliseconds of each stage, a row a picture."""
    network, rows = load_network(name), []
    for file in tqdm(files, name):
        times = [time.perf_counter()]
        photograph = read_photograph(file)
        times.append(time.perf_counter())
        faces = find_faces(photograph)
        times.append(time.perf_counter())
        grey = torch.from_numpy(_grey(photograph))
        for face in faces:
            crop_face(grey, face.eyes)
        times.append(time.perf_counter())
        probabilities(network, torch.stack([face.crop for face in faces]))
        times.append(time.perf_counter())
        decode, found, align, answer = 1000 * np.diff(times)
        rows.append({"decode": decode, "detect": found - align, "align": align, "answer": answer, "faces": len(faces)})
    return pd.DataFrame(rows)


def command(path: Path, *options: str) -> tuple[float, int]:
    """Seconds of `fer predict`, its start included, and the faces it found."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", "from fer_helpers.cli import main; main()", "predict", str(path),
                           "--format", "csv", *options], check=True, capture_output=True, text=True)
    return time.perf_counter() - start, done.stdout.count("\n") - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--faces", type=int, default=4, help="faces a picture")
    parser.add_argument("--networks", default="small,best")
    parser.add_argument("--jobs", default="1,2", help="processes of the command")
    parser.add_argument("--seconds", type=float, default=20, help="length of the film")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "pictures"
        place.mkdir()
        files = [place / f"{number:03}.jpg" for number in range(options.pictures)]
        for file in tqdm(files, "writing"):
            picture(4000, 3000, options.faces, random).save(file, quality=90)
        film(Path(folder) / "film.mp4", options.seconds, random)
        for name in options.networks.split(","):
            stages(files[:1], name)  # what is loaded once is not timed
            print(f"{name}, ms", stages(files[:STAGED], name).median().round(1).to_dict(), flush=True)
            for jobs in options.jobs.split(","):
                seconds, found = command(place, "--network", name, "--jobs", jobs)
                print(f"{name}, {len(files)} photographs, --jobs {jobs}: {len(files) / seconds:.2f} a second, {found} "
                      f"of {options.faces * len(files)} faces", flush=True)
        seconds, found = command(Path(folder) / "film.mp4", "--every", "0.2")
        print(f"film, five looks a second: {5 * options.seconds / seconds:.1f} looks and {found / seconds:.1f} faces a "
              "second")


if __name__ == "__main__":
    main()
