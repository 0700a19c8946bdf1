import dataclasses

import numpy as np
import pytest
import torch
from conftest import easy_faces

from fer_helpers import analysis
from fer_helpers.emotions import REGIONS
from fer_helpers.files import FerError
from fer_helpers.models import create_model
from fer_helpers.synthetic import make_faces


@pytest.fixture(scope="module")
def drawn():
    return make_faces(140, test=140, seed=3)


def test_image_statistics_match_numpy(faces):
    table = analysis.image_statistics(faces)
    images = faces.images.numpy().astype(float)
    assert np.allclose(table["brightness"], images.mean((1, 2)), rtol=1e-4)
    assert np.allclose(table["contrast"], images.reshape(len(faces), -1).std(1, ddof=1), rtol=1e-4)
    assert list(table["id"]) == list(faces.ids)


def test_sharpness_falls_when_an_image_is_blurred(faces):
    soft = torch.nn.functional.avg_pool2d(faces.images[:, None].float(), 3, 1, 1)[:, 0].to(torch.uint8)
    before, after = (analysis.image_statistics(f)["sharpness"]
                     for f in (faces, dataclasses.replace(faces, images=soft)))
    assert (after < before).all()


def test_the_classical_floor_learns_what_is_linear(faces):
    result = analysis.pca_baseline(faces, components=20)
    assert result.accuracy.low > result.majority.high and result.count == 42


def test_human_votes_become_a_confusion_matrix():
    faces = easy_faces(train=4, test=2, votes=True)
    assert np.allclose(analysis.human_confusion(faces), np.eye(7))
    assert np.allclose(analysis.human_agreement(faces), 1)


def test_what_the_data_does_not_know_is_an_error(faces):
    for ask in (analysis.human_confusion, analysis.human_agreement, analysis.action_unit_means):
        with pytest.raises(FerError, match="easy faces"):
            ask(faces)


def test_action_units_of_a_class_are_those_of_its_prototype(drawn):
    means = analysis.action_unit_means(drawn)
    assert means.loc["happiness"].idxmax() in ("AU6", "AU12")
    assert means.loc["neutral"].max() < means.loc["surprise"].max()


@pytest.mark.parametrize(("arch", "layers"), [("vgg16", 16), ("resnet50", 50)])
def test_layer_gradients_name_every_layer_and_leave_the_network_as_it_was(arch, layers, faces):
    model = create_model(arch, 7, seed=0).eval()
    before = [p.clone() for p in model.parameters()]
    values = analysis.layer_gradients(model, faces.images[:8], faces.labels[:8])
    assert len(values) == layers and (values > 0).all() and not model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_hiding_replaces_the_mask_and_nothing_far_from_it(faces):
    mask = torch.zeros(len(faces), 48, 48, dtype=torch.bool)
    mask[:, 10:20, 10:20] = True
    hidden = analysis.hide(faces.images, mask)
    assert (hidden[:, 10:20, 10:20].flatten(1).float().std(1) == 0).all()
    assert torch.equal(hidden[:, 21:], faces.images[:, 21:])


def test_region_masks_are_exact_for_drawn_faces_and_boxes_for_photographs(drawn, faces):
    assert torch.equal(analysis.region_masks(drawn)["mouth"], drawn.region_mask("mouth"))
    boxes = analysis.region_masks(faces)
    assert set(boxes) == set(REGIONS) and all(box.shape == faces.images.shape for box in boxes.values())
    # The boxes must sit where faces have these parts: over the drawn masks, most of which they should cover.
    for region, mask in analysis.region_masks(drawn).items():
        assert (mask & boxes[region][:1]).sum() / mask.sum() > 0.6, region


def test_hiding_the_only_informative_region_costs_all_accuracy(faces):
    class Mouth(torch.nn.Module):
        """Answers class 1 if the mouth box is bright, else 0."""

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, images):
            bright = images[:, 0, 34:41, 14:34].mean((1, 2)) * self.scale
            return torch.stack([-bright, bright] + [torch.full_like(bright, -9)] * 5, 1)

    images = torch.full((40, 48, 48), 60, dtype=torch.uint8)
    labels = torch.arange(40) % 2
    images[labels == 1, 32:43, 11:37] = 250
    toy = dataclasses.replace(faces.take(np.arange(40)), images=images, labels=labels)
    table = analysis.region_importance(Mouth(), toy).query("`class` == 'all'").set_index("region")["value"]
    assert table["mouth"] == pytest.approx(0.5) and table["brows"] == 0


def test_accuracy_by_a_value_counts_every_known_image_once():
    values = np.r_[np.arange(100.0), np.nan]
    correct = np.r_[np.arange(100) >= 50, True]
    table = analysis.accuracy_by(correct, values, bins=4, name="x")
    assert list(table["value"]) == [0, 0, 1, 1] and table["images"].sum() == 100
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()


def test_error_sources_use_what_is_known(drawn, faces):
    assert "strength of the expression" in analysis.error_sources(drawn, np.arange(len(drawn)) % 2 == 0)
    assert set(analysis.error_sources(faces, np.ones(len(faces), bool))) == {"brightness", "contrast", "sharpness"}
