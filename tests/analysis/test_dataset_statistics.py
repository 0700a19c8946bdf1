import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import easy_faces
from hypothesis import given
from hypothesis import strategies as st

from fer_helpers.analysis import dataset_statistics
from fer_helpers.data.emotions import EMOTIONS, VOTE_COLUMNS
from fer_helpers.data.synthetic import make_faces
from fer_helpers.files import FerError


@pytest.fixture(scope="module")
def drawn():
    return make_faces(140, test=140, seed=3)


def voted(rows, labels):
    """Faces with the given votes: a dict of counts by answer for each, with the label beside."""
    faces = easy_faces(train=4, test=2, votes=True).take(np.arange(len(rows)))
    votes = torch.zeros(len(rows), len(VOTE_COLUMNS))
    for number, row in enumerate(rows):
        for name, count in row.items():
            votes[number, VOTE_COLUMNS.index(name)] = count
    return dataclasses.replace(faces, votes=votes, labels=torch.tensor([EMOTIONS.index(name) for name in labels]))


def test_image_statistics_match_numpy(faces):
    table = dataset_statistics.image_statistics(faces)
    images = faces.images.numpy().astype(float)
    assert np.allclose(table["brightness"], images.mean((1, 2)), rtol=1e-4)
    assert np.allclose(table["contrast"], images.reshape(len(faces), -1).std(1, ddof=1), rtol=1e-4)
    assert list(table["id"]) == list(faces.ids)


def test_sharpness_falls_when_an_image_is_blurred(faces):
    soft = torch.nn.functional.avg_pool2d(faces.images[:, None].float(), 3, 1, 1)[:, 0].to(torch.uint8)
    before, after = (dataset_statistics.image_statistics(f)["sharpness"]
                     for f in (faces, dataclasses.replace(faces, images=soft)))
    assert (after < before).all()


def test_a_face_moved_by_some_pixels_is_found_there_whatever_its_brightness(drawn):
    face, moves = drawn.images[0].float(), [(0, 0), (2, -3), (-4, 1), (5, 5)]
    images = torch.stack([face.roll(move, (0, 1)) * 0.6 + 40 for move in moves] + [face] * 40).to(torch.uint8)
    table = dataset_statistics.face_positions(dataclasses.replace(drawn.take(np.arange(len(images))), images=images))
    found = table[["down", "right"]].to_numpy()
    assert np.array_equal(found[:4] - found[0], moves) and (found[4:] == 0).all()


def test_positions_found_in_pixels_follow_the_drawn_eyes(drawn):
    table = dataset_statistics.position_errors(drawn, dataset_statistics.face_positions(drawn))
    assert (table["low"] > 0.3).all() and (table["error"] < table["constant"]).all()
    assert (table["images"] > 270).all() and (table["low"] < table["value"]).all()
    shuffled = dataset_statistics.face_positions(drawn).sample(frac=1, random_state=0, ignore_index=True)
    assert (dataset_statistics.position_errors(drawn, shuffled)["value"].abs() < 0.2).all()


def test_sidelight_and_asymmetry_tell_a_picture_from_its_mirror_image(faces):
    ramp = torch.linspace(40, 200, 48).expand(48, 48)
    even = torch.cat([ramp[:, ::2], ramp[:, ::2].flip(1)], 1)
    images = torch.stack([ramp, ramp.flip(1), even, torch.full((48, 48), 90.0)]).to(torch.uint8)
    table = dataset_statistics.face_positions(dataclasses.replace(faces.take(np.arange(4)), images=images))
    assert table["sidelight"][0] == pytest.approx(-table["sidelight"][1]) and table["sidelight"][0] > 75
    assert table["asymmetry"][0] == pytest.approx(2, abs=0.01) and table["asymmetry"][2] == pytest.approx(0, abs=1e-4)
    assert table.iloc[3].isna().all()  # no face to be seen


