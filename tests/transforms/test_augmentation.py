import dataclasses
import itertools

import numpy as np
import pytest
import torch
from conftest import easy_images
from hypothesis import given
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from fer_helpers.data.regions import layout_masks
from fer_helpers.files import FerError
from fer_helpers.transforms.augmentation import EXTRAS, POLICIES, TTA, Policy, blend, draw, normalise, policy, views
from fer_helpers.transforms.augmentation import augment as augment_drawn

NAMES = [*POLICIES, *(f"standard+{extra}" for extra in EXTRAS)]
IMAGES = easy_images(np.arange(14) % 7)
DEVICES = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augment(images: torch.Tensor, how: Policy, generator: torch.Generator) -> torch.Tensor:
    draws = draw(len(images), generator, how)
    batch = augment_drawn(images, how, draws)
    return blend(batch, how, draws)[0] if how.blends else batch


def square(row: int, column: int, count: int) -> torch.Tensor:
    """White 6×6 squares centred at (row, column) on black."""
    images = torch.zeros(count, 48, 48, dtype=torch.uint8)
    images[:, row - 3:row + 3, column - 3:column + 3] = 255
    return images


def centres(batch: torch.Tensor) -> torch.Tensor:
    """(N, 2) centre of mass of the light, as row and column."""
    light, line = batch[:, 0] + 2, torch.arange(48) + 0.5
    total = light.sum((1, 2))
    return torch.stack([(light.sum(2) * line).sum(1) / total, (light.sum(1) * line).sum(1) / total], 1)


def test_normalise_maps_black_to_minus_two_and_white_to_two():
    ramp = torch.arange(256, dtype=torch.uint8).repeat(9).reshape(1, 48, 48)
    batch = normalise(ramp)
    assert batch.shape == (1, 1, 48, 48)
    assert batch.dtype == torch.float32
    assert (batch.min(), batch.max()) == (-2, 2)
    np.testing.assert_allclose(batch.flatten()[:256], np.linspace(-2, 2, 256), atol=1e-6)


def test_normalise_leaves_its_input_alone():
    before = IMAGES.clone()
    normalise(IMAGES)
    assert torch.equal(IMAGES, before)


@given(st.sampled_from(NAMES), st.integers(0, 2**31), st.integers(1, 14))
def test_every_policy_keeps_shape_and_range(name, seed, count):
    batch = augment(IMAGES[:count], policy(name), seeded(seed))
    assert batch.shape == (count, 1, 48, 48)
    assert batch.dtype == torch.float32
    assert batch.isfinite().all()
    assert batch.min() >= -2
    assert batch.max() <= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_means_the_same_faces_and_another_seed_others(name):
    first = augment(IMAGES, policy(name), seeded(1))
    assert torch.equal(first, augment(IMAGES, policy(name), seeded(1)))
    assert torch.equal(first, augment(IMAGES, policy(name), seeded(2))) == (name == "none")


@pytest.mark.parametrize("name", NAMES)
def test_augmenting_changes_neither_its_input_nor_the_global_generator(name):
    before, state = IMAGES.clone(), torch.get_rng_state()
    augment(IMAGES, policy(name), seeded())
    assert torch.equal(IMAGES, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_a_batch_changes_as_it_does_within_the_whole(name):
    draws = draw(len(IMAGES), seeded(), policy(name))
    whole = augment_drawn(IMAGES, policy(name), draws)
    np.testing.assert_allclose(augment_drawn(IMAGES[3:9], policy(name), draws[3:9]), whole[3:9], atol=1e-6)


def test_the_empty_policy_only_normalises():
    assert torch.equal(augment(IMAGES, Policy(), seeded()), normalise(IMAGES))
    assert policy("none") == Policy()


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Policy)])
def test_every_range_of_a_policy_has_an_effect(field):
    how = Policy(**{field: {"flip": True, "mix": "trivial"}.get(field, 0.5)})
    assert not torch.equal(augment(IMAGES, how, seeded()), normalise(IMAGES))


def test_flip_is_an_exact_mirror_for_about_half_of_the_images():
    images = easy_images(np.zeros(400, dtype=int))
    batch, plain = augment(images, Policy(flip=True), seeded()), normalise(images)
    same = (batch == plain).all((1, 2, 3))
    mirrored = (batch == plain.flip(-1)).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 160 < mirrored.sum() < 240


def test_flip_within_the_geometric_path_is_the_same_mirror():
    images = easy_images(np.zeros(60, dtype=int))
    alone = augment(images, Policy(flip=True), seeded())
    beside = augment(images, Policy(flip=True, degrees=1e-6), seeded())
    np.testing.assert_allclose(beside, alone, atol=1e-3)


@pytest.mark.parametrize("how", [Policy(degrees=20), Policy(scale=0.2), Policy(shift=5), Policy(contrast=0.3),
                                 Policy(brightness=0.2), Policy(erase=1.0)])
