import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from fer_helpers.analysis.leakage import Leak
from fer_helpers.metrics.evaluation import compare, evaluate
from fer_helpers.metrics.intervals import Estimate
from fer_helpers.report import text as narrative

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


def test_two_networks_that_learned_nothing_are_not_compared():
    text = narrative.seed_difference("a", "b", seeds(0.05, 0.03, 0.07, 1), 1960, learned=False)
    assert text == "a and b cannot be compared, since neither is shown to have learned anything"


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
    many = narrative.rank_relation("size", "skill", range(30), [*range(29), 0], "runs")
    assert f"{spearmanr(range(30), [*range(29), 0]).statistic:+.2f}" in many and "p = 5e-05" in many


def test_a_confusion_that_training_takes_away_is_told_from_first_to_last():
    table = pd.DataFrame({"arch": [f"net{n}" for n in range(6)], "accuracy": np.linspace(0.3, 0.6, 6),
                          "value": np.linspace(0.6, 0.05, 6), "low": 0.01, "high": 0.9, "images": 496})
    text = narrative.confusion_falls(table, "fear", "happiness")
    assert text.startswith("fear is called happiness for 60.0% [1.0, 90.0] in the least accurate run (net0, 30.0%) and "
                           "for 5.0%") and "of 496 fear images" in text
    assert "this confusion falls with accuracy: rank correlation -1.00" in text


@pytest.mark.parametrize(("last", "verdict"), [
    (0.1, "memorises them"), (1.2, "has begun"), (1.75, "not shown to have learned")])
def test_memorising_is_told_by_the_loss_of_the_last_steps(last, verdict):
    text = narrative.memorised("A network", pd.Series([1.8] * 12 + [last] * 4), np.log(6))
    assert verdict in text and f"{last:.2f} to {last:.2f} in the last 4" in text


# --- notebook 04


def test_runs_that_never_reach_the_target_are_named():
    times = pd.DataFrame({"epoch": [1, 2, np.nan], "steps": [50, 100, np.nan], "seconds": [2.0, 3, np.nan]},
                         index=["sgd", "adam", "rmsprop"])
    text = narrative.reaching(0.4, times)
    assert text.startswith("2 of 3 runs reach 40.0%") and "50: sgd; never: rmsprop" in text
    assert narrative.reaching(0.9, times.tail(1)).startswith("none of 1 runs")
    assert "never" not in narrative.reaching(0.4, times.head(2))
    many = times.loc[["sgd"] * 4]
    assert "in the fewest steps, 50: 4 of them" in narrative.reaching(0.4, many)


def test_what_a_change_is_worth_follows_its_interval():
    gains = pd.DataFrame({"value": [0.01, 0.2, -0.1], "low": [-0.01, 0.15, -0.2], "high": [0.03, 0.25, -0.05]},
                         index=["loss", "epochs", "rate"])
    assert narrative.worth(gains) == ("shown to help: epochs (20.0 points [15.0, 25.0]); shown to harm: rate (-10.0 "
                                      "points [-20.0, -5.0]); no difference found: loss (1.0 points [-1.0, 3.0])")
    assert narrative.worth(gains.tail(1)).startswith("shown to help: none")


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
    assert narrative.change_of_rates(table.head(2), "agreement").endswith("20.0 points [10.0, 30.0].")


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


# --- notebook 06


def test_tables_are_markdown_with_as_many_cells_in_every_line():
    failures = pd.DataFrame({"errors": [1200], "value": [0.25], "low": [0.1], "high": [0.4],
                             "what would fix it": ["care"]}, index=["rare"])
    groups = pd.DataFrame({"lowest": [0.3], "highest": [0.9], "value": [0.6], "low": [0.5], "high": [0.7],
                           "p_holm": [8.7e-224]}, index=["agreement"])
    for text, row in ((narrative.failure_table(failures), "| rare | 1,200 | 25.0% [10.0, 40.0] | care |"),
                      (narrative.subgroup_table(groups),
                       "| agreement | 30.0% | 90.0% | 60.0 points [50.0, 70.0] | p < 0.001 |")):
        lines = text.splitlines()
        assert lines[2] == row and len({line.count("|") for line in lines}) == 1


def test_a_p_value_says_no_more_than_anyone_needs():
    assert [narrative.p_value(value) for value in (1e-30, 0.0212, 1.0)] == ["p < 0.001", "p = 0.021", "p = 1.000"]


# --- methods


def compared(**rows):
    """A `methods.compare_methods` table of one outcome: by method (difference, p after Holm), around 40% for plain."""
    first = {"method": "plain", "outcome": "accuracy", "value": 0.4, "low": 0.38, "high": 0.42, "seeds": 5,
             "images": 3523}
    return pd.DataFrame([first] + [
        first | {"method": name, "value": 0.4 + gap, "difference": gap, "difference_low": gap - 0.01,
                 "difference_high": gap + 0.01, "p_holm": p} for name, (gap, p) in rows.items()])


