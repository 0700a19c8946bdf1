import numpy as np
import pandas as pd
import pytest
from conftest import texts
from matplotlib.colors import to_rgba

from fer_helpers.viz import comparisons, style

pytestmark = pytest.mark.usefixtures("figure_style")


def test_the_accuracy_figure_shows_both_baselines():
    table = pd.DataFrame({"name": ["a", "b"], "test_accuracy": [0.5, 0.3], "test_low": [0.4, 0.2],
                          "test_high": [0.6, 0.4], "majority": 0.25, "classes": 6})
    found = texts(comparisons.accuracies(table, "name"))
    assert "always the majority class" in found and "chance" in found and {"a", "b"} <= set(found)


def test_method_outcomes_have_a_panel_an_outcome_and_colour_what_stands():
    rows = [("plain", "accuracy", 0.4, np.nan, np.nan), ("plain", "ECE", 0.1, np.nan, np.nan),
            ("cbam", "accuracy", 0.45, 0.05, 0.01), ("cbam", "ECE", 0.15, 0.05, 0.01),
            ("focal", "accuracy", 0.41, 0.01, 0.6), ("focal", "ECE", 0.05, -0.05, 0.02)]
    table = pd.DataFrame(rows, columns=["method", "outcome", "value", "difference", "p_holm"])
    table = table.assign(difference_low=table["difference"] - 0.02, difference_high=table["difference"] + 0.02,
                         network="short")
    figure = comparisons.method_outcomes(table, ["accuracy", "ECE", "mCE"])
    assert len(figure.axes) == 2  # mCE was not measured
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["CBAM", "focal loss"]
    assert {"accuracy\nplain: 40%", "ECE\nplain: 10%"} <= set(texts(figure))

    def colours(axis):
        return [to_rgba(line.get_color()) for line in axis.lines if line.get_marker() == "o"]

    helps, harms, unsure = map(to_rgba, (comparisons.HELPS, comparisons.HARMS, style.BASELINE))
    assert colours(figure.axes[0]) == [helps, unsure] and colours(figure.axes[1]) == [harms, helps]
    # A second network has marks of its own beside the first's, and names only where there are two.
    assert "short" not in texts(figure)
    longer = table.assign(network="longer", value=table["value"] + 0.2, p_holm=0.9)
    figure = comparisons.method_outcomes(pd.concat([table, longer]), ["accuracy"])
    assert {"short", "longer", "accuracy\nplain: 40%, 60%"} <= set(texts(figure))
    assert colours(figure.axes[0]) == [helps, unsure]
    places = {marker: [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_marker() == marker]
              for marker in "oD"}
    assert np.allclose(places["o"], [-0.15, 0.85]) and np.allclose(places["D"], [0.15, 1.15])


def test_label_efficiency_has_a_line_for_each_way_over_the_shares_of_labels():
    table = pd.DataFrame([(share, value, value - 0.02, value + 0.02, way)
                          for way, value in (("SimCLR", 0.4), ("plain", 0.5)) for share in (0.01, 0.1, 1.0)],
                         columns=["share", "value", "low", "high", "way"])
    figure = comparisons.label_efficiency(table)
    assert {"SimCLR", "plain", "1%", "10%", "100%"} <= set(texts(figure))
    assert [list(container[0].get_ydata()) for container in figure.axes[0].containers] == [[0.4] * 3, [0.5] * 3]
    assert list(figure.axes[0].containers[0][0].get_xdata()) == [0.01, 0.1, 1.0]