def test_each_image_gets_a_draw_of_its_own(how):
    twins = IMAGES[:1].repeat(8, 1, 1)
    assert len(augment(twins, how, seeded()).unique(dim=0)) == 8


def test_shift_moves_by_up_to_its_pixels_along_both_axes():
    moved = centres(augment(square(24, 24, 300), Policy(shift=6), seeded())) - 24
    assert moved.abs().max() <= 6.01
    assert moved.max(0).values.min() > 5
    assert moved.min(0).values.max() < -5
    assert moved.mean(0).abs().max() < 0.7
    # The two axes are drawn apart from one another.
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.2


def test_rotation_turns_about_the_centre_by_up_to_its_degrees():
    # A square to the right of the centre: its angle is read off directly, in image coordinates.
    place = centres(augment(square(24, 40, 300), Policy(degrees=30), seeded())) - 24
    degrees = torch.rad2deg(torch.atan2(place[:, 0], place[:, 1]))
    np.testing.assert_allclose(place.norm(dim=1), 16, atol=0.4)
    assert 28 < degrees.abs().max() < 31
    assert degrees.min() < -28
    assert degrees.max() > 28


def test_scale_zooms_within_its_range():
    place = centres(augment(square(24, 36, 300), Policy(scale=0.2), seeded())) - 24
    assert place[:, 0].abs().max() < 0.05
    zoom = place[:, 1] / 12
    assert 0.79 < zoom.min() < 0.83
    assert 1.17 < zoom.max() < 1.21


def test_what_leaves_the_frame_is_replaced_by_the_edge_not_by_black():
    white = torch.full((20, 48, 48), 255, dtype=torch.uint8)
    batch = augment(white, Policy(degrees=45, scale=0.3, shift=20), seeded())
    np.testing.assert_allclose(batch, 2, atol=1e-4)


