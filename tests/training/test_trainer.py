import contextlib
import dataclasses
import json
import math
import pickle
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Payload, easy_faces, fit_quietly, interrupt_fit, same_history, weights_equal
from hypothesis import given
from hypothesis import strategies as st
from killing import fit_until_killed, fit_until_killed_while_saving

from fer_helpers.data.emotions import CLASS_SETS, EMOTIONS, VOTE_COLUMNS
from fer_helpers.data.faceset import FaceSet
from fer_helpers.files import FerError
from fer_helpers.models.architectures import Compact
from fer_helpers.models.factory import create_model, list_models
from fer_helpers.training.config import DEFAULT_LR, INITS, LOSSES, OPTIMIZERS, SCHEDULES, TrainConfig
from fer_helpers.training.distributed import DistributedContext
from fer_helpers.training.losses import compute_loss
from fer_helpers.training.optim import average_weights, lr_factor
from fer_helpers.training.prediction import choose_device, choose_precision, predict_logits
from fer_helpers.training.settings import read_settings
from fer_helpers.training.trainer import Diverged, Trainer, _batches, _quick, fit, prepare_faces
from fer_helpers.transforms.augmentation import POLICIES, TTA

TINY = TrainConfig(arch="simple_cnn", epochs=2, batch_size=16, val_fraction=0.2, augmentation="none",
                   precision="fp32", warmup_epochs=0.0)
OTHER_DEVICES = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()

@pytest.fixture(scope="module")
def view(faces) -> FaceSet:
    return prepare_faces(TINY, faces)


# ---------------------------------------------------------------- configuration

@pytest.mark.parametrize(("name", "value"), [
    ("arch", "alexnet"), ("classes", 5), ("classes", "six"), ("batch_norm", "maybe"), ("batch_norm", None),
    ("optimizer", "lion"), ("optimizer", None), ("lr", -0.1), ("lr", 1000), ("lr", "fast"), ("lr", float("nan")),
    ("lr", float("inf")), ("lr", True), ("momentum", 1.0), ("momentum", -0.1), ("momentum", None),
    ("weight_decay", -1), ("weight_decay", float("nan")), ("schedule", "linear"), ("warmup_epochs", -1),
    ("epochs", 0), ("epochs", -3), ("epochs", 2.5), ("epochs", True), ("epochs", "ten"), ("epochs", None),
    ("batch_size", 1), ("batch_size", 0), ("batch_size", 32.5), ("loss", "hinge"), ("label_smoothing", -0.1),
    ("label_smoothing", 1.1), ("class_weights", "inverse"), ("augmentation", "wild"), ("precision", "fp16"),
    ("clip_norm", 0), ("clip_norm", -1), ("patience", 0), ("patience", 1.5), ("val_fraction", 0), ("val_fraction", 1),
    ("val_fraction", -0.5), ("init", "orthogonal"), ("validation", "first"), ("drop_last", 2), ("train_set", "half"),
    ("root_eps", 0), ("root_eps", True), ("root_eps", "small"), ("loss", "binary_cross_entropy"),
    ("train_limit", 0), ("train_limit", 1.5), ("seed", -1), ("seed", 0.5), ("seed", None),
])
def test_an_impossible_setting_is_named_with_its_value(name, value):
    with pytest.raises(FerError) as raised:
        TrainConfig(**{name: value})
    assert f"{name}={value!r}" in str(raised.value)


