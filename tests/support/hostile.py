"""Every reader of the package beside a valid input of it, and ways to spoil that: shared by tests and benchmarks."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from conftest import easy_faces
from corpus import csv_text, faces_of, png, votes_text, write_tree, write_zip
from PIL import Image
from torch import nn

from fer_helpers.data import mapped
from fer_helpers.data.emotions import EMOTIONS
from fer_helpers.data.image_files import read_photograph
from fer_helpers.data.readers import load_faces, map_faces
from fer_helpers.data.sources import LABELS_FILE, VOTES_FILE
from fer_helpers.experiments import study as plan
from fer_helpers.experiments.search import JOURNAL, GridSearch, Search
from fer_helpers.experiments.sweeps import read_plan
from fer_helpers.files import FerError, write_json
from fer_helpers.inference import model_card, pretrained
from fer_helpers.inference.onnx_export import answers
from fer_helpers.metrics.calibration import calibrate
from fer_helpers.models import base, factory, text_embeddings
from fer_helpers.models.base import Network
from fer_helpers.report import results
from fer_helpers.training.checkpoints import load_checkpoint, read_history, save_checkpoint
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import PACKED, RETRAIN, Run, compare_runs, load_runs, record_run, score
from fer_helpers.widgets.comparer import score_table
from fer_helpers.widgets.monitor import read_progress


class Small(Network):
    """A network of a few hundred weights, so that a file of them is spoilt and read within a millisecond."""

    name = "small"

    def __init__(self, num_classes: int, in_chans: int, batch_norm: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_chans, 4, 3, stride=16), nn.BatchNorm2d(4), nn.ReLU(),
                                  nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(4, num_classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)


@contextlib.contextmanager
def small_network() -> Iterator[None]:
    """`Small` is an architecture while the block runs."""
    base.REGISTRY[Small.name] = Small
    try:
        yield
    finally:
        del base.REGISTRY[Small.name]


def write_run(folder: Path) -> Run:
    """A finished run of `Small` whose predictions are made up; its other files are what `train_run` would make of
    them."""
    config = TrainConfig(arch=Small.name, classes=7, epochs=2)
    faces = easy_faces(train=2, test=2).split_validation(0.5, seed=0)
    seen = faces.take(faces.split != "train")
    probs = np.random.default_rng(0).dirichlet(np.ones(7), len(seen))
    names = np.array(faces.classes)
    table = pd.DataFrame({"id": seen.ids, "split": seen.split, "true": names[seen.labels], "confidence": probs.max(1),
                          "predicted": names[probs.argmax(1)], "in_train": seen.labels.numpy() == 3}
                         | {f"prob_{name}": probs[:, number] for number, name in enumerate(names)})
    folder.mkdir(parents=True)
    table.to_csv(folder / "predictions.csv", index=False)
    pd.DataFrame([{"epoch": epoch, "lr": 0.1, "train_loss": 1.9, "train_accuracy": 0.2, "grad_norm": 1.0, "val_loss":
                   1.8, "val_accuracy": 0.3, "seconds": 1.5} for epoch in (1, 2)]
                 ).to_csv(folder / "history.csv", index=False)
    write_json(folder / "config.json", config.to_dict())
    write_json(folder / "environment.json", {
        "threads": 1, "data": "easy faces", "data_fingerprint": faces.fingerprint, "images": {"train": 14, "val": 7},
        "device": "cpu", "precision": "fp32", "best_epoch": 1, "train_seconds": 3.0})
    safetensors.torch.save_file(factory.create_model(config.arch, 7, seed=0).state_dict(),
                                folder / "weights.safetensors")
    write_json(folder / "metrics.json", {name: value.to_dict() for name, value in score(table, faces).items()})
    return Run(folder)


def use_run(folder: Path) -> None:
    """Read each file of a run as those do who show, compare, calibrate or record it."""
    run = Run(folder)
    load_runs(folder.parent)
    run.metrics["test"].per_class()
    run.metrics["test"].confusions()
    run.metrics["test"].summary()
    score_table(run, run)
    f"{run.history['val_loss'].min():.3f} {run.history.set_index('epoch')['val_accuracy'].idxmax():,}"
    compare_runs(run, run)
    rows = run.predictions.query("split == 'val'")
    calibrate(rows["true"].map(run.metrics["val"].classes.index).to_numpy(), run.probabilities("val"))
    model_card.restrict_classes(run, 3)
    record_run(run, folder.parent.parent / "recorded")


@dataclasses.dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes
    ----------
    write : lays valid input in a new folder.
    read : reads it there; of a valid input any result, of a bad one `FerError`.
    files : which of its files are spoilt.
    inputs : how many in the tests.
    """

    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    files: Sequence[str]
    inputs: int


