import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fer_helpers.analysis.published import (
    CLASSES,
    FER2013_TRAIN,
    MATRICES,
    REPORTED,
    TEST_IMAGES,
    TRAIN_IMAGES,
    VALIDATION,
    compare_matrices,
    composition,
    constant_answer,
    last_quarter,
    published_curves,
    published_matrix,
    published_rate,
    recomputed,
    validation_hits,
    witness_matrix,
)
from fer_helpers.files import FerError
from fer_helpers.metrics.evaluation import evaluate
from fer_helpers.metrics.intervals import wilson

REPOSITORY = Path(__file__).parents[2]
CONFUSIONS = arrays(np.int64, (6, 6), elements=st.integers(0, 400)).map(lambda counts: counts + np.eye(6, dtype=int))


@pytest.fixture(autouse=True, scope="module")
def in_the_repository():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        yield


@pytest.fixture
def copied(clone):
    """The kept matrices, in a repository that a test may damage."""
    path = clone / "data" / "results" / MATRICES
    path.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / "data" / "results" / MATRICES, path)
    return path


def counts(arch):
    return published_matrix(arch).to_numpy()


def test_the_train_folder_is_anger_and_fear_in_full_and_a_part_of_happiness():
    table = composition()
    assert dict(table["in_train"]) == {"anger": 3995, "fear": 4097, "happiness": 1717, "neutral": 0, "sadness": 0,
                                       "surprise": 0}
    assert table["in_train"].sum() == TRAIN_IMAGES == 9809 and sum(FER2013_TRAIN.values()) == 28709
    assert ((table["in_train"] > 0) == (table["samples"] > 0)).all()  # empty figures: empty folders


def test_the_last_quarter_is_mostly_the_class_that_was_not_fitted():
    table = last_quarter()
    assert table["fit"].sum() == 7356 and table["validation"].sum() == 2453
    assert tuple(table.loc["happiness"]) == (0, 1717) and tuple(table.loc["fear"]) == (3361, 736)
    assert tuple(table.loc["anger"]) == (3995, 0) and not table.iloc[3:].any(axis=None)
    # The lines of training begin with 58 of 58 steps, those of the other networks with 77 of 77.
    assert (math.ceil(table["fit"].sum() / 128), math.ceil(TRAIN_IMAGES / 128)) == (58, 77)


def test_every_printed_validation_accuracy_is_a_whole_number_of_images_below_the_ceiling():
    table = validation_hits()
    assert list(table["hits"][:6]) == [159, 56, 137, 730, 2, 8]
    assert list(table["printed"]) == list(VALIDATION) and len(table) == 25 and table["agrees"].all()
    assert (table["value"] < table["ceiling"]).all() and table["ceiling"].map("{:.4f}".format).eq("0.3000").all()
    np.testing.assert_allclose(table["value"], np.array(VALIDATION, float), atol=5e-5)


def test_a_printed_accuracy_that_is_no_whole_number_of_images_would_show(monkeypatch):
    monkeypatch.setattr("fer_helpers.analysis.published.VALIDATION", ("0.0650", "8.1633e-04", "0.0648"))
    assert list(validation_hits()["agrees"]) == [False, False, True]


def test_the_reported_accuracies_follow_from_the_matrices():
    table = recomputed()
    assert dict(table["right"]) == {"vgg19": 1024, "simple_cnn": 1212, "resnet50": 1571}
    assert (table["images"] == TEST_IMAGES).all() and TEST_IMAGES == 7067
    assert dict(table["accuracy"].round(2)) == dict(table["reported"]) == REPORTED and table["agrees"].all()
    assert (table["held_images"] == 3756).all()
    assert table.loc["resnet50", "held_accuracy"] == pytest.approx(1571 / 3756)
    assert table.loc["resnet50", "empty"] == "sadness, surprise, neutral"
    assert table.loc["simple_cnn", "empty"] == "happiness, sadness, surprise, neutral"


def test_a_figure_that_does_not_follow_from_its_matrix_would_show(monkeypatch):
    monkeypatch.setitem(REPORTED, "resnet50", 0.23)
    assert dict(recomputed()["agrees"]) == {"vgg19": True, "simple_cnn": True, "resnet50": False}


def test_the_published_vgg19_gives_one_answer_at_that_classes_share():
    found = constant_answer()
    assert (found["answer"], found["answers"], found["images"]) == ("fear", 1, TEST_IMAGES)
    assert f"{found['test_share']:.2f}" == f"{REPORTED['vgg19']:.2f}"
    assert found["train_share"] == pytest.approx(4097 / 9809)
    assert found["train_low"] < found["train_share"] < found["train_high"]


