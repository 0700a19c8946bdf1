import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import easy_faces
from hypothesis import given
from hypothesis import strategies as st

from fer_helpers.analysis import error_analysis
from fer_helpers.data.synthetic import make_faces
from fer_helpers.files import FerError
from fer_helpers.models.factory import create_model
from fer_helpers.training.runs import predict_table


@pytest.fixture(scope="module")
def drawn():
    return make_faces(140, test=140, copies=0.1, seed=3)


@pytest.fixture(scope="module")
def answers(drawn):
    return described(drawn)


def described(faces):
    table = predict_table(create_model("simple_cnn", 7, seed=0), faces)
    return error_analysis.describe_answers(table, error_analysis.describe_pictures(faces))


class Mouth(torch.nn.Module):
    """Answers class 1 if the mouth box is bright, else 0."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, images):
        bright = images[:, 0, 34:41, 14:34].mean((1, 2)) * self.scale
        return torch.stack([-bright, bright] + [torch.full_like(bright, -9)] * 5, 1)


@pytest.fixture(scope="module")
def smiles(faces):
    """Forty images whose class, 0 or 1, is told by a dark or bright mouth."""
    images = torch.full((40, 48, 48), 60, dtype=torch.uint8)
    labels = torch.arange(40) % 2
    images[labels == 1, 32:43, 11:37] = 250
    return dataclasses.replace(faces.take(np.arange(40)), images=images, labels=labels)


def made_up(**columns):
    """Wrong answers without any excuse, but for the given columns."""
    count = max(len(value) for value in columns.values())
    plain = {"correct": False, "confidence": 0.4, "ratio": 0.1, "rank": 4, "second": 0.2, "support": 1.0,
             "conflicts": 0, "brightness": 100.0, "contrast": 50.0, "sharpness": 30.0}
    return pd.DataFrame({name: columns.get(name, [value] * count) for name, value in plain.items()},
                        index=[f"face{number}" for number in range(count)])


# --- what is known of an answer


def test_answers_stand_in_the_order_of_the_test_images_and_know_the_rank_of_the_label(drawn, answers):
    test = drawn.only("test")
    assert list(answers.index) == list(test.ids)
    assert (answers["correct"] == (answers["true"] == answers["predicted"])).all()
    assert ((answers["rank"] == 1) == answers["correct"]).all()
    assert ((answers["ratio"] == 1) == answers["correct"]).all() and answers["ratio"].between(0, 1).all()
    close = answers["rank"] == 2
    assert close.any() and np.allclose(answers["second"][close], answers["ratio"][close])
    assert (answers["second"] >= answers["ratio"]).sum() == (~answers["correct"]).sum()


def test_a_picture_is_described_without_a_network(drawn, answers):
    pictures = error_analysis.describe_pictures(drawn)
    assert pictures.equals(answers[pictures.columns]) and pictures.index.name == "id"


def test_copies_in_train_are_counted_and_those_with_another_label_apart(drawn, answers):
    test = drawn.split == "test"
    pixels = [image.tobytes() for image in drawn.images.numpy()]
    train = {}
    for image, label in zip(np.array(pixels, object)[~test], drawn.labels.numpy()[~test], strict=True):
        train.setdefault(image, []).append(label)
    twins = [train.get(image, []) for image in np.array(pixels, object)[test]]
    labels = drawn.labels.numpy()[test]
    assert list(answers["copies"]) == [len(own) for own in twins] and answers["copies"].sum() == 14
    conflicts = [sum(other != label for other in own) for own, label in zip(twins, labels, strict=True)]
    assert list(answers["conflicts"]) == conflicts and sum(conflicts) == 1


def test_support_is_the_votes_of_people_where_they_are_known():
    faces = easy_faces(train=4, test=2, votes=True)
    assert np.allclose(error_analysis.label_support(faces), 1) and len(error_analysis.label_support(faces)) == 14
    assert np.isnan(error_analysis.label_support(easy_faces(train=4, test=2))).all()


def test_an_observer_of_the_drawn_units_supports_a_label_until_it_is_exchanged(drawn):
    big = make_faces(1500, test=200, seed=8)
    before = error_analysis.label_support(big)
    assert len(before) == 200 and 0.65 < (before > 0.5).mean() < 0.95  # `synthetic` says how far classes overlap
    swapped = torch.where(torch.from_numpy(big.split == "test"), (big.labels + 3) % 7, big.labels)
    assert error_analysis.label_support(dataclasses.replace(big, labels=swapped)).mean() < 0.3 * before.mean()


def test_faces_without_predictions_are_an_error(drawn, faces):
    table = predict_table(create_model("simple_cnn", 7, seed=0), faces)
    with pytest.raises(FerError, match="140 test images have no prediction"):
        error_analysis.describe_answers(table, error_analysis.describe_pictures(drawn))


# --- types of failure


def test_each_rule_decides_in_its_turn():
    table = made_up(conflicts=[1, 0, 0, 0, 0, 0], support=[0.1, 0.1, 1, 1, 1, 1], rank=[2, 2, 2, 2, 3, 3],
                    ratio=[0.9, 0.9, 0.9, 0.9, 0.1, 0.1], confidence=[0.9, 0.9, 0.9, 0.9, 0.9, 0.4],
                    contrast=[1.0, 50, 1.0, 50, 50, 50])
    crowd = made_up(correct=[True] * 60)
    types = error_analysis.failure_types(pd.concat([table, crowd.set_axis([f"right{n}" for n in range(60)])]))
    assert list(types) == list(error_analysis.TYPES)


def test_a_close_second_is_both_second_and_close():
    types = error_analysis.failure_types(made_up(rank=[2, 2, 3, 3], ratio=[0.5, 0.49, 0.9, 0.1]))
    assert list(types == "right class a close second") == [True, False, False, False]


def test_unknown_support_excuses_nothing():
    assert list(error_analysis.failure_types(made_up(support=[np.nan, 0.4]))) == ["unsure and off", "disputed label"]


@given(st.integers(0, 10**6), st.integers(0, 60))
def test_every_error_has_exactly_one_type_and_the_shares_add_up(seed, count):
    random = np.random.default_rng(seed)
    table = made_up(correct=random.random(count) < 0.5, confidence=random.random(count), ratio=random.random(count),
                    rank=random.integers(1, 7, count), support=np.where(random.random(count) < 0.2, np.nan,
                                                                        random.random(count)),
                    conflicts=random.integers(0, 2, count), brightness=random.random(count),
                    contrast=random.random(count), sharpness=random.random(count))
    types, errors = error_analysis.failure_types(table), int((~table["correct"]).sum())
    assert len(types) == errors and set(types) <= set(error_analysis.TYPES)
    summary = error_analysis.failure_summary(table)
    assert summary["errors"].sum() == errors and list(summary.index) == list(error_analysis.TYPES)
    assert summary["value"].sum() == pytest.approx(1 if errors else 0)
    assert ((summary["low"] <= summary["value"]) & (summary["value"] <= summary["high"])).all()


def test_what_holds_of_right_answers_as_often_is_not_shown_to_differ():
    alike = made_up(support=[0.2, 1.0] * 100, correct=[True, True, False, False] * 50)
    apart = made_up(support=[0.2, 1.0] * 100, correct=[False, True] * 100)
    alike, apart = (error_analysis.base_rates(table).loc["disputed label"] for table in (alike, apart))
    assert alike["wrong"] == alike["right"] == 0.5 and alike["p_holm"] == 1
    assert (apart["wrong"], apart["right"]) == (1, 0) and apart["p_holm"] < 1e-6
    assert apart["wrong_low"] > apart["right_high"]


def test_a_close_second_and_confidence_are_asked_of_right_answers_too():
    rates = error_analysis.base_rates(made_up(correct=[True, True, False, False], second=[0.5, 0.4, 0.6, 0.7],
                                              confidence=[0.9, 0.8, 0.9, 0.4], support=[np.nan] * 4))
    assert list(rates.loc["another class a close second", ["wrong", "right"]]) == [1, 0.5]
    assert list(rates.loc["confidence of 80% or more", ["wrong", "right"]]) == [0.5, 1]
    assert "disputed label" not in rates.index  # nobody voted


def test_accuracy_is_told_apart_by_what_people_say_of_the_label():
    table = made_up(correct=[True, True, False, True, False], support=[0.5, 0.9, 0.6, 0.1, np.nan]).assign(
        true=["fear", "fear", "anger", "anger", "anger"])
    found = error_analysis.accuracy_where_backed(table)
    assert list(found.index) == ["all", "anger", "fear"]
    assert found.loc["all", "backed"] == pytest.approx(2 / 3) and found.loc["all", "disputed"] == 1
    assert found.loc["anger", "backed"] == 0
    assert list(found.loc["fear", ["disputed_low", "disputed_high"]]) == [0, 1]  # of no image nothing is known


# --- subgroups


def test_accuracy_by_a_value_counts_every_known_image_once():
    values = np.r_[np.arange(100.0), np.nan]
    correct = np.r_[np.arange(100) >= 50, True]
    table = error_analysis.accuracy_by(correct, values, bins=4, name="x")
    assert list(table["value"]) == [0, 0, 1, 1] and table["images"].sum() == 100
    assert table.index[0].startswith("0 to ") and table.index[-1].endswith(" to 99")
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()


def test_error_sources_use_what_is_known(answers, faces):
    assert {"strength of the expression", "support of the label"} < set(error_analysis.error_sources(answers))
    table = described(faces)
    pictures = {"brightness", "contrast", "sharpness", "left–right asymmetry"}
    assert set(error_analysis.error_sources(table)) == pictures
    table["support"] = np.linspace(0, 1, len(table))
    assert set(error_analysis.error_sources(table)) == pictures | {"human agreement"}


def test_the_extremes_of_a_property_that_matters_differ_and_of_noise_do_not():
    random = np.random.default_rng(0)
    value, noise = random.random(800), random.random(800)
    correct = random.random(800) < 0.3 + 0.6 * value
    constant = error_analysis.accuracy_by(correct, np.ones(800))
    table = error_analysis.lowest_against_highest({
        "noise": error_analysis.accuracy_by(correct, noise), "constant": constant,
        "value": error_analysis.accuracy_by(correct, value)})
    assert list(table.index) == ["value", "noise"] and list(table["images"]) == [400, 400]
    assert table.loc["value", "p_holm"] < 1e-6 and table.loc["noise", "p_holm"] > 0.05
    row = table.loc["value"]
    assert row["low"] < row["value"] < row["high"] and row["low"] > 0.2
    assert row["value"] == pytest.approx(row["highest"] - row["lowest"])
    assert error_analysis.lowest_against_highest({}).empty


# --- hidden regions


def test_hiding_the_only_informative_region_costs_all_accuracy(smiles):
    table = error_analysis.region_importance(smiles, error_analysis.answers_without(Mouth(), smiles))
    table = table[table["class"] == "all"].set_index("region")
    assert table.loc["mouth", "value"] == pytest.approx(0.5) and table.loc["brows", "value"] == 0
    assert table.loc["mouth", "p_value"] < 0.001 and table.loc["brows", "p_value"] == 1


def test_the_answer_that_takes_over_when_a_region_is_hidden_is_named(smiles):
    table = error_analysis.grown_confusions(smiles, error_analysis.answers_without(Mouth(), smiles))
    first, second = smiles.classes[:2]
    assert list(table.loc[0, ["region", "true", "predicted"]]) == ["mouth", second, first]
    assert table.loc[0, "before"] == 0 and table.loc[0, "after"] == table.loc[0, "value"] == 1
    assert table.loc[0, "p_holm"] < 0.05 and (table.loc[1:, "value"] == 0).all()
    assert len(table) == 4 * 2 * 6
    changes = error_analysis.before_and_after(table, top=2)
    assert changes.index[0] == f"mouth hidden: {second} → {first}" and len(changes) == 2
    assert changes["before"].iloc[0] == 0 and changes["after_high"].iloc[0] == 1 > changes["after_low"].iloc[0] > 0.7