def _write(name: str, data: bytes | str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)


def _picture(name: str, format: str, image: np.ndarray | Image.Image, inputs: int = 450, **options: Any) -> Reader:
    return Reader(_write(name, png(image, format, **options)), lambda folder: read_photograph(folder / name), [name],
                  inputs)


def _tree(folder: Path, votes: bool = False) -> None:
    write_tree(folder / "data", ["train/fear", "test/fear"], count=1)
    if votes:
        names = ["fer0000000.png", "fer0000001.png"]
        (folder / VOTES_FILE).write_text(votes_text(names))


def _tar(folder: Path) -> None:
    _tree(folder)
    with tarfile.open(folder / "faces.tar", "w") as archive:
        archive.add(folder / "data", "data")


def _parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    pictures = [{"bytes": png(face), "path": None} for face in faces_of(4)]
    table = pa.table({"image": pictures, "label": ["fear", "joy"] * 2, "subject": ["ann", "bob", "eve", None]})
    pa.parquet.write_table(table, folder / "faces.parquet", row_group_size=2)


def _heic(folder: Path) -> None:
    import pillow_heif

    pillow_heif.from_pillow(Image.fromarray(COLOUR)).save(folder / "a.heic")


def _network(folder: Path) -> None:
    run = write_run(folder / "runs" / "one")
    pretrained.save_network(run, folder)


def _read_checkpoint(folder: Path) -> None:
    read_history(folder / "checkpoint.pt")
    load_checkpoint(folder / "checkpoint.pt", "me", "cpu")


def _findings(folder: Path) -> None:
    run = write_run(folder / "runs" / "one")
    results.keep("02_training", easy_faces(2, 2), {"arch": "small", "lr": 0.1},
                 {"verdicts": pd.DataFrame({"value": [0.25, 0.5]}, index=["fear", "anger"])}, [run],
                 folder=folder / "results")


def _use_findings(folder: Path) -> None:
    found = results.recall("02_training", folder=folder / "results")
    found.origin()
    [found[name] for name in found.tables]


def _mapped(folder: Path) -> None:
    write_tree(folder / "data", ["train/fear", "train/anger", "test/fear"], count=2)
    map_faces(folder / "data", folder / "mapped", progress=False)


def _use_mapped(folder: Path) -> None:
    faces = load_faces(folder / "mapped", progress=False)
    faces.images[:]
    faces.only("test").counts()


def _sentences(folder: Path) -> None:
    rows = {name: {style: [f"{name} {style} {number}" for number in range(2)] for style in text_embeddings.STYLES}
            for name in EMOTIONS}
    write_json(folder / "emotions.json", rows)
    table = text_embeddings._sentences(folder)
    safetensors.torch.save_file({"embeddings": torch.eye(32)[:len(table)].half()}, folder / "emotions.safetensors",
                                {"digest": text_embeddings.digest(*table.to_numpy().ravel())})


def _search(folder: Path) -> None:
    search = GridSearch(Search(2), {"one": {"lr": 0.1}, "two": {"lr": 0.2}}, folder)
    search.tell(search.ask(), finished=False, pruned=True)


def _study(folder: Path) -> None:
    (folder / "study.yaml").write_text(STUDY)
    first, *_ = _use_study(folder).missing()
    (folder / "results" / "tuned").mkdir(parents=True)
    pd.DataFrame([[plan._identity(first.config), "net", "{}", 1.5, 0.3, 2.0]], columns=plan.TRIAL).to_csv(
        folder / "results" / "tuned" / "trials.csv", index=False)


def _use_study(folder: Path) -> plan.Study:
    study = plan.Study(plan.read_plan(folder / "study.yaml"), folder / "results")
    study.table()
    return study


def _failure(folder: Path) -> None:
    (folder / "run").mkdir()
    write_json(folder / "run" / "failure.json", {"error": "loss became nan"})
    _history(folder / "run")


