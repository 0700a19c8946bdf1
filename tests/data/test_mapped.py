"""A set on disk trains what the same set in memory trains, is written in parts, and is refused when damaged."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import easy_faces, fer_here, fit_quietly, interrupt_fit, same_history, weights_equal
from corpus import LABELS, USAGES, csv_text, faces_of, write_tree, write_zip
from hypothesis import given
from hypothesis import strategies as st

from fer_helpers.data.faceset import OPTIONAL, FaceSet
from fer_helpers.data.mapped import MANIFEST, Writer
from fer_helpers.data.pixels import DiskImages
from fer_helpers.data.readers import load_faces, map_faces
from fer_helpers.data.sources import VOTES_FILE
from fer_helpers.data.validation import check_faces
from fer_helpers.files import FerError
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import train_run
from fer_helpers.training.trainer import prepare_faces

CONFIG = TrainConfig(arch="simple_cnn", epochs=2, batch_size=32, lr=0.01, precision="fp32")


def write(faces: FaceSet, target: Path, part: int = 50) -> FaceSet:
    with Writer(target) as writer:
        for images in faces.images.split(part):
            writer.append(images.numpy())
        writer.keep(replace(faces, images=writer.images()))
    return load_faces(target)


def assert_same(first: FaceSet, second: FaceSet) -> None:
    assert first.fingerprint == second.fingerprint == replace(second).fingerprint  # kept, and computed anew
    assert torch.equal(first.images[:], second.images[:]) and torch.equal(first.labels, second.labels)
    assert np.array_equal(first.ids, second.ids) and np.array_equal(first.split, second.split)
    assert first.classes == second.classes and first.notes == second.notes
    assert np.array_equal(first.groups, second.groups) and np.array_equal(replace(second).groups, second.groups)
    for name in OPTIONAL:
        known = [getattr(faces, name) for faces in (first, second)]
        assert (known[0] is None) == (known[1] is None), name
        if known[0] is not None:
            np.testing.assert_array_equal(known[0][:], known[1][:])


@pytest.fixture(scope="module")
def known() -> FaceSet:
    """Easy faces with all that a set may have, and test images that also stand in train."""
    faces = easy_faces(votes=True)
    images = faces.images.clone()
    leaked = np.flatnonzero(faces.split == "test")[:3]
    images[leaked] = images[np.flatnonzero(faces.split == "train")[:3]]
    random = torch.Generator().manual_seed(0)
    return replace(faces, images=images, action_units=torch.rand(len(faces), 13, generator=random),
                   regions=torch.randint(0, 16, images.shape, generator=random, dtype=torch.uint8), notes=("A note.",))


@pytest.fixture(scope="module")
def on_disk(known, tmp_path_factory) -> FaceSet:
    return write(known, tmp_path_factory.mktemp("mapped") / "faces")


# Round trip

def test_all_of_a_set_comes_back_and_its_pixels_stay_on_disk(known, on_disk):
    assert_same(known, on_disk)
    assert isinstance(on_disk.images, DiskImages) and isinstance(on_disk.regions, DiskImages)
    view = on_disk.with_classes(3).split_validation(0.2).only("train")
    assert isinstance(view.images, DiskImages)
    assert_same(known.with_classes(3).split_validation(0.2).only("train"), view)


def test_what_is_kept_of_a_set_is_not_looked_for_again(known, on_disk, monkeypatch):
    opened = load_faces(on_disk.source)
    monkeypatch.setattr(DiskImages, "_read", None)
    assert opened.fingerprint == known.fingerprint and np.array_equal(opened.groups, known.groups)


def test_more_may_be_appended_after_the_images_were_looked_at(known, tmp_path):
    with Writer(tmp_path / "faces") as writer:
        writer.append(known.images[:50].numpy())
        assert len(writer.images()) == 50
        writer.append(known.images[50:].numpy())
        writer.keep(replace(known, images=writer.images()))
    assert_same(known, load_faces(tmp_path / "faces"))


@given(labels=st.lists(st.integers(0, 6), min_size=1, max_size=12), part=st.integers(1, 12), data=st.data())
def test_any_set_comes_back(labels, part, data):
    count = len(labels)
    names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=9)
    ids = data.draw(st.lists(names, min_size=count, max_size=count, unique=True))
    split = data.draw(st.lists(st.sampled_from(["train", "val", "test"]), min_size=count, max_size=count))
    votes = torch.full((count, 10), float("nan")) if data.draw(st.booleans()) else None
    faces = FaceSet(torch.from_numpy(faces_of(count) // 128 * 255), torch.tensor(labels), np.array(ids),
                    np.array(split), easy_faces(1, 1).classes, votes=votes, notes=tuple(ids[:2]))
    with tempfile.TemporaryDirectory() as folder:
        assert_same(faces, write(faces, Path(folder) / "faces", part))


@pytest.mark.parametrize("kind", ["tree", "csv", "zip", "votes", "mapped"])
def test_every_source_is_mapped_as_it_is_read(kind, known, on_disk, tmp_path):
    if kind in ("tree", "votes"):  # without a test split: it is set aside from what lies on disk
        source = write_tree(tmp_path / "data", ["angry", "happy"], 520)  # more than one block
    if kind == "votes":
        (source / VOTES_FILE).write_text(
            "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
            "Training,fer0000001.png,1,2,3,4,0,0,0,0,0,0\n")
    if kind == "csv":  # more than one block of rows
        (source := tmp_path / "fer2013.csv").write_text(csv_text(faces_of(1120), LABELS * 80, USAGES * 80))
    if kind == "zip":
        source = write_zip(tmp_path / "a.zip", write_tree(tmp_path / "data"))
    if kind == "mapped":
        source = on_disk.source
    mapped = map_faces(source, tmp_path / "new" / "mapped", progress=False)
    assert_same(load_faces(source, progress=False, cache=False), mapped)
    assert mapped.source == str(tmp_path / "new" / "mapped")
    assert not [path for path in (tmp_path / "new").iterdir() if path.name != "mapped"]


def test_the_command_maps_and_the_other_commands_understand_it(known, tmp_path):
    write_tree(tmp_path / "data", count=5)
    done = fer_here("data", "cache", "data", "mapped", cwd=tmp_path)
    assert done.exit_code == 0 and "mapped: 20 faces; use them with FER_DATA=mapped" in done.output
    plain, found = (json.loads(fer_here("data", "check", source, "--json", cwd=tmp_path).stdout)
                    for source in ("data", "mapped"))
    assert found | {"source": ""} == plain | {"source": ""}
    again = fer_here("data", "cache", "data", "mapped", cwd=tmp_path)
    assert again.exit_code and "mapped: already exists" in str(again.exception)


# Training

@pytest.mark.parametrize("settings", [
    {}, {"accumulate": 2, "ema": 0.9}, {"contrast": 0.5, "loss": "soft_votes", "epochs": 1},
    {"guide": 1.0, "arch": "compact", "epochs": 1}], ids=["plain", "accumulate", "two_views", "guide"])
def test_from_disk_and_from_memory_the_weights_are_the_same_to_the_last_bit(settings, known, on_disk):
    config = replace(CONFIG, **settings)
    memory, disk = (fit_quietly(config, prepare_faces(config, faces)) for faces in (known, on_disk))
    assert weights_equal(memory, disk) and same_history(memory, disk)


@pytest.mark.parametrize("first", ["disk", "memory"])
def test_interrupted_from_one_it_goes_on_from_the_other(first, known, on_disk, tmp_path):
    memory, disk = prepare_faces(CONFIG, known), prepare_faces(CONFIG, on_disk)
    whole = fit_quietly(CONFIG, memory)
    before, after = (disk, memory) if first == "disk" else (memory, disk)
    interrupt_fit(CONFIG, before, tmp_path / "checkpoint.pt", after_steps=3)
    assert (tmp_path / "checkpoint.pt").exists()
    resumed = fit_quietly(CONFIG, after, tmp_path / "checkpoint.pt")
    assert weights_equal(whole, resumed) and same_history(whole, resumed)


def test_a_run_has_the_same_name_predictions_and_metrics(known, on_disk, tmp_path):
    config = replace(CONFIG, epochs=1, tta="flip")
    memory, disk = (train_run(config, faces, tmp_path / name, "cpu", progress=False)
                    for name, faces in (("memory", known), ("disk", on_disk)))
    assert memory.name == disk.name and memory.predictions.equals(disk.predictions)
    assert memory.metrics["clean_test"].to_dict() == disk.metrics["clean_test"].to_dict()
    assert disk.predictions["in_train"][disk.predictions["split"] == "test"].sum() == 3


def test_the_check_of_a_set_is_the_same(known, on_disk):
    assert check_faces(known).to_dict() == check_faces(on_disk).to_dict() | {"source": known.source}


# Memory

WRITE = """
import sys
import numpy as np
import torch
from fer_helpers.data.faceset import FaceSet
from fer_helpers.data.emotions import EMOTIONS
from fer_helpers.data.mapped import Writer
from fer_helpers.data.readers import load_faces
from fer_helpers.training.trainer import Trainer

