import copy
import functools
import math

import pytest
import torch
from torch import nn

from fer_helpers.files import FerError
from fer_helpers.models.architectures import ORIGINALS
from fer_helpers.models.factory import create_model, list_models, model_table
from fer_helpers.transforms.augmentation import normalise

ARCHS = list_models()
#: With three more layers than those of 16: what holds there holds here.
DISTINCT = [arch for arch in ARCHS if arch not in ("vgg19", "original_vgg19")]
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
    assert set(ORIGINALS) == {"simple_cnn", *(arch for arch in ARCHS if arch.startswith("original_"))}


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("classes", [3, 7])
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
    # The study put one dense layer in place of three, and one before the classifier of 50 layers.
    assert table.loc[["original_vgg16", "original_vgg19", "original_resnet50"], "layers"].tolist() == [15, 18, 51]


def test_model_table_agrees_with_counting_simple_cnn_by_hand(table):
    row = table.loc["simple_cnn"]
    # Without padding 48×48 become 46×46, pooled 23×23, then 21×21 and 10×10.
    assert row["parameters"] == (27 * 32 + 32) + (32 * 9 * 48 + 48) + (4800 * 500 + 500) + (500 * 6 + 6) == 2_418_274
    multiply_adds = 46 * 46 * 27 * 32 + 21 * 21 * 32 * 9 * 48 + 4800 * 500 + 500 * 6
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


# --- the networks of the original study

@pytest.mark.parametrize(("arch", "weights"), [("original_vgg16", 14_714_688), ("original_vgg19", 20_024_384),
                                               ("original_resnet50", 23_587_712)])
def test_the_original_networks_have_the_weights_that_keras_counts_without_top(arch, weights):
    with torch.device("meta"):
        stack = create_model(arch, 6, batch_norm=arch == "original_resnet50").stack
    # Keras counts running means and variances among the weights; torch also counts batches, which Keras does not.
    buffers = sum(value.numel() for name, value in stack.named_buffers() if "running" in name)
    assert sum(p.numel() for p in stack.parameters()) + buffers == weights


@pytest.mark.parametrize("arch", ORIGINALS)
def test_the_original_networks_see_three_equal_channels_from_zero_to_one(arch):
    model, pixels = fresh(arch, True), torch.arange(2 * 48 * 48).view(2, 48, 48).remainder(256).to(torch.uint8)
    first, seen = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d)), []
    hook = first.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        gray, colour = model(normalise(pixels)), model(normalise(pixels).repeat(1, 3, 1, 1))
    hook.remove()
    torch.testing.assert_close(gray, colour)
    for channel in seen[0].unbind(1):
        torch.testing.assert_close(channel, pixels / 255)
    assert seen[0].shape[1] == first.in_channels == 3


def test_the_original_resnet_takes_its_strides_in_the_first_convolution_of_a_branch_and_on_the_shortcut():
    strided = {name: layer.kernel_size for name, layer in fresh("original_resnet50", True).named_modules()
               if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)}
    assert strided.pop("stack.0") == (7, 7)
    assert len(strided) == 6 and set(strided.values()) == {(1, 1)}
    assert {name.split(".", 2)[2] for name in strided} == {"branch.0", "downsample.0"}
    norms = [layer for layer in fresh("original_resnet50", True).modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(layer.momentum, layer.eps) for layer in norms} == {(0.01, 1.001e-5)}


@pytest.mark.parametrize(("arch", "share"), [("simple_cnn", 0.0), ("original_vgg16", 0.1)])
def test_a_tenth_of_the_dense_layer_is_dropped_in_training_only_but_not_of_the_simple_cnn(arch, share):
    model, ones = copy.deepcopy(fresh(arch, False)), torch.ones(200, fresh(arch, False).hidden)
    seen = []
    model.classifier.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model.classify(ones)
        model.train().classify(ones)
    assert torch.equal(seen[0], ones)
    assert (seen[1] == 0).float().mean().item() == pytest.approx(share, abs=0.01)


# --- the first weights

def layers_of(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]


def fans(layer: nn.Conv2d | nn.Linear) -> tuple[int, int]:
    outputs, inputs, *area = layer.weight.shape
    return inputs * math.prod(area), outputs * math.prod(area)


@pytest.mark.parametrize("arch", ORIGINALS)
def test_the_original_networks_start_as_keras_starts_them(arch):
    for layer in layers_of(fresh(arch, True)):
        bound = math.sqrt(6 / sum(fans(layer)))
        assert 0.95 * bound < layer.weight.data.abs().max() <= bound * (1 + 1e-6)
        assert not layer.bias.any()


@pytest.mark.parametrize(("init", "variance"), [("glorot", lambda inputs, outputs: 2 / (inputs + outputs)),
                                                ("he", lambda inputs, outputs: 2 / inputs)])
@pytest.mark.parametrize("arch", ["simple_cnn", "vgg16", "compact"])
def test_a_start_that_is_asked_for_has_the_variance_of_the_textbook(arch, init, variance):
    for layer in layers_of(create_model(arch, 6, batch_norm=False, seed=0, init=init)):
        count, expected = layer.weight.numel(), variance(*fans(layer))
        # Five standard errors of the variance of normal numbers.
        assert layer.weight.data.square().mean().item() == pytest.approx(expected, rel=5 * math.sqrt(2 / count))
        assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize("arch", ["simple_cnn", "compact"])
def test_the_default_start_is_the_architectures_own_and_others_differ_from_it(arch):
    plain = fresh(arch, True).state_dict()
    default, he = (create_model(arch, 6, seed=0, init=init).state_dict() for init in ("default", "he"))
    assert all(torch.equal(plain[name], default[name]) for name in plain)
    assert not torch.equal(plain["classifier.weight"], he["classifier.weight"])
    assert all(torch.equal(plain[name], he[name]) for name in plain if "running" in name)