def _history(folder: Path) -> None:
    save_checkpoint(folder / "checkpoint.pt", {"identity": "me", "model": {"weight": torch.ones(3, 3)}, "history": [
        {"epoch": 1, "val_loss": 1.8, "val_accuracy": 0.3, "train_loss": 1.9, "train_accuracy": 0.2}], "best": None})


def _onnx(folder: Path) -> None:
    """What `export_onnx` writes, by hand and in small: mean of the pixels, a layer of seven, softmax."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = [helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
             helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=0),
             helper.make_node("Unsqueeze", ["mean", "one"], ["feature"]),
             helper.make_node("MatMul", ["feature", "weight"], ["logits"]),
             helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1)]
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 48, 48])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 7])],
        [numpy_helper.from_array(np.ones((1, 7), np.float32), "weight"), numpy_helper.from_array(np.array([1]), "one")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    save(model, str(folder / "faces.onnx"))


GRAY = faces_of(1)[0][:12, :10]
COLOUR = np.stack([GRAY, GRAY[::-1], GRAY[:, ::-1]], 2)
TURNED = Image.Exif()
TURNED[0x0112] = 6
PLAN = "grid:\n  arch: [compact, vgg16]\n  lr: [1e-3, 0.01]\n  # a remark\n  seed: [0, 1, 2]\n  train_limit: null\n"
STUDY = ("x-net: &net {arch: small, lr: 0.1}\ntuned:\n  about: a group\n  runs:\n    - {<<: *net, name: net, "
         "seed: [0, 1], trials: [{lr: 0.2}, {lr: 0.3}], short: {epochs: 2}, repeat: [2]}\n")
LABELS = "fear: fear\n0: neutral\n1: happiness\nbored: null\n"
PIXELS = csv_text(np.tile(GRAY // 26, (3, 4, 5))[:, :48, :48], [3, 1, 3], ["Training", "PublicTest", "PublicTest"])

READERS: dict[str, Reader] = {
    "csv": Reader(_write("faces.csv", PIXELS), lambda folder: load_faces(folder / "faces.csv", cache=False,
                                                                        progress=False), ["faces.csv"], 700),
    "zip": Reader(lambda folder: (_tree(folder), write_zip(folder / "faces.zip", folder / "data")),
                  lambda folder: load_faces(folder / "faces.zip", cache=False, progress=False), ["faces.zip"], 900),
    "zip of a csv": Reader(lambda folder: write_zip(folder / "faces.zip", {"a/train.csv": PIXELS}),
                           lambda folder: load_faces(folder / "faces.zip", cache=False, progress=False), ["faces.zip"],
                           300),
    "tar": Reader(_tar, lambda folder: load_faces(folder / "faces.tar", cache=False, progress=False), ["faces.tar"],
                  500),
    "gzip of a csv": Reader(_write("faces.csv.gz", gzip.compress(PIXELS.encode())), lambda folder: load_faces(
        folder / "faces.csv.gz", cache=False, progress=False), ["faces.csv.gz"], 200),
    "parquet": Reader(_parquet, lambda folder: load_faces(folder / "faces.parquet", cache=False, progress=False),
                      ["faces.parquet"], 300),
    "labels": Reader(lambda folder: (_tree(folder), (folder / "data" / LABELS_FILE).write_text(LABELS)),
                     lambda folder: load_faces(folder / "data", cache=False, progress=False), [f"data/{LABELS_FILE}"],
                     300),
    "tree": Reader(_tree, lambda folder: load_faces(folder / "data", cache=False, progress=False),
                   ["data/train/fear/fer0000000.png"], 300),
    "votes": Reader(lambda folder: _tree(folder, votes=True), lambda folder: load_faces(
        folder / "data", cache=False, votes=folder / VOTES_FILE, progress=False), [VOTES_FILE], 700),
    "png": _picture("a.png", "PNG", COLOUR, 900, exif=TURNED),
    "palette": _picture("a.png", "PNG", Image.fromarray(COLOUR).quantize(5), transparency=3),
    "sixteen bits": _picture("a.png", "PNG", GRAY.astype(np.uint16) * 257, 300),
    "jpeg": _picture("a.jpg", "JPEG", COLOUR, 700, exif=TURNED),
    "gif": _picture("a.gif", "GIF", GRAY),
    "tiff": _picture("a.tif", "TIFF", GRAY.astype(np.float32) / 255),
    "packed tiff": _picture("a.tif", "TIFF", COLOUR, compression="tiff_lzw"),
    "webp": _picture("a.webp", "WEBP", COLOUR),
    "avif": _picture("a.avif", "AVIF", COLOUR, 200),
    "heic": Reader(_heic, lambda folder: read_photograph(folder / "a.heic"), ["a.heic"], 200),
    "bmp": _picture("a.bmp", "BMP", COLOUR, 300),
    "ppm": _picture("a.ppm", "PPM", COLOUR, 300),
    "config": Reader(lambda folder: write_json(folder / "config.json", TrainConfig().to_dict()),
                     lambda folder: Run(folder).config.command(), ["config.json"], 900),
    "run": Reader(lambda folder: write_run(folder / "runs" / "one"), lambda folder: use_run(folder / "runs" / "one"),
                  [f"runs/one/{name}" for name in ("environment.json", "history.csv", "predictions.csv",
                                                   "metrics.json")], 300),
    "packed run": Reader(lambda folder: record_run(write_run(folder / "one"), folder / "records", packed=True),
                         lambda folder: Run(folder / "records" / "one").predictions, [f"records/one/{PACKED}"], 300),
    "study": Reader(_study, _use_study, ["study.yaml", "results/tuned/trials.csv"], 300),
    "weights": Reader(lambda folder: write_run(folder / "one"), lambda folder: Run(folder / "one").model(),
                      ["one/weights.safetensors"], 500),
    "network": Reader(_network, lambda folder: pretrained.load_pretrained(folder, RETRAIN),
                      ["network.json", "network.safetensors"], 500),
    "checkpoint": Reader(_history, _read_checkpoint, ["checkpoint.pt"], 700),
    "progress": Reader(_failure, lambda folder: read_progress(folder / "run"), ["run/failure.json"], 300),
    "plan": Reader(_write("plan.yaml", PLAN), lambda folder: read_plan(folder / "plan.yaml"), ["plan.yaml"], 600),
    "findings": Reader(_findings, _use_findings, ["results/02_training/about.json",
                                                  "results/02_training/verdicts.csv"], 400),
    "mapped": Reader(_mapped, _use_mapped, [f"mapped/{name}" for name in (
        mapped.MANIFEST, "images.npy", "columns.npz")], 600),
    "sentences": Reader(_sentences, lambda folder: text_embeddings.prototypes(EMOTIONS, folder=folder),
                        ["emotions.json", "emotions.safetensors"], 400),
    "onnx": Reader(_onnx, lambda folder: answers(folder / "faces.onnx", torch.zeros(2, 48, 48, dtype=torch.uint8)),
                   ["faces.onnx"], 300),
    "search": Reader(_search, lambda folder: GridSearch(Search(2), {"one": {"lr": 0.1}, "two": {"lr": 0.2}}, folder),
                     [JOURNAL], 300),
}


def attempt(reader: Reader, folder: Path, name: str, data: bytes) -> FerError | None:
    """Read ``folder`` with ``data`` in place of one of its files, which is put back.

    Raises
    ------
    AssertionError
        If the error does not name a file below the folder, or is not one line of what can be read.
    Exception
        Whatever the reader raises but `FerError`.
    """
    path = folder / name
    good = path.read_bytes()
    path.write_bytes(data)
    try:
        reader.read(folder)
    except FerError as error:
        message = str(error)
        assert str(folder) in message and message.isprintable() and len(message) <= 6000, message[:5000]
        return error
    finally:
        path.write_bytes(good)
    return None


#: Text in place of text, or between.
WORDS = ["1e999", "-1", "0", "NaN", "Infinity", "-1e308", "9" * 20, "9" * 5000, "0x10", "1_000", "null", "true", '""',
         "\u0663", "\x00", "\n", "\r", "\u2028", "\udc80", "é", "\U0001f600", "\u202e", "../../up", "/etc/passwd",
         "[" * 3000, '{"a":' * 1500, "[]", "{}", '"', "'", ",", ";", "\t", ":", "&a ", "*a", "!!int x", "!!timestamp x",
         "!!bool x", "!!binary x", "!!python/object/apply:os.system [touch hacked]", "<<: *a", "- ", "? ", "2001-99-99",
         "{{", "%", "|", "__class__", "prob_anger", "train", "test", "x" * 3000]
#: Values in place of those of JSON.
VALUES: list[Any] = [None, True, -1, 0, 1, 2**31, 10**30, 1e308, float("nan"), float("inf"), "", "x", "\n\x1b[31m",
                     "../..", [], {}, [[]], [1, 2, 3], ["a", "b", "c"], {"a": 1}, [None] * 3, 0.5, "7", "1", [[1]],
                     "\ud800", [0.1, float("nan"), 1], "anger", 7, 3]


def spoil(good: bytes, chance: random.Random) -> bytes:
    """``good`` after one to three changes: cut, bytes flipped, set, doubled, taken out or moved, words or values of
    JSON replaced. Never ``good`` itself."""
    data = good
    while data == good:
        for _ in range(chance.choice((1, 1, 2, 3))):
            data = chance.choice(_CHANGES)(data, chance)
    return data


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[:chance.randrange(len(data) + 1)]


def _flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 4, 40)) if data else 0):
        # Half of them among the first bytes, where headers are.
        changed[chance.randrange(min(len(data), chance.choice((64, len(data)))))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _set(data: bytes, chance: random.Random) -> bytes:
    place, end = _place(data, chance), chance.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f",
                                                      b"\x80", b"\x00\x00\x01", b"\xff" * 8))
    return data[:place] + end + data[place + len(end):]


def _double(data: bytes, chance: random.Random) -> bytes:
    start, stop = sorted((_place(data, chance), _place(data, chance)))
    return data[:stop] + data[start:stop] * chance.choice((1, 2, 5)) + data[stop:]


def _drop(data: bytes, chance: random.Random) -> bytes:
    place = _place(data, chance)
    return data[:place] + data[place + chance.choice((1, 1, 2, 8, 100)):]


def _move(data: bytes, chance: random.Random) -> bytes:
    start, stop = sorted((_place(data, chance), _place(data, chance)))
    place = _place(data, chance)
    return data[:place] + data[start:stop] + data[place + stop - start:]


def _insert(data: bytes, chance: random.Random) -> bytes:
    place = _place(data, chance)
    return data[:place] + chance.choice(WORDS).encode("utf-8", "surrogatepass") + data[place:]


def _word(data: bytes, chance: random.Random) -> bytes:
    """Another word in place of one between separators, as tables, YAML and headers of safetensors have them."""
    marks = b' ,:"\n[]{}\t'
    place = _place(data, chance)
    start = next((at + 1 for at in range(place - 1, max(place - 60, -1), -1) if data[at] in marks), place)
    stop = next((at for at in range(place, min(place + 60, len(data))) if data[at] in marks), place)
    return data[:start] + chance.choice(WORDS).encode("utf-8", "surrogatepass") + data[stop:]


def _values(data: bytes, chance: random.Random) -> bytes:
    """JSON in which some value, or name, is another one; the first bytes of anything else may be JSON too."""
    try:
        start = data.index(b"{")
        value, end = json.JSONDecoder().raw_decode(data[start:].decode("latin-1"))
    except (ValueError, RecursionError):
        return _word(data, chance)
    inside, key, parent = value, None, None
    while isinstance(inside, (dict, list)) and inside and (parent is None or chance.random() < 0.8):
        parent, key = inside, chance.choice(list(inside)) if isinstance(inside, dict) else chance.randrange(len(inside))
        inside = parent[key]
    if parent is None:
        return json.dumps(chance.choice(VALUES)).encode()
    what = chance.random()
    if what < 0.6:
        parent[key] = chance.choice(VALUES)
    elif what < 0.75:
        del parent[key]
    elif isinstance(parent, dict):
        parent[chance.choice(["", "x", "\n", "lr", "dtype", "__class__", "../up"])] = parent.pop(key)
    else:
        parent.insert(key, parent[key])
    changed = json.dumps(value).encode()
    if start == 8:  # safetensors: a length before it, and tensors behind
        return len(changed).to_bytes(8, "little") + changed + data[start + end:]
    return data[:start] + changed + data[start + end:]


def _place(data: bytes, chance: random.Random) -> int:
    return chance.randrange(min(len(data), chance.choice((100, len(data)))) + 1)


_CHANGES = (_cut, _flip, _flip, _set, _double, _drop, _move, _insert, _word, _word, _values, _values)