def most():  # not ru_maxrss, which remembers the process that started this one
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10

count, random = 60_000, np.random.default_rng(0)
before = most()
with Writer(sys.argv[1]) as writer:
    for _ in range(0, count, 1000):
        writer.append(random.integers(0, 256, (1000, 48, 48), np.uint8))
    writer.keep(FaceSet(writer.images(), torch.arange(count) % 7, np.array([f"{n:07d}" for n in range(count)]),
                        np.where(np.arange(count) % 9, "train", "test"), EMOTIONS))
view = load_faces(sys.argv[1]).with_classes(6)
order = np.random.default_rng(0).permutation(len(view))
sums = sum(int(view.images[rows].sum()) for rows in np.array_split(order, 400))
print(count * 48 * 48, most() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_writing_opening_and_reading_take_a_fraction_of_the_set_in_memory(tmp_path):
    done = subprocess.run([sys.executable, "-c", WRITE, str(tmp_path / "faces")], capture_output=True, text=True,
                          check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    size, taken = map(int, done.stdout.split())
    assert size > 130 << 20 and taken < size / 2


@pytest.mark.parametrize("more", [{}, {"arch": "compact", "epochs": 1, "guide": 1.0, "contrast": 0.5}],
                         ids=["plain", "with regions and two views"])
def test_a_smaller_last_batch_from_disk_trains_bit_by_bit_what_it_trains_from_memory(more, known, on_disk, tmp_path):
    config = replace(CONFIG, drop_last=False, train_limit=39, augmentation="standard", **more)
    few, view = prepare_faces(config, known), prepare_faces(config, on_disk)
    assert isinstance(view.images, DiskImages) and len(few.only("train")) % config.batch_size == 7
    first, second = fit_quietly(config, few), fit_quietly(config, view)
    assert weights_equal(first, second) and same_history(first, second)
    if not more:
        assert not weights_equal(first, fit_quietly(replace(config, drop_last=True), few))


# Damage

@pytest.mark.parametrize(("name", "how", "message"), [
    ("images.npy", "cut", "bytes where .* were written; it was cut short or damaged"),
    ("images.npy", "longer", "bytes where .* were written; it was cut short or damaged"),
    ("images.npy", "flip", "was changed after it was written"), ("images.npy", "remove", "is missing"),
    ("regions.npy", "flip", "was changed after it was written"), ("regions.npy", "remove", "is missing"),
    ("columns.npz", "cut", "bytes where .* were written"), ("columns.npz", "flip", "was changed after it was written"),
    ("columns.npz", "remove", "is missing"),
    (MANIFEST, "cut", "not valid JSON"), (MANIFEST, "other", "does not describe this folder"),
    (MANIFEST, "format", "that of another version"), (MANIFEST, "list", "does not describe this folder")])
def test_a_damaged_folder_is_refused_naming_the_file_and_the_fix(name, how, message, on_disk, tmp_path):
    path = Path(shutil.copytree(on_disk.source, tmp_path / "faces")) / name
    data = path.read_bytes()
    if how == "remove":
        path.unlink()
    elif how in ("other", "format"):
        path.write_text(json.dumps(json.loads(data) | ({"format": 2} if how == "format" else {"files": {}})))
    else:
        flipped = data[:300] + bytes([data[300] ^ 1]) + data[301:]
        path.write_bytes({"cut": data[:-100], "longer": data + b"0", "list": b"[]", "flip": flipped}[how])
    with pytest.raises(FerError, match=f"{name}: .*{message}.*delete the folder and write it again with fer data"):
        load_faces(tmp_path / "faces")


def test_a_folder_that_was_copied_or_touched_is_still_the_same(on_disk, tmp_path):
    shutil.copytree(on_disk.source, tmp_path / "faces", copy_function=shutil.copy)
    os.utime(tmp_path / "faces" / "images.npy", ns=(1, 1))
    assert_same(on_disk, load_faces(tmp_path / "faces"))


def test_votes_are_not_joined_to_what_has_been_written(on_disk, tmp_path):
    with pytest.raises(FerError, match="leave out votes="):
        load_faces(on_disk.source, votes=tmp_path)


def test_nothing_is_left_of_a_set_that_could_not_be_written(known, tmp_path):
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path / "faces") as writer:
        writer.append(known.images.numpy())
        raise KeyboardInterrupt
    with pytest.raises(FerError, match="154 faces for 50 images"), Writer(tmp_path / "faces") as writer:
        writer.append(known.images[:50].numpy())
        writer.keep(known)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_and_nothing_is_left(known, full_disk):
    with pytest.raises(FerError, match=rf"{re.escape(str(full_disk))}/faces: No space left .*choose another folder"):
        write(known, full_disk / "faces")
    assert list(full_disk.iterdir()) == []


def test_a_folder_without_rights_is_named(known, locked_folder):
    with pytest.raises(FerError, match="faces: no permission while writing"):
        write(known, locked_folder / "faces")
