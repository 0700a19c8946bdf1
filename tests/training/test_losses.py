import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

from fer_helpers.training.config import TrainConfig
from fer_helpers.training.losses import (
    compute_loss,
    confusion_weights,
    contrastive_loss,
    distillation_loss,
    focal_loss,
    spread_loss,
    vote_loss,
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    return F.one_hot(labels, classes).double()


# --- focal

@given(st.integers(0, 1000), st.sampled_from([0.0, 0.2]))
def test_focal_loss_with_exponent_zero_is_cross_entropy(seed, smoothing):
    logits, labels, weight = drawn(7, 4, seed=seed) * 3, torch.arange(7) % 4, torch.tensor([1.0, 2, 3, 0.5]).double()
    ours = focal_loss(logits, one_hot(labels, 4), 0.0, weight, smoothing)
    theirs = F.cross_entropy(logits, one_hot(labels, 4), weight, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)


def test_focal_loss_of_two_known_probabilities():
    # Probabilities 0.8 and 0.1 of the true class: (1 − p)² · −log p.
    logits = torch.tensor([[0.8, 0.2], [0.9, 0.1]]).double().log()
    by_hand = (0.2**2 * -math.log(0.8) + 0.9**2 * -math.log(0.1)) / 2
    assert focal_loss(logits, one_hot(torch.tensor([0, 1]), 2), 2.0).item() == pytest.approx(by_hand)


def test_a_configuration_with_focal_takes_the_focal_loss():
    logits, targets = drawn(5, 6), one_hot(torch.arange(5), 6)
    found = compute_loss(TrainConfig(focal=1.5, label_smoothing=0.1), logits, targets)
    torch.testing.assert_close(found, focal_loss(logits, targets, 1.5, None, 0.1))
    assert found < compute_loss(TrainConfig(label_smoothing=0.1), logits, targets)


# --- contrastive

@given(st.integers(0, 1000), st.floats(0.05, 2), st.integers(4, 12))
def test_the_contrastive_loss_is_that_of_pytorch_metric_learning(seed, temperature, count):
    embedded = drawn(count, 5, seed=seed)
    labels = torch.arange(count) % 3  # a class with one member, where there are four rows, has no partner
    theirs = SupConLoss(temperature)(embedded, labels)
    torch.testing.assert_close(contrastive_loss(embedded, labels, temperature), theirs)


@given(st.integers(0, 1000), st.integers(2, 6))
def test_with_a_label_for_each_image_it_is_nt_xent(seed, count):
    embedded, labels = drawn(2 * count, 8, seed=seed), torch.arange(count).repeat(2)
    torch.testing.assert_close(contrastive_loss(embedded, labels, 0.3), NTXentLoss(0.3)(embedded, labels))


def test_the_contrastive_loss_of_three_vectors_by_hand():
    # Rows 0 and 1 are partners at cosine 0, row 2 is opposite to row 0; temperature 1/2 doubles the cosines.
    embedded = torch.tensor([[3.0, 0.0], [0.0, 5.0], [-1.0, 0.0]], dtype=torch.float64)
    first = math.log(math.exp(0) + math.exp(-2))  # −log(e⁰ / (e⁰ + e⁻²))
    second = math.log(math.exp(0) + math.exp(0))
    found = contrastive_loss(embedded, torch.tensor([1, 1, 0]), 0.5).item()
    assert found == pytest.approx((first + second) / 2)


def test_a_pair_weight_counts_the_negatives_of_that_pair_more_often():
    # Doubling every image of class 2 in the batch, for anchors of class 0 alone, is a weight of two.
    embedded, labels = drawn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
    weight = torch.ones(3, 3, dtype=torch.float64)
    weight[0, 2] = 2
    unit = F.normalize(embedded, dim=1) / 0.1 @ F.normalize(embedded, dim=1).T
    rows = []
    for row in range(6):
        others = [other for other in range(6) if other != row]
        copies = torch.tensor([2.0 if labels[row] == 0 and labels[other] == 2 else 1.0 for other in others]).double()
        total = (copies * unit[row, others].exp()).sum().log()
        rows.append(total - unit[row, [other for other in others if labels[other] == labels[row]]].mean())
    torch.testing.assert_close(contrastive_loss(embedded, labels, 0.1, weight), torch.stack(rows).mean())
    assert contrastive_loss(embedded, labels, 0.1, weight) > contrastive_loss(embedded, labels, 0.1)


def test_without_partners_the_contrastive_loss_is_nothing_and_has_a_gradient_of_zero():
    embedded = drawn(3, 4).requires_grad_()
    loss = contrastive_loss(embedded, torch.arange(3))
    loss.backward()
    assert loss.item() == 0 and not embedded.grad.any()


def test_confusion_weights_follow_the_errors_of_a_class():
    weight = confusion_weights(torch.tensor([[8.0, 2, 0], [0, 5, 0], [1, 3, 0]]), strength=1.0)
    torch.testing.assert_close(weight, torch.tensor([[1.0, 3, 1], [2, 1, 2], [1.5, 2.5, 1]]))
    assert torch.equal(confusion_weights(torch.eye(3), 0.0), torch.ones(3, 3))


@given(st.integers(0, 1000), st.floats(0, 5), st.integers(2, 7))
def test_confusion_weights_of_the_wrong_classes_are_one_plus_the_strength_on_average(seed, strength, classes):
    counts = torch.randint(0, 30, (classes, classes), generator=torch.Generator().manual_seed(seed)).float()
    weight = confusion_weights(counts, strength)
    wrong = (weight.sum(1) - weight.diagonal()) / (classes - 1)
    torch.testing.assert_close(wrong, torch.full_like(wrong, 1 + strength))


# --- votes

def test_the_loss_of_votes_is_their_cross_entropy_and_an_image_without_votes_adds_nothing():
    logits, shares = drawn(3, 2), torch.tensor([[0.3, 0.7], [1.0, 0.0], [math.nan, math.nan]]).double()
    logs = logits.log_softmax(1)
    by_hand = -(0.3 * logs[0, 0] + 0.7 * logs[0, 1] + logs[1, 0]) / 3
    torch.testing.assert_close(vote_loss(logits, shares), by_hand)
    logits.requires_grad_()
    vote_loss(logits, shares).backward()
    assert logits.grad.isfinite().all() and not logits.grad[2].any()


# --- distillation

def test_a_student_that_answers_as_its_teacher_has_nothing_to_learn():
    assert distillation_loss(drawn(4, 6), drawn(4, 6) + 3).item() == pytest.approx(0, abs=1e-12)


def test_distillation_is_the_softened_divergence_times_the_temperature_squared():
    student, teacher = drawn(4, 3, seed=1), drawn(4, 3, seed=2)
    p, q = ((logits / 2).softmax(1) for logits in (teacher, student))
    by_hand = 4 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(distillation_loss(student, teacher, temperature=2.0), by_hand)


# --- guidance

def test_evidence_in_one_region_costs_log_of_their_number_and_evenly_spread_evidence_nothing():
    masks = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    one, all_ = torch.tensor([[3.0, 0, 0, 0]]).double(), torch.full((1, 4), 0.7).double()
    assert spread_loss(one, masks[:1]).item() == pytest.approx(math.log(4), rel=1e-5)
    assert spread_loss(all_, masks[:1]).item() == pytest.approx(0, abs=1e-9)
    assert spread_loss(torch.cat([one, all_]), masks).item() == pytest.approx(math.log(4) / 2, rel=1e-5)


def test_a_large_region_does_not_count_for_its_size_nor_evidence_against_the_label():
    masks = torch.tensor([[[1.0, 1, 1, 0], [0, 0, 0, 1]]]).double()
    assert spread_loss(torch.tensor([[2.0, 2, 2, 2]]).double(), masks).item() == pytest.approx(0, abs=1e-9)
    assert spread_loss(torch.tensor([[2.0, 2, 2, -9]]).double(), masks).item() == pytest.approx(math.log(2), rel=1e-4)


def test_a_face_without_evidence_or_without_regions_costs_nothing():
    masks = torch.ones(1, 2, 3).double()
    assert spread_loss(torch.full((1, 3), -1.0).double(), masks).item() == pytest.approx(0, abs=1e-9)
    assert spread_loss(torch.ones(1, 3).double(), masks * 0).item() == pytest.approx(0, abs=1e-9)


# --- gradients

@pytest.mark.parametrize("loss", [
    lambda x: focal_loss(x, one_hot(torch.arange(5) % 3, 3), 2.0, torch.tensor([1.0, 2, 3]).double(), 0.1),
    lambda x: contrastive_loss(x, torch.tensor([0, 1, 0, 1, 2]), 0.5),
    lambda x: contrastive_loss(x, torch.tensor([0, 1, 0, 1, 2]), 0.5,
                               torch.tensor([[1.0, 2, 3], [1, 1, 2], [4, 1, 1]])),
    lambda x: distillation_loss(x, drawn(5, 3, seed=3)),
    lambda x: spread_loss(x.exp(), torch.rand(5, 4, 3, generator=torch.Generator().manual_seed(1)).double()),
], ids=["focal", "contrastive", "weighted contrastive", "distillation", "spread"])
def test_gradients_agree_with_finite_differences(loss):
    assert torch.autograd.gradcheck(loss, drawn(5, 3).requires_grad_())