def test_explained_variance_is_that_of_an_analysis_of_variance():
    random = np.random.default_rng(0)
    table = pd.DataFrame({"class": np.repeat(["a", "b", "c"], [300, 200, 100]), "noise": random.standard_normal(600)})
    table["same"] = np.where(table["class"] == "a", 5.0, -3.0)
    table["half"] = (table["class"] == "a") / (table["class"] == "a").std() + random.standard_normal(600)
    result = dataset_statistics.explained_by(table, ["noise", "half", "same"])
    assert list(result.index) == ["same", "half", "noise"] and result.index.name == "class"
    within = table["half"] - table.groupby("class")["half"].transform("mean")
    adjusted = 1 - (within ** 2).sum() / 597 / table["half"].var()
    assert result.loc["half", "value"] == pytest.approx(adjusted) and result.loc["same", "value"] == pytest.approx(1)
    assert result.loc["half", "low"] > 0.4 and result.loc["half", "high"] < 0.6 and result.loc["half", "p"] < 1e-20
    assert result.loc["noise", "low"] <= 0 <= result.loc["noise", "high"] and result.loc["noise", "p"] > 0.05


def test_no_interval_of_groups_that_do_not_differ_is_far_from_zero():
    random = np.random.default_rng(1)
    table = pd.DataFrame(random.standard_normal((400, 20)), columns=[f"s{k}" for k in range(20)])
    table["class"] = random.integers(0, 7, 400)
    result = dataset_statistics.explained_by(table, list(table.columns[:20]))
    assert (result["low"] <= 0).mean() >= 0.9 and (result["p"] > 0.05).all()


def test_one_group_explains_nothing_and_says_so(faces):
    with pytest.raises(FerError, match="fewer than two groups"):
        dataset_statistics.explained_by(dataset_statistics.image_statistics(faces.only("test")), ["contrast"], "split")


def test_eigenfaces_find_the_directions_the_images_were_made_of(faces):
    random = np.random.default_rng(0)
    sides, stripe = torch.zeros(48, 48), torch.zeros(48, 48)
    sides[:, :24], stripe[20:24] = 1, 1
    weights = torch.from_numpy(random.standard_normal((60, 2))).float() * torch.tensor([20.0, 30.0])
    images = (128 + weights[:, :1, None] * sides + weights[:, 1:, None] * stripe).round().clamp(0, 255)
    eigen = dataset_statistics.eigenfaces(images.to(torch.uint8), count=2)
    assert np.allclose(np.linalg.norm(eigen.faces.reshape(2, -1), axis=1), 1, atol=1e-4)
    assert np.corrcoef(eigen.faces[0].ravel(), sides.ravel())[0, 1] > 0.9 and eigen.explained.sum() > 0.98
    rebuilt = eigen.mean + np.tensordot(eigen.scores, eigen.faces, 1)
    assert np.abs(rebuilt - images.numpy()).max() < 1.5
    flipped = dataclasses.replace(eigen, faces=-eigen.faces)
    like = dataset_statistics.eigenfaces(images.to(torch.uint8), count=2, like=flipped)
    assert np.allclose(like.faces, -eigen.faces, atol=1e-5) and np.allclose(like.scores, -eigen.scores, atol=1e-2)
    with pytest.raises(FerError, match="5 images are too few for 6"):
        dataset_statistics.eigenfaces(faces.images[:5])


def test_human_votes_become_a_confusion_matrix():
    faces = easy_faces(train=4, test=2, votes=True)
    shares = faces.vote_shares().numpy()
    assert np.allclose(dataset_statistics.mean_shares(shares, faces.labels.numpy(), faces.classes), np.eye(7))
    assert np.allclose(dataset_statistics.human_agreement(faces), 1)


def test_agreement_of_one_image_is_counted_by_hand():
    faces = voted([{"fear": 5, "surprise": 5}, {"happiness": 10}, {"anger": 8, "NF": 2}],
                  ["fear", "happiness", "anger"])
    table = dataset_statistics.agreement_by_class(faces).set_index(["measure", "class"])["value"]
    assert table["entropy in bits", "fear"] == pytest.approx(1) and table["entropy in bits", "happiness"] == 0
    assert table["two raters agree", "fear"] == pytest.approx(40 / 90)
    assert table["two raters agree", "anger"] == pytest.approx((56 + 2) / 90)
    assert table["votes for the label", "anger"] == pytest.approx(0.8)  # an answer beyond the classes is an answer
    assert table["votes for the label", "all"] == pytest.approx((0.5 + 1 + 0.8) / 3)
    assert ("two raters agree", "neutral") not in table.index


