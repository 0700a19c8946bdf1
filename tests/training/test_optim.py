import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fer_helpers.files import FerError
from fer_helpers.models.factory import create_model
from fer_helpers.training.config import OPTIMIZERS, TrainConfig
from fer_helpers.training.optim import RootRMSprop, create_optimizer, orthogonalise


@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(2, 40), st.floats(1e-6, 1e6))
def test_orthogonalised_weights_have_singular_values_near_one_whatever_their_size(seed, rows, columns, scale):
    random = torch.Generator().manual_seed(seed)
    basis = [torch.linalg.qr(torch.randn(n, min(rows, columns), generator=random))[0] for n in (rows, columns)]
    strength = torch.linspace(1, 0.2, min(rows, columns))
    found = orthogonalise([scale * (basis[0] * strength) @ basis[1].T])[0] / max(1, rows / columns) ** 0.5
    values = torch.linalg.svdvals(found)
    assert 0.5 < values.min() and values.max() < 1.4


def test_directions_are_kept_and_filters_are_rows():
    weights = torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(weights.flatten(1), full_matrices=False)
    found = orthogonalise([weights])[0]
    assert found.shape == weights.shape
    rotated = left.T @ found.flatten(1) @ right.T
    np.testing.assert_allclose(rotated - torch.diag(rotated.diag()), torch.zeros(6, 6), atol=0.1)
    assert (rotated.diag() > 0.5).all()


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 30))
def test_orthogonalising_is_the_quintic_applied_to_the_singular_values(seed, rows, columns):
    weights = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    left, values, right = torch.linalg.svd(weights / weights.norm(), full_matrices=False)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    expected = (left * values) @ right * max(1, rows / columns) ** 0.5
    np.testing.assert_allclose(orthogonalise([weights.float()])[0], expected, atol=2e-3)


@pytest.mark.parametrize("weights", [torch.zeros(4, 5), torch.zeros(4, 2, 3, 3)])
def test_no_gradient_is_no_step(weights):
    assert torch.equal(orthogonalise([weights])[0], weights)


@pytest.mark.parametrize("arch", ["simple_cnn", "vgg16", "resnet50", "compact"])
def test_muon_orthogonalises_all_but_the_first_layer_the_classifier_and_the_vectors(arch):
    model = create_model(arch, 7, seed=0)
    optimizer = create_optimizer(TrainConfig(arch=arch, classes=7, optimizer="muon"), model)
    layers = [layer.weight for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hidden = {id(p) for p in optimizer.param_groups[0]["params"]}
    assert hidden == {id(weight) for weight in layers[1:-1]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_matrices_are_orthogonalised_together_as_each_alone():
    torch.manual_seed(0)
    weights = [torch.randn(shape) for shape in ((8, 3, 3, 3), (8, 20), (20, 8), (5, 9), (8, 8))]
    for together, own in zip(orthogonalise(weights), weights, strict=True):
        assert together.shape == own.shape
        np.testing.assert_allclose(together, orthogonalise([own])[0], atol=1e-5)


# --- RMSprop with ε under the root

KERAS = TrainConfig(arch="simple_cnn", optimizer="rmsprop", root_eps=1e-7, lr=0.01, weight_decay=0.0)


def stepped(config: TrainConfig, grads: list[torch.Tensor]) -> torch.Tensor:
    """Two rows of weights, all 1 at first, after a step of ``config`` along each of these gradients."""
    layer = nn.Linear(len(grads[0]), 2, bias=False)
    nn.init.ones_(layer.weight)
    optimizer = create_optimizer(config, layer)
    for grad in grads:
        layer.weight.grad = grad.expand(2, -1).clone()
        optimizer.step()
    return layer.weight.detach()


def test_three_steps_of_rmsprop_with_epsilon_under_the_root_are_those_counted_by_hand():
    lr, rho, eps, series = 0.01, 0.9, 1e-7, [(0.5, 1e-5), (-2.0, 3e-4), (0.0, -1e-3)]
    expected = []
    for column in zip(*series, strict=True):
        weight, square = 1.0, 0.0
        for grad in column:
            square = rho * square + (1 - rho) * grad * grad
            weight -= lr * grad / math.sqrt(square + eps)
        expected.append(weight)
    found = stepped(KERAS, [torch.tensor(grads) for grads in series])
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-6)


def test_rmsprop_of_keras_and_of_torch_differ_where_gradients_are_small_and_agree_where_they_are_large():
    assert isinstance(create_optimizer(KERAS, nn.Linear(2, 2)), RootRMSprop)
    plain = dataclasses.replace(KERAS, root_eps=None)
    assert isinstance(create_optimizer(plain, nn.Linear(2, 2)), torch.optim.RMSprop)
    moved = {size: [(1 - stepped(config, [torch.tensor([size])] * 3)[0, 0]).item() for config in (KERAS, plain)]
             for size in (0.3, 1e-4, 1e-5)}
    keras, torchs = moved[0.3]
    assert keras == pytest.approx(torchs, rel=1e-4)
    for size in (1e-4, 1e-5):  # below √ε = 3e-4: torch moves as far as along any gradient, Keras by its share of 3e-4
        assert moved[size][1] == pytest.approx(torchs, rel=0.01)
        assert moved[size][0] < torchs * size / 1e-4 / 2


def test_rmsprop_with_epsilon_under_the_root_decays_matrices_only_and_skips_what_has_no_gradient():
    model, still = nn.Linear(3, 2), nn.Linear(3, 2)
    both = nn.ModuleList([model, still])
    before = [p.detach().clone() for p in both.parameters()]
    optimizer = create_optimizer(dataclasses.replace(KERAS, weight_decay=0.5), both)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    changed = [not torch.equal(old, new) for old, new in zip(before, both.parameters(), strict=True)]
    assert changed == [True, False, False, False]


@pytest.mark.parametrize("optimizer", sorted({*OPTIMIZERS} - {"rmsprop"}))
def test_epsilon_under_the_root_is_refused_of_another_optimizer(optimizer):
    with pytest.raises(FerError, match=f"^root_eps=1e-07 is of rmsprop only, not of {optimizer}; leave it out$"):
        TrainConfig(optimizer=optimizer, root_eps=1e-7)
