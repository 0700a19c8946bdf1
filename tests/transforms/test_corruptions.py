import dataclasses
import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fer_helpers.analysis.robustness import corruption_errors
from fer_helpers.data.synthetic import make_faces
from fer_helpers.files import FerError
from fer_helpers.transforms.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from fer_helpers.transforms.occlusions import OCCLUSIONS

NAMES = (*CORRUPTIONS, *OCCLUSIONS)
RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "rotation", "shift", "half_face", "patches")
IMAGES = make_faces(24, seed=2).images


def grey(value: int, count: int = 1) -> torch.Tensor:
    return torch.full((count, 48, 48), value, dtype=torch.uint8)


def square(row: int, column: int, count: int, half: int = 3) -> torch.Tensor:
    """White squares centred at (row, column) on black."""
    images = grey(0, count)
    images[:, row - half:row + half, column - half:column + half] = 255
    return images


def spread(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of the light in each image: its centre (N, 2) from the middle and its covariance (N, 2, 2), in pixels."""
    light = images.double().numpy() / images.double().sum((1, 2), keepdim=True).numpy()
    place = np.stack(np.meshgrid(np.arange(48) - 23.5, np.arange(48) - 23.5, indexing="ij"), -1)
    centre = np.einsum("nij,ijk->nk", light, place)
    away = place - centre[:, None, None]
    return centre, np.einsum("nij,nijk,nijl->nkl", light, away, away)


# --- what all have in common


def test_the_suite_holds_eleven_corruptions_and_six_occlusions():
    assert CORRUPTIONS == ("gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "defocus_blur", "jpeg",
                           "contrast", "brightness", "low_resolution", "rotation", "shift")
    assert OCCLUSIONS == ("eyes", "mouth", "half_face", "patches", "mask", "sunglasses")


@given(st.sampled_from(NAMES), st.sampled_from(SEVERITIES), st.integers(0, 2**40), st.integers(0, 5))
def test_form_and_input_are_kept_and_a_seed_means_the_same_bytes(name, severity, seed, count):
    before, state = IMAGES.clone(), torch.get_rng_state()
    changed = corrupt(IMAGES[:count], name, severity, seed)
    assert changed.shape == (count, 48, 48) and changed.dtype == torch.uint8
    assert torch.equal(changed, corrupt(IMAGES[:count], name, severity, seed))
    assert torch.equal(IMAGES, before) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", NAMES)
def test_every_severity_changes_every_image_and_more_than_the_one_before(name):
    change = torch.stack([(corrupt(IMAGES, name, severity).float() - IMAGES.float()).abs().mean((1, 2))
                          for severity in SEVERITIES])
    assert (change > 0).all()
    assert (change.mean(1).diff(dim=0) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_and_a_position_draw_for_one_image_whatever_the_others_are(name):
    whole, others = corrupt(IMAGES, name, 3, seed=1), IMAGES.clone()
    others[:4] = 255 - others[:4]
    assert torch.equal(corrupt(others, name, 3, seed=1)[4:], whole[4:])
    assert torch.equal(corrupt(IMAGES[:9], name, 3, seed=1), whole[:9])
    twins = corrupt(IMAGES[:1].repeat(12, 1, 1), name, 3, seed=1)
    assert (len(twins.unique(dim=0)) > 1) == (name in RANDOM)
    assert torch.equal(corrupt(IMAGES, name, 3, seed=2), whole) == (name not in RANDOM)


@pytest.mark.parametrize(("name", "severity"), [("fog", 1), ("none", 1), ("eyes", 0), ("eyes", 6), ("jpeg", 2.5)])
def test_unknown_names_and_severities_list_the_choices(name, severity):
    with pytest.raises(FerError, match="gaussian_noise, .*sunglasses" if name not in NAMES else "1, 2, 3, 4, 5"):
        corrupt(IMAGES, name, severity)


@pytest.mark.parametrize("images", [IMAGES.float(), IMAGES[:, None], IMAGES[0], IMAGES[:, 1:], IMAGES.numpy()])
def test_images_of_another_type_or_size_are_an_error(images):
    with pytest.raises(FerError, match="must be uint8"):
        corrupt(images, "contrast", 1)


# --- each corruption is what it is called


def test_gaussian_noise_has_the_stated_deviation_and_no_bias():
    noise = corrupt(grey(128, 40), "gaussian_noise", 5).float() - 128
    assert noise.std() == pytest.approx(0.11 * 255, rel=0.02) and abs(noise.mean()) < 0.5


def test_shot_noise_grows_with_the_light():
    for value in (60, 160):
        noise = corrupt(grey(value, 40), "shot_noise", 4).float() - value
        assert noise.var() == pytest.approx(value * 255 / 75, rel=0.06) and abs(noise.mean()) < 0.5
    assert (corrupt(grey(0), "shot_noise", 5) == 0).all()


def test_impulse_noise_turns_its_share_of_pixels_black_or_white_and_leaves_the_rest():
    noisy = corrupt(grey(100, 200), "impulse_noise", 5)
    assert set(noisy.unique().tolist()) == {0, 100, 255}
    for value in (0, 255):
        assert (noisy == value).float().mean() == pytest.approx(0.025, rel=0.05)


def test_motion_blur_draws_a_point_into_a_line_of_its_length_in_any_direction():
    _, covariance = spread(corrupt(square(24, 24, 60, half=1), "motion_blur", 5))
    across, along = np.linalg.eigvalsh(covariance).T
    np.testing.assert_allclose(along, 13 ** 2 / 12, rtol=0.15)  # variance of a uniform path; the square adds little
    assert across.max() < 1
    direction = np.linalg.eigh(covariance)[1][:, :, 1]
    assert np.abs(np.mean(np.arctan2(*direction.T) % np.pi) - np.pi / 2) < 0.4


def test_defocus_blur_draws_a_point_into_a_disc():
    blurred = corrupt(square(24, 24, 1, half=1), "defocus_blur", 5)
    centre, covariance = spread(blurred)
    np.testing.assert_allclose(centre, 0, atol=0.01)
    np.testing.assert_allclose(covariance[0], np.eye(2) * 3.5 ** 2 / 4, atol=0.6)  # r²/4 for a disc
    assert blurred.sum() == pytest.approx(4 * 255, rel=0.05)


@pytest.mark.parametrize("name", ["motion_blur", "defocus_blur", "low_resolution", "rotation", "shift", "contrast"])
@pytest.mark.parametrize("value", [0, 77, 255])
def test_an_even_image_stays_even(name, value):
    assert torch.equal(corrupt(grey(value, 3), name, 5), grey(value, 3))


def test_jpeg_blurs_within_blocks_of_eight():
    changed = corrupt(IMAGES, "jpeg", 5).float()
    step = changed.diff(dim=2).abs().mean((0, 1))
    assert step[7::8].mean() > 2 * np.delete(step.numpy(), slice(7, None, 8)).mean()


def test_jpeg_is_that_of_each_image_alone():
    many = IMAGES.repeat(43, 1, 1)  # more than go into one file
    for number in (0, 5, 1003, len(many) - 1):
        Image.fromarray(many[number].numpy()).save(file := io.BytesIO(), "JPEG", quality=15)
        assert np.array_equal(corrupt(many, "jpeg", 3)[number], np.asarray(Image.open(file)))


def test_contrast_keeps_the_mean_and_shrinks_differences():
    changed, plain = corrupt(IMAGES, "contrast", 3).float().flatten(1), IMAGES.float().flatten(1)
    np.testing.assert_allclose(changed.mean(1), plain.mean(1), atol=0.1)
    np.testing.assert_allclose(changed.std(1) / plain.std(1), 0.35, atol=0.01)


@pytest.mark.parametrize(("severity", "added"), [(1, 31), (2, 61), (3, 92), (4, 122), (5, 153)])
def test_brightness_saturates_at_white_and_never_wraps_around(severity, added):
    ramp = torch.arange(256, dtype=torch.uint8).repeat(9).reshape(1, 48, 48)
    assert torch.equal(corrupt(ramp, "brightness", severity).int(), (ramp.int() + added).clamp(max=255))


@given(st.sampled_from(NAMES), st.sampled_from(SEVERITIES))
def test_nothing_black_turns_white_by_overflow(name, severity):
    # Noise may lift black by its own size, patches and masks are light by design.
    lifted = corrupt(grey(0, 2), name, severity)
    lowered = corrupt(grey(255, 2), name, severity)
    if name in ("gaussian_noise", "shot_noise", "brightness"):
        assert lifted.max() < 0.7 * 255 and lowered.min() > 0.25 * 255
    elif name in CORRUPTIONS and name != "impulse_noise":
        assert lifted.max() <= 8 and lowered.min() >= 247


def test_low_resolution_loses_what_is_finer_than_its_pixels():
    stripes = torch.zeros(1, 48, 48, dtype=torch.uint8)
    stripes[:, ::2] = 200
    wide = torch.zeros(1, 48, 48, dtype=torch.uint8)
    wide[:, :24] = 200
    assert corrupt(stripes, "low_resolution", 5)[:, 4:-4].float().std() < 10
    assert corrupt(wide, "low_resolution", 5).float().std() > 90


def test_rotation_turns_about_the_centre_by_its_degrees_to_both_sides():
    centre, _ = spread(corrupt(square(24, 38, 40), "rotation", 4))
    degrees = np.degrees(np.arctan2(*centre.T))
    assert set(np.sign(degrees)) == {-1, 1}
    np.testing.assert_allclose(np.abs(degrees), 35, atol=3)


def test_shift_moves_by_its_distance_in_any_direction():
    moved = spread(corrupt(square(24, 24, 80), "shift", 3))[0] - spread(square(24, 24, 80))[0]
    np.testing.assert_allclose(np.hypot(*moved.T), 12, atol=0.1)
    assert (moved.max(0) > 8).all() and (moved.min(0) < -8).all()


# --- errors of a network


class Bright(torch.nn.Module):
    """Answers class 1 where the picture is brighter than middle grey, else 0."""

    def __init__(self, classes=7):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.classes = classes

    def forward(self, images):
        bright = images.mean((1, 2, 3)) * self.scale
        return torch.stack([-bright, bright] + [torch.full_like(bright, -9)] * (self.classes - 2), 1)


@pytest.fixture(scope="module")
def shades(faces):
    """Three dark images of class 0, of which the second is nearly middle grey and the third labelled 1, and a light
    one."""
    images = torch.cat([grey(10), grey(120), grey(10), grey(200)])
    return dataclasses.replace(faces.take(np.arange(4)), images=images, labels=torch.tensor([0, 0, 1, 1]))


def test_errors_are_counted_for_the_images_as_they_are_and_every_severity(shades):
    table = corruption_errors(Bright(), shades, names=("brightness", "contrast"), severities=(1, 5), progress=False)
    assert table.to_dict("list") == {
        "corruption": ["none", "brightness", "brightness", "contrast", "contrast"], "severity": [0, 1, 5, 1, 5],
        "errors": [1, 2, 2, 1, 1], "images": [4] * 5, "error": [0.25, 0.5, 0.5, 0.25, 0.25]}


def test_whole_tables_hold_every_corruption_and_occlusion_at_every_severity(shades):
    table = corruption_errors(Bright(), shades, progress=False)
    assert list(table["corruption"]) == ["none", *np.repeat(NAMES, 5)]
    assert list(table["severity"]) == [0, *SEVERITIES * len(NAMES)]


def test_a_seed_reaches_the_corruptions(faces):
    tables = [corruption_errors(Bright(), faces, ("patches",), seed=seed, progress=False) for seed in (0, 0, 1)]
    assert tables[0].equals(tables[1]) and not tables[0].equals(tables[2])


def test_networks_of_other_classes_empty_sets_and_unknown_names_are_errors(shades):
    with pytest.raises(FerError, match="knows 3 classes, the faces 7"):
        corruption_errors(Bright(3), shades, progress=False)
    with pytest.raises(FerError, match="no image to corrupt"):
        corruption_errors(Bright(), shades.take(np.arange(0)), progress=False)
    with pytest.raises(FerError, match="corruption='fog'"):
        corruption_errors(lambda images: pytest.fail("a pass before the names were checked"), shades, ("jpeg", "fog"))
