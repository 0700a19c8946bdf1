import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import easy_faces

from fer_helpers.experiments import transfer
from fer_helpers.files import FerError
from fer_helpers.models.factory import create_model
from fer_helpers.models.text_embeddings import prototypes
from fer_helpers.training.config import TrainConfig
from fer_helpers.training.trainer import prepare_faces

TINY = TrainConfig(arch="compact", epochs=1, batch_size=16, val_fraction=0.2, augmentation="none", precision="fp32",
                   optimizer="adam", lr=1e-3, head="text")


@pytest.fixture(scope="module")
def view(faces):
    return prepare_faces(TINY, faces)


# --- linear evaluation

def test_linear_evaluation_reads_easy_features_and_gains_from_labels():
    faces = easy_faces(train=60, test=20, noise=60).with_classes(6)
    table = transfer.linear_evaluation(create_model("simple_cnn", 6, seed=0), faces, (0.05, 1.0))
    assert list(table["labels"]) == [18, 360] and (table["images"] == 120).all()
    assert table.loc[1.0, "value"] > table.loc[0.05, "value"] > 1 / 6
    assert table.loc[1.0, "value"] > 0.9
    assert ((table["low"] < table["value"]) & (table["value"] <= table["high"])).all()


def test_features_that_know_nothing_are_judged_at_chance():
    faces = easy_faces(train=60, test=30).with_classes(6)

    class Blind(torch.nn.Module):
        def features(self, images):
            return torch.randn(len(images), 8, generator=torch.Generator().manual_seed(len(images)))

    table = transfer.linear_evaluation(Blind(), faces, (1.0,))
    assert table.loc[1.0, "low"] < 1 / 6 < table.loc[1.0, "high"]


def test_fewer_labels_than_classes_are_refused(view):
    with pytest.raises(FerError, match="cannot show 6 classes"):
        transfer.linear_evaluation(create_model("simple_cnn", 6, seed=0), view, (0.01,))


# --- zero-shot

def test_without_a_class_its_images_are_gone_and_the_labels_still_fit(view):
    part = transfer.without_class(view, "fear")
    assert part.classes == tuple(name for name in view.classes if name != "fear")
    assert set(part.split) == {"train", "val"}
    name = {face: view.classes[label] for face, label in zip(view.ids, view.labels.tolist(), strict=True)}
    assert [part.classes[label] for label in part.labels.tolist()] == [name[face] for face in part.ids]
    with pytest.raises(FerError, match="unseen='disgust' is no class"):
        transfer.without_class(view, "disgust")


def test_the_texts_of_the_classes_it_was_trained_on_stay_what_they_were(view):
    seen = tuple(name for name in view.classes if name != "fear")
    texts = prototypes(view.classes)
    rest = torch.arange(6) != view.classes.index("fear")
    moved = torch.nn.functional.normalize(texts - texts[rest].mean(0), dim=1)
    torch.testing.assert_close(moved[rest], prototypes(seen, centred=True))


def test_zero_shot_scores_the_unseen_class_and_never_trains_on_it(faces):
    found = transfer.zero_shot(TINY, faces, "happiness", bootstraps=50, progress=False)
    assert found.auc.low <= found.auc.value <= found.auc.high
    assert found.confusion.shape == (6, 6) and found.confusion.sum() == 36
    row = found.classes.index("happiness")
    assert found.named.value == found.confusion[row, row] / found.confusion[row].sum()
    others = np.delete(found.confusion, row, 0)
    assert found.claimed.value == pytest.approx(others[:, row].sum() / others.sum())
    # Its train images in negative: another face set, the same network.
    unseen = (faces.labels == faces.classes.index("happiness")) & torch.from_numpy(faces.split == "train")
    images = torch.where(unseen[:, None, None], 255 - faces.images, faces.images)
    again = transfer.zero_shot(TINY, dataclasses.replace(faces, images=images), "happiness", 50, progress=False)
    assert np.array_equal(again.confusion, found.confusion) and again.auc == found.auc


def test_a_network_that_knows_classes_by_number_cannot_name_a_new_one(faces):
    with pytest.raises(FerError, match="zero-shot needs head='text'"):
        transfer.zero_shot(replace(TINY, head="plain"), faces, "fear")
