import dataclasses

import numpy as np
import pytest
import torch
from conftest import easy_faces

from fer_helpers import analysis
from fer_helpers.evaluation import evaluate
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
