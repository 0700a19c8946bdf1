import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import easy_images
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import affine, resized_crop

from fer_helpers.data.duplicates import augmented_pairs, exact_groups, join_groups, near_groups
from fer_helpers.data.synthetic import make_faces

LABELS = np.arange(21) % 7


def resized(images: torch.Tensor, size: int) -> torch.Tensor:
    """Down to ``size`` pixels and back, as when a photograph was stored small."""
    small = F.interpolate(images[:, None].float(), size, mode="bilinear", antialias=True)
    return F.interpolate(small, 48, mode="bilinear")[:, 0].round().clamp(0, 255).to(torch.uint8)


def relit(images: torch.Tensor, contrast: float, brightness: float) -> torch.Tensor:
    return (images.float() * contrast + brightness).round().clamp(0, 255).to(torch.uint8)


def partition(groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == number).tolist()) for number in np.unique(groups)}


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(0, 2303))
def test_exact_groups_are_those_of_comparing_every_pair(picks, pixel):
    # Six images of which neighbours differ in one single pixel.
    stock = torch.zeros(6, 48, 48, dtype=torch.uint8)
    stock.reshape(6, -1)[:, pixel] = torch.arange(6, dtype=torch.uint8)
    images = stock[picks]
    groups = exact_groups(images)
    for i in range(len(images)):
        for j in range(len(images)):
            assert (groups[i] == groups[j]) == bool((images[i] == images[j]).all())


@given(st.lists(st.integers(0, 5), max_size=30))
def test_exact_groups_are_numbered_in_order_of_first_appearance(picks):
    groups = exact_groups(easy_images(np.arange(6))[picks])
    assert groups.dtype == np.int64
    seen = list(dict.fromkeys(groups.tolist()))
    assert seen == list(range(len(set(picks))))


def test_exact_groups_of_a_view_that_is_not_contiguous():
    images = easy_images(LABELS)
    assert exact_groups(torch.stack([images, images], 1)[:, 1]).tolist() == list(range(21))


@pytest.mark.parametrize("change", [
    lambda images: images.clone(),
    lambda images: relit(images, 0.6, 10),
    lambda images: relit(images, 0.5, 100),
    lambda images: (images.float() + torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 3)
    .round().clamp(0, 255).to(torch.uint8),
], ids=["same", "darker", "flatter", "re-encoded"])
def test_near_groups_join_each_image_with_its_copy_and_nothing_else(change):
    images = easy_images(LABELS)
    groups = near_groups(torch.cat([images, change(images)]))
    assert groups.dtype == np.int64
    assert partition(groups) == {frozenset({i, i + 21}) for i in range(21)}


def test_near_groups_join_rescaled_copies():
    sharp = easy_images(LABELS, noise=60)
    images = resized(sharp, 24)  # smooth, as photographs are
    groups = near_groups(torch.cat([images, resized(images, 36)]))
    assert partition(groups) == {frozenset({i, i + 21}) for i in range(21)}


def test_near_groups_find_the_copies_among_synthetic_faces_and_keep_persons_apart():
    faces = make_faces(40, seed=1).images
    groups = near_groups(torch.cat([faces, relit(faces, 0.7, 15), resized(faces, 40)])).reshape(3, 40)
    assert len(set(groups[0])) == 40
    assert not any(set(groups[:, i]) & set(groups[:, :i].flatten()) for i in range(40))
    assert (groups[1] == groups[0]).all()
    assert (groups[2] == groups[0]).mean() > 0.75  # rescaling takes the grain that makes up much of the noisiest


@pytest.mark.parametrize("noise", [30, 60])
def test_near_groups_separate_different_images_of_one_class(noise):
    images = easy_images(np.zeros(40, dtype=int), noise=noise)
    assert len(set(near_groups(images))) == 40


def test_a_mirror_image_and_a_negative_are_not_copies():
    image = easy_images(np.array([1]))
    assert len(set(near_groups(torch.cat([image, image.flip(-1), 255 - image])))) == 3


def test_constant_images_group_only_with_exact_copies():
    grey = torch.stack([torch.full((48, 48), value, dtype=torch.uint8) for value in (0, 7, 7, 200, 255, 0)])
    images = torch.cat([grey, easy_images(np.array([0]))])
    assert near_groups(images).tolist() == [0, 1, 1, 2, 3, 0, 4]


def test_chains_of_copies_become_one_group():
    random = torch.Generator().manual_seed(0)
    first, other = (torch.randn(48, 48, generator=random) for _ in range(2))
    # Turning from one image towards the other: neighbours correlate at 0.985, the ends at 0.81.
    steps = torch.arange(5) * 0.155
    images = (128 + 30 * (first * torch.cos(steps)[:, None, None] + other * torch.sin(steps)[:, None, None]))
    images = images.round().clamp(0, 255).to(torch.uint8)
    assert np.corrcoef(images[0].flatten(), images[4].flatten())[0, 1] < 0.9
    assert set(near_groups(images)) == {0}
    assert len(set(near_groups(images[::2]))) == 3


