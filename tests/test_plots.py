import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fer_helpers import plots
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


# --- notebook 05


@pytest.fixture
def verdicts():
    return pd.DataFrame({"classes": [3, 3, 6, 6], "true": ["fear", "happiness"] * 2, "count": 3, "of": 20,
                         "predicted": ["happiness", "fear"] * 2, "rate": [0.2, 0.1, 0.15, 0.05], "low": 0.02,
                         "high": 0.3, "even": 0.08, "others": 0.12, "finding": "no difference found"})


def test_the_figure_of_verdicts_has_a_panel_a_setting_and_a_row_a_direction(verdicts):
    figure = plots.pair_verdicts(verdicts)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["3 classes", "6 classes"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["happiness → fear", "fear → happiness"]
    dots = figure.axes[1].collections[1].get_offsets()
    assert np.allclose(sorted(dots[:, 0]), [0.05, 0.15])


def test_heatmaps_share_one_scale_and_print_percent():
    tables = {"one": pd.DataFrame(np.eye(2), list("ab"), list("ab")), "two": pd.DataFrame(0.25 * np.ones((2, 2)))}
    figure = plots.heatmaps(tables)
    assert {axis.collections[0].norm.vmax for axis in figure.axes} == {100}
    found = texts(figure)
    assert found.count("25") == 4 and found.count("100") == 2 and {"one", "two"} <= set(found)


def test_changed_rates_show_both_halves_of_every_confusion():
    table = pd.DataFrame({"lower": [0.4, 0.1], "lower_low": 0.05, "lower_high": 0.5, "upper": [0.2, 0.1],
                          "upper_low": 0.05, "upper_high": 0.3}, index=["a → b", "b → a"])
    figure = plots.rate_changes(table, "unclear", "clear")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b → a", "a → b"]
    assert {"unclear", "clear"} <= set(texts(figure))


def test_widths_of_classes_are_drawn_in_their_colours():
    columns = [f"{name}{end}" for name in ("ratio", "silhouette") for end in ("", "_low", "_high")]
    table = pd.DataFrame(0.5, index=["all", "fear"], columns=columns)
    figure = plots.class_widths(table)
    drawn = figure.axes[0].collections[-1].get_facecolors()
    assert [matplotlib.colors.to_hex(color) for color in drawn] == [plots.COLORS["fear"], plots.INK]


def test_looks_and_meaning_label_every_word_and_every_pair():
    table = pd.DataFrame({"first": ["anger", "anger", "fear"], "second": ["fear", "happiness", "happiness"],
                          "look": [1.0, 2, 3], "look_low": 0.5, "look_high": 3.5, "meaning": [1.0, 6, 5]})
    figure = plots.looks_and_meaning({"anger": (2, 6), "fear": (3, 6), "happiness": (8, 6)}, table)
    assert {"anger", "fear", "happiness", "anger, fear", "anger, happiness", "fear, happiness"} <= set(texts(figure))
    sides = {text.get_text(): text.get_ha() for text in figure.axes[0].texts}
    assert sides["anger"] == "right" and sides["fear"] == "left"  # away from each other


def test_agreement_of_distances_is_a_triangle_with_its_p_values():
    table = pd.DataFrame({"first": ["a", "a", "b"], "second": ["b", "c", "c"], "rho": [0.5, -0.25, 1.0],
                          "p_adjusted": [0.3, 0.04, 0.01]})
    found = texts(plots.distance_agreement(table))
    assert {"+0.50\np = 0.3", "-0.25\np = 0.04", "+1.00\np = 0.01"} <= set(found)