def test_the_curves_have_every_printed_epoch():
    table = published_curves()
    assert dict(table.groupby("arch")["epoch"].max()) == {"vgg19": 10, "vgg16": 10, "resnet50": 10, "simple_cnn": 25}
    assert not table.isna().any(axis=None) and table[["loss", "accuracy"]].stack().between(0, 1).all()
    eighteenth = table.query("arch == 'simple_cnn' and epoch == 18").iloc[0]
    assert (eighteenth["loss"], eighteenth["accuracy"]) == (0.2165, 0.6279)
    assert list(table.query("arch == 'resnet50'")["accuracy"])[-2:] == [0.7521, 0.8165]


def test_matrices_are_true_by_predicted_classes():
    assert [list(axis) for axis in published_matrix("resnet50").axes] == [list(CLASSES)] * 2
    assert published_matrix("resnet50").loc["happiness", "fear"] == 687
    assert witness_matrix().loc["fear", "surprise"] == 32 and witness_matrix().shape == (7, 7)
    assert np.trace(witness_matrix()) / 3589 == pytest.approx(0.7328, abs=5e-5)  # as that project states it


def test_a_published_rate_has_its_direction():
    called_fear, called_happy = published_rate("resnet50", "happiness", "fear"), published_rate(
        "resnet50", "fear", "happiness")
    assert (called_fear, called_happy) == (wilson(687, 1774), wilson(21, 1024))
    with pytest.raises(FerError, match="disgust: no class of the study; choose of anger"):
        published_rate("resnet50", "disgust", "fear")
    with pytest.raises(FerError, match="'vgg16': the study shows a confusion matrix of vgg19"):
        published_rate("vgg16", "fear", "happiness")


@pytest.mark.parametrize("arch", REPORTED)
def test_a_matrix_is_no_distance_from_itself(arch):
    found = compare_matrices(arch, [counts(arch)])
    assert found.distance.value == found.distance.low == 0 and found.distance.high < 0.02
    assert found.within.all() and found.compatible.all() and (found.reproduced == found.published).all()
    assert found.accuracy.value == found.published_accuracy.value == recomputed().loc[arch, "accuracy"]
    assert found.reported == REPORTED[arch] and found.noise.low <= found.noise.value <= found.noise.high < 0.05


def test_one_class_answered_otherwise_is_far():
    flipped = counts("resnet50").copy()
    flipped[2] = flipped[2, ::-1]
    found = compare_matrices("resnet50", [flipped])
    assert found.distance.value == pytest.approx(1 / 6) and found.distance.low > found.noise.high
    assert not found.within[2].any() and found.within[[0, 1, 3, 4, 5]].all()
    assert (found.compatible == found.within).all()


def test_images_alone_explain_a_smaller_test_set():
    random = np.random.default_rng(1)
    rates = counts("resnet50") / counts("resnet50").sum(1, keepdims=True)
    found = compare_matrices("resnet50", [random.multinomial([467, 496, 895, 653, 415, 607], rates)])
    assert found.noise.low < found.distance.value < found.noise.high and found.compatible.mean() > 0.9


def test_the_mean_over_seeds_may_miss_a_run_that_one_seed_could_be():
    rates, rows = np.full((6, 6), 1 / 6), np.full(6, 600)
    rates[2] = 0.4, 0.6, 0, 0, 0, 0
    seeds = [np.rint(rates * rows[:, None]).astype(int) for _ in range(12)]
    for number, seed in enumerate(seeds):
        seed[2, :2] = (192, 408) if number % 2 else (408, 192)
    found = compare_matrices("simple_cnn", seeds)
    assert found.published[2, 0] == pytest.approx(0.32, abs=0.001) and found.seeds == 12
    assert found.reproduced[2, 0] == pytest.approx(0.5) and not found.within[2, 0] and found.compatible[2, 0]


def test_seeds_widen_an_interval_and_more_images_narrow_it():
    one = np.full((6, 6), 50)
    other = one + 30 * np.eye(6, dtype=int) - 30 * np.roll(np.eye(6, dtype=int), 1, 1)

    def width(*seeds):
        found = compare_matrices("resnet50", seeds).accuracy
        return found.high - found.low

    assert width(one, other) > 2 * width(one) and width(one * 16) == pytest.approx(width(one) / 4, rel=0.15)
    assert width(one, one) == pytest.approx(width(one), rel=0.1)  # the same images, so nothing is gained


