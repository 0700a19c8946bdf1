import dataclasses

import numpy as np
import pytest
import torch
from conftest import easy_faces

from fer_helpers import analysis
from fer_helpers.emotions import REGIONS
from fer_helpers.evaluation import evaluate
from fer_helpers.models import create_model
from fer_helpers.synthetic import make_faces


@pytest.fixture(scope="module")
def drawn():
    return make_faces(140, test=140, seed=3)


def test_embeddings_are_the_features_before_the_classifier(faces):
    model = create_model("simple_cnn", 7, seed=0).eval()
    embedded = analysis.embed(model, faces.images, batch_size=50)
    assert embedded.shape == (len(faces), 500)
    logits = model.classifier(torch.from_numpy(embedded[:5].copy()))
    assert torch.allclose(logits, model(analysis.normalise(faces.images[:5])), atol=1e-5)


def test_classes_that_point_the_same_way_are_similar():
    labels = np.repeat([0, 1, 2], 20)
    embedded = np.array([[1.0, 0], [0.9, 0.1], [-2, 0]])[labels]
    table = analysis.class_similarity(embedded, labels, ("a", "b", "c"))
    assert np.allclose(np.diag(table), 1) and table.loc["a", "b"] > 0.9 > table.loc["a", "c"]


def test_pair_evidence_has_every_pair_once(drawn):
    test = drawn.only("test")
    labels = test.labels.numpy()
    predicted = np.roll(labels, 1)
    table = analysis.pair_evidence(evaluate(labels, np.eye(7)[predicted], test.classes), test)
    assert len(table) == 21 and list(table.columns) == ["confusion", "action units drawn"]
    assert table["confusion"].is_monotonic_decreasing
    plain = easy_faces(train=4, test=2, votes=True)
    result = evaluate(plain.labels.numpy(), np.eye(7)[plain.labels.numpy()], plain.classes)
    assert analysis.pair_evidence(result, plain).columns[-1] == "human votes"


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