def test_the_methods_that_help_are_named_by_what_they_make_better():
    table = compared(cbam=(0.03, 0.01), text=(-0.05, 0.01), focal=(0.02, 0.2))
    worse = compared(cbam=(0.04, 0.01), text=(-0.02, 0.01)).assign(outcome="ECE")
    found = narrative.methods_that_help(pd.concat([table, worse]), ["accuracy", "ECE"])
    assert found == ("made better, with 5 seeds each: accuracy by cbam (+3.0 points [+2.0, +4.0]); ECE by text "
                     "(-2.0 points [-3.0, -1.0])")
    found = narrative.methods_that_help(pd.concat([table, worse]).query("method != 'text'"), ["accuracy", "ECE"])
    assert found.endswith("accuracy by cbam (+3.0 points [+2.0, +4.0]); ECE by none of 2")


def test_the_table_of_methods_shows_the_baseline_and_bold_differences():
    table = compared(cbam=(0.03, 0.01), hard_negatives=(0.02, 0.2))
    lines = narrative.method_table(table, ["accuracy", "mCE"]).split("\n")
    assert lines[0] == "| method | accuracy | mCE |"
    assert lines[2:] == ["| plain | 40.0 [38.0, 42.0] |  |", "| cbam | **+3.0 [+2.0, +4.0]** |  |",
                         "| hard negatives | +2.0 [+1.0, +3.0] |  |"]
    costs = pd.DataFrame({"time_ratio": [1.0, 1.5, 2], "weights_ratio": 1.0}, ["plain", "cbam", "hard_negatives"])
    lines = narrative.method_table(table, ["accuracy"], costs).split("\n")
    assert lines[0] == "| method | accuracy | time | weights |" and lines[1].count("--:") == 3
    assert lines[3] == "| cbam | **+3.0 [+2.0, +4.0]** | ×1.50 | ×1.00 |"


def test_features_are_ranked_by_what_few_labels_make_of_them():
    table = pd.DataFrame([(0.01, 0.31, 0.29, 0.33, 253, 3523, "SimCLR"), (0.01, 0.27, 0.25, 0.29, 253, 3523, "none"),
                          (1.0, 0.4, 0.38, 0.42, 25316, 3523, "none"), (1.0, 0.45, 0.43, 0.47, 25316, 3523, "SimCLR")],
                         columns=["share", "value", "low", "high", "labels", "images", "way"])
    text = narrative.label_efficiency(table)
    assert "with 1% of the labels (253 images) SimCLR 31.0% [29.0, 33.0] and none 27.0%" in text
    assert text.index("SimCLR 45.0%") < text.index("none 40.0%") and text.endswith("(3,523 test images)")


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.55, 0.65, "better"), (0.45, 0.65, "no better"),
                                                      (0.3, 0.4, "worse")])
def test_a_class_never_seen_is_found_or_not(low, high, verdict):
    row = pd.Series({"unseen": "fear", "images": 10, "auc": (low + high) / 2, "auc_low": low, "auc_high": high,
                     "named": 0.1, "called_fear": 1, "called_sadness": 6, "called_anger": 3})
    text = narrative.unseen_class(row, ("anger", "fear", "sadness"))
    assert f"rank its 10 images {verdict} than chance" in text
    assert text.endswith("10.0% get its name, most are called sadness (60%)")


def test_classes_are_pulled_apart_only_where_intervals_share_nothing():
    looks = {"plain": 1.0, "supcon": 1.3, "text": 1.05, "cbam": 0.8}
    table = pd.DataFrame([(way, *pair, look, look - 0.08, look + 0.08) for way, look in looks.items()
                          for pair in (("anger", "fear"), ("fear", "happiness"))],
                         columns=["way", "first", "second", "look", "look_low", "look_high"])
    assert narrative.pulled_apart(table, "happiness", "fear") == (
        "the means of happiness and fear lie 1.00 [0.92, 1.08] widths of a class apart by plain cross-entropy, "
        "1.30 [1.22, 1.38] by supcon (farther), 1.05 [0.97, 1.13] by text (no difference shown) and "
        "0.80 [0.72, 0.88] by cbam (closer)")


def test_a_sentence_starts_with_a_capital_unless_its_first_word_has_its_own():
    assert narrative.sentence("fear is rare") == "Fear is rare."
    assert narrative.sentence("mCE falls.") == "mCE falls."
    assert narrative.sentence("a face") == "A face." and narrative.sentence("") == "."
