import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fer_helpers.config import TrainConfig
from fer_helpers.models import create_model
from fer_helpers.optim import create_optimizer, orthogonalise


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
