import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fer_helpers.models.factory import create_model
from fer_helpers.models.layers import Conv2d, speed_up


def is_fast(out: torch.Tensor) -> bool:
    """Whether the faster way was taken; a bias may be added after it."""
    steps = [out.grad_fn, *(step for step, _ in out.grad_fn.next_functions)]
    return any("SmallMapConv" in type(step).__name__ for step in steps)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("size", "padding", "side"), [(1, 0, 3), (2, 1, 2), (3, 0, 3), (3, 1, 3), (3, 2, 1), (5, 0, 7),
                                                       (5, 1, 3), (5, 2, 3)])
@settings(max_examples=10)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 2), st.integers(1, 2), st.booleans(), st.booleans())
def test_gradients_are_those_of_torch(stride, size, padding, side, seed, count, channels, filters, channels_last, bias):
    """Of the layer as it is trained, in bf16, which holds whole numbers to 256: each sum of products here is one."""
    random = torch.Generator().manual_seed(seed)

    def ones_and_twos(*shape):
        found = torch.randint(1, 3, shape, generator=random).float()
        return found.to(memory_format=torch.channels_last) if channels_last and len(shape) == 4 else found

    plain = nn.Conv2d(channels, filters, size, stride, padding, bias=bias)
    plain.load_state_dict({name: ones_and_twos(*value.shape) for name, value in plain.state_dict().items()})
    ours, images = speed_up(copy.deepcopy(plain)), ones_and_twos(count, channels, side, side)
    upstream, found = ones_and_twos(*plain(images).shape), []
    for layer in (ours, plain):
        x = images.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=layer is ours):
            out = layer(x)
        assert is_fast(out) == (layer is ours)
        out.float().backward(upstream)
        found.append([out.detach().float(), x.grad, *(weight.grad for weight in layer.parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other) and other.any()


@pytest.mark.parametrize(("side", "small"), [(3, True), (4, False)])
def test_small_maps_alone_take_the_faster_way(side, small):
    layer = speed_up(nn.Conv2d(2, 2, 3, padding=1, bias=False))
    x = torch.randn(2, 2, side, side)
    with torch.autocast("cpu", torch.bfloat16):
        out, tested = layer.train()(x), layer.eval()(x)
    assert is_fast(out) == small and not is_fast(tested)


@pytest.mark.parametrize("arch", [pytest.param("vgg16", marks=pytest.mark.nightly), "resnet50", "compact"])
def test_a_network_in_bf16_has_the_gradients_of_plain_convolutions(arch, monkeypatch):
    gradients = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(Conv2d, "forward", nn.Conv2d.forward)
        model = create_model(arch, 6, seed=0).to(memory_format=torch.channels_last)
        torch.manual_seed(0)  # dropout
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(torch.randn(4, 1, 48, 48, generator=torch.Generator().manual_seed(1)))
        logits.float().square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, one in gradients[0].items():
        other = gradients[1][name]
        assert (one - other).norm() <= 0.1 * other.norm() + 1e-6, name


def test_only_plain_convolutions_are_changed_and_no_weight():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, dilation=2),
                          nn.Linear(2, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kinds = [type(layer) for layer in speed_up(model)]
    assert kinds == [Conv2d, nn.Conv2d, nn.Conv2d, nn.Linear]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