def test_brightness_moves_the_mean_and_contrast_keeps_it():
    soft = (IMAGES[:1] // 4 + 96).repeat(200, 1, 1)  # far from black and white: nothing is cut off
    plain = normalise(soft)
    light = augment(soft, Policy(brightness=0.1), seeded()) - plain
    assert light.flatten(1).std(1).max() < 1e-5
    assert 0.38 < light.mean((1, 2, 3)).abs().max() <= 0.4001  # a tenth of the range of four
    strong = augment(soft, Policy(contrast=0.3), seeded())
    np.testing.assert_allclose(strong.mean((1, 2, 3)), plain.mean((1, 2, 3)), atol=1e-5)
    gain = strong.flatten(1).std(1) / plain.flatten(1).std(1)
    assert 0.7 <= gain.min() < 0.72
    assert 1.28 < gain.max() <= 1.3001


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_erase_blanks_one_rectangle_in_its_share_of_the_images(share):
    images = torch.full((500, 48, 48), 255, dtype=torch.uint8)
    hole = augment(images, Policy(erase=share), seeded())[:, 0] == 0
    erased = hole.any((1, 2))
    assert abs(erased.float().mean() - share) < 0.06
    if share:
        area = hole[erased].float().mean((1, 2))
        assert 0.04 < area.min() < 0.08
        assert 0.2 < area.max() <= 0.26
        height, width = hole[erased].any(2).sum(1), hole[erased].any(1).sum(1)
        assert torch.equal(height * width, hole[erased].sum((1, 2)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NAMES)
def test_a_seed_means_the_same_faces_on_every_device(device, name):
    there = augment(IMAGES.to(device), policy(name), seeded())
    assert there.device.type == device
    np.testing.assert_allclose(there.cpu(), augment(IMAGES, policy(name), seeded()), atol=2e-3)


def test_an_unknown_policy_lists_the_choices():
    with pytest.raises(FerError, match="augmentation='wild'.*none, flip, standard, strong"):
        policy("wild")


def test_the_policies_grow_from_none_to_strong():
    for weaker, stronger in itertools.pairwise(map(policy, ("none", "flip", "standard", "strong"))):
        assert all(low <= high for low, high in
                   zip(dataclasses.astuple(weaker), dataclasses.astuple(stronger), strict=True))
        assert weaker != stronger


@pytest.mark.parametrize("base", POLICIES)
def test_what_is_added_to_a_policy_leaves_the_rest_of_it(base):
    for extra, settings in EXTRAS.items():
        assert policy(f"{base}+{extra}") == dataclasses.replace(policy(base), **settings)
    assert policy(f"{base}+hide+augmix") == dataclasses.replace(policy(base), hide=0.5, mix="augmix")


@pytest.mark.parametrize("name", ["flip+wild", "wild+hide", "+hide", "flip+", None])
def test_an_unknown_addition_lists_the_choices(name):
    with pytest.raises(FerError, match=r"is unknown; choose one of none, flip.*add any of \+erase, \+hide"):
        policy(name)


def test_a_hidden_region_is_one_box_of_the_average_face_in_about_half_of_the_images():
    images = torch.full((400, 48, 48), 200, dtype=torch.uint8)
    batch = augment(images, Policy(hide=0.5), seeded())[:, 0]
    holes = batch == 0
    boxes = list(layout_masks())
    which = [next((number for number, box in enumerate(boxes) if torch.equal(hole, box)), None)
             for hole in holes if hole.any()]
    assert None not in which and 160 < len(which) < 240
    assert min(which.count(number) for number in range(4)) > 30
    assert torch.equal(batch[~holes], normalise(images)[:, 0][~holes])


@pytest.mark.parametrize("name", ["trivial", "augmix"])
def test_a_mixed_image_depends_on_its_own_draws_and_leaves_the_global_generator_alone(name):
    torch.manual_seed(1)
    state, draws = torch.get_rng_state(), draw(14, seeded(), Policy(mix=name))
    first = augment_drawn(IMAGES, Policy(mix=name), draws)
    assert torch.equal(torch.get_rng_state(), state)
    draws[3] = draws[4]
    again = augment_drawn(IMAGES, Policy(mix=name), draws)
    same = (first == again).flatten(1).all(1)
    assert same[[row for row in range(14) if row != 3]].all()
    alike = augment_drawn(IMAGES[:1].expand(14, -1, -1), Policy(mix=name), draws)
    assert torch.equal(alike[3], alike[4]) and len(alike.flatten(1).unique(dim=0)) > 8


class NothingFromTheProcessor(TorchFunctionMode):
    """Fails where something is brought to a device: such a copy cannot be part of a recorded step."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        assert func not in (torch.tensor, torch.as_tensor), "made of numbers of the processor"
        assert func is not torch.Tensor.to or args[0].device == result.device, "brought from the processor"
        return result


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_augmented_on_its_device_without_the_processor(name):
    images, draws = IMAGES.to("meta"), draw(len(IMAGES), seeded(), policy(name)).to("meta")
    augment_drawn(images, policy(name), draws)  # what is kept on a device is brought there the first time
    with NothingFromTheProcessor():
        assert augment_drawn(images, policy(name), draws).device.type == "meta"


@pytest.mark.parametrize("how", [Policy(mixup=0.5), Policy(cutmix=0.5), Policy(mixup=0.3, cutmix=0.5)])
def test_a_blended_image_is_its_own_and_its_neighbour_by_the_share_that_is_told(how):
    # Each image is even, of its own shade: a pixel tells how much of it comes from where.
    shades = torch.arange(2000.0)
    batch = shades[:, None, None, None].expand(-1, 1, 48, 48)
    seen, own = blend(batch, how, draw(2000, seeded(), how))
    torch.testing.assert_close(seen.mean((1, 2, 3)), own[:, 0] * shades + (1 - own[:, 0]) * shades.roll(1),
                               atol=1e-3, rtol=1e-5)
    whole = own[:, 0] == 1
    assert torch.equal(seen[whole], batch[whole])
    assert whole.float().mean().item() == pytest.approx(1 - how.mixup - how.cutmix, abs=0.04)
    parts = own[~whole]
    assert 0.45 < parts.min() < 0.55 and parts.max() > 0.98 and parts.mean().item() == pytest.approx(0.75, abs=0.02)
    if not how.mixup:
        of_itself = seen == batch
        assert (of_itself | (seen == batch.roll(1, 0))).all()
        assert torch.equal(of_itself.float().mean((1, 2, 3)), own[:, 0])


@pytest.mark.parametrize(("tta", "count"), [("none", 1), ("flip", 2), ("ten_crop", 10)])
def test_the_views_of_an_image_have_its_shape_and_come_with_their_mirrors(tta, count):
    batch = normalise(IMAGES)
    seen = list(views(batch, tta))
    assert len(seen) == count
    assert all(view.shape == batch.shape for view in seen)
    assert all(torch.equal(plain.flip(-1), mirror) for plain, mirror in zip(seen[::2], seen[1::2], strict=False))
    assert tta == "ten_crop" or torch.equal(seen[0], batch)


def test_the_crops_look_at_the_corners_and_the_centre():
    light = centres(torch.cat(list(views(normalise(square(24, 24, 1)), "ten_crop"))[::2])) - 24
    expected = torch.tensor([[2, 2], [2, -2], [-2, 2], [-2, -2], [0, 0]]) * 48 / 44
    np.testing.assert_allclose(light, expected, atol=0.05)


def test_unknown_views_list_the_choices():
    with pytest.raises(FerError, match=f"tta='both'.*{', '.join(TTA)}"):
        next(views(normalise(IMAGES), "both"))
