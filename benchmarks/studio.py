"""Milliseconds from a change of a slider to the redrawn face and the network's answer in `face_editor.face_studio`.

    python benchmarks/studio.py [--changes 50]

What the kernel does for one change: draw the face, ask the network, encode the picture, write the bars. The way to the
browser and back is not in it. The sliders take turns, each moved to a random step of its range.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from fer_helpers.widgets import face_studio

WARM_UP = 10  # changes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--changes", type=int, default=50)
    options = parser.parse_args()
    studio, random, spent = face_studio(), np.random.default_rng(0), []
    sliders = [*studio.units.values(), *(slider for name, slider in studio.settings.items() if name != "occluder")]
    while len(spent) < WARM_UP + options.changes:
        slider = sliders[len(spent) % len(sliders)]
        value = slider.min + slider.step * random.integers(round((slider.max - slider.min) / slider.step) + 1)
        if abs(value - slider.value) > slider.step / 2:  # the step it stands on is no change
            start = time.perf_counter()
            slider.value = float(value)
            spent.append(1000 * (time.perf_counter() - start))
    spent = np.array(spent[WARM_UP:])
    print(f"studio: median {np.median(spent):.1f} ms, p95 {np.quantile(spent, 0.95):.1f} ms over {len(spent)} changes "
          f"on {torch.get_num_threads()} threads; at most 100 ms are meant")


if __name__ == "__main__":
    main()
