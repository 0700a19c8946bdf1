import dataclasses
import json

import numpy as np
import pytest
import torch
from corpus import faces_of
from hypothesis import given
from hypothesis import strategies as st

from fer_helpers.data.emotions import CLASS_SETS, EMOTIONS
from fer_helpers.data.faceset import FaceSet
from fer_helpers.data.readers import load_faces
from fer_helpers.data.synthetic import make_faces
from fer_helpers.data.validation import check_class_shares, check_faces

TWO = ("anger", "fear")


def set_of(images: np.ndarray, labels, split, classes=TWO, **more) -> FaceSet:
    names = np.array([f"face{number}" for number in range(len(images))], dtype=str)
    return FaceSet(torch.from_numpy(np.array(images, np.uint8)).reshape(-1, 48, 48),
                   torch.tensor(labels, dtype=torch.int64), names, np.array(split, dtype=str), classes, **more)


def sound(count: int = 8) -> FaceSet:
    """Half train, half test, both classes in each, nothing to complain about."""
    return set_of(faces_of(count), [0, 1] * (count // 2), ["train"] * (count // 2) + ["test"] * (count // 2))


def counted(classes, **counts) -> FaceSet:
    """Images that nobody looks at: so many of each class in each of the splits named."""
    labels = np.concatenate([np.repeat(np.arange(len(classes)), numbers) for numbers in counts.values()])
    split = np.repeat(list(counts), [sum(numbers) for numbers in counts.values()])
    return set_of(np.zeros((len(labels), 48, 48), np.uint8), labels, split, classes)


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


#: Six classes as the original study's train folder held them, and as its test folder did.
STUDY = {"train": (3995, 4097, 1717, 0, 0, 0), "test": (958, 1024, 1774, 1247, 831, 1233)}


@pytest.mark.parametrize("label", [0, 1])
def test_a_class_without_test_images_is_an_error(label):
    faces = sound()
    report = check_faces(faces.take((faces.split != "test") | (faces.labels.numpy() != label)))
    assert not report.ok and report.figures["classes_missing_in_test"] == 1
    assert texts(report, "error").startswith(f"Test holds no image of {TWO[label]}: ")


@pytest.mark.parametrize(("classes", "counts", "start", "missing", "lost"), [
    (CLASS_SETS[6], STUDY, "sadness, surprise, neutral, 46.9% of test (3,311 images): ", 3, 3311),
    (TWO, {"train": (3, 0), "test": (3, 1)}, "fear, 25.0% of test (1 image): ", 1, 1),
    (TWO, {"train": (9, 0), "val": (0, 9), "test": (3, 5)}, "fear, 62.5% of test (5 images): ", 1, 5)])
def test_test_images_of_a_class_that_train_lacks_are_an_error(classes, counts, start, missing, lost):
    faces = counted(classes, **counts)
    first, figures = check_class_shares(faces)[0], check_faces(faces).figures
    assert first.level == "error" and first.text.startswith(f"Train holds no image of {start}")
    assert figures["classes_missing_in_train"] == missing and figures["unanswerable_test_images"] == lost
    assert figures["unanswerable_test_share"] == pytest.approx(lost / sum(counts["test"]))
    assert first in check_faces(faces).findings


@pytest.mark.parametrize(("classes", "counts", "start", "ratio", "unlike"), [
    (CLASS_SETS[6], STUDY, "Of the classes in both, happiness is 17.5% of train but 47.2% of test, anger is 40.7% of "
                           "train but 25.5% of test: ", 2.698, 3),
    (CLASS_SETS[3], {split: counts[:3] for split, counts in STUDY.items()},
     "Happiness is 17.5% of train but 47.2% of test, anger is 40.7% of train but 25.5% of test: ", 2.698, 3),
    (TWO, {"train": (800, 100), "val": (100, 0), "test": (700, 300)},
     "Fear is 10.0% of train but 30.0% of test: ", 3, 1)])
def test_a_class_whose_share_differs_between_train_and_test_is_a_warning(classes, counts, start, ratio, unlike):
    report = check_faces(counted(classes, **counts))
    warning = check_class_shares(counted(classes, **counts))[-1]
    assert warning.level == "warning" and warning.text.startswith(start) and warning in report.findings
    assert report.figures["share_ratio"] == pytest.approx(ratio, abs=0.001)
    assert report.figures["classes_of_unlike_share"] == unlike


@pytest.mark.parametrize("counts", [
    {"train": (4000, 6000), "test": (5000, 5000)},  # certain, but little
    {"train": (6, 2), "test": (2, 6)},  # much, but it may be chance
    {"train": (900, 100), "val": (0, 400), "test": (900, 500)},  # alike with val, which is taken from train
    {"train": (3963, 439, 4077, 7186, 4932, 4805, 3156), "test": (467, 56, 496, 891, 604, 652, 413)}])  # FER2013
def test_shares_that_differ_little_or_by_chance_are_no_finding(counts):
    faces = counted(TWO if len(counts["train"]) == 2 else EMOTIONS, **counts)
    assert not check_class_shares(faces) and check_faces(faces).figures["classes_of_unlike_share"] == 0


def test_the_classes_of_the_drawn_faces_are_alike_in_train_and_test():
    faces = make_faces(1000, test=200, seed=1)
    assert not check_class_shares(faces) and not check_class_shares(faces.with_classes(3))


@pytest.mark.parametrize(("train", "smallest"), [((8, 4, 0), "2.0 times the images of the smallest, fear"),
                                                 ((0, 3, 9), "3.0 times the images of the smallest, fear")])
def test_a_missing_class_is_not_also_called_the_smallest(train, smallest):
    assert smallest in texts(check_faces(counted(CLASS_SETS[3], train=train, test=(5, 5, 5))), "info")


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


@pytest.mark.parametrize(("names", "shared"), [
    (["S001_001_00000001", "S001_001_00000002", "S002_001_00000001", "S002_002_00000009"], 0),
    (["S001_001_00000001", "S002_001_00000002", "S001_003_00000001", "S003_002_00000009"], 1),
    (["KA.AN1.39", "KL.FE1.40", "KL.AN1.41", "KA.FE2.42"], 2),
])
def test_persons_in_both_train_and_test_are_a_warning(names, shared):
    faces = dataclasses.replace(sound(4), ids=np.array(names))
    report = check_faces(faces)
    assert report.figures["subjects_across"] == shared and report.figures["subjects"] == len(set(faces.subjects))
    assert (f"{shared} image{'' if shared == 1 else 's'} of test" in texts(report, "warning")) == (shared > 0)
    assert ("subject-independent" in texts(report, "info")) == (shared == 0)


def test_augmented_copies_in_test_are_a_warning_where_they_are_asked_for():
    faces = make_faces(60, test=30, seed=4)
    images, test = faces.images.clone(), np.flatnonzero(faces.split == "test")
    images[test[:3]] = images[:3].flip(-1)
    images[test[3:5]] = torch.roll(images[3:5], (2, -1), (1, 2))
    images[test[5]] = images[5]  # found as it is: not counted again
    faces = dataclasses.replace(faces, images=images)
    report, hasty = check_faces(faces, augmented=True), check_faces(faces)
    assert report.figures["augmented_test_images"] == 5 and report.figures["mirrored_test_images"] == 3
    assert "5 images of test (16.7%) are copies of images in train" in texts(report, "warning")
    assert "not those upside down, stretched" in texts(report, "info")
    assert "were not looked for" in texts(hasty, "info") and "augmented_test_images" not in hasty.figures


def test_where_names_tell_no_person_the_check_says_that_it_cannot_know():
    report = check_faces(sound())
    assert "whether one person stands in both train and test cannot be known" in texts(report, "info")
    assert "subjects" not in report.figures


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
    shown = list(zip(split, labels, strict=True))
    assert figures["classes_missing_in_test"] == sum(("test", label) not in shown for label in (0, 1))
    assert figures["unanswerable_test_images"] == sum(
        where == "test" and ("train", label) not in shown for where, label in shown)
    for part, side in (("train", {"train", "val"}), ("test", {"test"})):
        assert figures[f"exact_groups_in_{part}"] == sum(
            sum(split[row] in side for row in rows) > 1 for rows in members.values())
    assert json.loads(json.dumps(report.to_dict()))["figures"] == figures and report.table()


def test_real_faces_show_their_known_faults(real_data):
    faces = load_faces(None, progress=False)
    report = check_faces(faces)
    assert not check_class_shares(faces) and report.figures["share_ratio"] < 1.1
    assert report.ok and report.counts.loc[list(EMOTIONS), "train"].sum() == 28558
    expected = {"leaked_test_images": 279, "exact_groups": 1270, "conflict_groups": 11, "blank_images": 0}
    assert {name: report.figures[name] for name in expected} == expected
    assert report.figures["leaked_test_share"] == pytest.approx(0.078, abs=0.0005)
    assert report.figures["majority_share_test"] == pytest.approx(0.249, abs=0.0005)
