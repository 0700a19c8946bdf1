import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from fer_helpers import plots
from fer_helpers.dynamics import FirstSteps
from fer_helpers.emotions import EMOTIONS
from fer_helpers.evaluation import evaluate
from fer_helpers.rates import RateRange

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


# --- notebook 03


def test_accuracy_against_cost_has_a_panel_per_cost_and_a_name_per_network():
    table = pd.DataFrame({"arch": ["small", "big", "big"], "test_accuracy": [0.5, 0.3, 0.4], "majority": 0.25,
                          "test_low": [0.4, 0.2, 0.3], "test_high": [0.6, 0.4, 0.5], "size": [1e3, 1e6, 1e6],
                          "time": [1.0, 20, 21]})
    figure = plots.against(table, {"size": "parameters", "time": "seconds"}, "arch")
    assert [axis.get_xlabel() for axis in figure.axes] == ["parameters", "seconds"]
    assert all(axis.get_xscale() == "log" for axis in figure.axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["small", "big"]


def test_depth_is_drawn_on_the_scale_of_the_quantity():
    table = pd.DataFrame({"signal": [1, 0.1, 1e-4], "distinct": [0.9, 0.0, 0.1]})
    figure = plots.through_depth({"a": table, "b": table}, {"signal": "s", "distinct": "d"})
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "linear"]
    assert len(figure.axes[1].lines) == 2 and len(figure.axes[1].lines[0].get_xdata()) == 3


def test_the_first_steps_show_the_loss_of_every_training_over_its_gradients():
    training = FirstSteps(pd.DataFrame({"rate": 0.1, "loss": [1.8, 1.7, 1.6]}, index=[1, 2, 3]),
                          pd.DataFrame(np.array([[1, 0], [1, 2], [1, 3.0]]), index=[1, 2, 3], columns=[1, 2]), None)
    figure = plots.first_steps({"plain": training, "normalised": training}, 1.79)
    above, *below = figure.axes
    assert len(above.lines) == 3 and [axis.get_title(loc="left") for axis in below] == ["plain", "normalised"]
    assert [len(line.get_xdata()) for line in below[0].lines] == [1, 2, 2]  # a gradient of zero has no logarithm


# --- notebook 04


def test_what_was_not_measured_here_is_hatched_in_the_waterfall():
    steps = pd.DataFrame({"step": ["as reported", "one"], "test_accuracy": [0.14, 0.5], "test_low": [np.nan, 0.4],
                          "test_high": [np.nan, 0.6], "majority": 0.25})
    figure = plots.waterfall(steps)
    assert [bool(bar.get_hatch()) for bar in figure.axes[0].patches] == [True, False]
    heights = {text.get_text(): text.xy[1] for text in figure.axes[0].texts}
    assert heights == {"14.0%": 0.14, "50.0%": 0.6} and set(heights) <= set(texts(figure))


def test_the_range_test_names_the_suggested_rate():
    table = pd.DataFrame({"loss": [1.8, 1.0, 5.0], "smoothed": [1.8, 1.2, 3.0]}, index=[1e-4, 1e-2, 1.0])
    figure = plots.rate_ranges({"sgd": RateRange(table, 1e-3)})
    assert figure.axes[0].get_title(loc="left") == "sgd: 0.001" and figure.axes[0].get_ylim()[1] < 5


def test_rate_sensitivity_has_a_line_per_optimizer_and_names_the_factors():
    table = pd.DataFrame({"optimizer": ["sgd"] * 3 + ["adam"] * 3, "factor": [1 / 3, 1, 3] * 2, "majority": 0.25,
                          "val_accuracy": 0.5, "val_low": 0.4, "val_high": 0.6})
    found = texts(plots.rate_sensitivity(table))
    assert {"⅓×", "1×", "3×", "sgd", "adam"} <= set(found)


def test_a_collapse_shows_as_one_colour_beside_the_true_shares(scores):
    labels = np.repeat(np.arange(7), 20)
    one = evaluate(labels, np.eye(7)[np.full(140, 3)], EMOTIONS)
    figure = plots.collapse({"collapsed": one, "other": scores})
    widths = {name: [bar.get_width() for bar in bars] for name, bars in
              zip(EMOTIONS, figure.axes[0].containers, strict=True)}
    assert widths["happiness"] == pytest.approx([1 / 7, 1, 1 / 7]) and widths["fear"][1] == 0
    assert [bar.get_x() for bar in figure.axes[0].containers[-1]] == pytest.approx([6 / 7, 1, 6 / 7])
    assert {"100%", "the test images"} <= set(texts(figure))
