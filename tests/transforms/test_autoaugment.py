"""Each operation of TrivialAugment and AugMix against torchvision's, which takes one choice a call."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from fer_helpers.data.synthetic import make_faces
from fer_helpers.transforms.autoaugment import MIX_DRAWS, OPERATIONS, TRIVIAL, mix, operate

IMAGES = make_faces(12, test=6, seed=2).images


def changed(name, strength, side=1.0, images=IMAGES):
    count = len(images)
    which = torch.full((count,), OPERATIONS.index(name))
    return operate(images.float(), which, torch.full((count,), strength), torch.full((count,), side), TRIVIAL)


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("name", "theirs"), [
    ("identity", lambda images, factor, strength: images),
    ("brightness", lambda images, factor, strength: TF.adjust_brightness(images, factor)),
    ("contrast", lambda images, factor, strength: TF.adjust_contrast(images, factor)),
    ("sharpness", lambda images, factor, strength: TF.adjust_sharpness(images, factor)),
    ("posterize", lambda images, factor, strength: TF.posterize(images, 8 - round(6 * strength))),
    ("autocontrast", lambda images, factor, strength: TF.autocontrast(images)),
    ("equalize", lambda images, factor, strength: TF.equalize(images))])
def test_an_operation_is_torchvisions_up_to_rounding(name, theirs, strength):
    for side in (0.0, 1.0):
        factor = 1 + (0.99 if side else -0.99) * strength
        expected = theirs(IMAGES[:, None], factor, strength)[:, 0].float()
        np.testing.assert_allclose(changed(name, strength, side), expected, atol=2.0)


def test_solarizing_turns_what_is_lighter_than_the_threshold():
    found = changed("solarize", 0.5)
    light = IMAGES.float() >= 127.5
    assert torch.equal(found[light], 255 - IMAGES.float()[light])
    assert torch.equal(found[~light], IMAGES.float()[~light])


@pytest.mark.parametrize(("name", "strength", "options"), [
    ("rotate", 40 / 135, {"angle": -40.0}), ("translate_x", 0.25, {"translate": [-8, 0]}),
    ("translate_y", 0.25, {"translate": [0, -8]}),
    ("shear_x", 0.3, {"shear": [float(np.degrees(np.arctan(0.297))), 0.0]}),
    ("shear_y", 0.3, {"shear": [0.0, float(np.degrees(np.arctan(0.297)))]})])
def test_what_moves_pixels_moves_them_as_torchvision_does_and_lets_grey_in(name, strength, options):
    how = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | options
    expected = TF.affine(IMAGES[:, None], **how, interpolation=TF.InterpolationMode.BILINEAR, fill=[128.0])[:, 0]
    assert (changed(name, strength) - expected.float()).abs().mean() < 1
    back = changed(name, strength, side=0.0)
    assert not torch.equal(back, changed(name, strength))


def test_one_level_of_grey_survives_whatever_counts_levels():
    flat = torch.full((2, 48, 48), 90, dtype=torch.uint8)
    for name in ("autocontrast", "equalize"):
        assert torch.equal(changed(name, 1.0, images=flat), flat.float())


@pytest.mark.parametrize("name", ["trivial", "augmix"])
def test_an_image_depends_on_its_own_chance_alone(name):
    chance = torch.rand(len(IMAGES), MIX_DRAWS, generator=torch.Generator().manual_seed(3)) * 2 - 1
    whole = mix(IMAGES, name, chance)
    assert whole.dtype == torch.uint8
    assert torch.equal(mix(IMAGES[4:6], name, chance[4:6]), whole[4:6])
    assert len((whole != IMAGES).flatten(1).any(1).nonzero()) > len(IMAGES) / 2


def test_trivial_takes_every_operation_and_augmix_stays_nearer_to_the_image():
    generator = torch.Generator().manual_seed(0)
    faces = IMAGES[:1].expand(600, -1, -1)
    chance = torch.rand(600, MIX_DRAWS, generator=generator) * 2 - 1
    far = {name: (mix(faces, name, chance).float() - faces.float()).abs().mean() for name in ("trivial", "augmix")}
    assert far["augmix"] < far["trivial"] / 2
    assert len(mix(faces, "trivial", chance).flatten(1).unique(dim=0)) > 300
