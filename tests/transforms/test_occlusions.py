import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fer_helpers.data.regions import LAYOUT
from fer_helpers.transforms.corruptions import SEVERITIES, corrupt
from fer_helpers.transforms.occlusions import OCCLUSIONS, PATCH

BLACK, WHITE = (torch.full((40, 48, 48), value, dtype=torch.uint8) for value in (0, 255))


def untouched(name: str, severity: int, seed: int = 0) -> np.ndarray:
    """bool (40, 48, 48): where black stays black and white stays white, nothing covers the picture."""
    return ((corrupt(BLACK, name, severity, seed) == 0) & (corrupt(WHITE, name, severity, seed) == 255)).numpy()


@given(st.sampled_from(OCCLUSIONS), st.sampled_from(SEVERITIES), st.integers(0, 2**32))
def test_pixels_outside_the_shape_are_untouched(name, severity, seed):
    images = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (40, 48, 48), dtype=np.uint8))
    outside = untouched(name, severity, seed)
    assert np.array_equal(corrupt(images, name, severity, seed).numpy()[outside], images.numpy()[outside])
    assert (outside.mean((1, 2)) > 0.35).all()


@pytest.mark.parametrize("name", OCCLUSIONS)
def test_a_higher_severity_covers_all_that_the_one_before_did_and_more(name):
    covered = [~untouched(name, severity) for severity in SEVERITIES]
    for smaller, larger in zip(covered, covered[1:], strict=False):
        if name not in ("mask", "sunglasses"):  # their straps and temples move
            assert not (smaller & ~larger).any()
        assert larger.sum() > 1.05 * smaller.sum()


@pytest.mark.parametrize(("name", "heights"), [("eyes", (6, 8, 12, 14, 18)), ("mouth", (5, 9, 11, 15, 17))])
def test_bars_are_black_lie_on_their_part_and_grow_in_height_only(name, heights):
    top, bottom, left, right = LAYOUT[name]
    for severity, height in zip(SEVERITIES, heights, strict=True):
        black = corrupt(WHITE[:1], name, severity)[0] == 0
        rows, columns = np.flatnonzero(black.any(1)), np.flatnonzero(black.any(0))
        assert black.sum() == len(rows) * len(columns) and len(rows) == height
        assert (columns[0], columns[-1] + 1) == (left, right) and rows.mean() + 0.5 == (top + bottom) / 2


def test_half_face_covers_its_share_from_the_left_or_the_right():
    for severity, share in zip(SEVERITIES, (0.2, 0.3, 0.4, 0.5, 0.6), strict=True):
        columns = ~untouched("half_face", severity).any(1)
        assert np.abs(columns.mean(1) - share).max() <= 0.5 / 48 + 1e-9
        assert (columns[:, 0] != columns[:, -1]).all() and 8 < columns[:, 0].sum() < 32


def test_patches_are_as_many_squares_as_the_severity_each_of_its_grey_anywhere():
    single = corrupt(BLACK, "patches", 1).numpy()
    assert len(np.unique(single.max((1, 2)))) > 30
    places = [np.argwhere(~free) for free in untouched("patches", 1)]
    assert all(len(place) == PATCH ** 2 and (np.ptp(place, 0) == PATCH - 1).all() for place in places)
    corners = np.array([place.min(0) for place in places])
    assert (corners.min(0) <= 3).all() and (corners.max(0) >= 48 - PATCH - 3).all()
    for severity in SEVERITIES:
        share = (~untouched("patches", severity)).mean((1, 2))
        assert share.max() <= severity * PATCH ** 2 / 48 ** 2 + 1e-9
        assert share.max() > (severity - 0.5) * PATCH ** 2 / 48 ** 2


@pytest.mark.parametrize(("severity", "top"), [(1, 33), (2, 30), (3, 27), (4, 24), (5, 20)])
def test_a_mask_is_a_light_rounded_shape_from_the_nose_to_the_chin_with_straps(severity, top):
    covered = ~untouched("mask", severity)[0]
    middle = covered[:, 23:25].all(1)
    assert np.abs(np.flatnonzero(middle)[0] - top) <= 1 and middle[top + 1:46].all()
    cloth = covered[:, 10:38]
    assert cloth[top + 7:40].all() and not covered[:12].any()
    box = np.argwhere(covered)
    assert covered.sum() < 0.85 * np.prod(np.ptp(box, 0) + 1)  # no rectangle
    assert (covered == covered[:, ::-1]).mean() > 0.98
    straps = np.flatnonzero(covered.any(0))
    assert straps[0] <= 2 and straps[-1] >= 45 and covered[:, 4].sum() <= 8
    light = corrupt(BLACK[:1], "mask", severity)[0, top + 7:44, 14:34].float()
    assert light.min() > 120 and light.std() > 5  # pleats


def test_sunglasses_are_two_dark_round_lenses_a_bridge_and_temples():
    shades = []
    for severity in SEVERITIES:
        covered = ~untouched("sunglasses", severity)[0]
        seen = corrupt(WHITE[:1], "sunglasses", severity)[0].float()
        assert covered[20, 15] and covered[20, 33] and covered[18:20, 23:25].any(0).all()
        assert not covered[21:, 23:25].any() and not covered[:10].any() and not covered[30:].any()
        assert covered[:, :2].any() and covered[:, -2:].any()
        lens = covered[11:, 24:][:, 1:18]
        box = np.argwhere(lens)
        assert lens.sum() < 0.95 * np.prod(np.ptp(box, 0) + 1)
        assert (covered == covered[:, ::-1]).mean() > 0.98
        shades.append(float(seen[17:22, 12:18].mean()))
    assert (np.diff(shades) < 0).all() and shades[0] < 150 and shades[-1] < 50
