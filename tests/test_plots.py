from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from fer_helpers import exploration, plots
from fer_helpers.emotions import EMOTIONS
from fer_helpers.evaluation import evaluate

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    plots.use_style()
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def scores():
    labels = np.repeat(np.arange(7), 20)
    return evaluate(labels, np.eye(7)[np.roll(labels, 5)], EMOTIONS, majority=3)


def texts(figure):
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_visible()]


def test_every_emotion_has_a_colour_of_its_own():
    assert set(plots.COLORS) == set(EMOTIONS) and len(set(plots.COLORS.values())) == 7


def test_the_confusion_figure_states_every_rate_and_count(scores):
    found = texts(plots.confusion(scores))
    for row in range(7):
        assert f"{scores.confusion[row, row] / 20:.0%}" in found
    assert sum(f"n={count}" in text for text in found for count in set(scores.confusion.flat)) >= 49


def test_the_gallery_shows_exactly_the_given_pixels(faces):
    figure = plots.gallery(faces.images[:10], list("abcdefghij"), columns=4)
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(shown) == 10 and np.array_equal(shown[3], faces.images[3].numpy())


def test_the_class_gallery_has_a_row_of_the_right_faces_per_class(faces):
    figure = plots.class_gallery(faces, per_class=3)
    by_pixels = {image.tobytes(): int(label) for image, label in zip(faces.images.numpy(), faces.labels, strict=True)}
    shown = [by_pixels[np.asarray(axis.images[0].get_array()).tobytes()] for axis in figure.axes]
    assert shown == [label for label in range(7) for _ in range(3)]


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
    steps = pd.DataFrame({"step": ["one", "two"], "test_accuracy": [0.2, 0.5], "test_low": [0.1, 0.4],
                          "test_high": [0.3, 0.6], "majority": 0.25, "classes": 6})
    bars = pd.DataFrame({"value": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}, index=["fear", "other"])
    square = pd.DataFrame(np.eye(3), index=list("abc"), columns=list("abc"))
    labels = np.repeat(np.arange(7), 20)
    figures = [
        plots.mean_faces(faces), plots.history(history, 2, 0.25), plots.confused_pairs(scores.confusions(), floor=0.1),
        plots.waterfall(steps), plots.heatmap(square), plots.heatmap(square, center=0, percent=False),
        plots.reliability(labels, np.full((140, 7), 1 / 7)), plots.bars_with_intervals(bars, "x"),
        plots.by_property({"contrast": bars, "sharpness": bars}),
        plots.scatter_map(np.random.default_rng(0).random((140, 2)), labels, EMOTIONS),
        plots.lines(pd.DataFrame({"fear": [1.0, 2], "x": [2.0, np.nan]}), "a", "b", log=True),
        plots.distributions(pd.DataFrame({"class": ["fear", "anger"] * 5, "v": range(10)}), ["v"])]
    for figure in figures:
        figure.canvas.draw()
        assert figure.axes


# --- notebook 01


def test_eigenfaces_have_a_row_a_part_with_the_share_of_each(faces):
    parts = {"all": exploration.eigenfaces(faces.images, 3), "fear": exploration.eigenfaces(faces.images[:40], 3)}
    figure = plots.eigenfaces(parts)
    found = texts(figure)
    assert {"all", "fear", "mean"} <= set(found) and f"{parts['fear'].explained[1]:.0%}" in found
    shown = [axis.images[0] for axis in figure.axes]
    assert len(shown) == 8 and np.array_equal(shown[6].get_array(), parts["fear"].faces[1])
    assert shown[6].norm.vmin == -shown[6].norm.vmax  # white is no change


def test_bar_panels_share_one_order_and_one_scale_of_shares():
    first = pd.DataFrame({"value": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}, index=["fear", "anger"])
    second, bits = first.iloc[::-1] * 3, first * 10
    figure = plots.bar_panels({"a": first, "b": second, "bits": bits}, plain=["bits"])
    left, middle, right = figure.axes
    assert left.get_xlim() == middle.get_xlim() != right.get_xlim()
    assert [bar.get_width() for bar in middle.patches] == pytest.approx([0.3, 0.6])
    assert [bar.get_facecolor() for bar in left.patches] == [to_rgba(plots.COLORS[name]) for name in ("fear", "anger")]
    figure.canvas.draw()
    assert all("%" in label.get_text() for label in left.get_xticklabels())
    assert not any("%" in label.get_text() for label in right.get_xticklabels())


def test_a_panel_without_one_of_the_rows_leaves_it_empty():
    table = pd.DataFrame({"value": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}, index=["x", "y"])
    figure = plots.bar_panels({"a": table, "b": table.drop("y")})
    figure.canvas.draw()
    assert np.isnan(figure.axes[1].patches[1].get_width())


def test_the_ranking_of_suspects_shows_the_share_of_changed_among_the_first():
    flipped = np.arange(100) < 20
    quality = np.where(np.arange(100) < 10, 0.1, 0.5)  # the first ten are most suspect, and changed
    suspects = SimpleNamespace(flagged=np.arange(100) < 40, quality=quality)
    bars = pd.DataFrame({"value": [0.5], "low": [0.4], "high": [0.6]}, index=["fear"])
    figure = plots.suspect_ranking(flipped, suspects, bars)
    curve = figure.axes[0].lines[0].get_ydata()
    assert curve[9] == 1 and curve[99] == pytest.approx(0.2)
    assert any("(40)" in text for text in texts(figure))