@pytest.mark.parametrize(("name", "choices"), [
    ("arch", list_models()), ("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("loss", LOSSES),
    ("augmentation", POLICIES), ("precision", ("auto", "fp32", "bf16")), ("class_weights", ("none", "balanced")),
    ("init", INITS), ("validation", ("stratified", "last")), ("train_set", ("all", "original", "without-fear")),
])
def test_the_message_for_an_unknown_choice_lists_all_choices(name, choices):
    with pytest.raises(FerError) as raised:
        TrainConfig(**{name: "?"})
    assert all(choice in str(raised.value) for choice in choices)


CONFIGS = st.builds(
    TrainConfig, arch=st.sampled_from(list_models()), classes=st.sampled_from([3, 6, 7, "3", "6", "7"]),
    batch_norm=st.booleans(), optimizer=st.sampled_from(OPTIMIZERS), lr=st.none() | st.floats(0, 100),
    momentum=st.floats(0, 0.99), weight_decay=st.floats(0, 1), schedule=st.sampled_from(SCHEDULES),
    warmup_epochs=st.integers(0, 5) | st.floats(0, 5), epochs=st.integers(1, 500), batch_size=st.integers(2, 512),
    loss=st.sampled_from(LOSSES[:2]), label_smoothing=st.floats(0, 1),
    ema=st.none() | st.floats(0, 0.999), tta=st.sampled_from(TTA),
    class_weights=st.sampled_from(["none", "balanced"]),
    augmentation=st.sampled_from(sorted(POLICIES)), precision=st.sampled_from(["auto", "fp32", "bf16"]),
    clip_norm=st.none() | st.floats(0.01, 100), patience=st.none() | st.integers(1, 50),
    init=st.sampled_from(INITS), drop_last=st.booleans(), validation=st.sampled_from(["stratified", "last"]),
    train_set=st.sampled_from(["all", "original", "without-fear", "without-sadness+neutral"]),
    val_fraction=st.floats(0.01, 0.9), train_limit=st.none() | st.integers(2, 10**6), seed=st.integers(0, 2**31))


@given(CONFIGS)
def test_a_configuration_comes_back_from_json_as_it_was(config):
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def spellings(value: object) -> list[object]:
    """What a command line, a plan or papermill may give for a setting of that value."""
    if isinstance(value, bool):
        return [int(value), float(value), str(value), str(value).upper()]
    if isinstance(value, int):
        return [float(value), str(value), f"{value}.0"]
    if isinstance(value, float):
        return [str(value), f" {value!r} ", *[int(value), str(int(value))] * value.is_integer()]
    return [value.upper(), value.title()] if isinstance(value, str) else [None, "none", "Null"]


@given(CONFIGS, st.randoms(use_true_random=False))
def test_equal_configurations_are_written_alike(config, random):
    twin = TrainConfig(**{name: random.choice(spellings(value)) for name, value in config.to_dict().items()})
    assert twin == config and hash(twin) == hash(config)
    assert (json.dumps(twin.to_dict()), twin.identity()) == (json.dumps(config.to_dict()), config.identity())
    assert twin.command() == config.command()


@given(CONFIGS, CONFIGS)
def test_configurations_that_differ_in_one_setting_are_written_apart(first, second):
    for name, value in second.to_dict().items():
        with contextlib.suppress(FerError):  # settings that do not go together
            other = replace(first, **{name: value})
            same = value == getattr(first, name)
            assert (other == first) == same == (json.dumps(other.to_dict()) == json.dumps(first.to_dict()))
            assert (other.identity() == first.identity()) == same


@pytest.mark.parametrize(("name", "one", "same"), [
    ("classes", "6", 6), ("lr", 1, 1.0), ("warmup_epochs", 1, 1.0), ("weight_decay", 0, 0.0), ("momentum", 0, 0.0),
    ("label_smoothing", 0, 0.0), ("clip_norm", 5, 5.0), ("batch_norm", 1, True), ("drop_last", 0, False)])
def test_one_setting_has_one_spelling_however_it_was_written(name, one, same):
    assert json.dumps(TrainConfig(**{name: one}).to_dict()) == json.dumps(TrainConfig(**{name: same}).to_dict())


@given(CONFIGS)
def test_the_command_of_a_configuration_makes_it_again(config):
    words = config.command().split()
    assert words[:2] == ["fer", "train"]
    found = {key: value for key, (value,) in read_settings(words[2:]).items()}
    assert TrainConfig.from_dict(found) == config
    assert len(found) <= sum(value != default for value, default in zip(
        config.to_dict().values(), TrainConfig().to_dict().values(), strict=True))


def test_missing_settings_take_their_defaults():
    assert TrainConfig.from_dict({}) == TrainConfig()
    assert TrainConfig.from_dict({"epochs": 3}) == TrainConfig(epochs=3)


@pytest.mark.parametrize("values", [{"epoch": 3}, {"epochs": 3, "gpu": 1}, [], None, "epochs"])
def test_unknown_settings_are_refused_with_the_known_ones(values):
    with pytest.raises(FerError, match="configuration.*batch_size"):
        TrainConfig.from_dict(values)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_rate_means_the_default_of_the_optimizer(optimizer):
    assert TrainConfig(optimizer=optimizer).lr == DEFAULT_LR[optimizer]


def test_a_configuration_is_immutable_and_hashable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.epochs = 3
    assert len({TINY, replace(TINY), replace(TINY, epochs=3)}) == 2


def test_prepare_faces_gives_classes_validation_and_limit(faces):
    config = replace(TINY, classes=3, train_limit=20, seed=4)
    view = prepare_faces(config, faces)
    assert view.classes == CLASS_SETS[3]
    counts = view.counts()
    assert counts["train"].sum() == 20
    assert counts["val"].tolist() == [4, 4, 4]  # a fifth of 16, rounded up
    assert counts["test"].tolist() == [6, 6, 6]
    assert prepare_faces(config, faces).fingerprint == view.fingerprint
    assert prepare_faces(replace(config, seed=5), faces).fingerprint != view.fingerprint


# ---------------------------------------------------------------- learning rate

SHAPES = st.tuples(st.sampled_from(SCHEDULES), st.integers(1, 30), st.integers(1, 20), st.floats(0, 5))


@given(SHAPES)
def test_the_share_of_the_rate_stays_within_zero_and_one(shape):
    schedule, epochs, steps, warmup = shape
    config = TrainConfig(schedule=schedule, epochs=epochs, warmup_epochs=warmup)
    assert all(0 <= lr_factor(config, step, steps) <= 1 for step in range(epochs * steps))


@given(SHAPES)
def test_warmup_rises_linearly_and_then_hands_over(shape):
    schedule, epochs, steps, warmup = shape
    with_it = TrainConfig(schedule=schedule, epochs=epochs, warmup_epochs=warmup)
    without = replace(with_it, warmup_epochs=0)
    for step in range(epochs * steps):
        full = lr_factor(without, step, steps)
        expected = full * min(1, (step + 1) / (warmup * steps)) if warmup else full
        assert lr_factor(with_it, step, steps) == pytest.approx(expected)


def curve(schedule: str, epochs: int = 20, steps: int = 10) -> np.ndarray:
    config = TrainConfig(schedule=schedule, epochs=epochs, warmup_epochs=0)
    return np.array([lr_factor(config, step, steps) for step in range(epochs * steps)])


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_constant_and_plateau_keep_the_rate(schedule):
    assert (curve(schedule) == 1).all()


def test_step_divides_by_ten_at_its_two_marks():
    np.testing.assert_allclose(curve("step"), [1] * 120 + [0.1] * 50 + [0.01] * 30)


def test_cosine_falls_from_one_to_almost_nothing():
    rates = curve("cosine")
    assert rates[0] == 1
    assert (np.diff(rates) < 0).all()
    assert rates[100] == pytest.approx(0.5)
    assert rates[-1] < 1e-3


def test_onecycle_peaks_at_three_tenths():
    rates = curve("onecycle")
    assert rates.argmax() == 60
    assert rates[60] == pytest.approx(1)
    assert rates[0] < 0.1
    assert (np.diff(rates[2:61]) > 0).all()
    assert (np.diff(rates[60:]) < 0).all()
    assert rates[-1] < 1e-3


# ---------------------------------------------------------------- losses

def batch(count: int = 5, classes: int = 6, seed: int = 0):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=random) * 3
    hard = torch.randint(classes, (count,), generator=random)
    soft = torch.rand(count, classes, generator=random)
    return logits, hard, F.one_hot(hard, classes).float(), soft / soft.sum(1, keepdim=True)


