import numpy as np
import pandas as pd
import pytest

from fer_helpers import narrative
from fer_helpers.evaluation import Estimate, compare, evaluate

CLASSES = ("anger", "fear", "happiness")


def scores(labels, predicted, majority=2):
    return evaluate(np.array(labels), np.eye(3)[predicted], CLASSES, majority)


def test_a_list_reads_as_english():
    assert narrative.listing(["a"]) == "a"
    assert narrative.listing(["a", "b"]) == "a and b"
    assert narrative.listing(["a", "b", "c"]) == "a, b and c"
    assert narrative.listing([]) == "none"


@pytest.mark.parametrize(("predicted", "verdict"), [
    ([0, 1, 2] * 40, "beats"), ([2, 2, 2] * 40, "cannot be told apart from"), ([1, 2, 0] * 40, "is worse than")])
def test_the_verdict_against_the_majority_class_follows_the_intervals(predicted, verdict):
    result = scores([0, 1, 2] * 40, predicted)
    text = narrative.versus_baseline("The network", result)
    assert verdict in text and result.accuracy.percent in text and "120 images" in text
    assert narrative.beats_majority(result) == (verdict == "beats")


def test_the_most_frequent_confusion_is_named_first_with_its_interval():
    labels = [0] * 10 + [1] * 10 + [2] * 10
    predicted = [0] * 10 + [2] * 7 + [1] * 3 + [2] * 9 + [0]
    text = narrative.top_confusions(scores(labels, predicted), 2)
    assert text.startswith("fear is called happiness in 70.0% [")
    assert "happiness is called anger in 10.0%" in text


def test_a_difference_is_named_from_the_better_side_or_not_at_all():
    better, worse = np.ones(400, bool), np.arange(400) % 4 > 0
    for first, second in ((better, worse), (worse, better)):
        text = narrative.difference("one", "two", compare(first, second))
        winner = "one" if first is better else "two"
        assert text.startswith(f"{winner} is better than") and "25.0 points [2" in text
        assert "-" not in text.split("p =")[0]
    assert narrative.difference("one", "two", compare(better, better)).startswith("no difference can be shown")


def test_an_answer_is_one_paragraph_of_sentences_without_empty_ones():
    assert narrative.answer("first", "", "second.") == "> **Answer.** First. Second."


def test_intervals_overlap_when_they_share_a_value():
    assert narrative.overlap(Estimate(0.5, 0.4, 0.6), Estimate(0.65, 0.6, 0.7))
    assert not narrative.overlap(Estimate(0.5, 0.4, 0.59), Estimate(0.65, 0.6, 0.7))


def test_confusions_of_a_network_that_learned_nothing_are_not_called_ambiguity():
    assert "say nothing about faces" in narrative.remaining_confusions(scores([0, 1, 2] * 40, [2, 2, 2] * 40))
    learned = scores([0, 1, 2] * 40, [0, 1, 2] * 39 + [0, 2, 2])
    assert narrative.remaining_confusions(learned).startswith("what remains confusable: fear is called happiness")


def test_over_fitting_is_told_from_an_unfinished_run():
    history = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [1.5, 1.0, 0.5], "val_loss": [1.4, 1.1, 1.25],
                            "train_accuracy": [0.3, 0.5, 0.8], "val_accuracy": [0.3, 0.55, 0.5]})
    assert "rose by 0.150" in narrative.over_fitting(history, 2) and "+5.0 points" in narrative.over_fitting(history, 2)
    assert "still learning" in narrative.over_fitting(history.head(2), 2)
    result = scores([0, 1, 2], [0, 1, 2])
    assert "epoch 2 of 3" in narrative.chosen_epoch(history, 2, result)
    assert f"{np.log(3):.2f} for knowing nothing" in narrative.chosen_epoch(history, 2, result)


def test_the_best_and_the_worst_class_are_told_by_recall():
    text = narrative.best_and_worst(scores([0] * 4 + [1] * 4 + [2] * 4, [0] * 4 + [1, 1, 2, 2] + [2, 0, 0, 0]))
    assert text.startswith("anger is recognised best (100.0%") and "happiness worst (25.0%" in text


def test_over_confidence_has_a_direction():
    result = scores([0, 1, 2] * 10, [0, 1, 0] * 10)
    assert "over-confident by 23.3 points" in narrative.calibration(result, 0.9)
    assert "under-confident by 16.7 points" in narrative.calibration(result, 0.5)


