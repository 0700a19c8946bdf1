import numpy as np
import pandas as pd
import pytest
from conftest import texts

from fer_helpers.analysis import published
from fer_helpers.experiments.learning_rates import RateRange
from fer_helpers.viz import training

pytestmark = pytest.mark.usefixtures("figure_style")


def test_the_history_draws_each_column_and_marks_the_chosen_epoch():
    table = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "val_loss": [1.1, 0.7], "lr": [0.1, 0.0],
                          "train_accuracy": [0.3, 0.5], "val_accuracy": [0.2, 0.4], "grad_norm": [1.5, 2.0]})
    figure = training.history(table, 2, 0.25)
    drawn = [[list(line.get_ydata()) for line in axis.get_lines()[:-1]] for axis in figure.axes]
    loss, accuracy = ([list(table[f"{part}_{what}"]) for part in ("train", "val")] for what in ("loss", "accuracy"))
    assert drawn == [loss, [*accuracy, [0.25, 0.25]], [list(table["lr"])], [list(table["grad_norm"])]]
    assert all(list(axis.get_lines()[-1].get_xdata()) == [2, 2] for axis in figure.axes)


def test_training_curves_draw_only_what_was_trained_again():
    table = pd.concat([published.published_curves().assign(who="published"), pd.DataFrame(
        {"arch": "vgg19", "who": "seed 0", "epoch": [1, 2], "loss": [0.4, 0.3], "accuracy": 0.4})])
    axis, = training.loss_curves(table, {"simple_cnn": "simple CNN", "vgg19": "VGG19"}).axes
    assert axis.get_title(loc="left") == "VGG19" and [len(line.get_ydata()) for line in axis.lines] == [10, 2]


def test_no_validation_accuracy_of_the_study_rises_above_the_line():
    hits = published.validation_hits()
    figure = training.validation_ceiling(hits)
    line, dots = (figure.axes[0].lines[number].get_ydata() for number in (0, 1))
    assert set(line) == {hits["ceiling"].iloc[0]} and list(dots) == list(hits["value"]) and max(dots) < line[0]


def test_the_way_out_shows_both_directions_of_every_step():
    directions = (("happiness", "fear"), ("fear", "happiness"))
    table = pd.DataFrame({"step": ["as published", "mended"], "test_accuracy": [0.2, 0.6], "test_low": [0.1, 0.5],
                          "test_high": [0.3, 0.7]})
    for number, (true, predicted) in enumerate(directions):
        for end, shift in (("", 0), (" low", -0.05), (" high", 0.05)):
            table[f"{true} → {predicted}{end}"] = np.array([0.8, 0.1]) - 0.05 * number + shift
    left, right = training.way_out({"simple CNN": table}, directions).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["as published", "mended"]
    assert [list(line.get_xdata()) for line in right.lines if len(line.get_xdata()) == 2][0] == [0.8, 0.1]
    assert {"happiness called fear", "fear called happiness"} <= set(texts(left.figure))


def test_the_range_test_names_the_suggested_rate():
    table = pd.DataFrame({"loss": [1.8, 1.0, 5.0], "smoothed": [1.8, 1.2, 3.0]}, index=[1e-4, 1e-2, 1.0])
    figure = training.rate_ranges({"sgd": RateRange(table, 1e-3)})
    assert figure.axes[0].get_title(loc="left") == "SGD: 0.001" and figure.axes[0].get_ylim()[1] < 5
    many = training.rate_ranges({name: RateRange(table, 1e-3) for name in ("sgd", "adam", "adamw", "rmsprop", "muon")})
    assert len(many.axes) == 5 and many.get_size_inches()[0] * many.dpi <= 1000


def test_depth_is_drawn_on_the_scale_of_the_quantity():
    table = pd.DataFrame({"signal": [1, 0.1, 1e-4], "distinct": [0.9, 0.0, 0.1]})
    figure = training.through_depth({"a": table, "b": table}, {"signal": "s", "distinct": "d"})
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "linear"]
    assert len(figure.axes[1].lines) == 2 and len(figure.axes[1].lines[0].get_xdata()) == 3
