import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fer_helpers.analysis import attribution
from fer_helpers.data import regions
from fer_helpers.data.emotions import ACTION_UNITS, EMOTIONS, REGIONS, action_unit_vector
from fer_helpers.data.rendering import FaceParams, render
from fer_helpers.data.synthetic import make_faces
from fer_helpers.files import FerError
from fer_helpers.models.factory import create_model, list_models
from fer_helpers.transforms.augmentation import normalise


class Patch(nn.Module):
    """Class 1 is the brightness of rows 8..15, columns 24..31; class 0 its opposite."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, images):
        bright = self.conv(images)[:, 0, 8:16, 24:32].mean((1, 2))
        return torch.stack([-bright, bright], 1)


@pytest.fixture
def spots():
    """Three dark images, bright where `Patch` looks."""
    images = torch.full((3, 48, 48), 40, dtype=torch.uint8)
    images[:, 8:16, 24:32] = 240
    return images


@pytest.mark.parametrize("arch", list_models())
@pytest.mark.parametrize("method", attribution.METHODS)
def test_every_network_can_be_asked_by_every_method_and_stays_as_it_was(arch, method, faces):
    model = create_model(arch, 7, seed=0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    maps = attribution.attribute(model, faces.images[:2], faces.labels[:2], method, steps=4, window=24, stride=24)
    assert maps.shape == (2, 48, 48) and maps.dtype == torch.float32 and maps.isfinite().all() and maps.any()
    assert model.training and not maps.requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("method", ["integrated gradients", "occlusion"])
def test_attribution_lies_where_the_network_looks_and_has_the_sign_of_the_class(method, spots):
    inside = torch.zeros(48, 48, dtype=torch.bool)
    inside[8:16, 24:32] = True
    for target, sign in ((1, 1), (0, -1)):
        maps = attribution.attribute(Patch(), spots, torch.full((3,), target), method, window=8, stride=8)
        assert (sign * maps[:, inside] > 0).all() and torch.allclose(maps[:, ~inside], torch.tensor(0.0))


def test_integrated_gradients_add_up_to_the_change_of_the_logit(faces):
    model, images = create_model("compact", 7, seed=1).eval(), faces.images[:3]
    target = torch.tensor([0, 1, 2])
    maps = attribution.attribute(model, images, target, "integrated gradients", steps=32, batch_size=2)
    inputs = normalise(images)
    with torch.no_grad():
        change = model(inputs) - model(inputs.mean((1, 2, 3), keepdim=True).expand_as(inputs))
    assert torch.allclose(maps.sum((1, 2)), change.gather(1, target[:, None])[:, 0], rtol=0.1, atol=0.02)


def test_occlusion_is_the_logit_lost_when_the_square_is_painted_with_the_mean(faces):
    model, images = create_model("simple_cnn", 7, seed=0).eval(), faces.images[:2]
    maps = attribution.attribute(model, images, torch.tensor([3, 4]), "occlusion", window=16, stride=16)
    inputs = normalise(images)
    painted = inputs.clone()
    painted[:, :, 16:32, :16] = inputs.mean((1, 2, 3))[:, None, None, None]
    with torch.no_grad():
        lost = (model(inputs) - model(painted))[torch.arange(2), [3, 4]]
    assert torch.allclose(maps[:, 20, 5], lost, atol=1e-5)


@pytest.mark.parametrize(("arch", "size", "channels"), [
    ("simple_cnn", 21, 48), ("vgg16", 3, 512), ("vgg19", 3, 512), ("resnet50", 2, 2048), ("compact", 6, 256),
    ("original_vgg16", 3, 512), ("original_resnet50", 2, 2048)])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_grad_cam_weighs_the_last_maps_after_their_activation(arch, size, channels, batch_norm, faces):
    model = create_model(arch, 7, batch_norm=batch_norm, seed=0).eval()
    seen = []
    hook = attribution.last_maps(model).register_forward_hook(lambda module, _, output: seen.append(output.clone()))
    with torch.no_grad():
        model(normalise(faces.images[:4]))
    hook.remove()
    assert seen[0].shape == (4, channels, size, size)
    assert (seen[0] >= 0).all() and not (seen[0] == 0).all()
    assert not any(module._forward_hooks for module in model.modules()), "hooks stay behind"


@pytest.mark.parametrize("method", attribution.METHODS)
def test_a_network_without_errors_leaves_nothing_to_attribute(method, faces):
    maps = attribution.attribute(create_model("simple_cnn", 7, seed=0), faces.images[:0], faces.labels[:0], method)
    assert maps.shape == (0, 48, 48)


def test_what_cannot_be_attributed_is_an_error(faces):
    model = create_model("simple_cnn", 7, seed=0)
    with pytest.raises(FerError, match="method='saliency'.*Grad-CAM"):
        attribution.attribute(model, faces.images[:2], faces.labels[:2], "saliency")
    with pytest.raises(FerError, match="3 targets for 2 images"):
        attribution.attribute(model, faces.images[:2], faces.labels[:3], "occlusion")
    with pytest.raises(FerError, match="needs a network with a convolution"):
        attribution.last_maps(nn.Sequential(nn.Flatten(), nn.Linear(48 * 48, 7)))


def test_failures_are_matched_within_their_class_by_confidence_and_no_success_twice():
    answers = pd.DataFrame({"true": list("aaaabbc"), "correct": [False, False, True, True, False, True, False],
                            "confidence": [0.9, 0.8, 0.5, 0.85, 0.3, 0.9, 0.9]})
    assert attribution.match_successes(answers, np.array([0, 1, 4, 6])).tolist() == [[0, 3], [1, 2], [4, 5]]
    assert attribution.match_successes(answers, np.array([], dtype=int)).shape == (0, 2)


@pytest.mark.parametrize("unit", ACTION_UNITS)
def test_the_region_of_a_unit_is_where_the_renderer_changes_the_picture_most(unit):
    faces = FaceParams.neutral(2)
    units = torch.tensor([action_unit_vector([]), action_unit_vector([unit])])
    images, parts = render(dataclasses.replace(faces, action_units=units))
    change = (images[1].float() - images[0].float()).abs()
    masks = {region: regions.grow(((parts >> bit) % 2 == 1).any(0, keepdim=True))[0]
             for bit, region in enumerate(REGIONS)}
    density = {region: change[mask].mean() for region, mask in masks.items()}
    assert max(density, key=density.get) == attribution.UNIT_REGIONS[unit], density


def test_the_causal_regions_are_those_of_the_visible_units_of_the_own_class():
    faces = make_faces(dict.fromkeys(EMOTIONS, 3), test=dict.fromkeys(EMOTIONS, 1), seed=2)
    named = faces.labels == EMOTIONS.index("happiness")
    rows = []
    for six, twelve, four in ((0.9, 0.1, 0.9), (0.1, 0.9, 0.0), (0.9, 0.9, 0.0), (0.1, 0.1, 0.9)):
        rows.append([{6: six, 12: twelve, 4: four}.get(unit, 0.0) for unit in ACTION_UNITS])
    some = dataclasses.replace(faces.take(named.numpy()), action_units=torch.tensor(rows))
    mask = attribution.causal_regions(some)
    eyes, mouth = regions.grow(some.region_mask("eyes")), regions.grow(some.region_mask("mouth"))
    assert torch.equal(mask[0], eyes[0]) and torch.equal(mask[1], mouth[1])
    assert torch.equal(mask[2], eyes[2] | mouth[2]) and not mask[3].any()
    neutral = faces.take((faces.labels == EMOTIONS.index("neutral")).numpy())
    assert not attribution.causal_regions(neutral).any()


def test_photographs_have_no_known_causal_region(faces):
    with pytest.raises(FerError, match="easy faces"):
        attribution.causal_regions(faces)


def test_focus_is_one_for_chance_and_the_inverse_of_the_area_for_a_perfect_map():
    mask = torch.zeros(40, 48, 48, dtype=torch.bool)
    mask[:39, 10:22, 12:24] = True  # 1/16 of the picture; nothing in the last image
    random = torch.Generator().manual_seed(0)
    maps = {"perfect": -mask.float(), "blind": torch.rand(40, 48, 48, generator=random),
            "flat": torch.zeros(40, 48, 48)}
    correct = np.arange(40) % 2 == 0
    table = attribution.focus(maps, mask, correct).set_index(["method", "answers", "measure"])
    assert set(table.index.get_level_values("method")) == {"perfect", "blind"}
    for answers, images in (("right", 20), ("wrong", 19)):
        assert table.loc[("perfect", answers, "energy"), "value"] == pytest.approx(16)
        assert table.loc[("perfect", answers, "pointing game"), "inside"] == 1
        row = table.loc[("blind", answers, "energy")]
        assert row["value"] == pytest.approx(1, abs=0.05) and row["low"] < 1 < row["high"]
        assert row["images"] == images and row["chance"] == pytest.approx(1 / 16)


def test_attribution_by_region_adds_up_to_all_of_it(faces):
    maps = {"one": torch.randn(len(faces), 48, 48, generator=torch.Generator().manual_seed(0))}
    table = attribution.attribution_by_region(maps, regions.region_masks(faces))
    assert list(table.index) == [*REGIONS, "elsewhere"] and list(table) == ["area", "one"]
    assert np.allclose(table.sum(), 1) and np.allclose(table["area"], table["one"], atol=0.01)
    mouth = {"one": regions.region_masks(faces)["mouth"].float()}
    shares = attribution.attribution_by_region(mouth, regions.region_masks(faces))["one"]
    assert shares.idxmax() == "mouth" and shares["elsewhere"] == shares["brows"] == 0
