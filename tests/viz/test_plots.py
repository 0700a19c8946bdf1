
import numpy as np
import pandas as pd
import pytest
from conftest import texts

from fer_helpers.data.emotions import EMOTIONS
from fer_helpers.transforms.corruptions import corrupt
from fer_helpers.viz import plots, style

pytestmark = pytest.mark.usefixtures("figure_style")


def test_every_emotion_has_a_colour_of_its_own():
    assert set(style.COLORS) == set(EMOTIONS) and len(set(style.COLORS.values())) == 7


def test_the_confusion_figure_states_every_rate_and_count(scores):
    found = texts(plots.confusion(scores))
    for row in range(7):
        assert f"{scores.confusion[row, row] / 20:.0%}" in found
    assert sum(f"n={count}" in text for text in found for count in set(scores.confusion.flat)) >= 49


def test_a_headline_stands_above_the_panels(scores):
    figure = plots.headline(plots.confusion(scores), "fear is called surprise")
    assert "Fear is called surprise" in texts(figure)
    box = figure._suptitle.get_window_extent()
    assert all(box.y0 >= axis.get_window_extent().y1 for axis in figure.axes)


def test_the_gallery_shows_exactly_the_given_pixels(faces):
    figure = plots.gallery(faces.images[:10], list("abcdefghij"), columns=4)
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(shown) == 10 and np.array_equal(shown[3], faces.images[3].numpy())


def test_the_class_gallery_has_a_row_of_the_right_faces_per_class(faces):
    figure = plots.class_gallery(faces, per_class=3)
    by_pixels = {image.tobytes(): int(label) for image, label in zip(faces.images.numpy(), faces.labels, strict=True)}
    shown = [by_pixels[np.asarray(axis.images[0].get_array()).tobytes()] for axis in figure.axes]
    assert shown == [label for label in range(7) for _ in range(3)]


def test_extremes_show_what_each_label_got_most_and_least_of(faces):
    given = np.linspace(0, 1, len(faces))
    figure = plots.extremes(faces, given, each=2)
    place = {image.tobytes(): number for number, image in enumerate(faces.images.numpy())}
    rows = np.array([place[np.asarray(axis.images[0].get_array()).tobytes()] for axis in figure.axes if axis.images])
    for label, row in enumerate(rows.reshape(7, 4)):
        own = np.flatnonzero(faces.labels.numpy() == label)
        assert row.tolist() == [own[-1], own[-2], own[0], own[1]]


def test_class_balance_draws_the_splits_that_exist(faces):
    figure = plots.class_balance(faces)
    assert [axis.get_title(loc="left").split(":")[0] for axis in figure.axes] == ["train", "test"]


def test_the_accuracy_figure_shows_both_baselines():
    table = pd.DataFrame({"name": ["a", "b"], "test_accuracy": [0.5, 0.3], "test_low": [0.4, 0.2],
                          "test_high": [0.6, 0.4], "majority": 0.25, "classes": 6})
    found = texts(plots.accuracies(table, "name"))
    assert "always the majority class" in found and "chance" in found and {"a", "b"} <= set(found)


def test_every_figure_draws(scores, faces):
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "val_loss": [1.0, 0.7], "lr": [0.1, 0.0],
                            "train_accuracy": [0.3, 0.5], "val_accuracy": [0.3, 0.4], "grad_norm": [1.0, 2.0]})
    bars = pd.DataFrame({"value": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}, index=["fear", "other"])
    square = pd.DataFrame(np.eye(3), index=list("abc"), columns=list("abc"))
    labels = np.repeat(np.arange(7), 20)
    figures = [
        plots.mean_faces(faces), plots.history(history, 2, 0.25), plots.confused_pairs(scores.confusions(), floor=0.1),
        plots.heatmap(square), plots.heatmap(square, center=0, percent=False),
        plots.reliability(labels, {"even": np.full((140, 7), 1 / 7)}), plots.bars_with_intervals(bars, "x"),
        plots.by_property({"contrast": bars, "sharpness": bars}),
        plots.scatter_map(np.random.default_rng(0).random((140, 2)), labels, EMOTIONS),
        plots.lines(pd.DataFrame({"fear": [1.0, 2], "x": [2.0, np.nan]}), "a", "b", log=True),
        plots.distributions(pd.DataFrame({"class": ["fear", "anger"] * 5, "v": range(10)}), ["v"])]
    for figure in figures:
        figure.canvas.draw()
        assert figure.axes


# --- corruptions


@pytest.mark.parametrize("names", [("eyes", "low_resolution", "shift"), ("jpeg",), ("jpeg", "mask")])
def test_the_corruption_gallery_shows_every_severity_beside_its_name(faces, names):
    figure = plots.corruption_gallery(faces.images[0], names)
    by_row = {}
    for axis in figure.axes:
        if axis.images:
            spec = axis.get_subplotspec()
            block = spec.colspan.start > 5
            by_row.setdefault((block, spec.rowspan.start), []).append(np.asarray(axis.images[0].get_array()))
    rows = [by_row[place] for place in sorted(by_row)]
    assert [len(row) for row in rows] == [5] * len(names) + [1]
    for name, row in zip(names, rows, strict=False):
        for severity, shown in enumerate(row, start=1):
            assert np.array_equal(shown, corrupt(faces.images[:1], name, severity)[0])
    assert np.array_equal(rows[-1][0], faces.images[0])
    assert {"severity 1", "severity 5", "as it is", names[-1].replace("_", "\n")} <= set(texts(figure))
