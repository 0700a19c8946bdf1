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


# --- notebook 05


def verdicts(*findings, classes=6):
    true, predicted = ("fear", "happiness") * 2, ("happiness", "fear") * 2
    return pd.DataFrame([(classes, true[n], predicted[n], 8, 200, 0.04, 0.02, 0.07, 0.05, 0.06, finding)
                         for n, finding in enumerate(findings)],
                        columns=["classes", "true", "predicted", "count", "of", "rate", "low", "high", "even",
                                 "others", "finding"])


@pytest.mark.parametrize(("findings", "verdict"), [
    (("a confusion of its own",) * 2, "real both ways"),
    (("a confusion of its own", "no difference found"), "real one way only (fear → happiness)"),
    (("no difference found", "a refuge"), "above evenly spread errors (happiness → fear), but not shown"),
    (("avoided", "avoided"), "rarer both ways"),
    (("no difference found", "avoided"), "not shown to be above what evenly")])
def test_two_directions_add_up_to_one_verdict(findings, verdict):
    text, = narrative.pair_findings(verdicts(*findings))
    assert text.startswith(f"fear ↔ happiness with 6 classes is {verdict}")
    assert "4.0% [2.0, 7.0] of 200 fear images are called happiness" in text
    assert "(5.0% if errors were spread evenly; of the other classes 6.0%)" in text


def test_short_findings_put_equal_verdicts_together():
    table = pd.concat([verdicts("avoided", "avoided", classes=3), verdicts("avoided", "avoided"),
                       verdicts("a refuge", "a refuge", classes=7)])
    first, second = narrative.pair_findings(table, detail=False)
    assert first == ("rarer both ways than evenly spread errors would be: fear ↔ happiness with 3 classes and "
                     "fear ↔ happiness with 6 classes")
    assert second.endswith("fear ↔ happiness with 7 classes")


@pytest.mark.parametrize(("low", "high", "verdict"), [
    (0.2, 0.8, "tend to confuse the same classes"), (-0.8, -0.2, "tend to confuse different classes"),
    (-0.1, 0.6, "no relation found")])
def test_observers_are_said_to_agree_only_if_the_interval_says_so(low, high, verdict):
    text = narrative.same_confusions("people", Estimate((low + high) / 2, low, high), 6, 1960)
    assert verdict in text and f"[{low:+.2f}, {high:+.2f}] over 30 ordered pairs, 1,960 images" in text


def test_changes_without_a_difference_are_named_as_such():
    table = pd.DataFrame({"value": [-0.3, 0.2, 0.01], "low": [-0.4, 0.1, -0.1], "high": [-0.2, 0.3, 0.1]},
                         index=["a → b", "b → c", "c → a"])
    text = narrative.change_of_rates(table, "agreement")
    assert "a → b falls by 30.0 points [20.0, 40.0] and b → c rises by 20.0 points [10.0, 30.0]" in text
    assert text.endswith("No difference found for c → a.")
    assert narrative.change_of_rates(table.tail(1), "agreement") == "No difference found for c → a."


def test_the_class_that_overlaps_most_is_named_with_its_neighbour():
    table = pd.DataFrame({"images": [30, 10, 20], "nearest": ["", "b", "a"]}, index=["all", "a", "b"])
    for name in ("ratio", "silhouette"):
        table[[name, f"{name}_low", f"{name}_high"]] = [[0.8, 0.7, 0.9], [0.5, 0.4, 0.6], [1.1, 1.0, 1.2]]
    text = narrative.class_separation(table)
    assert "lies 0.800 [0.700, 0.900] times" in text and "(30 images" in text
    assert "is b (1.100 [1.000, 1.200], 20 images), whose nearest class is a" in text


def test_the_strongest_mixture_of_neighbours_is_between_two_classes():
    table = pd.DataFrame([[0.9, 0.1, 0.0], [0.3, 0.5, 0.2], [0.0, 0.1, 0.9]], list("abc"), list("abc"))
    text = narrative.neighbourhood(table, Estimate(0.7, 0.6, 0.8), 0.3333, 10)
    assert "70.0% [60.0, 80.0]" in text and "33.3% would be" in text
    assert text.endswith("30% of the neighbours of b show a, and 50% b")


def test_distances_agree_only_after_correction():
    row = pd.Series({"first": "x", "second": "y", "rho": 0.6, "pairs": 15, "p_value": 0.02, "p_adjusted": 0.04,
                     "detectable": 0.5})
    assert "x and y: they agree (rank correlation +0.60 over 15 pairs, exact p = 0.02" in (
        narrative.agreement_of_distances(row))
    assert "they disagree" in narrative.agreement_of_distances(row.replace({0.6: -0.6}))
    weak = narrative.agreement_of_distances(row.replace({0.04: 0.2}))
    assert "no agreement can be shown" in weak and "would take 0.50" in weak
    assert "so few classes" in narrative.agreement_of_distances(row.replace({0.5: np.nan}))


def test_the_pair_whose_looks_and_meaning_differ_most_is_named():
    table = pd.DataFrame({"first": ["a", "a", "b"], "second": ["b", "c", "c"], "look_rank": [3, 2, 1],
                          "look_rank_low": [2, 2, 1], "look_rank_high": [3, 3, 2], "meaning_rank": [1, 2, 3]})
    text = narrative.look_against_meaning(table)
    assert "b and c are number 1 [1, 2] in looks but number 3 in meaning; " in text
    assert "a and b are number 3 [2, 3] in looks but number 1 in meaning" in text
