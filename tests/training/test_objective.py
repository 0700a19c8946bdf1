"""Training by `config.METHOD_SETTINGS`: what each does to a step, and that all of it survives an interrupt."""

import dataclasses
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import easy_faces, fit_quietly, interrupt_fit, same_history, weights_equal

from fer_helpers.data.faceset import FaceSet
from fer_helpers.data.regions import planes
from fer_helpers.data.synthetic import make_faces
from fer_helpers.files import FerError, digest
from fer_helpers.models.factory import create_model
from fer_helpers.training.config import METHOD_SETTINGS, TrainConfig
from fer_helpers.training.distributed import DistributedContext
from fer_helpers.training.losses import confusion_weights, distillation_loss, vote_loss
from fer_helpers.training.objective import Objective
from fer_helpers.training.prediction import predict_logits
from fer_helpers.training.runs import (
    Run,
    default_store,
    record_run,
    recorded_runs,
    run_id,
    teacher_config,
    train_run,
)
from fer_helpers.training.trainer import Trainer, prepare_faces
from fer_helpers.transforms.augmentation import augment, blend, draw, policy, warp

TINY = TrainConfig(arch="compact", epochs=2, batch_size=8, val_fraction=0.2, augmentation="standard", precision="fp32",
                   optimizer="adam", train_limit=16)


@pytest.fixture(scope="module")
def view() -> FaceSet:
    """16 train and 6 validation images: most tests train these networks several times. One has no votes."""
    view = prepare_faces(TINY, easy_faces(train=5, test=2, votes=True))
    view.votes[view.split == "train"][0] = 0
    return view


def other_labels(view: FaceSet) -> FaceSet:
    """The same images; the labels of train are those of other images."""
    train = view.split == "train"
    labels = view.labels.clone()
    labels[train] = labels[train].roll(5)
    return dataclasses.replace(view, labels=labels)


def changed(first, second) -> set[str]:
    """First parts of the names of the weights that differ."""
    a, b = first.model.state_dict(), second.model.state_dict()
    return {name.split(".")[0] for name in a if not torch.equal(a[name], b[name])}


