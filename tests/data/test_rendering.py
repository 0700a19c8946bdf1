"""Drawn faces: exactness, what the action units move, the regions."""

import dataclasses
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_helpers.data import rendering
from fer_helpers.data.emotions import ACTION_UNITS, EMOTIONS, REGIONS, action_unit_vector
from fer_helpers.data.rendering import RANGES, FaceParams, render
from fer_helpers.data.synthetic import sample_params
from fer_helpers.files import FerError, digest


def sampled(count: int, seed: int = 0) -> FaceParams:
    return sample_params(torch.arange(count) % len(EMOTIONS), torch.Generator().manual_seed(seed))


def with_unit(unit: int, intensity: float = 1.0) -> FaceParams:
    units = torch.tensor([action_unit_vector([unit])]) * intensity
    return dataclasses.replace(FaceParams.neutral(), action_units=units)


def mask(regions: torch.Tensor, name: str) -> torch.Tensor:
    return (regions >> REGIONS.index(name)) % 2 == 1


def test_pictures_are_the_same_to_the_last_bit_on_every_machine():
    params = sampled(28, seed=7)
    drawn = render(params)
    assert digest(params.action_units.numpy().tobytes()) == "9c4a72ab0356361e"
    assert digest(drawn.images.numpy().tobytes(), drawn.regions.numpy().tobytes()) == "78d062b9611b9a36"


def test_the_seed_decides_the_picture():
    params = sampled(14)
    assert torch.equal(render(params).images, render(sampled(14)).images)
    assert not torch.equal(render(params).images, render(sampled(14, seed=1)).images)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 39), min_size=1, max_size=20))
def test_a_face_does_not_depend_on_its_batch(rows):
    params = sampled(40)
    whole, part = render(params), render(params[torch.tensor(rows)])
    assert torch.equal(part.images, whole.images[rows]) and torch.equal(part.regions, whole.regions[rows])


def test_faces_do_not_depend_on_the_number_of_threads():
    params, threads = sampled(60), torch.get_num_threads()
    drawn = []
    try:
        for number in (1, 2, 4):
            torch.set_num_threads(number)
            drawn.append(render(params).images)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


def test_small_windows_cut_nothing_off(monkeypatch):
    params = sampled(140, seed=3)
    windowed, window = render(params), rendering._window
    monkeypatch.setattr(rendering, "_window", lambda c, p, g, v, height, width, texture: window(
        c, p, g, v, 48, 48, texture))
    whole = render(params)
    assert torch.equal(windowed.images, whole.images) and torch.equal(windowed.regions, whole.regions)


def test_shapes_dtypes_and_ranges():
    params = sampled(70)
    images, regions = render(params)
    assert images.shape == regions.shape == (70, 48, 48)
    assert images.dtype == regions.dtype == torch.uint8
    assert int(regions.max()) < 1 << len(REGIONS)
    assert params.action_units.dtype == torch.float32 and params.seed.dtype == torch.int64
    for name, (low, _, high) in RANGES.items():
        value = getattr(params, name)
        assert value.dtype == torch.float32 and float(value.max()) <= high, name
        assert float(value.min()) >= low - 1e-6, name
    assert (images.flatten(1).float().std(1) > 8).all()  # no blank picture


def test_every_field_changes_the_picture():
    base = dataclasses.replace(with_unit(12), occluder=torch.full((1,), 2.0), noise=torch.full((1,), 0.03))
    before = render(base).images
    for name, (low, middle, high) in RANGES.items():
        value = high if high > middle else low
        if name == "occluder":
            value = 0.0
        changed = render(dataclasses.replace(base, **{name: torch.tensor([value])})).images
        assert not torch.equal(before, changed), name
    assert not torch.equal(before, render(dataclasses.replace(base, seed=torch.ones(1, dtype=torch.int64))).images)


@pytest.mark.parametrize(("unit", "region"), [
    (1, "brows"), (2, "brows"), (4, "brows"), (5, "eyes"), (6, "eyes"), (7, "eyes"), (9, "nose"), (12, "mouth"),
    (15, "mouth"), (16, "mouth"), (20, "mouth"), (23, "mouth"), (26, "mouth")])