@given(st.integers(0, 1000))
def test_cross_entropy_is_minus_the_log_of_the_true_probability(seed):
    logits, hard, target, _ = batch(seed=seed)
    by_hand = -logits.softmax(1)[torch.arange(5), hard].log().mean()
    torch.testing.assert_close(compute_loss(TINY, logits, target), by_hand)


@given(st.integers(0, 1000))
def test_soft_votes_weigh_the_log_probabilities_with_the_shares(seed):
    logits, _, _, shares = batch(seed=seed)
    by_hand = -(shares * logits.softmax(1).log()).sum(1).mean()
    torch.testing.assert_close(compute_loss(replace(TINY, loss="soft_votes"), logits, shares), by_hand)


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


def test_sigmoid_cross_entropy_of_two_images_by_hand():
    logits, target = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]]), torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    first = softplus(-2.0) + softplus(-1.0) + softplus(0.5)  # −log σ(z) of the true class, −log(1 − σ(z)) of others
    second = softplus(0.0) + softplus(3.0) + softplus(2.0)
    loss = compute_loss(replace(TINY, loss="sigmoid_cross_entropy"), logits, target)
    assert loss.item() == pytest.approx((first + second) / 6)


@given(st.integers(0, 1000), st.floats(1, 1e4))
def test_sigmoid_cross_entropy_is_the_mean_of_the_binary_terms_and_stays_finite(seed, scale):
    logits, hard, target, _ = batch(seed=seed)
    config = replace(TINY, loss="sigmoid_cross_entropy")
    terms = F.softplus(torch.where(target.bool(), -logits, logits).double())
    torch.testing.assert_close(compute_loss(config, logits, target).double(), terms.mean(), rtol=1e-5, atol=1e-7)
    # Not of a softmax, which a constant added to all logits would leave alone; nor clipped, where one is sure.
    assert compute_loss(config, logits + 1, target) != compute_loss(config, logits, target)
    assert compute_loss(config, scale * logits, target).isfinite()


def test_sigmoid_cross_entropy_weighs_its_classes_and_knows_no_smoothing():
    logits, _, target, _ = batch()
    config, weight = replace(TINY, loss="sigmoid_cross_entropy"), torch.tensor([0.5, 2.0, 1.0, 3.0, 1.0, 0.1])
    terms = F.softplus(torch.where(target.bool(), -logits, logits)) * weight
    torch.testing.assert_close(compute_loss(config, logits, target, weight), terms.mean())
    with pytest.raises(FerError, match="label_smoothing does nothing with loss='sigmoid_cross_entropy'"):
        replace(config, label_smoothing=0.1)


