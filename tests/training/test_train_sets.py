"""Which train images a training sees, and that one whose train set lacks classes goes through like any."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import easy_faces
from hypothesis import given
from hypothesis import strategies as st

from fer_helpers.data.emotions import CLASS_SETS, EMOTIONS
from fer_helpers.data.faceset import FaceSet
from fer_helpers.data.readers import load_faces
from fer_helpers.files import FerError
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.distributed import DistributedContext
from fer_helpers.training.runs import train_run
from fer_helpers.training.train_sets import missing_classes, select_train
from fer_helpers.training.trainer import Trainer, prepare_faces

TINY = TrainConfig(arch="simple_cnn", epochs=1, batch_size=8, val_fraction=0.2, augmentation="none", precision="fp32")
#: What FER2013's train split has of each of `EMOTIONS`, by the original study's count.
FER2013 = (3995, 436, 4097, 7215, 4830, 3171, 4965)


def faces_like(train: tuple[int, ...], test: int = 2, order: int = 0) -> FaceSet:
    """So many black train images of each emotion, an eighth of them for validation, and ``test`` of each."""
    each = [np.repeat(np.arange(7), train), np.repeat(np.arange(7), test)]
    split = np.concatenate([np.resize(["train"] * 7 + ["val"], len(each[0])), np.repeat("test", len(each[1]))])
    labels, mixed = np.concatenate(each), np.random.default_rng(order).permutation(len(split))
    return FaceSet(torch.zeros(1, 48, 48, dtype=torch.uint8).expand(len(split), -1, -1),
                   torch.from_numpy(labels[mixed]), np.array([f"face{number}" for number in range(len(split))]),
                   split[mixed], EMOTIONS, source="black faces")


def trained_on(faces: FaceSet) -> dict[str, int]:
    """Train and validation images by class, where there are any."""
    counts = faces.counts()[["train", "val"]].sum(axis=1)
    return counts[counts > 0].to_dict()


@pytest.mark.parametrize("classes", [3, 6, 7])
def test_the_original_train_set_has_all_angry_and_fearful_faces_and_a_share_of_the_happy_ones(classes):
    faces = faces_like(FER2013).with_classes(classes)
    original = select_train(faces, "original", seed=3)
    assert trained_on(original) == {"anger": 3995, "fear": 4097, "happiness": 1717}
    assert original.only("test").ids.tolist() == faces.only("test").ids.tolist()
    assert original.classes == faces.classes and set(original.ids) <= set(faces.ids)


def test_which_happy_faces_the_original_train_set_has_is_drawn_from_the_seed():
    faces = faces_like((20, 5, 20, 100, 5, 5, 5))
    first, again, other = (select_train(faces, "original", seed).ids.tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert trained_on(faces.take(np.isin(faces.ids, first) & (faces.split != "test"))) == {
        "anger": 20, "fear": 20, "happiness": 24}


@given(st.lists(st.integers(0, 12), min_size=7, max_size=7), st.sets(st.sampled_from(EMOTIONS), min_size=1, max_size=5))
def test_a_train_set_without_classes_has_all_of_the_others(numbers, missing):
    faces = faces_like(tuple(numbers))
    kept = select_train(faces, f"without-{'+'.join(sorted(missing))}")
    left = [name for name, number in zip(EMOTIONS, numbers, strict=True) if number and name not in missing]
    assert trained_on(kept) == {name: numbers[EMOTIONS.index(name)] for name in left}
    gone = (faces.split != "test") & np.isin(np.array(EMOTIONS)[faces.labels], list(missing))
    assert kept.ids.tolist() == faces.ids[~gone].tolist()


def test_two_classes_are_left_out_by_name(faces):
    counts = select_train(faces, "without-fear+neutral").counts()
    assert counts["train"].to_dict() == dict.fromkeys(EMOTIONS, 16) | {"fear": 0, "neutral": 0}
    assert (counts["test"] == 6).all()
    assert missing_classes("without-fear+neutral") == ("fear", "neutral")


def test_without_copies_train_lacks_what_also_stands_in_test_and_nothing_else(faces):
    images = faces.images.clone()
    test, train = np.flatnonzero(faces.split == "test"), np.flatnonzero(faces.split == "train")
    images[test[:3]] = images[train[:3]]
    leaky = replace(faces, images=images)
    kept = select_train(leaky, "no-copies")
    assert kept.ids.tolist() == np.delete(leaky.ids, train[:3]).tolist()
    assert not kept.in_train()[kept.split == "test"].any()
    assert select_train(faces, "no-copies").ids.tolist() == faces.ids.tolist()


def test_with_augmented_test_images_train_has_each_of_them_once_more_changed_and_test_stays(faces):
    voted = easy_faces(votes=True)
    more = select_train(voted, "test-augmented", seed=2)
    test = voted.only("test")
    assert len(more) == len(voted) + len(test) and torch.equal(more.images[:len(voted)], voted.images)
    added = more.take(np.arange(len(voted), len(more)))
    assert set(added.split) == {"train"} and added.ids.tolist() == [f"{name} augmented" for name in test.ids]
    assert torch.equal(added.labels, test.labels) and torch.equal(added.votes, test.votes)
    change = (added.images.float() - test.images.float()).abs().mean((1, 2))
    assert 1 < change.min() and change.median() < 80
    assert torch.equal(select_train(voted, "test-augmented", seed=2).images, more.images)
    assert not torch.equal(select_train(voted, "test-augmented", seed=3).images, more.images)


@pytest.mark.parametrize("told", ["names", "a table"])
def test_augmented_test_images_show_the_persons_of_the_images_they_are_made_from(told, faces):
    people = torch.arange(len(faces)) % 11
    known = replace(faces, people=people) if told == "a table" else replace(faces, ids=np.array(
        [f"S{person:03d}_001_{row:08d}" for row, person in enumerate(people)]))
    more = select_train(known.with_classes(6), "test-augmented")
    origin = dict(zip(known.ids, known.subjects, strict=True))
    expected = [origin[name.removesuffix(" augmented")] for name in more.ids]
    assert len(set(zip(more.subjects, expected, strict=True))) == len(set(more.subjects)) == 11  # one to one
    split = more.split_validation(0.3)
    assert set(split.subjects[split.split == "val"]).isdisjoint(split.subjects[split.split == "train"])


def test_all_is_the_set_as_it_is(faces):
    assert select_train(faces, "all") is faces
    assert {missing_classes(name) for name in ("all", "no-copies", "test-augmented")} == {()}


@pytest.mark.parametrize("name", ["", "half", "originals", "without-", "without-joy", "without-fear+", "fear", None, 3,
                                  "without-fear+fear", "without-fear neutral", "without-fear+joy", ["all"], "a\nb"])
def test_an_unknown_train_set_is_refused_with_the_choices(name, faces):
    for ask in (missing_classes, lambda name: select_train(faces, name), lambda name: TrainConfig(train_set=name)):
        with pytest.raises(FerError, match="train_set=.*is unknown; choose all, original, .*without-CLASS.*anger, ") \
                as raised:
            ask(name)
        assert str(raised.value).isprintable()


@pytest.mark.parametrize(("classes", "name", "left"), [
    (3, "without-anger+happiness", "leaves fear in train"), (3, "without-anger+fear+happiness", "leaves no class"),
    (6, "without-fear+anger+happiness+sadness+surprise", "leaves neutral in train")])
def test_a_train_set_of_fewer_than_two_classes_is_refused(classes, name, left, faces):
    with pytest.raises(FerError, match=f"easy faces: train_set=.*{left}.*leave out fewer"):
        select_train(faces.with_classes(classes), name)


def test_the_original_train_set_of_real_photographs(real_data):
    faces = load_faces(progress=False)
    view = select_train(faces.with_classes(6), "original").split_last(0.25)
    assert trained_on(view) == {"anger": 3963, "fear": 4077, "happiness": 1710}
    assert view.counts()["train"].to_dict() == dict.fromkeys(CLASS_SETS[6], 0) | {"anger": 3963, "fear": 3349}
    assert (view.split == "test").sum() == (faces.with_classes(6).split == "test").sum()


# --- training on it

def test_a_view_takes_the_train_set_before_it_splits_and_limits():
    config = replace(TINY, train_set="original", val_fraction=0.25, train_limit=40)
    last = prepare_faces(replace(config, validation="last"), easy_faces(train=32)).counts()
    assert last["val"].to_dict() == dict.fromkeys(CLASS_SETS[6], 0) | {"fear": 10, "happiness": 8}
    assert last["train"].sum() == 40 and last.loc["happiness", "train"] == 0
    drawn = prepare_faces(config, easy_faces(train=32)).counts()
    assert drawn["val"].to_dict() == dict.fromkeys(CLASS_SETS[6], 0) | {"anger": 8, "fear": 8, "happiness": 2}
    assert drawn["train"].sum() == 40 and (drawn.loc[["sadness", "surprise", "neutral"], "train"] == 0).all()


@pytest.mark.parametrize("settings", [
    {"train_set": "original", "validation": "last", "val_fraction": 0.25}, {"train_set": "without-happiness+anger"}],
    ids=["original", "without two"])
@pytest.mark.parametrize("class_weights", ["balanced", "effective"])
def test_a_training_whose_train_set_lacks_classes_is_evaluated_on_all_of_them(settings, class_weights, faces, tmp_path):
    config = replace(TINY, class_weights=class_weights, **settings)
    run = train_run(config, faces, tmp_path, "cpu", progress=False)
    assert np.isfinite(run.history.to_numpy()).all()
    assert run.metrics["test"].count == 36
    assert run.metrics["test"].confusion.sum(axis=1).tolist() == [6] * 6
    assert set(run.predictions.query("split == 'test'")["true"]) == set(CLASS_SETS[6])
    missing = {*missing_classes(config.train_set)}
    assert run.environment["images"]["train"] < 72 and not missing & {*run.predictions.query("split == 'val'")["true"]}
    assert np.isfinite(run.probabilities()).all()


@pytest.mark.parametrize("class_weights", ["balanced", "effective"])
def test_class_weights_of_classes_that_train_lacks_are_finite_and_the_others_count_as_ever(class_weights, faces):
    view = select_train(faces.with_classes(6), "original")
    trainer = Trainer(replace(TINY, class_weights=class_weights), view.only("train"), view.only("test"), "cpu", "fp32",
                      DistributedContext(0, 1))
    weight, count = trainer.class_weight, torch.bincount(view.only("train").labels, minlength=6)
    assert weight.isfinite().all() and (weight > 0).all()
    assert (weight * count).sum().item() == pytest.approx(count.sum().item(), rel=1e-5)
    shares = (weight * count)[count > 0] / count.sum()
    if class_weights == "balanced":
        torch.testing.assert_close(shares, torch.full_like(shares, 1 / 3))
