import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fer_helpers.models.factory import create_model
from fer_helpers.models.layers import Conv2d, _SmallMapConv, speed_up


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("size", "padding", "side"), [(1, 0, 3), (1, 1, 3), (3, 0, 3), (3, 1, 3), (3, 2, 4), (5, 0, 7),
                                                       (5, 1, 3), (5, 2, 3)])
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_gradients_are_those_of_torch(stride, size, padding, side, seed, count, channels, filters, channels_last):
    random = torch.Generator().manual_seed(seed)
    found = []
    for ours in (True, False):
        random.manual_seed(seed)
        x = torch.randn(count, channels, side, side, generator=random, dtype=torch.float64)
        weight = torch.randn(filters, channels, size, size, generator=random, dtype=torch.float64)
        if channels_last:
            x, weight = x.to(memory_format=torch.channels_last), weight.to(memory_format=torch.channels_last)
        x.requires_grad_(), weight.requires_grad_()
        out = (_SmallMapConv.apply(x, weight, stride, padding) if ours
               else nn.functional.conv2d(x, weight, stride=stride, padding=padding))
        assert out.abs().max() > 0
        (out * torch.randn(out.shape, generator=random, dtype=torch.float64)).sum().backward()
        found.append((out.detach(), x.grad, weight.grad))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize(("side", "small"), [(3, True), (4, False)])
def test_small_maps_alone_take_the_faster_way(side, small):
    layer = speed_up(nn.Conv2d(2, 2, 3, padding=1, bias=False))
    x = torch.randn(2, 2, side, side)
    with torch.autocast("cpu", torch.bfloat16):
        out, tested = layer.train()(x), layer.eval()(x)
    assert ("SmallMapConv" in type(out.grad_fn).__name__) == small
    assert "SmallMapConv" not in type(tested.grad_fn).__name__


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
