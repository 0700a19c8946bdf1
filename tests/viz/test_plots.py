import numpy as np
import pandas as pd
import pytest
import torch
from conftest import texts
from matplotlib.colors import to_rgba

from fer_helpers.viz import class_confusions, errors, plots, style

pytestmark = pytest.mark.usefixtures("figure_style")


def test_a_headline_stands_above_the_panels(scores):
    figure = plots.set_title(class_confusions.confusion(scores), "fear is called surprise")
    assert "Fear is called surprise" in texts(figure)
    box = figure._suptitle.get_window_extent()
    assert all(box.y0 >= axis.get_window_extent().y1 for axis in figure.axes)


def test_the_gallery_shows_exactly_the_given_pixels(faces):
    figure = plots.gallery(faces.images[:10], list("abcdefghij"))
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(shown) == 10 and np.array_equal(shown[3], faces.images[3].numpy())


def test_figures_of_no_face_are_empty_but_there(faces):
    none = torch.empty(0, 48, 48)
    for figure in (plots.gallery(faces.images[:0]), errors.attributions(faces.images[:0], {"one": none}, [])):
        figure.canvas.draw()
        assert not any(axis.images for axis in figure.axes)


def test_lines_leave_out_what_is_missing_and_keep_the_colours_of_emotions():
    axis, = plots.lines(pd.DataFrame({"fear": [1.0, 2], "x": [2.0, np.nan]}), "a", "b").axes
    fear, other = axis.get_lines()
    assert list(fear.get_ydata()) == [1, 2] and list(other.get_xdata()) == [0]
    assert fear.get_color() == style.COLORS["fear"] and (axis.get_xlabel(), axis.get_ylabel()) == ("a", "b")


@pytest.mark.parametrize(("options", "shown"), [({}, "12.5%"), ({"percent": False, "center": 0}, "0.12")])
def test_a_heatmap_prints_every_number(options, shown):
    table = pd.DataFrame(np.eye(3) / 8, index=list("abc"), columns=list("xyz"))
    found = texts(plots.heatmap(table, **options))
    assert found.count(shown) == 3 and set("abcxyz") <= set(found)


def test_heatmaps_share_one_scale_and_print_percent():
    tables = {"one": pd.DataFrame(np.eye(2), list("ab"), list("ab")), "two": pd.DataFrame(0.25 * np.ones((2, 2)))}
    figure = plots.heatmaps(tables)
    assert {axis.collections[0].norm.vmax for axis in figure.axes} == {100}
    found = texts(figure)
    assert found.count("25") == 4 and found.count("100") == 2 and {"one", "two"} <= set(found)


def test_bars_and_points_have_the_length_and_the_interval_of_their_row():
    table = pd.DataFrame({"value": [0.1, 0.2], "low": [0.0, 0.15], "high": [0.3, 0.4]}, index=["fear", "other"])
    axis, = plots.bars_with_intervals(table, "x").axes
    assert [bar.get_width() for bar in axis.patches] == [0.2, 0.1]
    ends = [segment[:, 0].tolist() for segment in axis.collections[0].get_segments()]
    assert ends == [pytest.approx([0.15, 0.4]), pytest.approx([0.0, 0.3])]


def test_bar_panels_share_one_order_and_one_scale_of_shares():
    first = pd.DataFrame({"value": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}, index=["fear", "anger"])
    second, bits = first.iloc[::-1] * 3, first * 10
    figure = plots.bar_panels({"a": first, "b": second, "bits": bits}, "share", plain=["bits"], baselines={"b": 0.25})
    left, middle, right = figure.axes
    assert left.get_xlim() == middle.get_xlim() != right.get_xlim()
    assert [bar.get_width() for bar in middle.patches] == pytest.approx([0.3, 0.6])
    assert [bar.get_facecolor() for bar in left.patches] == [to_rgba(style.COLORS[name]) for name in ("fear", "anger")]
    figure.canvas.draw()
    assert all("%" in label.get_text() for label in left.get_xticklabels())
    assert not any("%" in label.get_text() for label in right.get_xticklabels())
    assert [line.get_xdata()[0] for line in middle.lines if line.get_linestyle() == "--"] == [0.25]
    assert not [line for line in left.lines if line.get_linestyle() == "--"]
    assert figure.get_supxlabel() == "share" and not left.get_xlabel()


def test_a_panel_without_one_of_the_rows_leaves_it_empty():
    table = pd.DataFrame({"value": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}, index=["x", "y"])
    figure = plots.bar_panels({"a": table, "b": table.drop("y")})
    figure.canvas.draw()
    assert np.isnan(figure.axes[1].patches[1].get_width())


def test_two_rates_stand_in_the_order_of_the_rows_each_with_its_interval():
    table = pd.DataFrame({"a": [0.1, 0.2], "a_low": 0.05, "a_high": 0.3, "b": [0.5, 0.6], "b_low": 0.4, "b_high": 0.9},
                         index=["first", "second"])
    axis, = plots.two_rates(table, {"a": "before", "b": "after"}, "share").axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["second", "first"]
    assert {"before", "after"} <= set(texts(axis.figure)) and axis.get_xlabel() == "share"
    ends = [segment[:, 0].tolist() for part in axis.collections for segment in part.get_segments()]
    assert ends == [pytest.approx([0.05, 0.3])] * 2 + [pytest.approx([0.4, 0.9])] * 2
