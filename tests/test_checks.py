import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fer_helpers.checks import check_faces
from fer_helpers.data import FaceSet
from fer_helpers.emotions import EMOTIONS
from fer_helpers.readers import load_faces
from tests.corpus import faces_of

TWO = ("anger", "fear")


def set_of(images: np.ndarray, labels, split, classes=TWO, **more) -> FaceSet:
    names = np.array([f"face{number}" for number in range(len(images))], dtype=str)
    return FaceSet(torch.from_numpy(np.array(images, np.uint8)).reshape(-1, 48, 48),
                   torch.tensor(labels, dtype=torch.int64), names, np.array(split, dtype=str), classes, **more)


def sound(count: int = 8) -> FaceSet:
    """Half train, half test, both classes in each, nothing to complain about."""
    return set_of(faces_of(count), [0, 1] * (count // 2), ["train"] * (count // 2) + ["test"] * (count // 2))


def with_copy(faces: FaceSet, source: int, target: int) -> FaceSet:
    images = faces.images.clone()
    images[target] = images[source]
    return dataclasses.replace(faces, images=images)


def texts(report, level: str) -> str:
    return " ".join(finding.text for finding in report.findings if finding.level == level)


def test_sound_data_has_no_error_and_no_warning():
    report = check_faces(sound())
    assert report.ok and {finding.level for finding in report.findings} == {"info"}
    assert report.figures["leaked_test_images"] == report.figures["exact_groups"] == report.figures["near_groups"] == 0
    assert "always answering anger is right on 50.0% of test" in texts(report, "info")


def test_no_images_at_all_are_an_error():
    report = check_faces(set_of(np.empty((0, 48, 48)), [], []))
    assert not report.ok and "no images" in report.table() and json.dumps(report.to_dict())


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_missing_from_a_split_is_an_error(split):
    faces = sound()
    report = check_faces(faces.take((faces.split != split) | (faces.labels.numpy() == 0)))
    assert not report.ok and texts(report, "error") == f"Class fear has no {split} images."


def test_test_images_that_stand_in_train_or_val_are_leaks():
    faces = with_copy(with_copy(sound(), 0, 6), 1, 7)
    faces = dataclasses.replace(faces, split=np.where(np.arange(8) == 1, "val", faces.split))
    report = check_faces(faces)
    assert report.ok and report.figures["leaked_test_images"] == 2 and report.figures["leaked_test_share"] == 0.5
    assert report.figures["exact_groups_across"] == 2 and report.figures["exact_groups_in_train"] == 0
    assert report.findings[0].level == "warning" and report.findings[0].ids == ("face6", "face7")


def test_copies_within_a_split_are_counted_apart_from_leaks():
    figures = check_faces(with_copy(with_copy(sound(), 0, 2), 4, 6)).figures
    assert [figures[f"exact_groups_{place}"] for place in ("in_train", "in_test", "across")] == [1, 1, 0]
    assert figures["exact_groups"] == 2 and figures["exact_images"] == 4 and figures["leaked_test_images"] == 0


def test_identical_images_of_different_classes_are_a_conflict():
    report = check_faces(with_copy(sound(), 0, 3))
    assert report.figures["conflict_groups"] == 1 and report.figures["conflict_images"] == 2
    assert "carry different labels" in texts(report, "warning")


def test_near_copies_are_found_beyond_the_exact_ones():
    faces = sound()
    images = faces.images.clone()
    images[6] = (images[0].float() * 0.8 + 20).round().to(torch.uint8)  # the same picture, flatter and brighter
    report = check_faces(dataclasses.replace(faces, images=images))
    assert report.figures["near_groups"] == 1 and report.figures["near_images"] == 2
    assert report.figures["nearly_leaked_test_images"] == 1 and report.figures["leaked_test_images"] == 0


@pytest.mark.parametrize(("count", "level"), [(50, "error"), (400, "warning")])
def test_blank_images_are_an_error_only_from_one_percent_on(count, level):
    faces = sound(count)
    images = faces.images.clone()
    images[3] = 128
    images[3, 0, 0] = 129
    report = check_faces(dataclasses.replace(faces, images=images))
    assert report.figures["blank_images"] == 1 and report.ok == (level == "warning")
    finding = next(finding for finding in report.findings if "blank" in finding.text)
    assert finding.level == level and finding.ids == ("face3",)


def test_unequal_classes_are_a_warning():
    faces = set_of(faces_of(12), [0] * 8 + [1] + [0, 0, 1], ["train"] * 9 + ["test"] * 3)
    report = check_faces(faces)
    assert report.figures["imbalance"] == 8 and report.figures["majority_share_test"] == pytest.approx(2 / 3)
    assert "8.0 times the images of the smallest, fear" in texts(report, "warning")


def test_reading_notes_are_passed_on_and_the_worst_comes_first():
    faces = dataclasses.replace(with_copy(sound(), 0, 6), notes=("3 images were resized.",))
    images = faces.images.clone()
    images[1] = 0
    report = check_faces(dataclasses.replace(faces, images=images))
    levels = [finding.level for finding in report.findings]
    assert levels == sorted(levels, key=("error", "warning", "info").index) and levels[0] == "error"
    assert "3 images were resized." in texts(report, "info") and "For example face6" in report.table()


@given(data=st.data(), count=st.integers(1, 12))
def test_figures_agree_with_a_count_by_hand_on_any_set(data, count):
    draw = data.draw
    picture = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    split = draw(st.lists(st.sampled_from(["train", "val", "test"]), min_size=count, max_size=count))
    report = check_faces(set_of(faces_of(4)[picture], labels, split))
    members = {kind: [row for row in range(count) if picture[row] == kind] for kind in set(picture)}
    figures = report.figures
    assert figures["exact_groups"] == sum(len(rows) > 1 for rows in members.values())
    assert figures["exact_images"] == sum(len(rows) for rows in members.values() if len(rows) > 1)
    assert figures["leaked_test_images"] == sum(
        split[row] == "test" and any(split[other] != "test" for other in members[picture[row]]) for row in range(count))
    torn = [rows for rows in members.values() if len({labels[row] for row in rows}) > 1]
    assert (figures["conflict_groups"], figures["conflict_images"]) == (len(torn), sum(map(len, torn)))
    for part, side in (("train", {"train", "val"}), ("test", {"test"})):
        assert figures[f"exact_groups_in_{part}"] == sum(
            sum(split[row] in side for row in rows) > 1 for rows in members.values())
    assert json.loads(json.dumps(report.to_dict()))["figures"] == figures and report.table()


def test_real_faces_show_their_known_faults(real_data):
    report = check_faces(load_faces(None, progress=False))
    assert report.ok and report.counts.loc[list(EMOTIONS), "train"].sum() == 28558
    expected = {"leaked_test_images": 279, "exact_groups": 1270, "conflict_groups": 11, "blank_images": 0}
    assert {name: report.figures[name] for name in expected} == expected
    assert report.figures["leaked_test_share"] == pytest.approx(0.078, abs=0.0005)
    assert report.figures["majority_share_test"] == pytest.approx(0.249, abs=0.0005)
