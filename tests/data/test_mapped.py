"""A set on disk trains what the same set in memory trains, is written in parts, and is refused when damaged."""

import json
import os
import pickle
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

from fer_helpers.data import faceset, mapped
from fer_helpers.data.faceset import OPTIONAL, FaceSet
from fer_helpers.data.mapped import MANIFEST, Writer
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
    assert torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)
    assert np.array_equal(first.ids, second.ids) and np.array_equal(first.split, second.split)
    assert first.classes == second.classes and first.notes == second.notes
    assert np.array_equal(first.groups, second.groups) and np.array_equal(replace(second).groups, second.groups)
    for name in OPTIONAL:
        known = [getattr(faces, name) for faces in (first, second)]
        assert (known[0] is None) == (known[1] is None), name
        if known[0] is not None:
            np.testing.assert_array_equal(*known)


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


@pytest.fixture
def streamed(monkeypatch) -> None:
    """So few images may be read into memory at once that no part of the set is."""
    monkeypatch.setattr(faceset, "MAX_IN_MEMORY", 9)


# Round trip

def test_all_of_a_set_comes_back(known, on_disk):
    assert_same(known, on_disk)
    assert_same(known.with_classes(3).split_validation(0.2).only("train"),
                on_disk.with_classes(3).split_validation(0.2).only("train"))


def test_more_images_than_memory_may_hold_are_given_in_parts_only(known, on_disk, streamed):
    test = on_disk.only("test")
    for name in ("images", "regions"):
        with pytest.raises(FerError, match=rf"faces: {name} would read 42 faces into memory; take 9 of them or fewer"):
            getattr(test, name)
    assert torch.equal(torch.cat(list(test.parts(5))), known.only("test").images)
    few = test.take(np.array([8, 1]))
    assert torch.equal(few.images, known.only("test").images[[8, 1]])
    assert torch.equal(few.regions, known.only("test").regions[[8, 1]])
    assert on_disk.images.shape == (len(known), 48, 48)


def test_a_set_that_is_in_memory_may_be_of_any_size(known, streamed):
    assert len(known.only("train").images) == 112


@pytest.mark.parametrize("view", [lambda faces: faces, lambda faces: faces.only("test")], ids=["whole", "view"])
def test_another_process_is_handed_the_folder_not_the_pixels(view, on_disk):
    packed = pickle.dumps(view(on_disk))
    assert_same(view(on_disk), pickle.loads(packed))
    assert len(packed) < on_disk.images.numel() / 4


def test_what_is_kept_of_a_set_is_not_looked_for_again(known, on_disk, monkeypatch):
    opened = load_faces(on_disk.source)
    monkeypatch.setattr(FaceSet, "parts", None)
    monkeypatch.setattr(faceset, "exact_groups", None)
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
    found = map_faces(source, tmp_path / "new" / "mapped", progress=False)
    assert_same(load_faces(source, progress=False, cache=False), found)
    assert found.source == str(tmp_path / "new" / "mapped")
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
def test_from_disk_and_from_memory_the_weights_are_the_same_to_the_last_bit(settings, known, on_disk, streamed):
    config = replace(CONFIG, **settings)
    memory, disk = (fit_quietly(config, prepare_faces(config, faces)) for faces in (known, on_disk))
    assert weights_equal(memory, disk) and same_history(memory, disk)


@pytest.mark.parametrize("first", ["disk", "memory"])
def test_interrupted_from_one_it_goes_on_from_the_other(first, known, on_disk, streamed, tmp_path):
    memory, disk = prepare_faces(CONFIG, known), prepare_faces(CONFIG, on_disk)
    whole = fit_quietly(CONFIG, memory)
    before, after = (disk, memory) if first == "disk" else (memory, disk)
    interrupt_fit(CONFIG, before, tmp_path / "checkpoint.pt", after_steps=3)
    assert (tmp_path / "checkpoint.pt").exists()
    resumed = fit_quietly(CONFIG, after, tmp_path / "checkpoint.pt")
    assert weights_equal(whole, resumed) and same_history(whole, resumed)


@pytest.mark.parametrize("most", [9, 200_000])
def test_a_run_has_the_same_name_predictions_and_metrics(most, known, on_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(faceset, "MAX_IN_MEMORY", most)
    config = replace(CONFIG, epochs=1, tta="flip")
    memory, disk = (train_run(config, faces, tmp_path / name, "cpu", progress=False)
                    for name, faces in (("memory", known), ("disk", on_disk)))
    assert memory.name == disk.name and memory.predictions.equals(disk.predictions)
    assert memory.metrics["clean_test"].to_dict() == disk.metrics["clean_test"].to_dict()
    assert disk.predictions["in_train"][disk.predictions["split"] == "test"].sum() == 3


def test_the_check_of_a_set_is_the_same(known, on_disk, streamed):
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

def anonymous():  # pages of the file are the system's to take back
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) << 10

count, random, seen = 60_000, np.random.default_rng(0), []
before = anonymous()
with Writer(sys.argv[1]) as writer:
    for _ in range(0, count, 1000):
        writer.append(random.integers(0, 256, (1000, 48, 48), np.uint8))
        seen.append(anonymous())
    writer.keep(FaceSet(writer.images(), torch.arange(count) % 7, np.array([f"{n:07d}" for n in range(count)]),
                        np.where(np.arange(count) % 9, "train", "test"), EMOTIONS))
    seen.append(anonymous())
view = load_faces(sys.argv[1]).with_classes(6)
for part in view.take(random.permutation(len(view))).parts(150):
    seen.append(part.sum().item() and anonymous())
print(count * 48 * 48, max(seen) - before)
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
def test_a_smaller_last_batch_from_disk_trains_bit_by_bit_what_it_trains_from_memory(more, known, on_disk, streamed):
    config = replace(CONFIG, drop_last=False, train_limit=39, augmentation="standard", **more)
    few, view = prepare_faces(config, known), prepare_faces(config, on_disk)
    assert len(few.only("train")) % config.batch_size == 7
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
    with pytest.raises(FerError, match=f"{name}: .*{message}.*write it again into another folder with fer data"):
        load_faces(tmp_path / "faces")


@pytest.mark.parametrize("name", ["images", "regions"])
@pytest.mark.parametrize("content", [
    b"", b"hello", "cut", np.zeros((154, 48, 48), np.float32), np.zeros((154, 48), np.uint8),
    np.zeros((154, 48, 48), object)], ids=["empty", "text", "cut", "floats", "flat", "objects"])
def test_a_file_that_holds_no_images_is_named_also_if_the_manifest_agrees(name, content, on_disk, tmp_path):
    folder = Path(shutil.copytree(on_disk.source, tmp_path / "faces"))
    path, manifest = folder / f"{name}.npy", json.loads((folder / MANIFEST).read_text())
    if isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        path.write_bytes(path.read_bytes()[:-1] if content == "cut" else content)
    manifest["files"][path.name] = {"sha256": mapped._hash(path)} | mapped._stamp(path)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(FerError, match=rf"{name}.npy: holds no images .*write it again into another folder"):
        load_faces(folder)


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
