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


# --- notebook 06


def test_subgroups_are_named_only_where_the_corrected_test_tells_them_apart():
    table = pd.DataFrame({"value": [0.3, 0.02], "low": [0.2, -0.05], "high": [0.4, 0.09], "images": [400, 400],
                          "p_holm": [0.001, 0.7]}, index=["brightness", "contrast"])
    text = narrative.subgroups(table)
    assert "accuracy changes with brightness (30.0 points [20.0, 40.0]" in text and "400 images" in text
    assert text.endswith("no difference found for contrast")
    assert narrative.subgroups(table.tail(1)).startswith("no difference found between the lowest and the highest")
    assert "0.7" in narrative.subgroups(table.tail(1)) and "no property" in narrative.subgroups(table.head(0))


def test_growth_names_wrong_answers_that_grow_beyond_chance():
    table = pd.DataFrame({"region": ["mouth", "eyes"], "true": ["happiness", "fear"], "predicted": ["anger", "anger"],
                          "value": [0.4, 0.1], "low": [0.3, -0.1], "high": [0.5, 0.3], "images": [1500, 90],
                          "p_holm": [0.01, 0.5]})
    text = narrative.growth(table)
    assert text.startswith("1 of 2 wrong answers grow") and "fear" not in text
    assert "with the mouth hidden happiness is called anger more often by 40.0 points [30.0, 50.0] of 1,500" in text
    assert "no wrong answer is found" in narrative.growth(table.tail(1))


def test_focus_is_held_against_chance_and_right_against_wrong_answers():
    def row(method, answers, value, low, high):
        return {"method": method, "answers": answers, "measure": "energy", "value": value, "low": low, "high": high,
                "images": 20}
    table = pd.DataFrame([row("a", "right", 3, 2.5, 3.5), row("a", "wrong", 1.1, 0.9, 1.3),
                          row("b", "right", 0.5, 0.4, 0.6), row("b", "wrong", 0.5, 0.4, 0.7)])
    first, second = narrative.focusing(table).split("\n- b: ")
    assert "3.00 times chance [2.50, 3.50] on 20 right answers, more than chance" in first
    assert "wrong answers, no different from chance; more on right answers" in first
    assert second.count("less than chance") == 2
    assert second.endswith("no difference found between right and wrong answers")
    assert narrative.focusing(table.head(0)).startswith("- no image")


@pytest.mark.parametrize(("low", "high", "verdict"), [
    (-0.2, -0.1, "better calibrated"), (0.1, 0.2, "worse calibrated"), (-0.2, 0.1, "no difference found")])
def test_a_temperature_is_credited_only_where_the_paired_interval_leaves_zero(low, high, verdict):
    before, after, change = Estimate(0.2, 0.18, 0.22), Estimate(0.05, 0.03, 0.07), Estimate((low + high) / 2, low, high)
    text = narrative.temperature(1.4, 900, before, after, change)
    assert text.endswith(verdict) and "it was over-confident" in text and "900 validation images is 1.40" in text
    assert f"from {before} to {after}, a change of {change}" in text
    assert "it was under-confident" in narrative.temperature(0.9, 900, before, after, change)


def test_selection_states_reached_coverage_and_the_area():
    table = pd.DataFrame({"value": [0.9, 0.7], "low": [0.85, 0.65], "high": [0.95, 0.75], "coverage": [0.52, 1.0],
                          "images": [1040, 2000]}, index=[0.5, 1.0])
    text = narrative.selection(table, Estimate(0.1, 0.08, 0.12))
    assert "90.0% [85.0, 95.0] on the 52% of test images" in text and "keeps 50% of validation (1,040 images)" in text
    assert "70.0% [65.0, 75.0] on all" in text and "0.100 [0.080, 0.120]" in text


def test_the_most_frequent_types_of_failure_come_first():
    table = pd.DataFrame({"errors": [10, 30], "value": [0.25, 0.75], "low": [0.1, 0.6], "high": [0.4, 0.9]},
                         index=["rare", "frequent"])
    text = narrative.failure_shares(table)
    assert text.index("frequent") < text.index("rare") and "75.0% [60.0, 90.0] are of type *frequent* (30)" in text


def test_the_table_of_failures_is_markdown_with_a_row_a_type():
    table = pd.DataFrame({"errors": [1200], "value": [0.25], "low": [0.1], "high": [0.4], "evidence": ["seen"],
                          "what would fix it": ["care"]}, index=["rare"])
    head, rule, row = narrative.failure_table(table).splitlines()
    assert row == "| rare | 1,200 | 25.0% [10.0, 40.0] | seen | care |"
    assert head.count("|") == rule.count("|") == row.count("|")
