import copy
import functools
import math

import pytest
import torch
from torch import nn

from fer_helpers.files import FerError
from fer_helpers.models import create_model, list_models, model_table

ARCHS = list_models()
DISTINCT = [arch for arch in ARCHS if arch != "vgg19"]  # vgg16 with three more layers: what holds there holds here
NORMALISED = [arch for arch in DISTINCT if arch != "simple_cnn"]


@pytest.fixture(scope="module")
def table():
    return model_table()


def images(count: int = 2, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, 48, 48, generator=torch.Generator().manual_seed(seed))


@functools.cache
def fresh(arch: str, batch_norm: bool) -> nn.Module:
    """A network of six classes in evaluation mode that several tests look at and none changes."""
    return create_model(arch, 6, batch_norm=batch_norm, seed=0).eval()


def test_the_architectures_of_the_study_are_registered_simplest_first():
    assert ARCHS[0] == "simple_cnn"
    assert {"simple_cnn", "vgg16", "vgg19", "resnet50", "compact"} <= set(ARCHS)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("classes", [3, 6, 7])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("arch", ARCHS)
def test_logits_and_features_have_their_shapes(arch, channels, classes, batch_norm, table):
    with torch.device("meta"):  # shapes without weights: nothing is computed
        model = create_model(arch, classes, channels, batch_norm, seed=0).eval()
        batch = torch.empty(2, channels, 48, 48)
    assert model(batch).shape == (2, classes)
    assert model.features(batch).shape == (2, table.loc[arch, "features"])


@pytest.mark.parametrize("arch", DISTINCT)
def test_logits_are_one_linear_map_of_the_features(arch):
    model = fresh(arch, True)
    with torch.inference_mode():
        last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
        torch.testing.assert_close(last(model.features(images())), model(images()))


@pytest.mark.parametrize("arch", DISTINCT)
def test_the_images_of_a_batch_do_not_influence_one_another(arch):
    model, batch = fresh(arch, True), images(2)
    with torch.inference_mode():
        torch.testing.assert_close(model(batch)[1:2], model(batch[1:2]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("arch", DISTINCT)
def test_without_batch_norm_there_is_none_and_the_logits_stay_of_order_one(arch):
    model = fresh(arch, False)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    with torch.inference_mode():
        logits = model(images(2))
    assert logits.isfinite().all()
    # Larger logits would start the training from a loss far above chance.
    assert logits.abs().max() < 10


@pytest.mark.parametrize("arch", NORMALISED)
def test_with_batch_norm_every_convolution_is_followed_by_one(arch):
    layers = list(fresh(arch, True).modules())
    count = sum(isinstance(layer, nn.Conv2d) for layer in layers)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) == count > 0


@pytest.mark.parametrize("arch", DISTINCT)
def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(arch):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again = create_model(arch, 6, seed=0).state_dict(), fresh(arch, True).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("arch", ["simple_cnn", "compact"])
def test_another_seed_gives_other_weights(arch):
    first, other = fresh(arch, True).state_dict(), create_model(arch, 6, seed=1).state_dict()
    weights = [name for name in first if name.endswith("weight") and first[name].ndim > 1]
    assert not any(torch.equal(first[name], other[name]) for name in weights)


def test_without_a_seed_the_global_generator_decides():
    torch.manual_seed(1)
    first = create_model("simple_cnn").state_dict()
    second = create_model("simple_cnn").state_dict()
    torch.manual_seed(1)
    again = create_model("simple_cnn").state_dict()
    assert torch.equal(first["classifier.weight"], again["classifier.weight"])
    assert not torch.equal(first["classifier.weight"], second["classifier.weight"])


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("arch", DISTINCT)
def test_the_gradient_reaches_every_parameter(arch, batch_norm):
    model = copy.deepcopy(fresh(arch, batch_norm)).train()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        # Blocks that start as the identity have gain 0 at first: open them.
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.add_(torch.rand(layer.weight.shape, generator=random) * 0.1 + 0.1)
    nn.functional.cross_entropy(model(images(3)), torch.arange(3)).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("arch", ARCHS)
def test_a_fresh_network_guesses_near_chance(arch):
    with torch.inference_mode():
        loss = nn.functional.cross_entropy(fresh(arch, True)(images(6)), torch.arange(6)).item()
    assert abs(loss - math.log(6)) < 0.6


def test_model_table_counts_the_layers_that_the_names_promise(table):
    assert table.loc["vgg16", "layers"] == 16
    assert table.loc["vgg19", "layers"] == 19
    assert table.loc["resnet50", "layers"] == 50
    assert table.loc["simple_cnn", "layers"] == 4


def test_model_table_agrees_with_counting_simple_cnn_by_hand(table):
    row = table.loc["simple_cnn"]
    assert row["parameters"] == (25 * 32 + 32) + (32 * 25 * 48 + 48) + (48 * 144 * 500 + 500) + (500 * 6 + 6)
    multiply_adds = 48 * 48 * 25 * 32 + 24 * 24 * 32 * 25 * 48 + 48 * 144 * 500 + 500 * 6
    assert row["mflops"] == pytest.approx(2 * multiply_adds / 1e6, rel=1e-6)
    assert row["features"] == 500


def test_model_table_knows_the_published_sizes(table):
    # torchvision's resnet50 has 23,508,032 weights before its classifier; the one-channel 3×3 stem saves the rest.
    assert table.loc["resnet50", "parameters"] == 23_508_032 - 64 * (3 * 49 - 9) + 2048 * 6 + 6
    assert table.loc["resnet50", "features"] == 2048
    assert table.loc["vgg19", "parameters"] - table.loc["vgg16", "parameters"] == (
        9 * (256 ** 2 + 2 * 512 ** 2) + 2 * (256 + 2 * 512))


def test_model_table_of_chosen_architectures_and_more_classes(table):
    small = model_table(["compact"], num_classes=7)
    assert list(small.index) == ["compact"]
    assert small.loc["compact", "parameters"] == (
        table.loc["compact", "parameters"] + table.loc["compact", "features"] + 1)
    assert list(table.index) == ARCHS
    assert list(table.columns) == ["parameters", "mflops", "layers", "features"]


@pytest.mark.parametrize("arch", ["vgg", "", "ResNet50", None])
def test_an_unknown_architecture_lists_the_choices(arch):
    with pytest.raises(FerError, match=f"arch={arch!r}.*simple_cnn.*resnet50"):
        create_model(arch)
