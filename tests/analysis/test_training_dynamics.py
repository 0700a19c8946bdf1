import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fer_helpers.analysis import training_dynamics
from fer_helpers.files import FerError
from fer_helpers.models.factory import create_model
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.optim import lr_factor
from fer_helpers.training.trainer import prepare_faces
from fer_helpers.transforms.augmentation import normalise

SMALL = TrainConfig(arch="simple_cnn", classes=7, optimizer="sgd", lr=0.01, epochs=4, batch_size=14, val_fraction=0.2,
                    augmentation="flip")


@pytest.fixture(scope="module")
def view(faces):
    return prepare_faces(SMALL, faces)


class Chain(nn.Module):
    """Dense layers that scale by ``scales`` in turn, and a classifier of 7 of its inputs."""

    def __init__(self, *scales: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(48 * 48, 48 * 48, bias=False) for _ in scales)
        for layer, scale in zip(self.layers, scales, strict=True):
            layer.weight.data = scale * torch.eye(48 * 48)

    def forward(self, images):
        x = images.flatten(1)
        for layer in self.layers:
            x = layer(x)
        return x[:, :7]


def test_the_signal_is_the_product_of_what_the_layers_do_to_it(faces):
    table = training_dynamics.signal_through_depth(Chain(2.0, 0.25), faces.images[:10])
    assert list(table.index) == [0, 1, 2]
    np.testing.assert_allclose(table["signal"], [1, 2, 0.5], rtol=1e-5)
    batch = normalise(faces.images[:10]).numpy()
    np.testing.assert_allclose(table["distinct"], batch.std(0).__pow__(2).mean() ** 0.5 / (batch**2).mean() ** 0.5,
                               rtol=1e-4)


def test_images_that_are_all_alike_have_nothing_distinct(faces):
    same = faces.images[:1].expand(4, -1, -1)
    table = training_dynamics.signal_through_depth(create_model("compact", 7, seed=0), same)
    assert (table["distinct"] < 1e-3).all() and (table["signal"] > 0).all()


@pytest.mark.parametrize(("arch", "layers"), [("vgg16", 16), ("resnet50", 50)])
def test_the_signal_is_measured_at_every_layer_and_leaves_the_network_as_it_was(arch, layers, faces):
    model = create_model(arch, 7, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    table = training_dynamics.signal_through_depth(model, faces.images[:4])
    assert len(table) == layers + 1 and table["distinct"].between(0, 1).all() and model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_batch_norm_is_probed_with_the_statistics_of_the_images(faces):
    model = create_model("compact", 7, seed=0)
    scaled = training_dynamics.signal_through_depth(model, faces.images[:8])["signal"]
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.fill_(100.0)
    pd.testing.assert_series_equal(training_dynamics.signal_through_depth(model, faces.images[:8])["signal"], scaled)


def test_one_image_has_no_signal_to_compare(faces):
    with pytest.raises(FerError, match="two or more"):
        training_dynamics.signal_through_depth(Chain(1.0), faces.images[:1])


@pytest.mark.parametrize(("arch", "layers"), [("vgg16", 16), ("resnet50", 50)])
def test_layer_gradients_name_every_layer_and_leave_the_network_as_it_was(arch, layers, faces):
    model = create_model(arch, 7, seed=0).eval()
    before = [p.clone() for p in model.parameters()]
    values = training_dynamics.layer_gradients(model, faces.images[:8], faces.labels[:8])
    assert len(values) == layers and (values > 0).all() and not model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_first_steps_are_those_of_the_configured_rate(view):
    config = dataclasses.replace(SMALL, schedule="cosine", warmup_epochs=1.0)
    result = training_dynamics.first_steps(config, view, 9)
    per_epoch = len(view.only("train")) // 14
    assert list(result["rate"]) == [0.01 * lr_factor(config, number, per_epoch) for number in range(9)]


def test_watched_steps_train_the_network(view):
    config = dataclasses.replace(SMALL, optimizer="rmsprop", lr=1e-3, warmup_epochs=0.0, schedule="constant")
    result = training_dynamics.first_steps(config, view, 24)
    assert result["loss"].tail(5).mean() < 0.9 * result["loss"].head(5).mean()


def test_a_watched_training_is_repeatable_and_leaves_the_global_generator_alone(view):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second = (training_dynamics.first_steps(SMALL, view, 3) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(("change", "steps", "match"), [
    ({}, 1000, "raise epochs"), ({}, 0, "raise epochs"), ({"batch_size": 1000}, 2, "lower batch_size")])
def test_steps_that_cannot_be_taken_are_refused(change, steps, match, view):
    with pytest.raises(FerError, match=match):
        training_dynamics.first_steps(dataclasses.replace(SMALL, **change), view, steps)
