import numpy as np
import pandas as pd
import pytest
from conftest import texts

from fer_helpers.analysis import dataset_statistics
from fer_helpers.viz import dataset

pytestmark = pytest.mark.usefixtures("figure_style")


def test_the_class_gallery_has_a_row_of_the_right_faces_per_class(faces):
    figure = dataset.class_gallery(faces, per_class=3)
    by_pixels = {image.tobytes(): int(label) for image, label in zip(faces.images.numpy(), faces.labels, strict=True)}
    shown = [by_pixels[np.asarray(axis.images[0].get_array()).tobytes()] for axis in figure.axes]
    assert shown == [label for label in range(7) for _ in range(3)]


def test_class_balance_draws_the_splits_that_exist(faces):
    figure = dataset.class_balance(faces)
    assert [axis.get_title(loc="left").split(":")[0] for axis in figure.axes] == ["train", "test"]


def test_mean_faces_are_those_of_the_class_and_differences_are_from_their_mean(faces):
    axes = dataset.mean_faces(faces).axes
    means = [faces.images[faces.labels == label].float().mean(0) for label in range(7)]
    for label, name in enumerate(faces.classes):
        assert axes[label].get_title() == name
        np.testing.assert_allclose(axes[label].images[0].get_array(), means[label], atol=1e-3)
        np.testing.assert_allclose(axes[7 + label].images[0].get_array(), means[label] - sum(means) / 7, atol=1e-3)


def test_eigenfaces_have_a_row_a_part_with_the_share_of_each(faces):
    parts = {"all": dataset_statistics.eigenfaces(faces.images, 14),
             "fear": dataset_statistics.eigenfaces(faces.images[:40], 14)}
    figure = dataset.eigenfaces(parts)
    found = texts(figure)
    assert {"all", "fear", "mean"} <= set(found) and f"{parts['fear'].explained[1]:.0%}" in found
    shown = [axis.images[0] for axis in figure.axes]
    assert len(shown) == 30 and np.array_equal(shown[17].get_array(), parts["fear"].faces[1])
    assert shown[17].norm.vmin == -shown[17].norm.vmax  # white is no change


def test_distributions_have_a_box_around_the_middle_half_of_each_class():
    table = pd.DataFrame({"class": ["fear", "anger"] * 50, "v": np.arange(100.0)})
    axis, = dataset.distributions(table, ["v"]).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["anger", "fear"]
    for box, name in zip(axis.patches, ("anger", "fear"), strict=True):
        own = table.loc[table["class"] == name, "v"]
        across = box.get_path().vertices[:, 0]
        assert (across.min(), across.max()) == pytest.approx(tuple(own.quantile([0.25, 0.75])))
