"""The votes of FER+ are joined to the images they belong to, or it is said why not."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from corpus import csv_text, faces_of, png, votes_text, write_tree

from fer_helpers.data.emotions import EMOTIONS, VOTE_COLUMNS
from fer_helpers.data.faceset import FaceSet
from fer_helpers.data.readers import load_faces
from fer_helpers.data.sources import VOTES_FILE, Table
from fer_helpers.data.votes import join_votes
from fer_helpers.files import FerError

UNKNOWN = VOTE_COLUMNS.index("unknown")
USAGES = ["Training"] * 30 + ["PublicTest"] * 15 + ["PrivateTest"] * 15
LABELS = np.random.default_rng(0).integers(0, 7, 60)
PIXELS = [png(face, "JPEG") for face in faces_of(60)]


def votes_for(labels) -> np.ndarray:
    """Most are for the label, of every fourth image for another; the number of its row is that of ``unknown``."""
    votes = np.zeros((len(labels), len(VOTE_COLUMNS)), int)
    for row, label in enumerate(labels):
        votes[row, VOTE_COLUMNS.index(EMOTIONS[(label + (row % 4 == 3)) % 7])] = 900
    votes[:, UNKNOWN] = np.arange(len(labels)) % 800
    return votes


VOTES = votes_text([f"fer{row:07d}.png" for row in range(60)], USAGES, votes_for(LABELS))


def load(source, **options):
    return load_faces(source, cache=False, progress=False, **options)


def rows_of(faces) -> list[int]:
    """The row of the table that each image got its votes from, -1 for none."""
    return faces.votes[:, UNKNOWN].nan_to_num(-1).int().tolist()


def test_votes_beside_the_images_are_joined_by_name(tmp_path):
    root = write_tree(tmp_path / "data")
    votes = np.arange(30).reshape(3, 10)
    (tmp_path / VOTES_FILE).write_text(votes_text(["fer0000002.png", "fer0000000.png", "fer9999999.png"], votes=votes))
    faces = load(root)
    assert faces.votes.shape == (8, len(VOTE_COLUMNS)) and faces.votes.dtype == torch.float32
    assert faces.votes[faces.ids == "fer0000002"].tolist() == [votes[0].tolist()]
    assert int(faces.votes.isnan().all(1).sum()) == 6 and "joined to 2 of 8 images" in faces.notes[0]
    (root / VOTES_FILE).write_text(votes_text(["fer0000001.png"]))  # nearer, so it wins
    assert "joined to 1 of 8" in load(root).notes[0]


def pictures(root, name):
    """A picture for each row, called ``name`` (row, usage, its place among those of its usage)."""
    for row, (label, usage) in enumerate(zip(LABELS, USAGES, strict=True)):
        path = root / ("train" if row < 30 else "test") / EMOTIONS[label] / f"{name(row, usage)}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PIXELS[row])
    (root / VOTES_FILE).write_text(VOTES)
    return root


@pytest.mark.parametrize("name", [
    lambda row, usage: f"{usage}_{row}", lambda row, usage: f"{usage}_{row - USAGES.index(usage):05d}",
    lambda row, usage: f"{'train' if row < 30 else 'test'}_{row % 30}", lambda row, usage: str(row)],
    ids=["rows", "rows of a usage", "rows of a split", "plain numbers"])
def test_votes_are_joined_to_pictures_whose_numbers_are_rows(name, tmp_path):
    faces = load(pictures(tmp_path, name))
    rows = {name(row, usage): row for row, usage in enumerate(USAGES)}
    assert rows_of(faces) == [rows[one] for one in faces.ids] and "joined to 60 of 60" in " ".join(faces.notes)


BY_CLASS = np.argsort(np.argsort(LABELS, kind="stable"))


@pytest.mark.parametrize(("name", "reason"), [
    (lambda row, usage: f"Training_{BY_CLASS[row]}", "no more often than by chance"),
    (lambda row, usage: f"{BY_CLASS[row]:04d}", "no more often than by chance"),
    (lambda row, usage: f"Training_{59 - row}", "no more often than by chance"),
    (lambda row, usage: f"{usage}_{row + 10**6}", "are not rows of fer2013.csv"),
    (lambda row, usage: f"{usage}_{row + 10**8}", "other names")],
    ids=["by class", "plain, by class", "backwards", "too large", "Kaggle's eight digits"])
def test_numbers_that_are_no_rows_get_no_votes_and_the_error_says_why(name, reason, tmp_path):
    faces = load(pictures(tmp_path, name))
    assert faces.votes is None
    with pytest.raises(FerError) as caught:
        faces.vote_shares()
    assert reason in str(caught.value) and VOTES_FILE in str(caught.value) and "must lie" not in str(caught.value)
    with pytest.raises(FerError, match=f"{reason}.*choose the table of this data"):
        load(tmp_path, votes=tmp_path / VOTES_FILE)


def csvs(root, files, order=None, usages=None):
    """CSVs, each of some rows."""
    for name, rows in files.items():
        rows = np.arange(60)[rows] if order is None else order[rows]
        (root / name).write_text(csv_text(faces_of(60)[rows], LABELS[rows], usages))
    (root / VOTES_FILE).write_text(VOTES)
    return root


@pytest.mark.parametrize(("files", "usages"), [
    ({"fer2013.csv": slice(60)}, USAGES), ({"train.csv": slice(30), "test.csv": slice(30, 60)}, None),
    ({"train.csv": slice(30), "test.csv": slice(45, 60), "val.csv": slice(30, 45)}, None),
    ({"train.csv": slice(60)}, None)], ids=["fer2013.csv", "train and test", "train, val and test", "all as train"])
def test_votes_are_joined_to_the_rows_of_csvs(files, usages, tmp_path):
    faces = load(csvs(tmp_path, files, usages=usages))
    assert rows_of(faces) == [row for rows in files.values() for row in np.arange(60)[rows]]


@pytest.mark.parametrize("rows", [slice(30, 59), slice(31, 60)])
def test_rows_of_a_test_csv_that_lacks_one_get_no_votes_and_the_note_says_why(rows, tmp_path):
    faces = load(csvs(tmp_path, {"train.csv": slice(30), "test.csv": rows}))
    assert rows_of(faces) == [*range(30), *[-1] * 29]
    assert "joined to 30 of 59 images, not to the others (no part of it" in " ".join(faces.notes)


@pytest.mark.parametrize(("files", "order", "usages", "reason"), [
    ({"fer2013.csv": slice(60)}, np.random.default_rng(1).permutation(60), USAGES, "no more often than by chance"),
    ({"train.csv": slice(30)}, np.arange(60)[::-1], None, "no more often than by chance"),
    ({"train.csv": slice(29)}, None, None, "such as the 30 for Training, has 29 rows")])
def test_rows_of_csvs_in_another_order_or_number_get_no_votes(files, order, usages, reason, tmp_path):
    faces = load(csvs(tmp_path, files, order, usages))
    assert faces.votes is None and reason in " ".join(faces.notes)


def numbered(count: int, gap: int) -> tuple[FaceSet, Table]:
    """Black faces called Training_0 and on, and a table in which a row at ``gap`` is missing."""
    labels = np.random.default_rng(2).integers(0, 7, count)
    kept = np.delete(labels, gap) if gap < count else labels
    black, ids = torch.zeros(1, 48, 48, dtype=torch.uint8), [f"Training_{number}" for number in range(len(kept))]
    faces = FaceSet(black.expand(len(kept), -1, -1), torch.from_numpy(kept), np.array(ids),
                    np.full(len(kept), "train"), EMOTIONS)
    text = votes_text([""] * count, votes=votes_for(labels)).encode()
    return faces, Table("votes.csv", "", lambda: io.BytesIO(text))


@pytest.mark.parametrize(("gap", "joined"), [(3000, True), (2999, True), (2000, False), (700, False), (0, False)])
def test_one_picture_that_was_left_out_before_numbering_costs_all_votes(gap, joined):
    faces = join_votes(*numbered(3000, gap), by_row=False, required=False)
    assert (faces.votes is not None) == joined


BAD_VOTES = {
    "empty": ("", "no column"), "column missing": (VOTES.replace(",NF", ",nothing"), "no column nf"),
    "word": (VOTES.replace(",900,", ",ten,", 1), "line 2"), "negative": (VOTES.replace(",900,", ",-1,", 1), "line 2"),
    "nan": (VOTES.replace(",900,", ",nan,", 1), "line 2"), "cut short": (VOTES.rstrip()[:-4], "line 61"),
    "contradiction": (votes_text(["a.png", "a.png"], votes=np.arange(20).reshape(2, 10)), "line 3: a.png"),
}


@pytest.mark.parametrize("kind", BAD_VOTES)
def test_a_broken_vote_table_is_refused_by_name(tmp_path, kind):
    text, place = BAD_VOTES[kind]
    (write_tree(tmp_path) / VOTES_FILE).write_text(text)
    with pytest.raises(FerError, match=rf"(?s){VOTES_FILE}.*{place}.*fetch {VOTES_FILE}"):
        load(tmp_path)


def test_real_images_get_the_same_votes_by_number_as_by_name(real_data):
    known = load_faces(None)
    order = known.take(np.argsort(known.ids))  # that of the table, which has no other rows than theirs and three more
    table = next(path for path in (real_data / VOTES_FILE, real_data.parent / VOTES_FILE) if path.is_file())
    names = [line.split(",")[1] for line in table.read_text().splitlines()[1:]]
    rows = {name.removesuffix(".png"): row for row, name in enumerate(names)}
    usage = np.where(order.split == "train", "Training", "PublicTest")
    by_row = np.array([f"{one}_{rows[name]}" for one, name in zip(usage, order.ids, strict=True)])
    by_class = np.empty(len(order), "<U20")
    by_class[np.argsort(order.labels.numpy(), kind="stable")] = [f"Training_{row}" for row in range(len(order))]
    found, none = (join_votes(replace(order, ids=ids, votes=None), Table("votes", "", lambda: table.open("rb")), False,
                              False) for ids in (by_row, by_class))
    assert torch.equal(found.votes, order.votes) and none.votes is None