def test_the_second_rater_is_never_the_first():
    faces = voted([{"fear": 1, "surprise": 9}, {"sadness": 6, "contempt": 4}], ["fear", "sadness"])
    table = dataset_statistics.rater_confusion(faces).set_index(["first", "second"])
    assert table.loc[("fear", "surprise"), "value"] == 1 and table.loc[("fear", "fear"), "value"] == 0
    assert table.loc[("surprise", "fear"), "value"] == pytest.approx(1 / 9)
    assert table.loc[("sadness", "other"), "value"] == pytest.approx(4 / 9)


@given(st.lists(st.lists(st.integers(0, 5), min_size=10, max_size=10).filter(lambda row: sum(row) >= 2),
                min_size=1, max_size=8))
def test_pairs_of_raters_are_symmetric_and_sum_to_one(rows):
    faces = voted([dict(zip(VOTE_COLUMNS, row, strict=True)) for row in rows], ["fear"] * len(rows))
    table = dataset_statistics.rater_confusion(faces)
    sums = table.groupby("first")["value"].sum()
    answered = {name: sum(row[VOTE_COLUMNS.index(name)] / sum(row) for row in rows) for name in EMOTIONS}
    assert all(sums[name] == pytest.approx(1 if answered[name] else 0) for name in EMOTIONS)
    value = table.set_index(["first", "second"])["value"]
    for first in EMOTIONS:  # P(first) P(second | first) knows no order
        for second in EMOTIONS:
            assert value[first, second] * answered[first] == pytest.approx(value[second, first] * answered[second])
    assert ((table["low"] - 1e-9 <= table["high"]) & table["high"].between(0, 1 + 1e-9)).all()


def test_what_the_data_does_not_know_is_an_error(faces):
    for ask in (dataset_statistics.human_agreement, dataset_statistics.action_unit_means,
                dataset_statistics.agreement_by_class, dataset_statistics.rater_confusion):
        with pytest.raises(FerError, match="easy faces"):
            ask(faces)
    uncovered = dataclasses.replace(faces, votes=torch.full((len(faces), 10), torch.nan))
    with pytest.raises(FerError, match="no image has two votes"):
        dataset_statistics.rater_confusion(uncovered)


def test_action_units_of_a_class_are_those_of_its_prototype(drawn):
    means = dataset_statistics.action_unit_means(drawn)
    assert means.loc["happiness"].idxmax() in ("AU6", "AU12")
    assert means.loc["neutral"].max() < means.loc["surprise"].max()


def test_a_mirrored_image_has_no_asymmetry_and_a_ramp_has_the_most():
    half = torch.randint(0, 256, (5, 48, 24), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert np.allclose(dataset_statistics.asymmetry(torch.cat([half, half.flip(2)], 2)), 0, atol=1e-5)
    ramp = torch.arange(48).expand(1, 48, 48).to(torch.uint8)
    assert dataset_statistics.asymmetry(ramp) == pytest.approx(2)


def test_the_votes_of_people_as_a_table_give_the_shares_of_the_set():
    faces, classes = easy_faces(train=4, test=2, votes=True), ("anger", "fear", "happiness")
    view = faces.with_classes(classes).only("test")
    table = dataset_statistics.vote_table(faces.only("test"))
    assert list(table.columns) == list(VOTE_COLUMNS) and (table.sum(axis=1) > 0).all()
    shares = dataset_statistics.people(table, view.ids, classes)
    np.testing.assert_allclose(shares, view.vote_shares().numpy(), atol=1e-6)
    assert np.isnan(dataset_statistics.people(table, ["unknown"], classes)).all()