def test_each_action_unit_moves_its_region(unit, region):
    before, after = render(FaceParams.neutral()), render(with_unit(unit))
    assert not torch.equal(mask(before.regions, region), mask(after.regions, region))
    where = mask(before.regions | after.regions, region)
    change = (before.images.int() - after.images.int()).abs().float()
    assert change[where].mean() > 2 * change.mean() and change.max() > 20


def test_action_units_move_the_face_as_their_names_say():
    def place(unit: int, region: str) -> dict[str, float]:
        rows, columns = np.nonzero(mask(render(with_unit(unit) if unit else FaceParams.neutral()).regions,
                                        region)[0].numpy())
        inner = (columns >= 18) & (columns < 30)
        return {"height": float(rows.mean()), "width": float(np.ptp(columns)), "area": float(len(rows)),
                "inner": float(rows[inner].mean()) if inner.any() else 0.0,
                "ends": float(rows[(columns < columns.min() + 3) | (columns > columns.max() - 3)].mean())}

    rest = place(0, "mouth")
    assert place(12, "mouth")["ends"] < rest["ends"] < place(15, "mouth")["ends"]  # rows count downwards
    assert place(20, "mouth")["width"] > rest["width"] > place(23, "mouth")["width"]
    assert place(26, "mouth")["area"] > 1.5 * rest["area"] > 1.5 * place(23, "mouth")["area"]
    assert place(1, "brows")["inner"] < place(0, "brows")["inner"] < place(4, "brows")["inner"]
    assert place(2, "brows")["ends"] < place(0, "brows")["ends"]
    assert place(5, "eyes")["area"] > place(0, "eyes")["area"] > place(7, "eyes")["area"]


def test_stronger_units_change_the_picture_more():
    rest = render(FaceParams.neutral()).images.int()
    for unit in ACTION_UNITS:
        weak, strong = ((render(with_unit(unit, level)).images.int() - rest).abs().sum() for level in (0.3, 1.0))
        assert 0 < weak < strong, unit


def test_regions_are_seen_and_hardly_overlap():
    params = sampled(140)
    regions = render(dataclasses.replace(params, occluder=torch.zeros(140), glasses=torch.zeros(140))).regions
    assert all(mask(regions, name).flatten(1).any(1).all() for name in ("eyes", "nose", "mouth"))
    assert mask(regions, "brows").flatten(1).any(1).float().mean() > 0.95  # a long fringe may hide the brows
    several = sum(mask(regions, name).int() for name in REGIONS) > 1
    assert several.float().sum() < 0.03 * (regions > 0).sum()


def test_regions_follow_the_pose_and_end_where_something_hides_them():
    low = render(dataclasses.replace(FaceParams.neutral(), shift_y=torch.tensor([2.0]))).regions
    assert torch.equal(low[:, 2:], render(FaceParams.neutral()).regions[:, :-2])
    hidden = dataclasses.replace(FaceParams.neutral(), occluder=torch.ones(1), occluder_y=torch.tensor([12.0]),
                                 occluder_size=torch.tensor([6.0]))
    assert not mask(render(hidden).regions, "mouth").any() and mask(render(hidden).regions, "eyes").any()


def test_one_face_is_quick():
    params = FaceParams.neutral()
    seconds = []
    for _ in range(10):
        start = time.thread_time()
        render(params)
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.02


@pytest.mark.parametrize(("call", "message"), [
    (lambda: dataclasses.replace(FaceParams.neutral(2), action_units=torch.zeros(2, 12)), r"\(N, 13\)"),
    (lambda: dataclasses.replace(FaceParams.neutral(), action_units=torch.full((1, 13), 1.2)), "between 0 and 1"),
    (lambda: dataclasses.replace(FaceParams.neutral(), action_units=torch.full((1, 13), torch.nan)), "between 0 and 1"),
    (lambda: dataclasses.replace(FaceParams.neutral(2), yaw=torch.zeros(1)), r"yaw must be .*\(2,\)"),
    (lambda: FaceParams.neutral(0), "count=0")])
def test_wrong_input_is_refused_with_the_reason(call, message):
    with pytest.raises(FerError, match=message):
        call()
