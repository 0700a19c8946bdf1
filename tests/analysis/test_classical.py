import dataclasses

import numpy as np
import pytest
import torch

from fer_helpers.analysis import classical
from fer_helpers.data.synthetic import make_faces
from fer_helpers.files import FerError
from fer_helpers.metrics.evaluation import compare, evaluate


@pytest.fixture(scope="module")
def drawn():
    return make_faces(400, test=100, copies=0.2, seed=3)


def test_the_classical_floor_learns_what_is_linear(faces):
    test = faces.split == "test"
    probs = classical.predict(classical.eigenface_regression(20), classical.pixels(faces.images), faces, ~test, test)
    result = evaluate(faces.labels.numpy()[test], probs, faces.classes)
    assert result.accuracy.low > result.majority.high and result.count == 42


def test_gradient_histograms_see_directions_and_no_brightness(faces):
    image = faces.images[:4]
    features = classical.hog_features(image)
    assert features.shape == (4, 800) and features.dtype == np.float32
    assert np.allclose(classical.hog_features(image // 2 + 60), features, atol=0.15)
    assert not np.allclose(classical.hog_features(image.transpose(1, 2)), features, atol=0.15)
    assert classical.hog_features(image[:0]).shape == (0, 800)


@pytest.mark.parametrize("model", [classical.eigenface_neighbour(20), classical.hog_svm(20),
                                   classical.hog_regression(20)])
def test_every_model_gives_probabilities_in_the_order_of_the_classes(model, faces):
    test = faces.split == "test"
    train = ~test & (faces.labels.numpy() != 2)  # a class without train images gets nothing
    probs = classical.predict(model, classical.pixels(faces.images), faces, train, test)
    assert probs.shape == (42, 7) and np.allclose(probs.sum(1), 1) and (probs[:, 2] == 0).all()
    labels = faces.labels.numpy()[test]
    assert (probs.argmax(1) == labels)[labels != 2].mean() > 0.8


def test_features_of_other_images_and_too_few_images_are_refused(faces):
    grey = classical.pixels(faces.images)
    test = faces.split == "test"
    with pytest.raises(FerError, match="153 rows of features for 154 images"):
        classical.predict(classical.hog_svm(), grey[1:], faces, ~test, test)
    with pytest.raises(FerError, match="112 images are too few for 150 principal components"):
        classical.predict(classical.hog_svm(), grey, faces, ~test, test)
    with pytest.raises(FerError, match="too few for 100"):
        classical.doubtful_labels(grey, faces.labels.numpy(), faces.groups, folds=2)
    with pytest.raises(FerError, match="a class has 1 images, too few for 5 folds"):
        classical.doubtful_labels(grey[:3], np.array([0, 0, 1]), np.arange(3))


def test_the_floors_answer_every_test_image_and_bear_unknown_statistics(drawn):
    statistics = np.random.default_rng(0).standard_normal((500, 3))
    statistics[5, 1] = np.nan
    floors = classical.classical_floors(drawn, statistics, classical.hog_features(drawn.images))
    assert len(floors) == 4 and all(probs.shape == (100, 7) for probs in floors.values())
    assert all(np.allclose(probs.sum(1), 1) for probs in floors.values())
    right = {name: (probs.argmax(1) == drawn.only("test").labels.numpy()).mean() for name, probs in floors.items()}
    assert right["HOG + linear SVM"] > right["image statistics + logistic regression"]


def test_every_pair_is_compared_once_from_its_better_side():
    answers = {"a": np.arange(300) % 3 > 0, "b": np.ones(300, bool), "c": np.arange(300) % 3 > 0}
    table = classical.compare_all(answers)
    assert len(table) == 3 and set(table["better"][:2]) == {"b"} and (table["value"] >= 0).all()
    assert table["value"][0] == pytest.approx(1 / 3) and table["p"][2] == 1
    assert table["p"][0] == pytest.approx(3 * compare(answers["b"], answers["a"]).p_value)


def test_a_learner_that_remembers_gains_from_copies_and_loses_it_without_them(drawn):
    grey = classical.pixels(drawn.images)
    leak = classical.measure_leak(classical.eigenface_neighbour(), grey, drawn)
    table = leak.table()
    assert leak.copied.sum() == 20 and table["images"].tolist() == [20, 20, 80, 100]
    assert table.loc["copies of train images", "value"] == pytest.approx(0.9)  # a tenth of the copies is mislabelled
    assert table.loc["the same, originals removed", "value"] < 0.6
    gain = leak.gain()
    assert gain.value == pytest.approx(table["value"]["all test images"] - table["value"]["all others"])
    assert gain.low > 0 and gain.low < gain.value < gain.high
    assert leak.removal().only_first >= 6


def test_without_copies_there_is_nothing_to_gain(drawn):
    leak = classical.measure_leak(classical.eigenface_neighbour(20), classical.pixels(drawn.clean_test().images),
                                  drawn.clean_test())
    assert not leak.copied.any() and list(leak.table().index) == ["all others", "all test images"]
    assert leak.gain().value == leak.gain().low == leak.gain().high == 0 and leak.removal().p_value == 1


def test_a_copy_in_val_counts_as_a_leak_because_val_is_learned_from_too(drawn):
    split = np.where(np.isin(drawn.groups, drawn.groups[drawn.split == "test"]) & (drawn.split == "train"), "val",
                     drawn.split)
    leak = classical.measure_leak(classical.eigenface_neighbour(), classical.pixels(drawn.images),
                                  dataclasses.replace(drawn, split=split))
    assert leak.copied.sum() == 20 and leak.correct[leak.copied].mean() == pytest.approx(0.9)


def separable(count=900):
    """Features that tell the class of 3, under a little noise."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, count)
    return np.eye(3)[labels] @ random.standard_normal((3, 120)) + 0.3 * random.standard_normal((count, 120)), labels


def test_labels_changed_on_purpose_are_found_where_the_features_tell_the_class():
    features, labels = separable()
    noisy, flipped = classical.flip_labels(labels, 0.1, 3)
    suspects = classical.doubtful_labels(features, noisy, np.arange(900))
    table = classical.detection(flipped, suspects.flagged)
    assert table.loc["precision", "low"] > 0.6 and table.loc["recall", "value"] > 0.9
    assert table.loc["guessing", "value"] == pytest.approx(0.1) and table.loc["recall", "images"] == 90
    assert set(np.argsort(suspects.quality)[:20]) <= set(np.flatnonzero(flipped))
    assert (suspects.suggestion[flipped] == labels[flipped]).mean() > 0.9


def test_a_copy_does_not_vouch_for_its_own_label():
    random = np.random.default_rng(0)
    features = np.repeat(random.standard_normal((150, 120)), 2, 0)  # noise, every image twice
    labels = np.repeat(np.r_[np.arange(150) % 3], 2)
    together = classical.doubtful_labels(features, labels, np.repeat(np.arange(150), 2))
    apart = classical.doubtful_labels(features, labels, np.arange(300))
    assert (together.suggestion == labels).mean() < 0.5 < 0.8 < (apart.suggestion == labels).mean()


def test_flipping_changes_exactly_the_marked_labels():
    labels = torch.arange(7).repeat(100).numpy()
    noisy, flipped = classical.flip_labels(labels, 0.05, 7)
    assert flipped.sum() == 35 and np.array_equal(noisy != labels, flipped)
    assert noisy.min() >= 0 and noisy.max() <= 6
    with pytest.raises(FerError, match="share=1 must"):
        classical.flip_labels(labels, 1, 7)