@pytest.mark.parametrize("loss", ["cross_entropy", "soft_votes"])
def test_label_smoothing_spreads_its_share_over_all_classes(loss):
    logits, _, target, shares = batch()
    wanted = target if loss == "cross_entropy" else shares
    smoothed = 0.7 * wanted + 0.3 / 6
    by_hand = -(smoothed * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(compute_loss(replace(TINY, loss=loss, label_smoothing=0.3), logits, wanted), by_hand)


def test_class_weights_multiply_the_terms_of_their_class():
    logits, hard, target, _ = batch(50)
    weight = torch.tensor([0.5, 2.0, 1.0, 3.0, 1.0, 0.1])
    by_hand = -(weight[hard] * logits.log_softmax(1)[torch.arange(50), hard]).mean()
    torch.testing.assert_close(compute_loss(TINY, logits, target, weight), by_hand)


# ---------------------------------------------------------------- fitting

@pytest.fixture(scope="module")
def fitted(view):
    return fit_quietly(replace(TINY, epochs=4), view)


def test_fit_learns_an_easy_set(fitted, view):
    test = view.only("test")
    accuracy = (predict_logits(fitted.model, test.images).argmax(1) == test.labels).float().mean()
    assert fitted.history["val_accuracy"].max() > 0.6
    assert accuracy > 0.6  # chance is 0.17
    assert fitted.history["train_loss"].iloc[-1] < fitted.history["train_loss"].iloc[0]


def test_history_has_a_row_per_epoch_with_all_its_columns(fitted):
    assert list(fitted.history) == ["epoch", "lr", "train_loss", "train_accuracy", "grad_norm", "val_loss",
                                    "val_accuracy", "seconds"]
    assert fitted.history["epoch"].tolist() == [1, 2, 3, 4]
    assert np.isfinite(fitted.history.to_numpy()).all()
    assert fitted.history[["train_accuracy", "val_accuracy"]].stack().between(0, 1).all()
    assert (fitted.history["grad_norm"] > 0).all()


def test_fit_returns_a_model_on_the_cpu_in_evaluation_mode(fitted):
    assert not fitted.model.training
    assert {p.device.type for p in fitted.model.parameters()} == {"cpu"}
    assert (fitted.precision, fitted.device) == ("fp32", "cpu")


def test_the_reported_validation_loss_is_that_of_the_returned_model(fitted, view):
    val = view.only("val")
    logits = predict_logits(fitted.model, val.images)
    best = fitted.history.set_index("epoch").loc[fitted.best_epoch]
    assert best["val_loss"] == fitted.history["val_loss"].min()
    assert F.cross_entropy(logits, val.labels).item() == pytest.approx(best["val_loss"], rel=1e-4)
    assert (logits.argmax(1) == val.labels).float().mean().item() == pytest.approx(best["val_accuracy"])


def test_the_test_images_have_no_influence(fitted, view):
    dark = replace(view, images=torch.where(torch.from_numpy(view.split == "test")[:, None, None],
                                            torch.zeros_like(view.images), view.images))
    assert weights_equal(fit_quietly(replace(TINY, epochs=4), dark), fitted)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(faces):
    config = replace(TINY, augmentation="strong", arch="simple_cnn")
    first, again, other = (fit_quietly(one, prepare_faces(config, faces))
                           for one in (config, config, replace(config, seed=1)))
    assert weights_equal(first, again)
    assert same_history(first, again)
    assert not weights_equal(first, other)


def test_fit_leaves_the_global_generator_and_the_faces_alone(view):
    torch.manual_seed(7)
    state, before = torch.get_rng_state(), view.images.clone()
    first = fit_quietly(replace(TINY, epochs=1), view)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    assert weights_equal(fit_quietly(replace(TINY, epochs=1), view), first)
    assert torch.equal(view.images, before)


def test_dropout_and_batch_norm_are_repeatable_too(view):
    config = replace(TINY, arch="vgg16", epochs=1, train_limit=16)
    few = view.limit_train(16)
    assert weights_equal(fit_quietly(config, few), fit_quietly(config, few))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_runs_with_every_schedule(optimizer, schedule, view):
    config = replace(TINY, optimizer=optimizer, schedule=schedule, lr=DEFAULT_LR[optimizer], epochs=1, batch_size=32)
    fitted = fit_quietly(config, view.limit_train(64))
    assert np.isfinite(fitted.history["val_loss"]).all()
    assert fitted.best_epoch == 1


@pytest.mark.parametrize("arch", ["compact", "resnet50"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_deep_networks_train_with_and_without_batch_norm(arch, batch_norm, view):
    config = replace(TINY, arch=arch, batch_norm=batch_norm, epochs=1, lr=0.001, clip_norm=1.0)
    fitted = fit_quietly(config, view.limit_train(16))
    assert np.isfinite(fitted.history["val_loss"]).all()


def test_the_history_shows_the_rates_of_the_schedule(view):
    config = replace(TINY, schedule="step", epochs=10, lr=1e-4, batch_size=64)
    rates = fit_quietly(config, view.limit_train(64)).history["lr"]
    np.testing.assert_allclose(rates, [1e-4] * 6 + [1e-5] * 3 + [1e-6], rtol=1e-6)


def test_plateau_halves_the_rate_after_three_epochs_without_gain(view):
    # Steps too small to change a weight: the validation loss is best in epoch 1 and stays there.
    config = replace(TINY, schedule="plateau", lr=1e-30, epochs=8, batch_size=64)
    rates = fit_quietly(config, view.limit_train(64)).history["lr"]
    np.testing.assert_allclose(rates / 1e-30, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25])


@pytest.fixture(scope="module")
def puzzling(view) -> FaceSet:
    """Squares and labels by lot: what is learnt by heart harms on the validation split soon."""
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(6, (len(view),), generator=random)
    squares = torch.randint(2, (len(view), 6, 6), generator=random, dtype=torch.uint8) * 255
    images = squares.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return replace(view, images=images, labels=labels).limit_train(48)


OVERFIT = replace(TINY, optimizer="rmsprop", lr=1e-3, schedule="constant", epochs=8)


@pytest.fixture(scope="module")
def overfitted(puzzling):
    return fit_quietly(OVERFIT, puzzling)


def test_the_best_epoch_is_restored_not_the_last(puzzling, overfitted):
    whole = overfitted
    assert len(whole.history) == 8
    assert 1 <= whole.best_epoch < 8
    assert whole.history["val_loss"].idxmin() == whole.best_epoch - 1
    # At a constant rate a shorter training takes the same steps: it ends where the best epoch ended.
    short = fit_quietly(replace(OVERFIT, epochs=whole.best_epoch), puzzling)
    assert short.best_epoch == whole.best_epoch
    assert weights_equal(short, whole)


def test_the_last_epoch_is_kept_when_asked_for(puzzling, overfitted):
    last = fit_quietly(replace(OVERFIT, keep="last"), puzzling)
    assert same_history(last, overfitted)
    assert last.best_epoch == len(last.history) > overfitted.best_epoch
    val = puzzling.only("val")
    loss = F.cross_entropy(predict_logits(last.model, val.images), val.labels).item()
    assert loss == pytest.approx(last.history["val_loss"].iloc[-1], rel=1e-5)


def test_the_best_epoch_on_test_is_chosen_by_accuracy_there_and_validation_images_are_not_looked_at(view):
    config = replace(TINY, keep="best_on_test", epochs=6)
    fitted, test = fit_quietly(config, view), view.only("test")
    accuracy = fitted.history["val_accuracy"]
    assert fitted.best_epoch == accuracy.idxmax() + 1
    found = (predict_logits(fitted.model, test.images).argmax(1) == test.labels).float().mean().item()
    assert found == pytest.approx(accuracy.max())
    val = torch.from_numpy(view.split == "val")[:, None, None]
    black = torch.where(val, torch.zeros_like(view.images), view.images)
    assert weights_equal(fit_quietly(config, replace(view, images=black)), fitted)


@pytest.mark.parametrize("patience", [1, 2])
def test_patience_stops_after_so_many_epochs_without_gain(patience, puzzling, overfitted):
    stopped = fit_quietly(replace(OVERFIT, patience=patience), puzzling)
    losses = overfitted.history["val_loss"].to_numpy()
    waited = np.arange(8) - [losses[:epoch + 1].argmin() for epoch in range(8)]
    assert (waited >= patience).any()
    assert len(stopped.history) == (waited >= patience).argmax() + 1 < 8


def test_a_loss_that_explodes_says_where_and_what_to_change(view):
    with pytest.raises(Diverged, match=r"simple_cnn.*epoch \d+.*lr.*lower lr.*warmup_epochs.*clip_norm"):
        fit_quietly(replace(TINY, lr=100, schedule="constant", epochs=4), view)


def test_an_explosion_in_the_very_last_step_is_not_returned_as_a_result(view):
    # Every batch of the only epoch still has a finite loss; the validation after it has not.
    with pytest.raises(Diverged, match="simple_cnn.*lower lr"):
        fit_quietly(replace(TINY, lr=100, schedule="constant", epochs=1), view)


def test_clip_norm_holds_the_same_training_together(view):
    config = replace(TINY, lr=1.0, schedule="constant", momentum=0.0, clip_norm=1e-3)
    assert np.isfinite(fit_quietly(config, view).history["val_loss"]).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(loss, faces):
    voted = prepare_faces(TINY, easy_faces(votes=True))
    config = replace(TINY, loss=loss, optimizer="adam", lr=1e-3, schedule="constant", epochs=4)
    assert fit_quietly(config, voted).history["val_accuracy"].max() > 0.5


def with_votes(faces: FaceSet, emotion_of_label) -> FaceSet:
    votes = torch.full((len(faces), len(VOTE_COLUMNS)), float("nan"))
    for row, label in enumerate(faces.labels.tolist()):
        if (emotion := emotion_of_label(label)) is not None:
            votes[row] = 0
            votes[row, VOTE_COLUMNS.index(emotion)] = 10
    return replace(faces, votes=votes)


def test_soft_votes_teach_what_people_saw_not_the_label(view):
    shifted = with_votes(view, lambda label: view.classes[(label + 1) % 6])
    config = replace(TINY, loss="soft_votes", optimizer="adam", lr=1e-3, schedule="constant", epochs=4)
    test = view.only("test")
    fitted = fit_quietly(config, shifted)
    # Model selection goes by the labels, so look at the training accuracy as well: it never rises.
    assert fitted.history["train_accuracy"].iloc[-1] < 0.1
    assert (predict_logits(fitted.model, test.images).argmax(1) == test.labels).float().mean() < 0.4


def test_soft_votes_fall_back_to_the_label_where_nobody_voted(view):
    nobody = with_votes(view, lambda label: None)
    config = replace(TINY, epochs=1, batch_size=32)
    assert weights_equal(fit_quietly(config, view), fit_quietly(replace(config, loss="soft_votes"), nobody))


def test_soft_votes_without_votes_say_what_is_missing(view):
    with pytest.raises(FerError, match="easy faces.*no human votes"):
        fit_quietly(replace(TINY, loss="soft_votes"), view)


def test_balanced_class_weights_lift_rare_classes():
    # Pure noise: nothing but the shares of the classes can be learnt.
    labels = np.concatenate([np.repeat([0, 2, 3], [48, 8, 8]), np.repeat([0, 2, 3], [12, 2, 2]), [0, 2, 3]])
    noise = torch.randint(0, 256, (len(labels), 48, 48), generator=torch.Generator().manual_seed(0))
    view = FaceSet(noise.to(torch.uint8), torch.from_numpy(labels), np.array([str(i) for i in range(len(labels))]),
                   np.repeat(["train", "val", "test"], [64, 16, 3]), EMOTIONS, source="noise").with_classes(3)
    config = replace(TINY, classes=3, lr=0.01, schedule="constant", epochs=3)
    shares = [predict_logits(fit_quietly(replace(config, class_weights=weights), view).model, view.images)
              .softmax(1).mean(0) for weights in ("none", "balanced")]
    assert shares[0][0] > 0.6
    assert shares[1][0] < 0.5
    assert shares[1][1:].min() > shares[0][1:].max()


def test_the_precision_asked_for_is_used_and_reported(view, fitted):
    result = fit_quietly(replace(TINY, epochs=4, precision="bf16"), view)
    assert (result.precision, fitted.precision) == ("bf16", "fp32")
    assert result.history["val_accuracy"].max() > 0.6
    assert not weights_equal(result, fitted)
    assert {p.dtype for p in result.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("device", "able", "expected"), [
    ("cpu", {"avx512_bf16": True, "avx2": True}, "bf16"), ("cpu", {"avx512_bf16": False, "amx_bf16": True}, "bf16"),
    ("cpu", {"avx512_bf16": False, "avx2": True}, "fp32"), ("cpu", {}, "fp32"), ("mps", {"amx_bf16": True}, "fp32"),
    ("cuda", True, "bf16"), ("cuda", False, "fp32")])
def test_automatic_precision_is_what_the_hardware_has_instructions_for(device, able, expected, monkeypatch):
    if device == "cuda":
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: able)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert choose_precision("auto", device) == expected
    assert [choose_precision(asked, device) for asked in ("fp32", "bf16")] == ["fp32", "bf16"]


def test_a_gpu_convolves_by_cudnn_and_may_try_its_ways():
    # The flags exist without a GPU, too. torch's context turns all off that it is not told of.
    with _quick("cuda"):
        assert torch.backends.cudnn.enabled and torch.backends.cudnn.benchmark


@pytest.mark.parametrize("device", OTHER_DEVICES)
def test_another_device_learns_as_well(device, view):
    result = fit(replace(TINY, epochs=4), view, device=device, progress=False)
    assert result.device == device
    assert result.history["val_accuracy"].max() > 0.6


@pytest.mark.parametrize("device", ["tpu", "", *sorted({"cuda", "mps"}.difference(OTHER_DEVICES))])
def test_a_missing_device_is_named_with_those_that_are_there(device, view):
    with pytest.raises(FerError, match=f"device='{device}'.*cpu"):
        fit(TINY, view, device=device, progress=False)


def test_automatic_device_is_there():
    assert choose_device("auto") == [*OTHER_DEVICES, "cpu"][0]
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize("make", [lambda view: (replace(TINY, batch_size=128), view),
                                  lambda view: (TINY, view.take(view.split != "val")),
                                  lambda view: (TINY, view.take(view.split != "train"))])
def test_too_few_images_are_counted_in_the_message(make, view):
    config, faces = make(view)
    with pytest.raises(FerError, match=r"easy faces: \d+ train and \d+ validation.*batch_size"):
        fit_quietly(config, faces)


def test_the_bar_is_shown_only_when_asked_for(view, capfd):
    fit(replace(TINY, epochs=1), view, device="cpu", progress=False)
    assert capfd.readouterr() == ("", "")
    fit(replace(TINY, epochs=1), view, device="cpu", progress=True)
    assert "simple_cnn" in "".join(capfd.readouterr())


def test_the_environment_can_turn_the_bar_off(view, capfd, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    fit(replace(TINY, epochs=1), view, device="cpu", progress=True)
    assert capfd.readouterr() == ("", "")


def test_predicting_keeps_the_mode_of_the_model_and_needs_no_batch(fitted, view):
    assert predict_logits(fitted.model, view.images, batch_size=7).shape == (len(view), 6)
    np.testing.assert_allclose(predict_logits(fitted.model, view.images, batch_size=7),
                               predict_logits(fitted.model, view.images), atol=1e-4)
    fitted.model.train()
    predict_logits(fitted.model, view.images[:2])
    assert fitted.model.training
    fitted.model.eval()
    predict_logits(fitted.model, view.images[:2])
    assert not fitted.model.training
    assert predict_logits(fitted.model, view.images[:0]).shape == (0, 6)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_a_batch_worked_through_in_parts_gives_the_same_training(accumulate, view):
    whole, parts = (fit_quietly(replace(TINY, accumulate=number), view) for number in (1, accumulate))
    for name, value in whole.model.state_dict().items():
        np.testing.assert_allclose(parts.model.state_dict()[name], value, atol=1e-4)
    np.testing.assert_allclose(parts.history.drop(columns="seconds"), whole.history.drop(columns="seconds"), rtol=1e-3)


@pytest.mark.parametrize(("accumulate", "batch_size"), [(3, 16), (16, 16), (32, 16)])
def test_parts_must_be_equal_and_hold_two_images(accumulate, batch_size):
    with pytest.raises(FerError, match=f"accumulate={accumulate}.*batch_size={batch_size}"):
        TrainConfig(accumulate=accumulate, batch_size=batch_size)


def test_the_weight_average_is_that_of_the_weights_of_all_steps():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    average, decay, expected = average_weights(model, 0.6), 0.6, model[0].weight.detach().clone()
    for step in range(9):
        with torch.no_grad():
            model[0].weight += 1
        model(torch.randn(4, 3))
        average.update_parameters(model)
        share = min(decay, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * model[0].weight.detach()
    np.testing.assert_allclose(average.module[0].weight.detach(), expected, rtol=1e-5)
    assert average.module[1].num_batches_tracked == 9


def test_the_average_is_validated_and_returned(view):
    averaged, plain = fit_quietly(replace(TINY, ema=0.9), view), fit_quietly(TINY, view)
    val = view.only("val")
    loss = F.cross_entropy(predict_logits(averaged.model, val.images), val.labels).item()
    assert loss == pytest.approx(averaged.history["val_loss"].min(), rel=1e-5)
    assert averaged.history["train_loss"].tolist() == plain.history["train_loss"].tolist()
    assert not weights_equal(averaged, plain)


def test_progressive_training_sees_small_images_first(view, monkeypatch):
    sides = []
    config = replace(TINY, arch="compact", progressive=True, epochs=10)
    forward = Compact.forward
    monkeypatch.setattr(Compact, "forward",
                        lambda self, x: (sides.append(x.shape[-1]) if self.training else None, forward(self, x))[1])
    fit_quietly(config, view.limit_train(16))
    assert sides == [32] * 4 + [40] * 3 + [48] * 3


@pytest.mark.parametrize("arch", sorted(set(list_models()) - set(list_models(any_size=True))))
def test_progressive_training_is_refused_where_the_network_takes_one_size(arch):
    with pytest.raises(FerError, match=f"progressive=True.*resnet50, compact or mobile; {arch}"):
        TrainConfig(arch=arch, progressive=True)


@pytest.mark.parametrize("arch", list_models(any_size=True))
def test_the_networks_said_to_take_any_size_do(arch):
    assert create_model(arch, 6, seed=0).eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 6)


def test_test_time_averaging_is_the_mean_of_the_views(fitted, view):
    mirrored = predict_logits(fitted.model, view.images.flip(-1))
    expected = (predict_logits(fitted.model, view.images) + mirrored) / 2
    np.testing.assert_allclose(predict_logits(fitted.model, view.images, tta="flip"), expected, atol=1e-5)


# ---------------------------------------------------------------- the smaller last batch

@pytest.mark.parametrize(("images", "batch_size", "drop_last", "steps"), [
    (7356, 128, False, 58), (7356, 128, True, 57), (9740, 128, False, 77), (40, 16, False, 3), (48, 16, False, 3),
    (48, 16, True, 3), (33, 16, False, 2), (34, 16, False, 3)])  # of one image no batch can be normalised
def test_an_epoch_has_a_step_more_where_images_are_left_over_and_kept(images, batch_size, drop_last, steps):
    train = FaceSet(torch.zeros(1, 48, 48, dtype=torch.uint8).expand(images, -1, -1),
                    torch.arange(images) % 6, np.array([str(i) for i in range(images)]), np.repeat("train", images),
                    CLASS_SETS[6])
    config = replace(TINY, batch_size=batch_size, drop_last=drop_last)
    trainer = Trainer(config, train, train.take(np.arange(2)), "cpu", "fp32", DistributedContext(0, 1))
    assert trainer.steps_per_epoch == steps
    batches = list(_batches(images, batch_size, torch.Generator().manual_seed(0), steps))
    assert len(batches) == steps
    seen = torch.cat(batches)
    assert len(seen.unique()) == len(seen) == min(images, steps * batch_size)


def test_every_image_counts_once_in_the_loss_and_the_accuracy_of_an_epoch(view, monkeypatch):
    # Steps too small to change a weight: the losses of an epoch are those of the fresh network.
    config = replace(TINY, drop_last=False, lr=1e-30, epochs=1)
    few, seen, step = view.limit_train(41), [], Trainer.step

    def watched(self, rate, index, *rest):
        seen.append(index)
        return step(self, rate, index, *rest)

    monkeypatch.setattr(Trainer, "step", watched)
    found = fit_quietly(config, few).history.iloc[0]
    assert [len(index) for index in seen] == [16, 16, 9] and torch.cat(seen).sort().values.tolist() == list(range(41))
    train = few.only("train")
    logits = predict_logits(create_model("simple_cnn", 6, seed=0), train.images)
    assert found["train_loss"] == pytest.approx(F.cross_entropy(logits, train.labels).item(), rel=1e-5)
    assert found["train_accuracy"] == pytest.approx((logits.argmax(1) == train.labels).float().mean().item())


@pytest.mark.parametrize("arch", ["simple_cnn", "compact"])
def test_a_smaller_last_batch_changes_the_training_only_where_one_is_left_over(arch, view):
    even, odd = view.limit_train(32), view.limit_train(38)
    for faces, same in ((even, True), (odd, False)):
        kept, dropped = (fit_quietly(replace(TINY, arch=arch, epochs=1, drop_last=drop_last), faces)
                         for drop_last in (False, True))
        assert weights_equal(kept, dropped) == same


def test_parts_of_a_batch_need_batches_of_equal_size():
    with pytest.raises(FerError, match="accumulate=2 needs batches of equal size; set drop_last to true"):
        replace(TINY, accumulate=2, drop_last=False)


# ---------------------------------------------------------------- checkpoints

KILLED = replace(TINY, arch="compact", epochs=3, batch_size=8, augmentation="strong", schedule="plateau", ema=0.9,
                 momentum=0.5)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums depend on the number of threads in their last bits
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def few(view) -> FaceSet:
    return view.limit_train(24)


@pytest.mark.parametrize("trainings", [3, pytest.param(10, marks=pytest.mark.nightly)])
def test_resume_after_kill_is_bit_identical(trainings, few, tmp_path, clean_server, one_thread):
    """At random steps, two in the life of each training."""
    whole = fit_quietly(KILLED, few)
    random = np.random.default_rng(0)
    for number in range(trainings):
        path = tmp_path / f"{number}.pt"
        for step in (random.integers(0, 9), random.integers(0, 3)):  # of nine; at least three are left after a kill
            process = clean_server.Process(target=fit_until_killed, args=(KILLED, few, path, int(step)))
            process.start()
            process.join()
            assert process.exitcode == -signal.SIGKILL
        resumed = fit_quietly(KILLED, few, path)
        assert weights_equal(resumed, whole)
        assert same_history(resumed, whole)
        assert resumed.best_epoch == whole.best_epoch


@pytest.mark.parametrize("rename", range(5))
def test_resume_after_a_kill_within_saving_is_bit_identical(rename, few, tmp_path, clean_server, one_thread):
    config, path = replace(KILLED, arch="simple_cnn"), tmp_path / "checkpoint.pt"
    process = clean_server.Process(target=fit_until_killed_while_saving, args=(config, few, path, rename))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert weights_equal(fit_quietly(config, few, path), fit_quietly(config, few))


@pytest.mark.parametrize(("optimizer", "more"), [
    *((name, {}) for name in OPTIMIZERS), ("rmsprop", {"root_eps": 1e-7, "drop_last": False})])
def test_resume_after_an_interrupt_is_bit_identical_for_every_optimizer(optimizer, more, view, tmp_path):
    config = replace(TINY, optimizer=optimizer, lr=DEFAULT_LR[optimizer], augmentation="strong", **more)
    few, path = view.limit_train(40), tmp_path / "checkpoint.pt"
    interrupt_fit(config, few, path, after_steps=5 if more else 3)  # of six or four
    resumed, whole = fit_quietly(config, few, path), fit_quietly(config, few)
    assert weights_equal(resumed, whole)
    assert same_history(resumed, whole)


def test_resume_remembers_the_best_epoch_and_the_patience_spent(puzzling, overfitted, tmp_path):
    interrupt_fit(OVERFIT, puzzling, tmp_path / "checkpoint.pt", after_steps=7 * 3 + 1)
    resumed = fit_quietly(OVERFIT, puzzling, tmp_path / "checkpoint.pt")
    assert resumed.best_epoch == overfitted.best_epoch < 7
    assert weights_equal(resumed, overfitted)
    waiting = replace(OVERFIT, patience=2)
    stopped = fit_quietly(waiting, puzzling)
    interrupt_fit(waiting, puzzling, tmp_path / "waiting.pt", after_steps=(len(stopped.history) - 1) * 3 + 1)
    assert same_history(fit_quietly(waiting, puzzling, tmp_path / "waiting.pt"), stopped)


@pytest.fixture(scope="module")
def saved(view, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "checkpoint.pt"
    fit_quietly(TINY, view, path)
    return path.read_bytes()


@pytest.fixture
def checkpoint(saved, tmp_path) -> Path:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(saved)
    return path


def test_a_finished_checkpoint_is_not_trained_further(view, checkpoint):
    before = checkpoint.stat().st_mtime_ns
    first, again = fit_quietly(TINY, view, checkpoint), fit_quietly(TINY, view, checkpoint)
    assert weights_equal(first, again)
    assert len(first.history) == 2
    assert checkpoint.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", [{"lr": 0.01}, {"epochs": 3}, {"seed": 1}, {"augmentation": "flip"},
                                    {"batch_norm": False}, {"arch": "compact"}])
def test_the_checkpoint_of_another_configuration_is_refused(change, view, checkpoint):
    with pytest.raises(FerError, match=r"checkpoint\.pt.*another configuration.*elsewhere"):
        fit_quietly(replace(TINY, **change), view, checkpoint)


def test_the_checkpoint_of_other_data_is_refused(view, checkpoint):
    images = view.images.clone()
    images[0, 0, 0] ^= 1
    with pytest.raises(FerError, match=r"checkpoint\.pt.*other data.*elsewhere"):
        fit_quietly(TINY, replace(view, images=images), checkpoint)


def test_the_checkpoint_of_other_votes_is_refused(view, tmp_path):
    config, path = replace(TINY, loss="soft_votes", epochs=1), tmp_path / "checkpoint.pt"
    fit_quietly(config, with_votes(view, lambda label: view.classes[label]), path)
    with pytest.raises(FerError, match=r"checkpoint\.pt.*other data.*elsewhere"):
        fit_quietly(config, with_votes(view, lambda label: view.classes[(label + 1) % 6]), path)


def test_a_torn_checkpoint_falls_back_to_the_one_before(view, checkpoint, saved):
    longer, path = replace(TINY, epochs=3), checkpoint.with_name("longer.pt")
    interrupt_fit(longer, view, path, after_steps=2 * (len(view.only("train")) // 16) + 1)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=r"longer\.pt: damaged.*longer\.previous\.pt"):
        resumed = fit_quietly(longer, view, path)
    assert weights_equal(resumed, fit_quietly(longer, view))


def test_two_torn_checkpoints_are_named_with_the_fix(view, checkpoint):
    for path in (checkpoint, checkpoint.with_name("checkpoint.previous.pt")):
        path.write_bytes(b"torn")
    with pytest.raises(FerError, match=r"checkpoint\.pt and .*checkpoint\.previous\.pt: .*move it elsewhere"):
        fit_quietly(TINY, view, checkpoint)


@pytest.mark.parametrize("damage", [
    lambda data: b"", lambda data: data[:100], lambda data: data[:len(data) // 2], lambda data: data[:-10],
    lambda data: b"not a checkpoint at all" * 100, lambda data: bytes(len(data)),
], ids=["empty", "start", "half", "almost", "text", "zeros"])
def test_a_damaged_checkpoint_is_named_with_the_fix(damage, view, checkpoint, saved):
    checkpoint.write_bytes(damage(saved))
    with pytest.raises(FerError, match=r"checkpoint\.pt.*move it elsewhere"):
        fit_quietly(TINY, view, checkpoint)


@pytest.mark.parametrize("write", [lambda value, path: path.write_bytes(pickle.dumps(value)), torch.save],
                         ids=["pickle", "torch"])
def test_a_pickle_in_place_of_the_checkpoint_is_refused_and_not_run(write, view, tmp_path):
    path, trace = tmp_path / "checkpoint.pt", tmp_path / "trace"
    write(Payload(trace), path)
    with pytest.raises(FerError, match=r"checkpoint\.pt.*move it elsewhere"):
        fit_quietly(TINY, view, path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [{}, [1, 2], {"identity": "x"}, torch.zeros(3)])
def test_a_foreign_torch_file_is_refused(content, view, tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path)
    with pytest.raises(FerError, match=r"checkpoint\.pt.*move it elsewhere"):
        fit_quietly(TINY, view, path)


def test_a_full_disk_names_the_checkpoint_and_leaves_no_part_of_it(view, full_disk):
    with pytest.raises(FerError, match=r"checkpoint\.pt.*free some space"):
        fit_quietly(TINY, view, full_disk / "checkpoint.pt")
    assert list(full_disk.iterdir()) == []


def test_diverging_saves_nothing_of_the_broken_epoch(view, tmp_path):
    with pytest.raises(Diverged, match="good state is that of epoch 0"):
        fit_quietly(replace(TINY, lr=100, schedule="constant"), view, tmp_path / "checkpoint.pt")
    assert list(tmp_path.iterdir()) == []
