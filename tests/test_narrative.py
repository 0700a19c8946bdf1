import dataclasses

import numpy as np
import pandas as pd
import pytest

from fer_helpers import narrative
from fer_helpers.classical import Leak
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


# --- notebook 01


def explained_table(*rows):
    return pd.DataFrame(rows, columns=["value", "low", "high", "p", "images"],
                        index=pd.Index(["contrast", "down"][:len(rows)], name="class"))


def test_what_explains_nothing_is_said_to():
    text = narrative.explained(explained_table((0.05, 0.04, 0.06, 1e-9, 1200), (0.001, -0.001, 0.003, 0.04, 1200)))
    assert text.startswith("the class of an image explains 5.0% [4.0, 6.0] of the variance of contrast; no difference")
    assert "is found in down" in text and text.endswith("(1,200 images)")
    assert "no difference" not in narrative.explained(explained_table((0.05, 0.04, 0.06, 1e-9, 1200)))
    assert "explains" not in narrative.explained(explained_table((0.01, 0.001, 0.06, 0.2, 1200)))


def test_an_eigenface_is_named_after_what_it_follows_in_either_direction():
    table = pd.DataFrame({"component": [1, 1, 2], "statistic": ["contrast", "brightness", "down"],
                          "value": [0.3, -0.8, 0.99], "low": [0.2, -0.9, 0.9], "high": [0.4, -0.7, 1], "images": 50})
    text = narrative.component(table, [0.43, 0.2])
    assert "eigenface 1 explains 43%" in text and "brightness most (r = -0.800 [-0.900, -0.700], 50 images)" in text


@pytest.fixture(scope="module")
def leak():
    copied = np.arange(500) < 100
    correct = copied | (np.arange(500) % 4 == 0)
    return Leak(copied, correct, np.arange(500) % 4 == 0)


def test_the_worth_of_a_leak_is_told_with_what_removing_it_changes(leak):
    text = narrative.leak_worth("memory", leak)
    assert text.startswith("memory is right on 100.0% [96.3, 100.0] of the 100 copies of train images, 25.0% [17.5, ")
    assert "copies raise its test accuracy (+15.0 points [+" in text
    assert "without the originals it changes by -15.0 points [-" in text


def test_a_leak_that_is_worth_nothing_is_said_to_be(leak):
    same = dataclasses.replace(leak, correct=leak.correct_without)
    assert "no difference between the scores" in narrative.leak_worth("memory", same)
    none = dataclasses.replace(leak, copied=np.zeros(500, bool))
    assert narrative.leak_worth("memory", none) == ("no test image stands in train, so there is no leak for memory to "
                                                    "use")


def test_agreement_names_the_classes_people_agree_on_most_and_least():
    rows = [(measure, name, value, value - 0.1, value + 0.1, 70) for measure in ("two raters agree",
            "votes for the label") for name, value in (("all", 0.5), ("fear", 0.3), ("happiness", 0.8))]
    text = narrative.agreement(pd.DataFrame(rows, columns=["measure", "class", "value", "low", "high", "images"]))
    assert "agree with probability 50.0% [40.0, 60.0] (70 images)" in text
    assert "most on those labelled happiness (80.0%" in text and "least on those labelled fear (30.0%" in text


def test_human_confusions_leave_out_agreement_and_other_answers():
    table = pd.DataFrame([("fear", "fear", 0.5, 0.4, 0.6), ("fear", "other", 0.4, 0.3, 0.5),
                          ("fear", "surprise", 0.3, 0.2, 0.4), ("anger", "fear", 0.1, 0.0, 0.2)],
                         columns=["first", "second", "value", "low", "high"])
    assert narrative.human_confusions(table, 1) == ("where one person says fear another says surprise with probability "
                                                    "30.0% [20.0, 40.0]")


@pytest.mark.parametrize(("low", "verdict"), [(0.09, ": better than guessing"), (0.04, ": not shown to be better")])
def test_label_doubts_are_held_against_guessing(low, verdict):
    table = pd.DataFrame({"value": [0.1, 0.8, 0.05], "low": [low, 0.7, 0.04], "high": [0.12, 0.9, 0.06],
                          "images": [2000, 300, 6000]}, index=["precision", "recall", "guessing"])
    text = narrative.label_doubts(table)
    assert verdict in text and "of 300 labels changed on purpose" in text and "of the 2,000 labels it flags" in text
    assert "flags no label" in narrative.label_doubts(table.drop("precision"))


def test_the_best_floor_beats_only_those_it_is_shown_to_beat():
    table = pd.DataFrame([("a", "b", 0.2, 0.1, 0.3, 0.001), ("a", "c", 0.01, -0.1, 0.1, 0.5),
                          ("c", "b", 0.1, 0, 0.2, 1)],
                         columns=["better", "worse", "value", "low", "high", "p"])
    assert narrative.best_floor(table) == ("a beats b by 20.0 points [10.0, 30.0]; no difference can be shown between "
                                           "a and c")