@given(st.integers(0, 1000), st.sampled_from([0.5, 0.9, 0.98]))
def test_near_groups_are_the_components_of_all_correlated_pairs(seed, least):
    random = np.random.default_rng(seed)
    base = random.normal(128, 40, (4, 8, 8)).repeat(6, 1).repeat(6, 2)  # all of their detail is visible in thumbnails
    blend = base[random.integers(0, 4, 12)] + random.uniform(0, 0.6) * base[random.integers(0, 4, 12)]
    images = torch.from_numpy(blend.clip(0, 255).astype(np.uint8))
    links = np.corrcoef(images.flatten(1).numpy()) >= least
    for _ in range(12):
        links = links.astype(int) @ links.astype(int) > 0
    assert partition(near_groups(images, least)) == {frozenset(np.flatnonzero(row).tolist()) for row in links}


def test_near_groups_do_not_depend_on_the_block_size():
    images = easy_images(LABELS)
    images = torch.cat([images, relit(images, 0.7, 20), images[:5]])
    assert (near_groups(images, block=4) == near_groups(images)).all()


@pytest.mark.parametrize("count", [0, 1])
def test_groups_of_no_image_and_of_one(count):
    images = easy_images(np.zeros(count, dtype=int))
    assert exact_groups(images).tolist() == near_groups(images).tolist() == list(range(count))


# ---------------------------------------------------------------- copies that were augmented

@pytest.fixture(scope="module")
def drawn():
    return make_faces(300, seed=5).images


def moved(images: torch.Tensor, degrees: float = 0, x: int = 0, y: int = 0, scale: float = 1) -> torch.Tensor:
    """As torchvision augments: clockwise, then to the right and down, black where nothing was."""
    return affine(images, degrees, [x, y], scale, [0, 0], InterpolationMode.BILINEAR)


@pytest.mark.parametrize(("change", "least"), [
    (lambda images: images.flip(-1), 0.95),
    (lambda images: relit(images.flip(-1), 0.7, 20), 0.95),
    (lambda images: moved(images, x=1), 0.95),
    (lambda images: moved(images, x=-3, y=3), 0.95),
    (lambda images: moved(images, y=-3), 0.95),
    (lambda images: moved(images.flip(-1), x=2, y=-1), 0.95),
    (lambda images: moved(images, degrees=10), 0.8),
    (lambda images: moved(images.flip(-1), degrees=-10), 0.8),
    (lambda images: resized_crop(images, 2, 3, 44, 44, [48, 48]), 0.8),
], ids=["mirrored", "mirrored and relit", "1 px", "3 px both ways", "3 px", "mirrored and shifted", "10°",
        "mirrored and 10°", "cropped"])
def test_augmented_copies_are_found_among_hundreds_of_faces(drawn, change, least):
    pairs = augmented_pairs(change(drawn[:100]), drawn)
    own = pairs["first"] == pairs["second"]
    assert own.sum() >= least * 100
    assert (~own).sum() <= 1


def test_different_faces_are_no_augmented_copies_of_each_other(drawn):
    assert len(augmented_pairs(drawn[:150])) <= 1


def test_a_pair_tells_what_was_done_to_its_second_image(drawn):
    original = drawn[:1]
    for copy, expected in [(original.flip(-1), (True, 0, 1, 0, 0)), (moved(original, x=3, y=-2), (False, 0, 1, 3, -2)),
                           (moved(original, degrees=10), (False, 10, 1, 0, 0)),
                           (moved(original.flip(-1), degrees=-8, x=2), (True, -8, 1, 2, 0)),
                           (moved(original, scale=1.1), (False, 0, 1.1, 0, 0))]:
        pair = augmented_pairs(copy, original).iloc[0]
        assert tuple(pair[["mirrored", "degrees", "scale", "x", "y"]]) == pytest.approx(expected, abs=0.5)
        assert abs(pair["scale"] - expected[2]) < 0.02 and pair["correlation"] >= 0.95


def test_what_is_beyond_the_limits_is_not_called_a_copy(drawn):
    for copies in (moved(drawn[:40], degrees=30), drawn[:40].flip(-2), 255 - drawn[:40], moved(drawn[:40], x=12)):
        assert augmented_pairs(copies, drawn[:40]).empty


def test_of_one_set_each_pair_is_listed_once_and_no_image_with_itself(drawn):
    pairs = augmented_pairs(torch.cat([drawn[:20], drawn[:20].flip(-1), drawn[:5]]), block=7)
    listed = {frozenset(pair) for pair in pairs[["first", "second"]].to_numpy().tolist()}
    assert len(listed) == len(pairs) and all(len(pair) == 2 for pair in listed)
    assert listed >= {frozenset((row, row + copy)) for copy, rows in ((20, 20), (40, 5)) for row in range(rows)}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_or_blank_images_have_no_augmented_copies(count):
    blank = torch.full((count, 48, 48), 7, dtype=torch.uint8)
    assert augmented_pairs(blank).empty and augmented_pairs(blank, blank).empty
    assert {"first", "second", "mirrored", "correlation"} <= set(augmented_pairs(blank))


def test_join_groups_joins_what_either_grouping_joins():
    assert join_groups(np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 2, 3])).tolist() == [0, 0, 0, 1, 2]
    assert join_groups(np.empty(0, int), np.empty(0, int)).tolist() == []
