
import numpy as np
import pandas as pd
import pytest
from conftest import texts

from fer_helpers.data.emotions import EMOTIONS
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
    figure = plots.set_title(plots.confusion(scores), "fear is called surprise")
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


def test_mean_faces_are_those_of_the_class_and_differences_are_from_their_mean(faces):
    axes = plots.mean_faces(faces).axes
    means = [faces.images[faces.labels == label].float().mean(0) for label in range(7)]
    for label, name in enumerate(faces.classes):
        assert axes[label].get_title() == name
        np.testing.assert_allclose(axes[label].images[0].get_array(), means[label], atol=1e-3)
        np.testing.assert_allclose(axes[7 + label].images[0].get_array(), means[label] - sum(means) / 7, atol=1e-3)


def test_the_history_draws_each_column_and_marks_the_chosen_epoch():
    table = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "val_loss": [1.1, 0.7], "lr": [0.1, 0.0],
                          "train_accuracy": [0.3, 0.5], "val_accuracy": [0.2, 0.4], "grad_norm": [1.5, 2.0]})
    figure = plots.history(table, 2, 0.25)
    drawn = [[list(line.get_ydata()) for line in axis.get_lines()[:-1]] for axis in figure.axes]
    loss, accuracy = ([list(table[f"{part}_{what}"]) for part in ("train", "val")] for what in ("loss", "accuracy"))
    assert drawn == [loss, [*accuracy, [0.25, 0.25]], [list(table["lr"])], [list(table["grad_norm"])]]
    assert all(list(axis.get_lines()[-1].get_xdata()) == [2, 2] for axis in figure.axes)


@pytest.mark.parametrize(("options", "shown"), [({}, "12.5%"), ({"percent": False, "center": 0}, "0.12")])
def test_a_heatmap_prints_every_number(options, shown):
    table = pd.DataFrame(np.eye(3) / 8, index=list("abc"), columns=list("xyz"))
    found = texts(plots.heatmap(table, **options))
    assert found.count(shown) == 3 and set("abcxyz") <= set(found)


def test_reliability_draws_accuracy_at_each_confidence():
    labels = np.repeat(np.arange(2), 50)
    probs = np.where(np.arange(100)[:, None] % 5 == 0, [[0.1, 0.9]], [[0.9, 0.1]])
    above, below = plots.reliability(labels, {"some": probs}).axes
    line, = (line for line in above.get_lines() if line.get_label() != "perfectly calibrated")
    assert list(line.get_xdata()) == pytest.approx([0.9]) and list(line.get_ydata()) == pytest.approx([0.5])
    assert sum(bar.get_height() for bar in below.patches) == 100 and above.get_title(loc="left") == "some"


def test_bars_and_points_have_the_length_and_the_interval_of_their_row():
    table = pd.DataFrame({"value": [0.1, 0.2], "low": [0.0, 0.15], "high": [0.3, 0.4]}, index=["fear", "other"])
    axis, = plots.bars_with_intervals(table, "x").axes
    assert [bar.get_width() for bar in axis.patches] == [0.2, 0.1]
    ends = [segment[:, 0].tolist() for segment in axis.collections[0].get_segments()]
    assert ends == [pytest.approx([0.15, 0.4]), pytest.approx([0.0, 0.3])]


def test_lines_leave_out_what_is_missing_and_keep_the_colours_of_emotions():
    axis, = plots.lines(pd.DataFrame({"fear": [1.0, 2], "x": [2.0, np.nan]}), "a", "b", log=True).axes
    fear, other = axis.get_lines()
    assert list(fear.get_ydata()) == [1, 2] and list(other.get_xdata()) == [0] and axis.get_yscale() == "log"
    assert fear.get_color() == plots.COLORS["fear"] and (axis.get_xlabel(), axis.get_ylabel()) == ("a", "b")


def test_distributions_have_a_box_around_the_middle_half_of_each_class():
    table = pd.DataFrame({"class": ["fear", "anger"] * 50, "v": np.arange(100.0)})
    axis, = plots.distributions(table, ["v"]).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["anger", "fear"]
    for box, name in zip(axis.patches, ("anger", "fear"), strict=True):
        own = table.loc[table["class"] == name, "v"]
        across = box.get_path().vertices[:, 0]
        assert (across.min(), across.max()) == pytest.approx(tuple(own.quantile([0.25, 0.75])))
