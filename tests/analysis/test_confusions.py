import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import easy_faces
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from fer_helpers.analysis import confusions, dataset_statistics
from fer_helpers.data.emotions import CLASS_SETS
from fer_helpers.data.synthetic import make_faces
from fer_helpers.files import FerError
from fer_helpers.metrics.evaluation import evaluate
from fer_helpers.models.factory import create_model
from fer_helpers.report import results as recorded_findings
from fer_helpers.training import prediction
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.runs import run_table, train_run
from fer_helpers.transforms.augmentation import normalise

REPOSITORY = Path(__file__).parents[2]

SIX = CLASS_SETS[6]


@pytest.fixture(scope="module")
def drawn():
    return make_faces(140, test=140, seed=3)


def counted(confusion, classes):
    """The evaluation of predictions with exactly these counts."""
    cells = [(row, column) for row, column in np.ndindex(*np.shape(confusion)) for _ in range(confusion[row][column])]
    labels, predicted = np.array(cells).T
    return evaluate(labels, np.eye(len(classes))[predicted], classes, bootstraps=200)


def test_embeddings_are_the_features_before_the_classifier(faces):
    model = create_model("simple_cnn", 7, seed=0).eval()
    embedded = prediction.embed(model, faces.images, batch_size=50)
    assert embedded.shape == (len(faces), 500)
    logits = model.classifier(torch.from_numpy(embedded[:5].copy()))
    assert torch.allclose(logits, model(normalise(faces.images[:5])), atol=1e-5)


def finding(confusion, true="fear", predicted="happiness"):
    table = confusions.pair_verdicts({3: counted(confusion, CLASS_SETS[3])})
    return table.set_index(["true", "predicted"]).loc[(true, predicted)]


@pytest.mark.parametrize(("fear", "anger", "expected"), [
    ((5, 135, 60), (190, 5, 5), "a confusion of its own"),
    ((5, 135, 60), (135, 5, 60), "a refuge"),  # anger is called happiness just as often
    ((33, 135, 32), (190, 5, 5), "no difference found"),
    ((60, 135, 5), (190, 5, 5), "avoided")])
def test_a_confusion_is_real_only_above_even_errors_and_above_other_classes(fear, anger, expected):
    row = finding([anger, fear, (10, 10, 180)])
    assert row["finding"] == expected
    assert row["rate"] == fear[2] / 200 and row["even"] == pytest.approx(65 / 400) and row["of"] == 200
    assert row["others"] == anger[2] / 200


def test_verdicts_of_all_settings_share_one_correction():
    three = counted([(90, 5, 5), (4, 80, 16), (5, 5, 190)], CLASS_SETS[3])
    six = counted(np.full((6, 6), 5) + 60 * np.eye(6, dtype=int), SIX)
    alone, both = (confusions.pair_verdicts(settings) for settings in ({3: three}, {3: three, 6: six}))
    assert len(alone) == 4 and len(both) == 8 and list(both["classes"].unique()) == [3, 6]
    ratio = both["p_even"].iloc[0] / alone["p_even"].iloc[0]
    assert ratio == pytest.approx(2)  # the smallest of 16 instead of 8


def test_a_network_without_errors_has_no_confusions_and_a_pair_that_is_not_there_is_left_out():
    perfect = counted(20 * np.eye(3, dtype=int), CLASS_SETS[3])
    assert set(confusions.pair_verdicts({3: perfect})["finding"]) == {"no difference found"}
    assert confusions.pair_verdicts({3: perfect}, (("fear", "surprise"),)).empty


def test_people_answer_where_there_are_votes():
    faces = easy_faces(train=2, test=3, votes=True)
    who, shares = confusions.observer_shares(faces)
    assert who == "people"
    assert np.array_equal(shares, np.eye(7)[faces.only("test").labels.numpy()])


def test_the_observer_of_a_drawing_is_told_its_units_and_not_its_pixels(drawn):
    who, shares = confusions.observer_shares(drawn)
    assert who == "an observer told the action units"
    assert shares.shape == (140, 7) and np.allclose(shares.sum(1), 1)
    dark = confusions.observer_shares(dataclasses.replace(drawn, images=torch.zeros_like(drawn.images)))[1]
    assert np.array_equal(dark, shares)
    assert (shares.argmax(1) == drawn.only("test").labels.numpy()).mean() > 0.4


def test_photographs_without_votes_are_answered_by_a_linear_classifier(faces):
    who, shares = confusions.observer_shares(faces)
    assert who == "a linear classifier"
    assert (shares.argmax(1) == faces.only("test").labels.numpy()).mean() > 0.6


def test_mean_shares_leave_out_what_was_not_answered():
    shares = np.array([[1.0, 0], [0.5, 0.5], [np.nan, np.nan], [0, 1]])
    table = dataset_statistics.mean_shares(shares, np.array([0, 0, 0, 1]), ("a", "b"))
    assert np.allclose(table, [[0.75, 0.25], [0, 1]])


def random_shares(count, seed):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    first = random.dirichlet(np.ones(4), count) + 2 * np.eye(4)[labels] + np.eye(4)[(labels + 1) % 4]
    return first / first.sum(1, keepdims=True), labels


def test_the_correlation_of_confusions_is_spearmans_over_the_off_diagonal():
    first, labels = random_shares(400, 0)
    second, _ = random_shares(400, 1)
    found = confusions.confusion_correlation(first, second, labels, bootstraps=200)
    off = ~np.eye(4, dtype=bool)
    expected = spearmanr(*(dataset_statistics.mean_shares(part, labels, tuple("abcd")).to_numpy()[off]
                           for part in (first, second))).statistic
    assert found.value == pytest.approx(expected) and found.low <= found.high
    assert confusions.confusion_correlation(first, first, labels, bootstraps=50).low == pytest.approx(1)


