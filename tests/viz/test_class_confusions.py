import numpy as np
import pandas as pd
import pytest
from conftest import texts

from fer_helpers.analysis import published
from fer_helpers.data.emotions import EMOTIONS
from fer_helpers.viz import class_confusions

pytestmark = pytest.mark.usefixtures("figure_style")


def test_the_confusion_figure_states_every_rate_and_count(scores):
    found = texts(class_confusions.confusion(scores))
    for row in range(7):
        assert f"{scores.confusion[row, row] / 20:.0%}" in found
    assert sum(f"n={count}" in text for text in found for count in set(scores.confusion.flat)) >= 49


def test_published_and_reproduced_rates_stand_one_above_the_other():
    theirs = published.published_matrix("simple_cnn").to_numpy()
    found = {"simple_cnn": published.compare_matrices("simple_cnn", [theirs[:, [1, 0, 2, 3, 4, 5]]])}
    figure = class_confusions.beside_published(found, {"simple_cnn": "simple CNN"}, published.CLASSES)
    above, below = ([float(text.get_text()) for text in axis.texts] for axis in figure.axes)
    assert len(above) == 12 and above[:2] == [38, 62] and below[:2] == [62, 38]  # the empty answers are left out
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["simple CNN, published", "simple CNN, again"]


@pytest.fixture
def verdicts():
    return pd.DataFrame({"classes": [3, 3, 6, 6], "true": ["fear", "happiness"] * 2, "count": 3, "of": 20,
                         "predicted": ["happiness", "fear"] * 2, "rate": [0.2, 0.1, 0.15, 0.05], "low": 0.02,
                         "high": 0.3, "even": 0.08, "others": 0.12, "finding": "no difference found"})


def test_the_figure_of_verdicts_has_a_panel_a_setting_and_a_row_a_direction(verdicts):
    figure = class_confusions.pair_verdicts(verdicts)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["3 classes", "6 classes"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["happiness → fear", "fear → happiness"]
    dots = figure.axes[1].collections[1].get_offsets()
    assert np.allclose(sorted(dots[:, 0]), [0.05, 0.15])


def test_each_run_is_a_point():
    table = pd.DataFrame({"arch": ["a", "b", "a"], "accuracy": [0.2, 0.5, 0.6], "value": [0.5, 0.2, 0.1],
                          "low": [0.4, 0.1, 0.05], "high": [0.6, 0.3, 0.2], "images": 50})
    axis = class_confusions.confusion_by_accuracy(table, "fear", "happiness").axes[0]
    points = np.concatenate([box.lines[0].get_xydata() for box in axis.containers])
    assert sorted(map(tuple, points)) == [(0.2, 0.5), (0.5, 0.2), (0.6, 0.1)]


def test_what_a_class_never_seen_is_called_stands_beside_the_votes():
    table = pd.DataFrame({"unseen": ["fear"] * 2 + ["anger"] * 2, "answer": ["anger", "neutral", "fear", "neutral"],
                          "value": [0.7, 0.3, 0.4, 0.6], "low": 0.2, "high": 0.8, "people": [0.1, 0.9, 0.5, 0.5]})
    first, second, empty = class_confusions.unseen_answers(table).axes
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("fear, never seen", "anger, never seen")
    assert [bar.get_width() for bar in first.patches] == [0.3, 0.7] and not empty.axison
    assert first.collections[-1].get_offsets()[:, 0].tolist() == [0.9, 0.1]


def test_looks_and_meaning_label_every_word_and_every_pair():
    table = pd.DataFrame({"first": ["anger", "anger", "fear"], "second": ["fear", "happiness", "happiness"],
                          "look": [1.0, 2, 3], "look_low": 0.5, "look_high": 3.5, "meaning": [1.0, 6, 5]})
    figure = class_confusions.looks_and_meaning({"anger": (2, 6), "fear": (3, 6), "happiness": (8, 6)}, table)
    assert {"anger", "fear", "happiness", "anger, fear", "anger, happiness", "fear, happiness"} <= set(texts(figure))


@pytest.mark.parametrize("seed", range(4))
def test_names_beside_points_cover_no_other_name_where_there_is_room(seed):
    names = list(EMOTIONS[:6])
    pairs = [(a, b) for number, a in enumerate(names) for b in names[number + 1:]]
    random = np.random.default_rng(seed)
    table = pd.DataFrame(pairs, columns=["first", "second"]).assign(
        meaning=random.uniform(0, 8, 15), look=random.uniform(0.5, 1.5, 15))
    table = table.assign(look_low=table["look"] - 0.05, look_high=table["look"] + 0.05)
    figure = class_confusions.looks_and_meaning({name: tuple(random.uniform(2, 7, 2)) for name in names}, table)
    figure.canvas.draw()
    for axis in figure.axes:
        boxes = [text.get_window_extent().padded(-1) for text in axis.texts]
        assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[number + 1:])
