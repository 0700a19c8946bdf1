import numpy as np
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
