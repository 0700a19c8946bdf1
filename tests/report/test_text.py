
import numpy as np
import pandas as pd
import pytest

from fer_helpers.analysis.leakage import Leak
from fer_helpers.metrics.evaluation import compare, evaluate
from fer_helpers.report import text as narrative

CLASSES = ("anger", "fear", "happiness")


def scores(labels, predicted, majority=2):
    return evaluate(np.array(labels), np.eye(3)[predicted], CLASSES, majority)


def test_a_list_reads_as_english():
    assert narrative.listing(["a"]) == "a"
    assert narrative.listing(["a", "b"]) == "a and b"
    assert narrative.listing(["a", "b", "c"]) == "a, b and c"
    assert narrative.listing([]) == "none"
    assert narrative.listing(["a", "b"], "or") == "a or b"


def test_a_difference_is_named_from_the_better_side_or_not_at_all():
    better, worse = np.ones(400, bool), np.arange(400) % 4 > 0
    for first, second in ((better, worse), (worse, better)):
        text = narrative.difference("one", "two", compare(first, second))
        winner = "one" if first is better else "two"
        assert text.startswith(f"{winner} is better than") and "25.0 points [2" in text
        assert "-" not in text.split("p =")[0]
    assert narrative.difference("one", "two", compare(better, better)).startswith("no difference can be shown")


# --- notebook 01


def explained_table(*rows):
    return pd.DataFrame(rows, columns=["value", "low", "high", "p", "images"],
                        index=pd.Index(["contrast", "down"][:len(rows)], name="class"))


@pytest.fixture(scope="module")
def leak():
    copied = np.arange(500) < 100
    correct = copied | (np.arange(500) % 4 == 0)
    return Leak(copied, correct, np.arange(500) % 4 == 0)


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


# --- notebook 04


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
    assert lines[2:] == ["| plain | 40.0 [38.0, 42.0] |  |", "| CBAM | **+3.0 [+2.0, +4.0]** |  |",
                         "| hard negatives | +2.0 [+1.0, +3.0] |  |"]
    costs = pd.DataFrame({"time_ratio": [1.0, 1.5, 2], "weights_ratio": 1.0}, ["plain", "cbam", "hard_negatives"])
    lines = narrative.method_table(table, ["accuracy"], costs).split("\n")
    assert lines[0] == "| method | accuracy | time | weights |" and lines[1].count("--:") == 3
    assert lines[3] == "| CBAM | **+3.0 [+2.0, +4.0]** | ×1.50 | ×1.00 |"


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.55, 0.65, "better"), (0.45, 0.65, "no better"),
                                                      (0.3, 0.4, "worse")])
def test_a_class_never_seen_is_found_or_not(low, high, verdict):
    row = pd.Series({"unseen": "fear", "images": 10, "auc": (low + high) / 2, "auc_low": low, "auc_high": high,
                     "named": 0.1, "called_fear": 1, "called_sadness": 6, "called_anger": 3})
    text = narrative.unseen_class(row, ("anger", "fear", "sadness"))
    assert f"rank its 10 images {verdict} than chance" in text
    assert text.endswith("10.0% get its name, most are called sadness (60%)")


def test_a_sentence_starts_with_a_capital_unless_its_first_word_has_its_own():
    assert narrative.sentence("fear is rare") == "Fear is rare."
    assert narrative.sentence("mCE falls.") == "mCE falls."
    assert narrative.sentence("a face") == "A face." and narrative.sentence("") == "."


@pytest.mark.parametrize(("losses", "kept", "words"), [
    ([1.0, 0.8, 0.7], 3, "The last epoch was the best one"),
    ([1.0, 0.7, 0.705], 3, "After epoch 2 the validation loss stayed within 0.01 of its lowest"),
    ([1.0, 0.7, 0.8], 2, "After epoch 2 the validation loss rose by 0.100"),
    ([1.0, 0.7, 0.8], 3, "After epoch 2 the validation loss rose by 0.100")])  # a recipe may keep the last all the same
def test_over_fitting_is_told_by_the_lowest_validation_loss_whatever_is_kept(losses, kept, words):
    history = pd.DataFrame({"epoch": [1, 2, 3], "val_loss": losses, "val_accuracy": [0.4, 0.5, 0.6],
                            "train_accuracy": [0.4, 0.6, 0.8]})
    said = narrative.over_fitting(history, kept)
    assert words in said and f"by {-10 * (kept - 1):+d}.0 points" in said