def test_the_steepest_property_is_the_one_with_the_widest_range():
    def table(*values):
        return pd.DataFrame({"value": values, "low": values, "high": values})
    text = narrative.steepest({"contrast": table(0.5, 0.6), "brightness": table(0.9, 0.2)})
    assert "most on brightness: 90.0%" in text and "20.0%" in text


# --- notebook 03


def seeds(value, low, high, count):
    rows = {f"seed {number}": (value, low, high) for number in range(count)} | {"all seeds": (value, low, high)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])


@pytest.mark.parametrize(("interval", "verdict"), [
    ((0.05, 0.03, 0.07), "a is better than b"), ((-0.05, -0.07, -0.03), "a is worse than b"),
    ((0.01, -0.01, 0.03), "no difference between a and b can be shown")])
def test_the_verdict_over_seeds_follows_the_interval(interval, verdict):
    text = narrative.seed_difference("a", "b", seeds(*interval, 3), 1960)
    assert text.startswith(verdict) and f"{100 * interval[0]:+.1f} points" in text
    assert "3 seeds and 1,960 images" in text


def test_with_one_seed_the_sentence_says_what_the_interval_leaves_out():
    text = narrative.seed_difference("a", "b", seeds(0.05, 0.03, 0.07, 1), 1960)
    assert "with one seed (seed 0)" in text and "1,960 images" in text


def test_a_relation_of_a_few_networks_needs_more_than_a_perfect_order():
    assert narrative.rank_relation("size", "skill", range(6), range(6)).startswith("skill rises with size: rank")
    assert narrative.rank_relation("size", "skill", range(6), range(6, 0, -1)).startswith("skill falls with size")
    few = narrative.rank_relation("size", "skill", range(4), range(4))
    assert few.startswith("no relation can be shown") and "+1.00" in few and "a perfect order has p = 0.083" in few
    assert "over 6 networks" in narrative.rank_relation("size", "skill", range(6), [3, 1, 2, 6, 4, 5])
    assert "cannot be put in relation" in narrative.rank_relation("size", "skill", range(6), [1] * 6)


@pytest.mark.parametrize(("last", "verdict"), [
    (0.1, "memorises them"), (1.2, "has begun"), (1.75, "not shown to have learned")])
def test_memorising_is_told_by_the_loss_of_the_last_steps(last, verdict):
    text = narrative.memorised("A network", pd.Series([1.8] * 12 + [last] * 4), np.log(6))
    assert verdict in text and f"{last:.2f} to {last:.2f} in the last 4" in text


# --- notebook 04


def test_a_collapse_is_named_with_its_class_and_its_extent():
    text = narrative.collapsed("vgg19", scores([0, 1, 2] * 10, [2] * 29 + [0]))
    assert "collapses to *happiness*, given to 97% of 30 test images; 2 of 3" in text
    assert "answers most often" in narrative.collapsed("vgg19", scores([0, 1, 2] * 10, [0, 1, 2] * 10))


def test_runs_that_never_reach_the_target_are_named():
    times = pd.DataFrame({"epoch": [1, 2, np.nan], "steps": [50, 100, np.nan], "seconds": [2.0, 3, np.nan]},
                         index=["sgd", "adam", "rmsprop"])
    text = narrative.reaching(0.4, times)
    assert text.startswith("2 of 3 runs reach 40.0%") and "50: sgd; never: rmsprop" in text
    assert narrative.reaching(0.9, times.tail(1)).startswith("none of 1 runs")
    assert narrative.reaching(0.4, times.head(2)).endswith("never: none")


def test_what_a_change_is_worth_follows_its_interval():
    gains = pd.DataFrame({"value": [0.01, 0.2, -0.1], "low": [-0.01, 0.15, -0.2], "high": [0.03, 0.25, -0.05]},
                         index=["loss", "epochs", "rate"])
    assert narrative.worth(gains) == ("shown to help: epochs (20.0 points [15.0, 25.0]); shown to harm: rate (-10.0 "
                                      "points [-20.0, -5.0]); no difference found: loss (1.0 points [-1.0, 3.0])")
    assert narrative.worth(gains.tail(1)).startswith("shown to help: none")
