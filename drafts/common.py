"""The packed faces as a FaceSet; paths of the device machine."""
import dataclasses, io, os, sys, time
from pathlib import Path
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
os.environ.setdefault("TQDM_DISABLE", "1")
import numpy as np, torch
from PIL import Image
Image.MAX_IMAGE_PIXELS = None
from fer_helpers.data import FaceSet

def load(unpacked=Path("/tmp/faces.npy")):
    with np.load(HERE / "faces.npz") as file:
        known = {name: file[name] for name in file.files}
    count = len(known["labels"])
    if unpacked.exists():
        pixels = np.load(unpacked)
    else:
        parts, start = [], 0
        for size in known["sizes"]:
            mosaic = np.asarray(Image.open(io.BytesIO(known["pixels"][start:start + size].tobytes())).convert("L"))
            start += size
            rows = mosaic.shape[0] // 48
            parts.append(mosaic.reshape(rows, 48, 64, 48).swapaxes(1, 2).reshape(-1, 48, 48)[:4096])
        pixels = np.concatenate(parts)[:count]
        np.save("/tmp/faces.part.npy", pixels); os.replace("/tmp/faces.part.npy", unpacked)
    faces = FaceSet(torch.from_numpy(pixels.copy()), torch.from_numpy(known["labels"]), known["ids"].astype(str), known["split"],
                    tuple(map(str, known["classes"])), votes=torch.from_numpy(known["votes"].astype(np.float32)),
                    source=str(known["source"]))
    vars(faces)["groups"], vars(faces)["near_groups"] = known["groups"], known["near"]
    vars(faces)["fingerprint"] = str(known["fingerprint"])
    if small := os.environ.get("SMALL"):
        faces = faces.take(np.random.default_rng(0).permutation(len(faces))[:int(small)])
    return faces
