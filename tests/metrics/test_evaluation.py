import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from fer_helpers.data.emotions import CLASS_SETS
from fer_helpers.files import FerError
from fer_helpers.metrics.evaluation import Evaluation, calibration_bins, compare, compare_seeds, evaluate
from fer_helpers.metrics.intervals import Estimate


def answers(seed: int, count: int = 60, classes: int = 6, skill: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Random labels, and probabilities that know something of them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    logits = random.normal(size=(count, classes)) + skill * np.eye(classes)[labels]
    probs = np.exp(logits)
    return labels, probs / probs.sum(1, keepdims=True)


CASES = st.tuples(st.integers(0, 10**6), st.integers(1, 80), st.sampled_from([3, 6, 7]), st.floats(0, 5))


@given(CASES)
def test_every_number_is_that_of_scikit_learn(case):
    seed, count, classes, skill = case
    labels, probs = answers(seed, count, classes, skill)
    names, numbers, predicted = CLASS_SETS[classes], np.arange(classes), probs.argmax(1)
    scores = evaluate(labels, probs, names, bootstraps=20)
    assert scores.accuracy.value == pytest.approx(accuracy_score(labels, predicted))
    assert scores.macro_f1.value == pytest.approx(
        f1_score(labels, predicted, labels=numbers, average="macro", zero_division=0))
    np.testing.assert_array_equal(scores.confusion, confusion_matrix(labels, predicted, labels=numbers))
    expected = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0)
    for mine, theirs in zip((scores.precision, scores.recall, scores.f1), expected[:3], strict=True):
        assert list(mine) == list(names)
        np.testing.assert_allclose([estimate.value for estimate in mine.values()], theirs)
    assert scores.count == count


@given(CASES)
def test_every_interval_is_ordered_and_within_zero_and_one(case):
    seed, count, classes, skill = case
    scores = evaluate(*answers(seed, count, classes, skill), CLASS_SETS[classes], bootstraps=20)
    for estimate in (scores.accuracy, scores.macro_f1, scores.ece, scores.majority, *scores.recall.values(),
                     *scores.precision.values(), *scores.f1.values()):
        assert 0 <= estimate.low <= estimate.high <= 1 + 1e-12
        assert 0 <= estimate.value <= 1


def test_rates_are_the_rows_of_the_confusion_matrix():
    labels, probs = answers(1, 300)
    scores = evaluate(labels, probs, CLASS_SETS[6])
    shares = confusion_matrix(labels, probs.argmax(1), normalize="true")
    for row, true in enumerate(CLASS_SETS[6]):
        for column, predicted in enumerate(CLASS_SETS[6]):
            rate = scores.rate(true, predicted)
            assert rate.value == pytest.approx(shares[row, column])
            assert rate.low <= rate.value <= rate.high
    assert scores.rate("fear", "fear").value == pytest.approx(scores.recall["fear"].value)


def test_confusions_list_every_pair_most_frequent_first():
    labels, probs = answers(2, 300)
    scores = evaluate(labels, probs, CLASS_SETS[6])
    table = scores.confusions()
    assert list(table) == ["true", "predicted", "count", "of", "rate", "low", "high"]
    assert len(table) == 30
    assert (table["true"] != table["predicted"]).all()
    assert table["rate"].is_monotonic_decreasing
    np.testing.assert_allclose(table["rate"], table["count"] / table["of"])
    assert table["count"].sum() == 300 - np.trace(scores.confusion)


# ---------------------------------------------------------------- intervals

def test_intervals_of_the_accuracy_cover_the_truth_about_95_times_in_100():
    random, truth, covered = np.random.default_rng(0), 0.7, 0
    for trial in range(200):
        labels = random.integers(0, 3, 200)
        right = random.random(200) < truth
        predicted = np.where(right, labels, (labels + 1) % 3)
        accuracy = evaluate(labels, np.eye(3)[predicted], CLASS_SETS[3], bootstraps=300, seed=trial).accuracy
        covered += accuracy.low <= truth <= accuracy.high
    assert 0.9 * 200 <= covered <= 0.99 * 200


