"""Numbered labels mean what their owner says, and a doubt about them is a warning; splits lie beside ``train.csv``."""

import numpy as np
import pytest
from corpus import LABELS, csv_text, faces_of

from fer_helpers.data.readers import load_faces
from fer_helpers.data.sources import LABELS_FILE
from fer_helpers.data.validation import check_class_shares, check_faces

AFFECTNET = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
RAF = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
FACES = faces_of(14)


def load(source):
    return load_faces(source, cache=False, progress=False)


def labelled(folder, labels, name="fer2013.csv"):
    """A CSV of small cost: equal faces but for a pixel."""
    images = np.tile(np.arange(48 * 48, dtype=np.uint8).reshape(48, 48) % 7, (len(labels), 1, 1))
    images[:, 0, 0], images[:, 0, 1] = np.arange(len(labels)) % 251, np.arange(len(labels)) // 251
    (folder / name).write_text(csv_text(images, labels, (["Training"] * 4 + ["PublicTest"]) * (len(labels) // 5)))
    return folder / name


def numbers(counts) -> list[int]:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts)).tolist()


@pytest.mark.parametrize(("coding", "first", "text"), [
    (AFFECTNET, 0, "".join(f"{number}: {name}\n" for number, name in enumerate(AFFECTNET))),
    (AFFECTNET, 0, f"[{', '.join(AFFECTNET)}]"),
    (RAF, 1, "".join(f"{number}: {name}\n" for number, name in enumerate(RAF, 1)))])
@pytest.mark.parametrize("alone", [True, False])
def test_another_order_of_numbers_is_read_as_the_file_beside_says(tmp_path, coding, first, text, alone):
    (tmp_path / "train.csv").write_text(csv_text(FACES, [label + first for label in LABELS], ["Training", "Test"] * 7))
    (tmp_path / LABELS_FILE).write_text(text)
    faces = load(tmp_path / "train.csv" if alone else tmp_path)
    assert [faces.classes[label] for label in faces.labels] == [coding[label] for label in LABELS]
    mapping = next(note for note in faces.notes if note.startswith("Numbered labels"))
    assert f"{first} {coding[0]}, {first + 1} {coding[1]}" in mapping and LABELS_FILE in mapping
    assert mapping in check_faces(faces).table()


def test_a_change_of_the_file_of_labels_is_seen_by_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "fer2013.csv"
    path.write_text(csv_text(FACES, LABELS, ["Training", "Test"] * 7))
    before = load_faces(path, progress=False)
    (path.parent / LABELS_FILE).write_text(f"[{', '.join(AFFECTNET)}]")
    after = load_faces(path, progress=False)
    assert before.classes[before.labels[0]] == "anger" and after.classes[after.labels[0]] == "neutral"


def test_rows_may_be_left_out_by_label(tmp_path):
    (tmp_path / "fer2013.csv").write_text(csv_text(FACES, [*LABELS[:-1], "contempt"], ["Training", "Test"] * 7))
    (tmp_path / LABELS_FILE).write_text("contempt: null\n")
    faces = load(tmp_path)
    assert len(faces) == 13 and "1 rows of fer2013.csv were left out" in " ".join(faces.notes)


@pytest.mark.parametrize(("counts", "words"), [
    ((149, 268, 51, 28, 13, 8, 53), "1 (disgust) makes up 48%"),  # AffectNet's shares in AffectNet's order
    ((40, 40, 40, 40, 40, 40, 40), "1 (disgust) makes up 14%"),
    ((70, 8, 71, 125, 85, 56, 0), "all but 6 occur"), ((70, 0, 71, 125, 85, 56, 88), "all but 1 occur")])
def test_numbers_unlike_those_of_fer2013_are_doubted(tmp_path, counts, words):
    faces = load(labelled(tmp_path, numbers(np.array(counts) // 5 * 5)))
    for findings in (check_faces(faces).findings, check_class_shares(faces)):
        assert [one for one in findings if one.level == "warning" and words in one.text]


def test_shares_of_fer2013_and_a_told_order_are_not_doubted(tmp_path):
    faces = load(labelled(tmp_path, numbers([70, 10, 70, 125, 85, 55, 85])))
    assert not [note for note in faces.notes if note.startswith("Doubtful")]
    assert any("0 anger, 1 disgust" in note and "as FER2013 numbers them" in note for note in faces.notes)
    (tmp_path / LABELS_FILE).write_text(f"[{', '.join(AFFECTNET)}]")
    faces = load(labelled(tmp_path, numbers([150, 265, 50, 25, 15, 10, 50])))
    assert not [note for note in faces.notes if note.startswith("Doubtful")]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(("name", "split"), [("test.csv", "test"), ("Validation.csv", "val"), ("testing.csv", "test")])
def test_labelled_rows_beside_train_csv_are_their_split(tmp_path, name, split, alone):
    (tmp_path / "train.csv").write_text(csv_text(FACES, LABELS))
    (tmp_path / name).write_text(csv_text(faces_of(7, seed=1), LABELS[:7]))
    if split == "val":
        (tmp_path / "test.csv").write_text(csv_text(faces_of(7, seed=2), LABELS[:7]))
    faces = load(tmp_path / "train.csv" if alone else tmp_path)
    assert faces.counts()[split].tolist() == [1] * 7 and faces.counts()["train"].tolist() == [2] * 7
    assert not any("no test split" in note for note in faces.notes)
    assert np.array_equal(faces.images[faces.split == split].numpy(), faces_of(7, seed=1))


def test_an_unlabelled_test_csv_beside_train_csv_is_left_out_and_noted(tmp_path):
    (tmp_path / "train.csv").write_text(csv_text(faces_of(70), LABELS * 5))
    (tmp_path / "test.csv").write_text("pixels\n" + " ".join(["1"] * 2304))
    faces = load(tmp_path)
    assert len(faces) == 70 and any("test.csv was left out: it has no column 'emotion'" in note for note in faces.notes)