def test_images_that_one_observer_did_not_answer_do_not_count():
    first, labels = random_shares(200, 0)
    second, _ = random_shares(200, 1)
    half = np.arange(200) < 100
    holes = np.where(half[:, None], second, np.nan)
    full = confusions.confusion_correlation(first[half], second[half], labels[half], bootstraps=50)
    assert confusions.confusion_correlation(first, holes, labels, bootstraps=50) == full


def test_observers_that_cannot_be_compared_are_an_error():
    first, labels = random_shares(40, 0)
    with pytest.raises(FerError, match="shape"):
        confusions.confusion_correlation(first, first[:20], labels)
    with pytest.raises(FerError, match="not of every class"):
        confusions.confusion_correlation(first[:2], first[:2], labels[:2])


def test_clarity_is_what_the_data_knows(drawn, faces):
    name, agreement = confusions.clarity(easy_faces(train=2, test=2, votes=True))
    assert name == "human agreement" and np.allclose(agreement, 1)
    name, strength = confusions.clarity(drawn)
    rest = drawn.labels.numpy() == drawn.classes.index("neutral")
    assert name == "strength of the expression" and (strength[rest] <= 0).all() and (strength[~rest] > 0).all()
    name, contrast = confusions.clarity(faces)
    assert name == "contrast" and contrast[3] == pytest.approx(faces.images[3].double().std().item())


def test_halves_are_cut_in_each_class_with_equal_values_together():
    values = np.array([1.0, 2, 3, 4, 5, 5, 5, 9, np.nan])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    lower, upper = confusions.halves(values, labels)
    assert list(lower) == [True, True, False, False, True, True, True, False, False]
    assert list(upper) == [False, False, True, True, False, False, False, True, False]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=40))
def test_halves_divide_the_known_images(pairs):
    values, labels = np.array(pairs, float).T
    lower, upper = confusions.halves(values, labels)
    assert (lower ^ upper).all()
    for label, value in itertools.product(np.unique(labels), np.unique(values)):
        assert len(set(upper[(labels == label) & (values == value)])) <= 1


def test_a_confusion_that_only_unclear_faces_have_falls():
    labels, clear = np.repeat([0, 1], 200), np.tile([False, True], 200)
    predicted = np.where((labels == 0) & ~clear & (np.arange(400) % 4 == 0), 1, labels)
    table = confusions.rate_changes(labels, predicted, ~clear, clear, ("a", "b"))
    row = table.loc["a → b"]
    assert list(table.index) == ["a → b", "b → a"]
    assert row["lower"] == 0.5 and row["upper"] == 0 and row["value"] == -0.5 and row["high"] < 0
    # Newcombe (1998), method 10, from the Wilson ends of 50/100 and 0/100.
    assert row["low"] == pytest.approx(-0.5 - np.hypot(0, row["lower_high"] - 0.5))
    assert row["high"] == pytest.approx(-0.5 + np.hypot(row["upper_high"], 0.5 - row["lower_low"]))
    assert table.loc["b → a", "low"] < 0 < table.loc["b → a", "high"]


def test_a_class_that_one_half_lacks_is_left_out():
    labels, predicted = np.array([0, 0, 1, 1]), np.array([1, 0, 0, 1])
    lower = np.array([True, False, True, True])
    table = confusions.rate_changes(labels, predicted, lower, ~lower, ("a", "b"))
    assert list(table.index) == ["a → b"] and isinstance(table, pd.DataFrame)


def test_a_confusion_stands_beside_the_accuracy_of_its_run_least_accurate_first():
    runs = recorded_findings.all_runs(6, REPOSITORY / "data" / "results")
    table = confusions.confusion_by_accuracy(runs)
    assert len(table) == len(runs) > 10 and table["accuracy"].is_monotonic_increasing
    assert set(runs["classes"]) == {6} and not runs.index.has_duplicates
    name = table.index[-1]
    answers = runs.loc[name, "run"].predictions.query("split == 'test' and true == 'fear'")["predicted"]
    assert table.loc[name, "images"] == len(answers)
    assert table.loc[name, "value"] == pytest.approx((answers == "happiness").mean())
    assert table.loc[name, "low"] < table.loc[name, "value"] < table.loc[name, "high"]


def test_a_class_never_seen_is_called_what_its_runs_answer_beside_what_people_vote(tmp_path):
    faces = easy_faces(train=12, test=6)
    configs = [TrainConfig(arch="simple_cnn", epochs=1, batch_size=16, augmentation="none", train_set=train_set,
                           seed=seed) for train_set in ("all", "without-fear") for seed in (0, 1)]
    runs = run_table(train_run(config, faces, tmp_path, progress=False) for config in configs)
    people = pd.DataFrame(np.full((6, 6), 1 / 6), SIX, SIX)
    table = confusions.unseen_answers(runs, people)
    assert list(table["answer"]) == [name for name in SIX if name != "fear"] and set(table["unseen"]) == {"fear"}
    np.testing.assert_allclose(table["people"], 0.2)
    answers = pd.concat([run.predictions.query("split == 'test' and true == 'fear'") for run in runs["run"].iloc[2:]])
    given = answers["predicted"].value_counts(normalize=True).reindex(table["answer"], fill_value=0)
    np.testing.assert_allclose(table["value"], given)
    assert not {"fear"} & set(answers["predicted"]) and (table["seeds"] == 2).all() and (table["images"] == 6).all()
