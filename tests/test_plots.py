import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from fer_helpers import confidence, failures, plots
from fer_helpers.emotions import EMOTIONS
from fer_helpers.evaluation import calibration_bins, evaluate
from fer_helpers.models import create_model
from fer_helpers.runs import predict_table

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


# --- notebook 06


@pytest.fixture(scope="module")
def answers(faces):
    table = predict_table(create_model("simple_cnn", 7, seed=0), faces)
    return failures.describe_answers(table, faces)


def test_the_failure_gallery_shows_the_images_asked_for_in_their_order(answers, faces):
    test = faces.only("test")
    wrong = failures.filter_failures(answers).index[:5]
    figure = plots.failure_gallery(answers.assign(copies=1, support=0.25), test.images, wrong, "title")
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]
    by_id = dict(zip(test.ids, test.images.numpy(), strict=True))
    assert all(np.array_equal(image, by_id[name]) for image, name in zip(shown, wrong, strict=True))
    row = answers.loc[wrong[0]]
    assert f"{row['true']}\n→ {row['predicted']}\n{row['confidence']:.0%} · 25% ©" in texts(figure)


def test_the_browser_draws_what_its_menus_choose(answers, faces, capsys):
    browser = plots.failure_browser(answers, faces.only("test").images, limit=3)
    *menus, _ = browser.children
    assert {menu.description for menu in menus} == {"true", "predicted", "confidence", "support", "copies"}
    wrong = answers[~answers["correct"]]
    assert set(menus[0].options) == {"any", *answers["true"]}
    assert set(wrong["predicted"]) <= set(menus[1].options)
    browser.f(**{menu.description: menu.value for menu in menus})
    assert f"{len(wrong)} errors match, the surest 3 shown" in capsys.readouterr().out
    assert len([axis for axis in plt.gcf().axes if axis.images]) == 3
    browser.f(true=wrong["true"].iloc[0], predicted="any", confidence=(0, 0), support=(0, 1), copies="any")
    assert "0 errors match" in capsys.readouterr().out


def test_attribution_colours_are_centred_at_zero_and_stand_beside_their_face(faces):
    maps = {"one": torch.randn(3, 48, 48), "two": torch.zeros(3, 48, 48)}
    figure = plots.attributions(faces.images[:3], maps, list("abc"), columns=2)
    drawn = [axis for axis in figure.axes if axis.images]
    assert len(drawn) == 9
    by_face = [np.asarray(axis.images[0].get_array()) for axis in drawn]
    assert all(np.array_equal(by_face[3 * k + place], faces.images[k].numpy()) for k in range(3) for place in range(3))
    limits = [axis.images[1].get_clim() for axis in drawn if len(axis.images) == 2]
    assert len(limits) == 6 and all(low == -high and high > 0 for low, high in limits)


def test_figures_of_no_face_are_empty_but_there(faces):
    none = torch.empty(0, 48, 48)
    for figure in (plots.gallery(faces.images[:0]), plots.attributions(faces.images[:0], {"one": none}, [])):
        figure.canvas.draw()
        assert not any(axis.images for axis in figure.axes)


def test_the_focus_figure_marks_chance_and_tells_right_from_wrong():
    table = pd.DataFrame([(method, answers, measure, 0.2, 0.1, 2.0, 1.5, 2.5, 9) for method in ("a", "b")
                          for answers in ("right", "wrong") for measure in ("energy", "pointing game")],
                         columns=["method", "answers", "measure", "inside", "chance", "value", "low", "high", "images"])
    figure = plots.focus(table)
    assert {"a", "b", "energy", "pointing game", "right answers", "wrong answers"} <= set(texts(figure))
    assert all(any(np.allclose(line.get_xdata(), 1) for line in axis.lines) for axis in figure.axes)


def test_calibration_before_and_after_and_the_coverage_curve_draw_their_numbers():
    random = np.random.default_rng(0)
    labels, probs = random.integers(0, 7, 200), random.dirichlet(np.ones(7) / 3, 200)
    figure = plots.reliabilities(labels, {"before": probs, "after": confidence.rescale(probs, 2)})
    assert [axis.get_title(loc="left") for axis in figure.axes[:2]] == ["before", "after"]
    for axis, values in zip(figure.axes, (probs, confidence.rescale(probs, 2)), strict=False):
        assert np.allclose(axis.lines[1].get_ydata(), calibration_bins(labels, values)["accuracy"])
    curve, points = confidence.risk_coverage(labels, probs), confidence.selective_accuracy(probs, labels, probs)
    axis = plots.selective(curve, points).axes[0]
    assert np.isclose(axis.lines[1].get_ydata()[-1], (probs.argmax(1) == labels).mean())
    assert "threshold from validation, 95% interval" in texts(axis.figure)


def test_grown_confusions_are_numbered_only_where_they_are_sure():
    rows = [(region, true, predicted, 0.3 if sure else 0.1, 0.01 if sure else 0.9)
            for region in ("eyes", "mouth") for true in "abc" for predicted in "abc" if true != predicted
            for sure in [(region, true, predicted) == ("mouth", "a", "b")]]
    figure = plots.grown_confusions(pd.DataFrame(rows, columns=["region", "true", "predicted", "value", "p_holm"]),
                                    "abc")
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["eyes hidden", "mouth hidden"]
    numbers = [[text.get_text() for text in axis.texts if text.get_text()] for axis in figure.axes]
    assert numbers == [[], ["+30"]]