METHODS = {
    "regions": {"head": "regions"}, "text": {"head": "text"}, "cbam": {"cbam": True}, "focal": {"focal": 2.0},
    "contrast": {"contrast": 1.0}, "hard negatives": {"contrast": 1.0, "hard_negatives": 2.0},
    "pretrain": {"pretrain": "supcon", "pretrain_epochs": 1}, "guide": {"guide": 1.0},
    "guided attention": {"head": "attention", "guide": 1.0, "progressive": True},
    "augmix": {"augmentation": "standard+augmix"},
    "cutmix": {"augmentation": "standard+cutmix", "votes": 1.0}, "votes": {"votes": 1.0},
    "votes first": {"votes": 1.0, "pretrain": "simclr", "pretrain_epochs": 1},
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_resumes_bit_identically(method, view, tmp_path):
    config, path = replace(TINY, **METHODS[method]), tmp_path / "checkpoint.pt"
    interrupt_fit(config, view, path, after_steps=3)  # of four: two are kept
    resumed, whole = fit_quietly(config, view, path), fit_quietly(config, view)
    assert weights_equal(resumed, whole) and same_history(resumed, whole)


@pytest.mark.parametrize("name", METHOD_SETTINGS)
def test_every_setting_of_a_method_changes_the_run_and_its_id(name, faces):
    values = {"head": "attention", "cbam": True, "pretrain": "simclr", "teacher": "vgg16", "pretrain_epochs": 1,
              "teaching": "once"}
    needed = {"hard_negatives": {"contrast": 1.0}, "pretrain": {"pretrain_epochs": 1}, "distill": {"teacher": "vgg16"},
              "pretrain_epochs": {"pretrain": "simclr"}, "teacher": {"distill": 0.5},
              "teaching": {"teacher": "vgg16", "distill": 0.5}}.get(name, {})
    config = replace(TINY, **{name: values.get(name, 0.25)}, **needed)
    assert run_id(config, faces) != run_id(TINY, faces)
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_runs_recorded_before_the_methods_came_keep_their_ids(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)
    recorded = recorded_runs()
    assert len(recorded)
    for run in recorded["run"]:
        identity = digest(run.config.identity(), run.environment["data_fingerprint"], length=8)
        assert run.name.endswith(identity)


# --- combinations that make no sense

@pytest.mark.parametrize(("settings", "words"), [
    ({"arch": "vgg16", "head": "regions"}, "head='regions' needs a network with global pooling, resnet50, compact or "),
    ({"arch": "simple_cnn", "cbam": True}, "cbam=True needs"), ({"arch": "vgg19", "guide": 0.1}, "guide=0.1 needs"),
    ({"head": "regions", "guide": 0.1}, "guide=0.1 reads the evidence off a dense classifier"),
    ({"head": "text", "guide": 0.1}, "head='text' has none"),
    ({"pretrain": "simclr"}, "pretrain='simclr' with pretrain_epochs=0"),
    ({"pretrain_epochs": 1}, "pretrain='none' with pretrain_epochs=1"),
    ({"pretrain": "supcon", "pretrain_epochs": 3}, "no more epochs than there are"),
    ({"focal": 1.0, "loss": "sigmoid_cross_entropy"}, "focal=1.0 does nothing"),
    ({"hard_negatives": 1.0}, "set contrast above 0"), ({"contrast": 1.0, "accumulate": 2}, "accumulate=2 hides"),
    ({"teacher": "vgg16"}, "teacher='vgg16' with distill=0.0"), ({"distill": 0.5}, "teacher=None with distill=0.5"),
    ({"teacher": "alexnet", "distill": 0.5}, "arch='alexnet' is unknown"), ({"teaching": "once"}, "needs a teacher"),
    ({"head": "capsule"}, "head='capsule'"),
    ({"pretrain": "moco", "pretrain_epochs": 1}, "pretrain='moco'"), ({"focal": -1}, "focal=-1"),
    ({"temperature": 0}, "temperature=0"), ({"distill": 1.5, "teacher": "vgg16"}, "distill=1.5"),
])
def test_settings_that_do_not_go_together_are_named(settings, words):
    with pytest.raises(FerError, match=words.replace("(", r"\(")):
        replace(TINY, **settings)


# --- pre-training and contrast

def test_simclr_needs_no_labels_and_leaves_the_classifier_alone(view):
    config = replace(TINY, pretrain="simclr", pretrain_epochs=2, weight_decay=0.0)
    first, second = fit_quietly(config, view), fit_quietly(config, other_labels(view))
    assert changed(first, second) == set()
    fresh = create_model("compact", 6, seed=config.seed).state_dict()
    assert torch.equal(first.model.state_dict()["classifier.weight"], fresh["classifier.weight"])
    assert not torch.equal(first.model.state_dict()["body.0.0.weight"], fresh["body.0.0.weight"])


def test_supervised_pretraining_needs_them(view):
    config = replace(TINY, pretrain="supcon", pretrain_epochs=2)
    assert "body" in changed(fit_quietly(config, view), fit_quietly(config, other_labels(view)))


def test_pretraining_keeps_its_last_epoch_and_then_the_best_of_the_rest(view):
    config = replace(TINY, pretrain="simclr", pretrain_epochs=2)
    assert fit_quietly(config, view).best_epoch == 2
    # So high a rate that what follows is worse than the untrained classifier was: it is kept all the same.
    both = fit_quietly(replace(config, pretrain_epochs=1, optimizer="sgd", lr=1.0, clip_norm=1.0), view)
    assert both.history["val_loss"][1] > both.history["val_loss"][0] and both.best_epoch == 2


def test_each_phase_goes_through_the_schedule_once(view):
    config = replace(TINY, epochs=4, pretrain="simclr", pretrain_epochs=2, schedule="onecycle")
    rates = fit_quietly(config, view).history["lr"].to_numpy()
    np.testing.assert_allclose(rates[:2], rates[2:])


def test_the_projection_is_trained_but_not_kept(view):
    config = replace(TINY, contrast=1.0)
    assert set(fit_quietly(config, view).model.state_dict()) == set(create_model("compact", 6).state_dict())
    trainer = Trainer(config, view.only("train"), view.only("val"), "cpu", "fp32", DistributedContext(0, 1))
    before = trainer.objective.projector[0].weight.clone()
    trainer.model.train()
    trainer.step(0.01, torch.arange(8), torch.zeros(8, 12))
    assert not torch.equal(trainer.objective.projector[0].weight, before)


def test_hard_negatives_follow_the_confusion_of_the_epoch_before(view):
    trainer = Trainer(replace(TINY, contrast=1.0, hard_negatives=2.0), view.only("train"), view.only("val"), "cpu",
                      "fp32", DistributedContext(0, 1))
    assert torch.equal(confusion_weights(trainer.confusion, 2.0).fill_diagonal_(3), torch.full((6, 6), 3.0))
    trainer._validate()
    assert trainer.confusion.sum() == len(view.only("val"))
    assert torch.equal(trainer.confusion.sum(1), torch.bincount(view.only("val").labels, minlength=6).float())


# --- distillation

def test_with_all_weight_on_the_teacher_the_labels_do_not_matter(view):
    teacher = create_model("simple_cnn", 6, seed=3).eval()
    config = replace(TINY, teacher="simple_cnn", distill=1.0, keep="last")
    first, second = (fit_quietly(config, part, teacher=teacher) for part in (view, other_labels(view)))
    assert changed(first, second) == set()
    half = replace(config, distill=0.5)
    assert changed(fit_quietly(half, view, teacher=teacher), fit_quietly(half, other_labels(view), teacher=teacher))


def test_a_run_trains_its_teacher_first_by_a_recipe_that_suits_all(faces):
    config = replace(TINY, teacher="simple_cnn", distill=0.5, label_smoothing=0.1, progressive=True, optimizer="muon",
                     lr=0.002, momentum=0.8)
    taught = teacher_config(config)
    assert taught == replace(TINY, arch="simple_cnn", label_smoothing=0.1, optimizer="adam", lr=None, progressive=False)
    assert taught == teacher_config(replace(config, optimizer="rmsprop", root_eps=1e-7))
    train_run(config, faces, progress=False)
    assert (default_store() / run_id(taught, faces) / "metrics.json").exists()


def test_a_teacher_asked_once_answers_for_each_image_and_its_mirror_image(view):
    teacher = create_model("simple_cnn", 6, seed=3).eval()
    config = replace(TINY, teacher="simple_cnn", distill=1.0, teaching="once", augmentation="none", drop_last=False,
                     batch_size=16, epochs=1, keep="last")
    train = view.only("train")
    trainer = Trainer(config, train, view.only("val"), "cpu", "fp32", DistributedContext(0, 1), teacher)
    images = train.images[:, None].float() * 4 / 255 - 2
    with torch.inference_mode():
        torch.testing.assert_close(trainer.taught, (teacher(images) + teacher(images.flip(-1))) / 2)
    # Without augmentation, of images that are their own mirror images, there is nothing that asking again could tell.
    whole = dataclasses.replace(view, images=view.images + view.images.flip(-1))
    each, once = (fit_quietly(replace(config, teaching=when), whole, teacher=teacher) for when in ("each_step", "once"))
    for name, value in each.model.state_dict().items():
        torch.testing.assert_close(once.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)


class Mean(torch.nn.Module):
    """The mean logits of two networks."""

    def __init__(self, first: torch.nn.Module, second: torch.nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (self.first(images) + self.second(images)) / 2


def test_a_finished_run_teaches_one_that_leaves_the_same_images_out(faces, tmp_path):
    plain = replace(TINY, arch="simple_cnn", epochs=1)
    teacher = train_run(plain, faces, tmp_path, progress=False)
    config = replace(plain, teacher=teacher.name, distill=1.0, keep="last")
    given = fit_quietly(config, prepare_faces(config, faces), teacher=teacher.model())
    taught = train_run(config, faces, tmp_path, progress=False)
    assert weights_equal(given, SimpleNamespace(model=taught.model()))
    both = replace(config, teacher=f"{teacher.name}+{taught.name}")
    given = fit_quietly(both, prepare_faces(both, faces), teacher=Mean(teacher.model(), taught.model()))
    found = train_run(both, faces, tmp_path, progress=False).model()
    assert weights_equal(given, SimpleNamespace(model=found))
    assert not weights_equal(given, SimpleNamespace(model=taught.model()))
    for other, words in ((replace(config, seed=1), "has seed=0, not 1: it may have learned the validation images"),
                         (replace(config, classes=3), "has classes=6, not 3"),
                         (replace(config, teacher=f"{teacher.name}0"), "is no finished run; name an architecture, or")):
        with pytest.raises(FerError, match=words):
            train_run(other, faces, tmp_path, progress=False)
    with pytest.raises(FerError, match="other data than"):
        train_run(config, easy_faces(seed=1), tmp_path, progress=False)


@pytest.mark.parametrize(("config", "teacher"), [(replace(TINY, teacher="vgg16", distill=0.5), None),
                                                 (TINY, create_model("simple_cnn", 6))])
def test_a_teacher_is_given_if_and_only_if_it_is_asked_for(config, teacher, view):
    with pytest.raises(FerError, match="trained network was given"):
        fit_quietly(config, view, teacher=teacher)


# --- votes

def test_votes_teach_the_features_and_a_classifier_of_their_own(view):
    config = replace(TINY, votes=1.0)
    turned = dataclasses.replace(view, votes=view.votes.roll(1, 1))
    first, second = fit_quietly(config, view), fit_quietly(config, turned)
    assert {"body", "voter"} <= changed(first, second)
    images = view.only("val").images[:, None].float()
    both = first.model.with_votes(images)
    assert both.shape == (6, 12)
    torch.testing.assert_close(both[:, :6], first.model(images))
    plain = fit_quietly(TINY, view).model
    assert plain.voter is None and torch.equal(plain.with_votes(images), plain(images))


def test_votes_that_are_not_there_are_asked_for(view):
    with pytest.raises(FerError, match="has no human votes"):
        fit_quietly(replace(TINY, votes=1.0), dataclasses.replace(view, votes=None))


def test_the_votes_told_are_kept_beside_those_of_people(tmp_path):
    faces = easy_faces(train=8, test=3, votes=True)
    faces.votes[np.flatnonzero(faces.split == "test")[0]] = 0
    config = TrainConfig(arch="mobile", classes=7, votes=1.0, epochs=1, batch_size=8, precision="fp32")
    run = train_run(config, faces, tmp_path, progress=False)
    people, told = run.votes()
    assert people.shape == told.shape == (20, 7)  # one of 21 has no vote
    np.testing.assert_allclose(told.sum(1), 1, atol=1e-4)
    rows = run.predictions.query("split == 'test'")
    assert (rows["true"].to_numpy()[1:] == np.array(run.metrics["test"].classes)[people.argmax(1)]).all()
    again = record_run(run, tmp_path / "kept", packed=True).votes()
    np.testing.assert_allclose(again[1], told, atol=6e-4)
    assert train_run(replace(config, votes=0.0), faces, tmp_path, progress=False).votes()[0].size == 0
    table = (run.folder / "predictions.csv").read_text()
    for damaged in (table.replace("vote_fear", "vote_joy"), table.replace(",people_neutral", ",other"),
                    table.replace("vote_fear", "vote_anger")):
        (run.folder / "predictions.csv").write_text(damaged)
        with pytest.raises(FerError, match="not a readable table"):
            _ = Run(run.folder).predictions


# --- guidance

def test_the_evidence_of_all_places_is_the_logit_of_the_label(view):
    images, labels = torch.randn(4, 1, 48, 48, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 5, 1])
    for head in ("plain", "attention"):
        model = create_model("compact", 6, seed=0, head=head).eval()
        out = Objective(replace(TINY, head=head, guide=1.0), model)(images, labels)
        total = out.evidence.sum((1, 2)) + model.classifier.bias[labels]
        torch.testing.assert_close(total, out.logits[torch.arange(4), labels], rtol=1e-4, atol=1e-5)


def test_guidance_spreads_the_evidence_over_the_regions():
    """On drawn faces, whose masks are known: the same training with and without."""
    drawn = make_faces(64, test=28, seed=4)
    config = replace(TINY, epochs=3, train_limit=None, augmentation="none")
    view = prepare_faces(config, drawn)
    found = {}
    for guide in (0.0, 3.0):
        model = fit_quietly(replace(config, guide=guide), view).model
        test = view.only("test")
        images = test.images[:, None].float() * 4 / 255 - 2
        with torch.inference_mode():
            out = Objective(replace(config, guide=1.0), model).eval()(images, test.labels)
        evidence = torch.nn.functional.interpolate(out.evidence[:, None].clamp_min(0), 48)
        masks = planes(test.regions).float()
        mass = (evidence * masks).sum((2, 3)) / masks.sum((2, 3)).clamp_min(1)
        shares = mass / mass.sum(1, keepdim=True).clamp_min(1e-9)
        found[guide] = -(shares * shares.clamp_min(1e-9).log()).sum(1).mean().item()
    assert found[3.0] > found[0.0] + 0.05


def test_masks_are_turned_as_the_faces_are():
    masks = torch.zeros(6, 48, 48, dtype=torch.uint8)
    masks[:, 10:20, 5:25] = 1
    draws = draw(6, torch.Generator().manual_seed(0))
    how = dataclasses.replace(policy("standard"), contrast=0.0, brightness=0.0)
    seen = (augment(masks * 255, how, draws)[:, 0] + 2) / 4
    torch.testing.assert_close(warp(masks[:, None].float(), how, draws)[:, 0], seen, atol=1e-5, rtol=0)


# --- blended images

@pytest.mark.parametrize("taught", [False, True])
def test_a_blended_image_is_to_be_taken_for_what_its_parts_are(taught, view):
    config = replace(TINY, augmentation="none+mixup+cutmix", votes=0.5, precision="fp32",
                     **{"teacher": "compact", "distill": 0.5, "teaching": "once"} if taught else {})
    train, teacher = view.only("train"), create_model("compact", len(view.classes), seed=3).eval()
    trainer = Trainer(config, train, view.only("test"), "cpu", "fp32", DistributedContext(0, 1),
                      teacher if taught else None)
    trainer.model.eval()
    rows = torch.arange(len(train))
    how = policy(config.augmentation)
    draws = draw(len(train), torch.Generator().manual_seed(0), how)
    found, _ = trainer._losses(rows, draws[:, None], train.images)
    batch, own = blend(augment(train.images, how, draws), how, draws)
    assert 0.3 < (own < 1).float().mean() <= 1

    def parts(targets: torch.Tensor) -> torch.Tensor:
        return own * targets + (1 - own) * targets.roll(1, 0)

    out = trainer.objective(batch, train.labels)
    expected = torch.nn.functional.cross_entropy(out.logits, parts(torch.eye(len(view.classes))[train.labels]))
    if taught:
        told = parts(predict_logits(teacher, train.images, tta="flip").softmax(1)).log()
        expected = (expected + distillation_loss(out.logits, told)) / 2
    expected = expected + 0.5 * vote_loss(out.votes, parts(train.vote_shares()))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("settings", [{"contrast": 1.0}, {"guide": 1.0}, {"pretrain": "simclr", "pretrain_epochs": 1}])
def test_two_labels_are_refused_where_one_is_needed(settings):
    with pytest.raises(FerError, match="augmentation='flip.mixup' gives an image two labels"):
        replace(TINY, augmentation="flip+mixup", **settings)


# --- class weights

def test_effective_weights_are_those_of_the_paper_and_milder_than_balanced():
    few = easy_faces(train=30, test=3).with_classes(3)
    labels = few.labels.numpy()
    keep = (few.split != "train") | (labels == 2) | (np.arange(len(labels)) % 3 == 0)
    skewed = few.take(keep)
    train = skewed.only("train")
    count = torch.bincount(train.labels).double()
    by_hand = 1 / ((1 - 0.999**count) / (1 - 0.999))
    trainer = {kind: Trainer(replace(TINY, classes=3, class_weights=kind), train, skewed.only("test"), "cpu", "fp32",
                             DistributedContext(0, 1)).class_weight for kind in ("effective", "balanced")}
    torch.testing.assert_close(trainer["effective"] / trainer["effective"][0], (by_hand / by_hand[0]).float())
    for weight in trainer.values():
        assert (weight * count).sum().item() == pytest.approx(count.sum().item(), rel=1e-4)
    assert 1 > trainer["effective"].min() >= trainer["balanced"].min()
