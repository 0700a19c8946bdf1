import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss

from fer_helpers.data.emotions import CLASS_SETS
from fer_helpers.files import FerError
from fer_helpers.metrics import calibration
from fer_helpers.metrics.evaluation import evaluate


def calibrated(count: int, seed: int = 0, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the probabilities themselves."""
    random = np.random.default_rng(seed)
    probs = softmax(2 * random.normal(size=(count, classes)), axis=1)
    return (probs.cumsum(1) > random.random((count, 1))).argmax(1), probs


@pytest.mark.parametrize("true", [0.4, 1.0, 2.5])
def test_the_temperature_is_the_one_that_was_put_in(true):
    labels, probs = calibrated(6000)
    found = calibration.fit_temperature(labels, calibration.rescale(probs, 1 / true))
    assert found == pytest.approx(true, rel=0.06)


@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_rescaling_keeps_every_answer_and_undoes_itself(seed, temperature):
    _, probs = calibrated(30, seed)
    scaled = calibration.rescale(probs, temperature)
    assert np.allclose(scaled.sum(1), 1) and (scaled.argmax(1) == probs.argmax(1)).all()
    if temperature > 1:  # below, the smallest probabilities leave what can be represented
        assert np.allclose(calibration.rescale(scaled, 1 / temperature), probs, atol=1e-6)


def test_the_fitted_temperature_is_no_worse_than_its_neighbours_even_with_zeros():
    labels, probs = calibrated(300, 3)
    probs = np.where(probs < 0.01, 0, probs)
    best = calibration.fit_temperature(labels, probs)
    losses = [log_loss(labels, calibration.rescale(probs, best * factor)) for factor in (1, 0.95, 1.05)]
    assert losses[0] == min(losses)


def test_no_validation_image_is_an_error():
    with pytest.raises(FerError, match="val_fraction"):
        calibration.fit_temperature(np.array([], int), np.empty((0, 3)))


def test_labels_are_shares_that_are_all_one_persons():
    probs = np.random.default_rng(0).dirichlet([1, 2, 3], 50)
    labels = np.arange(50) % 3
    assert calibration.fit_temperature(labels, probs) == calibration.fit_temperature(np.eye(3)[labels], probs)


def test_the_change_of_calibration_error_is_that_of_the_two_scores_and_pairs_them():
    labels, probs = calibrated(1500, 4)
    sharp = calibration.rescale(probs, 0.5)
    change = calibration.ece_change(labels, sharp, probs)
    first, second = (evaluate(labels, values, CLASS_SETS[6]).ece for values in (sharp, probs))
    assert change.value == pytest.approx(second.value - first.value) and change.low < change.value < change.high < 0
    same = calibration.ece_change(labels, probs, probs, bootstraps=20)
    assert same.low == same.value == same.high == 0


def test_the_curve_of_a_case_worked_by_hand():
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7]])  # confidence 0.9, 0.6, 0.8, 0.7
    curve = calibration.risk_coverage(np.array([0, 0, 1, 1]), probs)     # right, right, wrong, right
    assert curve["coverage"].tolist() == [0.25, 0.5, 0.75, 1]
    assert curve["risk"].tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
    assert curve["confidence"].tolist() == [0.9, 0.8, 0.7, 0.6]
    assert calibration.aurc(np.array([0, 0, 1, 1]), probs).value == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_equal_confidence_says_nothing_whatever_the_order_of_the_images():
    probs = np.tile([0.8, 0.2], (10, 1))
    for labels in (np.arange(10) < 3, np.arange(10) >= 7):
        curve = calibration.risk_coverage(labels.astype(int), probs)
        assert np.allclose(curve["risk"], 0.3)


def test_the_area_is_small_where_confidence_knows_and_its_interval_holds_it():
    labels, probs = calibrated(800)
    random = np.random.default_rng(1)
    knowing = calibration.aurc(labels, probs)
    shuffled = probs.max(1)[random.permutation(800)]
    blind = np.where(np.eye(6)[probs.argmax(1)] == 1, shuffled[:, None], (1 - shuffled[:, None]) / 5)
    ignorant = calibration.aurc(labels, np.where(shuffled[:, None] > 1 / 2, blind, probs))
    assert knowing.low < knowing.value < knowing.high < ignorant.low
    # The width is that of repeated samples from the same source.
    values = [calibration.aurc(*calibrated(800, seed), bootstraps=2).value for seed in range(60)]
    assert knowing.high - knowing.low == pytest.approx(2 * 1.96 * np.std(values), rel=0.35)


def test_a_threshold_from_validation_keeps_its_share_of_the_test_images():
    _, val = calibrated(2000, 1)
    labels, probs = calibrated(2000, 2)
    table = calibration.selective_accuracy(val, labels, probs)
    assert list(table.index) == [0.5, 0.8, 1.0]
    assert np.allclose(table["coverage"], table.index, atol=0.04)
    assert table["value"].is_monotonic_decreasing and table.loc[1.0, "images"] == 2000
    assert table.loc[1.0, "value"] == pytest.approx((probs.argmax(1) == labels).mean())
    kept = probs.max(1) >= table.loc[0.5, "threshold"]
    assert table.loc[0.5, "value"] == pytest.approx((probs.argmax(1) == labels)[kept].mean())
    assert ((table["low"] < table["value"]) & (table["value"] < table["high"])).all()


def test_a_threshold_that_no_test_image_passes_leaves_no_accuracy():
    table = calibration.selective_accuracy(np.array([[0.99, 0.01]]), np.array([0]), np.array([[0.6, 0.4]]), (0.5,))
    assert table.loc[0.5, "images"] == 0 and np.isnan(table.loc[0.5, "value"])


@pytest.mark.parametrize("wanted", [0.6, 0.8, 0.9])
def test_sure_answers_reach_the_accuracy_that_was_asked_for_and_are_as_many_as_can_be(wanted):
    labels, probs = calibrated(1500, 4)
    found = calibration.calibrate(labels, probs, wanted)
    confident = calibration.rescale(probs, found.temperature).max(1)
    correct, sure = probs.argmax(1) == labels, confident >= found.threshold
    assert correct[sure].mean() >= wanted and sure.mean() == pytest.approx(found.coverage)
    lower = np.unique(confident[~sure])
    assert all(correct[confident >= threshold].mean() < wanted for threshold in lower)


def test_where_no_threshold_reaches_it_no_answer_is_sure():
    labels = np.zeros(20, int)
    found = calibration.calibrate(labels, np.tile([0.3, 0.7], (20, 1)))
    assert (found.threshold, found.coverage) == (1.0, 0.0)
    with pytest.raises(FerError, match="no validation image"):
        calibration.calibrate(labels[:0], np.empty((0, 2)))