@given(CONFUSIONS, st.integers(1, 4), st.sampled_from(list(REPORTED)))
def test_rates_and_distances_lie_in_their_intervals_from_0_to_1(drawn, count, arch):
    seeds = [np.roll(drawn, number, axis=1) for number in range(count)]  # as many images in each row
    found = compare_matrices(arch, seeds)
    table = found.cells()
    assert table[["published", "reproduced", "low", "high"]].stack().between(0, 1).all()
    assert (table["published_low"] <= table["published"]).all() and (
        table["published"] <= table["published_high"]).all()
    assert (table["low"] <= table["reproduced"] + 1e-9).all() and (table["reproduced"] <= table["high"] + 1e-9).all()
    assert (table["within"] == table["published"].between(table["low"], table["high"])).all()
    for number in (found.distance, found.noise, found.accuracy):
        assert 0 <= number.low <= number.value + 1e-9 and number.value <= number.high + 1e-9 and number.high <= 1
    assert found.accuracy.value == pytest.approx(np.mean([np.trace(seed) for seed in seeds]) / drawn.sum())


def test_cells_name_true_and_predicted_classes():
    cell = compare_matrices("resnet50", [counts("resnet50")]).cells().query(
        "true == 'happiness' and predicted == 'fear'").iloc[0]
    published = published_rate("resnet50", "happiness", "fear")
    assert (cell["published"], cell["published_low"], cell["published_high"]) == pytest.approx(
        (published.value, published.low, published.high))
    assert cell["low"] < cell["reproduced"] < cell["high"]


def test_the_confusion_of_an_evaluation_can_be_compared():
    labels = np.repeat(np.arange(6), 20)
    scores = evaluate(labels, np.eye(6)[np.full(120, 1)], CLASSES)
    found = compare_matrices("vgg19", [scores.confusion, scores.confusion])
    assert found.distance.value == 0 and found.within.all() and found.accuracy.value == scores.accuracy.value


@pytest.mark.parametrize("wrong", [[], np.eye(6, dtype=int), [np.eye(7, dtype=int)],
                                   [np.eye(6, dtype=int), np.eye(5, dtype=int)]])
def test_matrices_of_another_shape_are_refused(wrong):
    with pytest.raises(FerError, match=r"list of \(6, 6\) confusion matrices"):
        compare_matrices("vgg19", wrong)


@pytest.mark.parametrize("wrong", [[np.eye(6)], [np.eye(6, dtype=int), 2 * np.eye(6, dtype=int)],
                                   [np.diag([1, 1, 1, 1, 1, 0])], [2 * np.eye(6, dtype=int) - np.eye(6, k=1, dtype=int)
                                                                   - np.eye(6, k=-5, dtype=int)]])
def test_rates_other_images_and_empty_classes_are_refused(wrong):
    with pytest.raises(FerError, match="count the same images for every seed"):
        compare_matrices("vgg19", wrong)


def test_a_missing_file_is_named(copied):
    assert counts("vgg19").sum() == TEST_IMAGES
    copied.unlink()
    with pytest.raises(FerError, match=r"published_matrices\.csv: is missing; start in a clone of"):
        published_matrix("vgg19")


@pytest.mark.parametrize("before, after", [
    ("fear,344,0,659", "fear,345,0,659"),  # another number of images
    ("fear,344,0,659", "fear,-344,0,1347"),
    ("fear,344,0,659", "fear,3.5,0,659"),
    ("fear,344,0,659", "fear,,0,659"),
    ("fear,344,0,659", "anger,344,0,659"),
    ("fear,344,0,659", "contempt,344,0,659"),
    ("research ResNet50", "research ResNet 50"),
    ("anger,disgust,fear,happiness", "anger,disgust,fear,joy"),
    ("fear,344,0,659", "fear,344,0,659,1,1,1,1,1"),
])
def test_a_damaged_file_is_named(copied, before, after):
    text = copied.read_text(encoding="utf-8")
    assert before in text
    copied.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(FerError, match=r"published_matrices\.csv: its matrices are damaged .*restore it"):
        published_matrix("resnet50")


def test_an_empty_file_is_named(copied):
    copied.write_text("", encoding="utf-8")
    with pytest.raises(FerError, match=r"published_matrices\.csv: its matrices are damaged"):
        witness_matrix()