def test_intervals_of_a_recall_and_of_macro_f1_cover_the_truth():
    random = np.random.default_rng(1)
    chance = np.array([[0.8, 0.1, 0.1], [0.3, 0.5, 0.2], [0.1, 0.1, 0.8]])
    hits, answered = chance.diagonal(), chance.sum(0)
    truth = {"recall": 0.5, "macro": (2 * hits / (1 + answered)).mean()}
    covered = dict.fromkeys(truth, 0)
    for trial in range(150):
        labels = random.integers(0, 3, 200)
        predicted = (random.random((200, 1)) > chance.cumsum(1)[labels]).sum(1)
        scores = evaluate(labels, np.eye(3)[predicted], CLASS_SETS[3], bootstraps=300, seed=trial)
        for name, estimate in (("recall", scores.recall["fear"]), ("macro", scores.macro_f1)):
            covered[name] += estimate.low <= truth[name] <= estimate.high
    assert all(0.88 * 150 <= number <= 149 for number in covered.values()), covered


def test_intervals_shrink_with_the_root_of_the_number_of_images():
    widths = []
    for count in (200, 3200):
        accuracy = evaluate(*answers(0, count), CLASS_SETS[6]).accuracy
        widths.append(accuracy.high - accuracy.low)
    assert 3.3 < widths[0] / widths[1] < 4.8


def test_a_seed_gives_the_same_intervals():
    labels, probs = answers(0)
    first, again, other = (evaluate(labels, probs, CLASS_SETS[6], bootstraps=200, seed=seed).to_dict()
                           for seed in (0, 0, 1))
    assert first == again
    assert first != other


# ---------------------------------------------------------------- baselines

def test_baselines_are_the_majority_of_train_and_guessing():
    labels = np.array([0, 0, 0, 1, 2, 2, 2, 2, 2, 2])
    scores = evaluate(labels, np.eye(3)[labels], CLASS_SETS[3], majority=2)
    assert scores.majority.value == 0.6
    assert scores.majority.low < 0.6 < scores.majority.high
    assert evaluate(labels, np.eye(3)[labels], CLASS_SETS[3], majority=0).majority.value == 0.3
    assert scores.chance == pytest.approx(1 / 3)


# ---------------------------------------------------------------- calibration

@given(CASES)
def test_ece_is_the_weighted_gap_of_fifteen_bins(case):
    seed, count, classes, skill = case
    labels, probs = answers(seed, count, classes, skill)
    confidence, correct = probs.max(1), probs.argmax(1) == labels
    by_hand = 0.0
    for lower in range(15):
        inside = (confidence >= lower / 15) & ((confidence < (lower + 1) / 15) | (lower == 14))
        if inside.any():
            by_hand += inside.sum() / count * abs(correct[inside].mean() - confidence[inside].mean())
    assert evaluate(labels, probs, CLASS_SETS[classes], bootstraps=5).ece.value == pytest.approx(by_hand, abs=1e-9)


def test_calibration_bins_cover_all_images_and_leave_out_empty_bins():
    labels, probs = answers(0, 500)
    table = calibration_bins(labels, probs, bins=10)
    assert list(table) == ["images", "confidence", "accuracy"]
    assert table["images"].sum() == 500
    assert (table["images"] > 0).all()
    assert ((table["confidence"] * 10).astype(int) == table.index).all()
    assert (table["images"] * table["accuracy"]).sum() == pytest.approx((probs.argmax(1) == labels).sum())
    assert (table["images"] * table["confidence"]).sum() == pytest.approx(probs.max(1).sum())


def test_full_confidence_falls_into_the_last_bin():
    table = calibration_bins(np.array([0, 1]), np.eye(3)[[0, 0]])
    assert table.index.tolist() == [14]
    assert table.loc[14].tolist() == [2, 1, 0.5]


