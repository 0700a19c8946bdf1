import itertools

import numpy as np
import pandas as pd
import pytest
from conftest import easy_faces

from fer_helpers.config import DEFAULT_LR
from fer_helpers.evaluation import evaluate
from fer_helpers.files import FerError
from fer_helpers.runs import load_runs
from fer_helpers.study import (
    REPORTED,
    STUDY_HAPPY,
    nearest_constant,
    protocol,
    recorded_study,
    run_protocol,
    run_study,
    skewed_as_studied,
    step_configs,
    step_gains,
    unpaired_accuracy,
    with_reported,
)


@pytest.fixture(scope="module")
def many():
    return easy_faces(train=60, test=6)


def test_the_protocol_is_the_published_one():
    config = protocol("vgg19")
    assert (config.loss, config.optimizer, config.lr, config.epochs, config.batch_size) == (
        "binary_cross_entropy", "rmsprop", 1e-4, 10, 128)
    assert not config.batch_norm and protocol("resnet50").batch_norm and config.augmentation == "none"


def test_every_step_changes_something_and_keeps_what_came_before():
    plan = list(step_configs("vgg19", epochs=2))
    names, configs, skewed = zip(*plan, strict=True)
    assert len(set(names)) == len(names) and skewed[:3] == (True, True, False) and not any(skewed[2:])
    assert all(before[1:] != after[1:] for before, after in itertools.pairwise(plan))
    assert configs[-1].epochs == 6 and configs[-1].loss == "cross_entropy" and configs[-1].batch_norm


def test_the_first_steps_see_the_studys_share_of_happy_faces(many):
    train = skewed_as_studied(many).counts()["train"]
    assert train["happiness"] / train.sum() == pytest.approx(STUDY_HAPPY, abs=0.02)


def test_the_study_becomes_a_table_of_runs_in_order(many, tmp_path, monkeypatch):
    monkeypatch.setenv("FER_RUNS", str(tmp_path))
    table = run_study(many, "simple_cnn", epochs=1, train_limit=128)
    assert list(table["step"]) == [name for name, _, _ in step_configs("simple_cnn")]
    assert table["top_answer"].between(1 / 6, 1).all() and (table["majority"] > 0).all()
    assert (table["classes"] == 6).all() and len(list(tmp_path.glob("*/metrics.json"))) == len(table)
    gains = step_gains(table)
    assert list(gains.index) == list(table["step"].iloc[1:])
    np.testing.assert_allclose(gains["value"], table["test_accuracy"].diff().iloc[1:])
    kept = recorded_study(load_runs(), "simple_cnn")
    assert list(kept["step"]) == list(table["step"]) and list(kept["run_id"]) == list(table["run_id"])
    with pytest.raises(FerError, match="protocol with vgg19"):
        recorded_study(load_runs(), "vgg19")
    with pytest.raises(FerError, match="'mirroring'"):
        recorded_study(load_runs()[lambda runs: runs["augmentation"] == "none"], "simple_cnn")
    protocol_run = run_protocol(many, ["simple_cnn"], epochs=1, train_limit=128)["simple_cnn"]
    assert protocol_run.name == table["run"].iloc[0].name


def test_the_rate_is_changed_alone():
    plan = {name: config for name, config, _ in step_configs("vgg19", epochs=2)}
    before, after = plan["batch normalisation"], plan[f"rate {DEFAULT_LR['rmsprop']:g}"]
    changed = {key for key, value in before.to_dict().items() if value != after.to_dict()[key]}
    assert changed == {"lr"} and after.lr > before.lr


def test_the_reported_figure_stands_before_what_was_measured():
    table = pd.DataFrame({"step": ["one"], "test_accuracy": [0.5], "test_low": [0.4], "test_high": [0.6],
                          "majority": [0.25], "classes": [6]})
    first = with_reported(table, "vgg19").iloc[0]
    assert first["step"] == "as reported" and first["test_accuracy"] == REPORTED["vgg19"]
    assert np.isnan(first["test_low"])
    assert with_reported(table, "compact") is table
    assert len(with_reported(table.assign(classes=3), "vgg19")) == 1  # it reports six classes only


def test_the_nearest_constant_answer_is_the_class_with_that_share():
    faces = easy_faces(train=4, test=50)
    few = {"anger": 14, "fear": 22, "happiness": 50, "sadness": 17, "surprise": 45, "neutral": 1}
    names, taken, keep = np.array(faces.classes)[faces.labels], {}, []
    for row in range(len(faces)):
        taken[names[row]] = taken.get(names[row], 0) + (faces.split[row] == "test")
        keep.append(faces.split[row] == "train" or taken[names[row]] <= few.get(names[row], 0))
    table = nearest_constant(faces.take(np.array(keep)))
    total = sum(few.values())
    assert (table["images"] == total).all()
    for arch, row in table.iterrows():
        nearest = min(few, key=lambda name: abs(few[name] / total - REPORTED[arch]))
        assert row["answer"] == nearest and row["share"] == pytest.approx(few[nearest] / total)


def test_answers_in_another_order_score_what_shuffling_gives():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    predicted = np.where(random.random(300) < 0.7, labels, 2)
    scores = evaluate(labels, np.eye(3)[predicted], ("a", "b", "c"))
    shuffled = [(labels == random.permutation(predicted)).mean() for _ in range(2000)]
    found = unpaired_accuracy(scores)
    assert found.value == pytest.approx(np.mean(shuffled), abs=0.002)
    assert (found.low, found.high) == pytest.approx(np.quantile(shuffled, (0.025, 0.975)), abs=0.01)
