"""Synthetic faces: what is sampled, the embedded data and its leak."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_helpers.data import readers, synthetic
from fer_helpers.data.emotions import EMOTIONS, PROTOTYPES, action_unit_vector
from fer_helpers.data.readers import load_faces
from fer_helpers.data.rendering import render
from fer_helpers.data.synthetic import embedded_faces, make_faces, sample_params
from fer_helpers.files import FerError


@pytest.fixture(scope="module")
def embedded():
    return embedded_faces()


def test_sampled_units_centre_on_the_prototypes_and_overlap():
    labels = torch.arange(len(EMOTIONS)).repeat_interleave(400)
    units = sample_params(labels, torch.Generator().manual_seed(0)).action_units.view(len(EMOTIONS), 400, -1)
    for index, name in enumerate(EMOTIONS):
        prototype = torch.tensor(action_unit_vector(PROTOTYPES[name])) > 0
        middle = units[index].median(0).values
        assert (middle[prototype] > 0.2).all() and (middle[~prototype] < 0.15).all(), name
    weak = units[:-1].amax(2) < units[-1].amax(1).quantile(0.9)  # weaker than some neutral faces
    assert weak.float().mean() > 0.03


def test_sampling_takes_an_empty_batch():
    empty = render(sample_params(torch.zeros(0, dtype=torch.int64), torch.Generator()))
    assert empty.images.shape == (0, 48, 48)


def test_embedded_faces_have_the_documented_counts(embedded):
    assert len(embedded) == 12_000 and embedded.classes == EMOTIONS
    counts = embedded.counts()
    assert counts.sum().tolist() == [10_000, 0, 2_000]
    assert counts["train"].idxmax() == "happiness" and counts["train"].idxmin() == "disgust"
    assert counts["train"]["disgust"] == 200 and counts["test"]["happiness"] == 500
    assert embedded.ids[123] == "synthetic-000123" and len(np.unique(embedded.ids)) == 12_000
    assert embedded.votes is None and embedded.action_units.shape == (12_000, 13)
    assert embedded.source == "synthetic faces (seed 0)"


def test_the_only_copies_are_the_documented_leak(embedded):
    assert 12_000 - len(np.unique(embedded.groups)) == 40
    leaked = np.flatnonzero((embedded.split == "test") & embedded.in_train())
    assert len(leaked) == 40
    train = {group: row for row, group in enumerate(embedded.groups) if embedded.split[row] == "train"}
    original = [train[embedded.groups[row]] for row in leaked]
    assert len(set(original)) == 40
    assert int((embedded.labels[leaked] != embedded.labels[original]).sum()) == 4
    assert torch.equal(embedded.regions[leaked], embedded.regions[original])
    assert torch.equal(embedded.action_units[leaked], embedded.action_units[original])


def test_embedded_faces_are_drawn_once(embedded):
    assert embedded_faces() is embedded


def test_they_are_drawn_once_for_all_processes_and_anew_when_damaged(embedded, tmp_path, monkeypatch):
    """Read by a process of its own, as every kernel of a report is one."""
    monkeypatch.setenv("FER_CACHE", str(tmp_path))
    code = ("from fer_helpers.data import readers, synthetic as s; "
            "faces = readers.load_faces('synthetic'); print(len(faces.notes), faces.source, faces.fingerprint, "
            "faces.action_units.sum().item(), faces.regions.sum().item(), s.embedded_faces.cache_info().misses)")

    def as_in_a_new_process():
        readers._embedded_faces.cache_clear()
        return load_faces("synthetic")

    assert as_in_a_new_process().fingerprint == embedded.fingerprint
    (stored,) = tmp_path.iterdir()
    whole = stored.read_bytes()
    stored.write_bytes(whole[:1_000_000])
    assert as_in_a_new_process().fingerprint == embedded.fingerprint and len(stored.read_bytes()) == len(whole)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (f"0 {embedded.source} {embedded.fingerprint} {embedded.action_units.sum().item()} "
                           f"{embedded.regions.sum().item()} 0\n")  # none drawn there


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 50_000))
def test_class_counts_add_up(count):
    sizes = synthetic._class_counts(count, "count")
    assert sum(sizes.values()) == count
    assert all(abs(number - synthetic.CLASS_SHARES[name] * count) < 1 for name, number in sizes.items())


def test_make_faces_of_chosen_classes():
    faces = make_faces({"fear": 3, "surprise": 2}, test={"fear": 1}, seed=5)
    assert sorted(faces.labels[:5].tolist()) == [2, 2, 2, 5, 5] and faces.labels[5] == 2
    assert faces.split.tolist() == ["train"] * 5 + ["test"]


def test_copies_that_find_no_original_are_refused():
    with pytest.raises(FerError, match="copies"):
        make_faces({"fear": 1}, test={"surprise": 20}, copies=0.5)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: sample_params(torch.tensor([7]), torch.Generator()), r"labels must lie in 0\.\.6"),
    (lambda: sample_params(torch.tensor([0.0]), torch.Generator()), "labels must be int64"),
    (lambda: make_faces(0), "count=0"),
    (lambda: make_faces(10, test=-1), "test=-1"),
    (lambda: make_faces({"joyful": 3}), "joyful"),
    (lambda: make_faces({"fear": 0}), "count="),
    (lambda: make_faces(10, test=10, copies=1.5), "copies=1.5")])
def test_wrong_input_is_refused_with_the_reason(call, message):
    with pytest.raises(FerError, match=message):
        call()
