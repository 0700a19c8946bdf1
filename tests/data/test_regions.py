import pytest
import torch

from fer_helpers.data import regions
from fer_helpers.data.emotions import REGIONS
from fer_helpers.data.synthetic import make_faces


@pytest.fixture(scope="module")
def drawn():
    return make_faces(140, test=140, copies=0.1, seed=3)


def test_hiding_replaces_the_mask_and_nothing_far_from_it(faces):
    mask = torch.zeros(len(faces), 48, 48, dtype=torch.bool)
    mask[:, 10:20, 10:20] = True
    hidden = regions.hide(faces.images, mask)
    assert (hidden[:, 10:20, 10:20].flatten(1).float().std(1) == 0).all()
    assert torch.equal(hidden[:, 21:], faces.images[:, 21:])


def test_region_masks_are_exact_for_drawn_faces_and_boxes_for_photographs(drawn, faces):
    assert torch.equal(regions.region_masks(drawn)["mouth"], drawn.region_mask("mouth"))
    boxes = regions.region_masks(faces)
    assert set(boxes) == set(REGIONS) and all(box.shape == faces.images.shape for box in boxes.values())
    # The boxes must sit where faces have these parts: over the drawn masks, most of which they should cover.
    for region, mask in regions.region_masks(drawn).items():
        assert (mask & boxes[region][:1]).sum() / mask.sum() > 0.6, region


def test_every_box_of_the_grid_lies_on_the_part_it_is_named_after(drawn):
    # Left in the picture is left in the name; brows, eyes and mouth are where the drawn masks are densest.
    centres = {name: ((left + right) / 2, (top + bottom) / 2)
               for name, (left, top, right, bottom) in regions.FACE_GRID.items()}
    for side, sign in (("left", 1), ("right", -1)):
        assert all(sign * (24 - centres[f"{side} {part}"][0]) > 0 for part in ("brow", "eye", "cheek"))
    for region, mask in regions.region_masks(drawn).items():
        density = mask.float().mean(0)
        inside = {name: density[top:bottom, left:right].mean().item()
                  for name, (left, top, right, bottom) in regions.FACE_GRID.items()}
        assert max(inside, key=inside.get).removeprefix("left ").removeprefix("right ") in region