def test_an_overconfident_classifier_has_the_ece_of_its_overconfidence():
    labels = np.repeat([0, 1], 50)
    probs = np.tile([0.9, 0.05, 0.05], (100, 1))
    assert evaluate(labels, probs, CLASS_SETS[3]).ece.value == pytest.approx(0.4)


# ---------------------------------------------------------------- edges

def test_a_perfect_classifier_has_only_ones():
    labels = np.arange(60) % 6
    scores = evaluate(labels, np.eye(6)[labels], CLASS_SETS[6])
    assert scores.accuracy == Estimate(1, 1, 1)
    assert scores.macro_f1.value == 1
    assert scores.ece == Estimate(0, 0, 0)
    assert all(estimate.value == 1 for estimate in scores.f1.values())
    assert scores.confusions()["count"].sum() == 0


def test_a_class_without_images_scores_zero_without_a_warning():
    labels = np.array([0, 1, 0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = evaluate(labels, np.eye(3)[labels], CLASS_SETS[3])
        assert scores.recall["happiness"] == Estimate(0, 0, 0)
        assert scores.rate("happiness", "anger").value == 0
        assert scores.confusions()["of"].min() == 0
        assert scores.macro_f1.value == pytest.approx(2 / 3)
        assert scores.per_class().loc["happiness", "images"] == 0


def test_a_single_image_can_be_scored():
    scores = evaluate(np.array([1]), np.eye(3)[[1]], CLASS_SETS[3])
    assert scores.count == 1
    assert scores.accuracy.value == 1


@pytest.mark.parametrize(("labels", "probs"), [
    (np.array([], dtype=int), np.empty((0, 3))), (np.array([0, 1]), np.eye(3)), (np.array([0, 1]), np.eye(4)[:2]),
    (np.array([0, 1]), np.array([0.5, 0.5]))])
def test_shapes_that_do_not_belong_together_are_named(labels, probs):
    with pytest.raises(FerError, match=r"cannot score.*labels of 3 classes"):
        evaluate(labels, probs, CLASS_SETS[3])


# ---------------------------------------------------------------- text and storage

@given(CASES)
@settings(max_examples=10)
def test_an_evaluation_comes_back_from_json_as_it_was(case):
    seed, count, classes, skill = case
    scores = evaluate(*answers(seed, count, classes, skill), CLASS_SETS[classes], bootstraps=20)
    again = Evaluation.from_dict(json.loads(json.dumps(scores.to_dict(), allow_nan=False)))
    for name in ("classes", "accuracy", "macro_f1", "ece", "precision", "recall", "f1", "majority"):
        assert getattr(again, name) == getattr(scores, name)
    np.testing.assert_array_equal(again.confusion, scores.confusion)
    np.testing.assert_array_equal(again.rates, scores.rates)
    assert again.confusions().equals(scores.confusions())


def test_incomplete_metrics_are_refused():
    whole = evaluate(*answers(0), CLASS_SETS[6], bootstraps=20).to_dict()
    for name in whole:
        with pytest.raises(FerError, match="metrics are incomplete.*train the run again"):
            Evaluation.from_dict({key: value for key, value in whole.items() if key != name})
        with pytest.raises(FerError, match="metrics are incomplete"):
            Evaluation.from_dict(whole | {name: 3})


def test_estimates_print_with_their_interval():
    estimate = Estimate(0.65234, 0.6361, 0.668)
    assert str(estimate) == "0.652 [0.636, 0.668]"
    assert estimate.percent == "65.2% [63.6, 66.8]"


def test_tables_for_people_show_every_class_and_baseline():
    scores = evaluate(*answers(0), CLASS_SETS[6])
    table = scores.per_class()
    assert list(table.index) == list(CLASS_SETS[6])
    assert table.loc["fear", "recall"] == str(scores.recall["fear"])
    summary = scores.summary()
    assert summary["accuracy"] == str(scores.accuracy)
    assert summary["always the majority class"] == str(scores.majority)
    assert summary["chance"] == "0.167"
    assert summary["images"] == 60


# ---------------------------------------------------------------- comparison

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)


@given(PAIRS)
def test_the_comparison_is_the_exact_test_of_mcnemar(pairs):
    first, second = np.array(pairs).T
    result = compare(first, second)
    only_first, only_second = (first & ~second).sum(), (~first & second).sum()
    assert (result.only_first, result.only_second) == (only_first, only_second)
    expected = binomtest(int(only_first), int(only_first + only_second)).pvalue if only_first + only_second else 1
    assert result.p_value == pytest.approx(expected)
    assert result.difference.value == pytest.approx(first.mean() - second.mean())
    assert result.difference.low <= result.difference.high


@given(PAIRS)
def test_the_comparison_is_symmetric(pairs):
    first, second = np.array(pairs).T
    there, back = compare(first, second), compare(second, first)
    assert there.p_value == back.p_value
    assert there.difference.value == -back.difference.value
    assert (there.only_first, there.only_second) == (back.only_second, back.only_first)


def test_identical_answers_differ_by_nothing():
    correct = np.arange(100) % 3 > 0
    result = compare(correct, correct)
    assert result.p_value == 1
    assert result.difference == Estimate(0, 0, 0)


def test_pairing_counts_only_the_images_where_the_two_differ():
    random = np.random.default_rng(0)
    base = random.random(2000) < 0.7
    better = base | (random.random(2000) < 0.05)
    result = compare(better, base)
    assert result.p_value < 1e-3
    assert result.only_second == 0
    # Each accuracy alone is uncertain by ±2 points; paired, a gain of less than that is clear.
    assert 0.005 < result.difference.low < result.difference.value < result.difference.high < 0.03


@pytest.mark.parametrize(("first", "second"), [([True], [True, False]), ([], []), ([[True]], [True])])
def test_answers_to_different_images_are_refused(first, second):
    with pytest.raises(FerError, match="same images"):
        compare(np.array(first, bool), np.array(second, bool))


def seeded_answers(random: np.random.Generator, seeds: int, images: int, gain: float, spread: float
                   ) -> tuple[np.ndarray, np.ndarray]:
    """Answers of two methods: images have a difficulty in common, seeds a luck of their own."""
    difficulty, luck = random.normal(size=images), spread * random.normal(size=(2, seeds, 1))
    skill = np.array([gain, 0.0])[:, None, None] + luck
    return tuple(skill + difficulty + random.normal(size=(2, seeds, images)) > 0)


def test_the_interval_over_seeds_and_images_covers_the_true_difference():
    random, hits = np.random.default_rng(0), 0
    truth = np.mean([np.subtract(*(a.mean() for a in seeded_answers(random, 50, 2000, 0.3, 0.2))) for _ in range(40)])
    for trial in range(60):
        found = compare_seeds(*seeded_answers(random, 8, 150, 0.3, 0.2), seed=trial)
        hits += found.low <= truth <= found.high
    assert 51 <= hits <= 60


def test_seeds_that_disagree_widen_the_interval():
    random = np.random.default_rng(1)
    calm, moody = (compare_seeds(*seeded_answers(random, 5, 2000, 0.0, spread)) for spread in (0.0, 0.6))
    assert moody.high - moody.low > 2 * (calm.high - calm.low)


def test_with_one_seed_the_interval_is_that_of_the_images():
    first, second = seeded_answers(np.random.default_rng(2), 1, 800, 0.2, 0.0)
    pooled, paired = compare_seeds(first, second), compare(first[0], second[0]).difference
    assert pooled.value == pytest.approx(paired.value)
    assert (pooled.low, pooled.high) == pytest.approx((paired.low, paired.high), abs=0.006)


@pytest.mark.parametrize("shapes", [((2, 5), (2, 4)), ((5,), (5,)), ((0, 5), (0, 5))])
def test_answers_of_seeds_that_do_not_pair_are_refused(shapes):
    with pytest.raises(FerError, match="seeds, images"):
        compare_seeds(*(np.ones(shape, bool) for shape in shapes))
