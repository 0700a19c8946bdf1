
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import texts
from matplotlib.colors import to_rgba

from fer_helpers.analysis import dataset_statistics, error_analysis, published
from fer_helpers.data.emotions import EMOTIONS
from fer_helpers.experiments.learning_rates import RateRange
from fer_helpers.metrics import calibration
from fer_helpers.metrics.evaluation import calibration_bins
from fer_helpers.models.factory import create_model
from fer_helpers.training.runs import predict_table
from fer_helpers.transforms import CORRUPTIONS, OCCLUSIONS
from fer_helpers.viz import figures, plots, style

pytestmark = pytest.mark.usefixtures("figure_style")


# --- notebook 01


def test_eigenfaces_have_a_row_a_part_with_the_share_of_each(faces):
    parts = {"all": dataset_statistics.eigenfaces(faces.images, 3),
             "fear": dataset_statistics.eigenfaces(faces.images[:40], 3)}
    figure = figures.eigenfaces(parts)
    found = texts(figure)
    assert {"all", "fear", "mean"} <= set(found) and f"{parts['fear'].explained[1]:.0%}" in found
    shown = [axis.images[0] for axis in figure.axes]
    assert len(shown) == 8 and np.array_equal(shown[6].get_array(), parts["fear"].faces[1])
    assert shown[6].norm.vmin == -shown[6].norm.vmax  # white is no change


def test_bar_panels_share_one_order_and_one_scale_of_shares():
    first = pd.DataFrame({"value": [0.1, 0.2], "low": [0.0, 0.1], "high": [0.2, 0.3]}, index=["fear", "anger"])
    second, bits = first.iloc[::-1] * 3, first * 10
    figure = figures.bar_panels({"a": first, "b": second, "bits": bits}, "share", plain=["bits"], baselines={"b": 0.25})
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
    figure = figures.bar_panels({"a": table, "b": table.drop("y")})
    figure.canvas.draw()
    assert np.isnan(figure.axes[1].patches[1].get_width())


# --- notebook 03


def test_depth_is_drawn_on_the_scale_of_the_quantity():
    table = pd.DataFrame({"signal": [1, 0.1, 1e-4], "distinct": [0.9, 0.0, 0.1]})
    figure = figures.through_depth({"a": table, "b": table}, {"signal": "s", "distinct": "d"})
    assert [axis.get_yscale() for axis in figure.axes] == ["log", "linear"]
    assert len(figure.axes[1].lines) == 2 and len(figure.axes[1].lines[0].get_xdata()) == 3


# --- notebook 04


def test_the_range_test_names_the_suggested_rate():
    table = pd.DataFrame({"loss": [1.8, 1.0, 5.0], "smoothed": [1.8, 1.2, 3.0]}, index=[1e-4, 1e-2, 1.0])
    figure = figures.rate_ranges({"sgd": RateRange(table, 1e-3)})
    assert figure.axes[0].get_title(loc="left") == "SGD: 0.001" and figure.axes[0].get_ylim()[1] < 5
    many = figures.rate_ranges({name: RateRange(table, 1e-3) for name in ("sgd", "adam", "adamw", "rmsprop", "muon")})
    assert len(many.axes) == 5 and many.get_size_inches()[0] * many.dpi <= 1000


def test_no_validation_accuracy_of_the_study_rises_above_the_line():
    hits = published.validation_hits()
    figure = figures.validation_ceiling(hits)
    line, dots = (figure.axes[0].lines[number].get_ydata() for number in (0, 1))
    assert set(line) == {hits["ceiling"].iloc[0]} and list(dots) == list(hits["value"]) and max(dots) < line[0]


def test_published_and_reproduced_rates_stand_one_above_the_other():
    theirs = published.published_matrix("simple_cnn").to_numpy()
    found = {"simple_cnn": published.compare_matrices("simple_cnn", [theirs[:, [1, 0, 2, 3, 4, 5]]])}
    figure = figures.beside_published(found, {"simple_cnn": "simple CNN"}, published.CLASSES)
    above, below = ([float(text.get_text()) for text in axis.texts] for axis in figure.axes)
    assert len(above) == 12 and above[:2] == [38, 62] and below[:2] == [62, 38]  # the empty answers are left out
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["simple CNN, published", "simple CNN, again"]


def test_training_curves_draw_only_what_was_trained_again():
    table = pd.concat([published.published_curves().assign(who="published"), pd.DataFrame(
        {"arch": "vgg19", "who": "seed 0", "epoch": [1, 2], "loss": [0.4, 0.3], "accuracy": 0.4})])
    axis, = figures.training_curves(table, {"simple_cnn": "simple CNN", "vgg19": "VGG19"}).axes
    assert axis.get_title(loc="left") == "VGG19" and [len(line.get_ydata()) for line in axis.lines] == [10, 2]


def test_the_way_out_shows_both_directions_of_every_step():
    directions = (("happiness", "fear"), ("fear", "happiness"))
    table = pd.DataFrame({"step": ["as published", "mended"], "test_accuracy": [0.2, 0.6], "test_low": [0.1, 0.5],
                          "test_high": [0.3, 0.7]})
    for number, (true, predicted) in enumerate(directions):
        for end, shift in (("", 0), (" low", -0.05), (" high", 0.05)):
            table[f"{true} → {predicted}{end}"] = np.array([0.8, 0.1]) - 0.05 * number + shift
    left, right = figures.way_out({"simple CNN": table}, directions).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["as published", "mended"]
    assert [list(line.get_xdata()) for line in right.lines if len(line.get_xdata()) == 2][0] == [0.8, 0.1]
    assert {"happiness called fear", "fear called happiness"} <= set(texts(left.figure))


# --- notebook 05


def test_what_a_class_never_seen_is_called_stands_beside_the_votes():
    table = pd.DataFrame({"unseen": ["fear"] * 2 + ["anger"] * 2, "answer": ["anger", "neutral", "fear", "neutral"],
                          "value": [0.7, 0.3, 0.4, 0.6], "low": 0.2, "high": 0.8, "people": [0.1, 0.9, 0.5, 0.5]})
    first, second, empty = figures.unseen_answers(table).axes
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("fear, never seen", "anger, never seen")
    assert [bar.get_width() for bar in first.patches] == [0.3, 0.7] and not empty.axison
    assert first.collections[-1].get_offsets()[:, 0].tolist() == [0.9, 0.1]


@pytest.fixture
def verdicts():
    return pd.DataFrame({"classes": [3, 3, 6, 6], "true": ["fear", "happiness"] * 2, "count": 3, "of": 20,
                         "predicted": ["happiness", "fear"] * 2, "rate": [0.2, 0.1, 0.15, 0.05], "low": 0.02,
                         "high": 0.3, "even": 0.08, "others": 0.12, "finding": "no difference found"})


def test_the_figure_of_verdicts_has_a_panel_a_setting_and_a_row_a_direction(verdicts):
    figure = figures.pair_verdicts(verdicts)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["3 classes", "6 classes"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["happiness → fear", "fear → happiness"]
    dots = figure.axes[1].collections[1].get_offsets()
    assert np.allclose(sorted(dots[:, 0]), [0.05, 0.15])


def test_each_run_is_a_point():
    table = pd.DataFrame({"arch": ["a", "b", "a"], "accuracy": [0.2, 0.5, 0.6], "value": [0.5, 0.2, 0.1],
                          "low": [0.4, 0.1, 0.05], "high": [0.6, 0.3, 0.2], "images": 50})
    axis = figures.confusion_by_accuracy(table, "fear", "happiness").axes[0]
    points = np.concatenate([box.lines[0].get_xydata() for box in axis.containers])
    assert sorted(map(tuple, points)) == [(0.2, 0.5), (0.5, 0.2), (0.6, 0.1)]


def test_heatmaps_share_one_scale_and_print_percent():
    tables = {"one": pd.DataFrame(np.eye(2), list("ab"), list("ab")), "two": pd.DataFrame(0.25 * np.ones((2, 2)))}
    figure = figures.heatmaps(tables)
    assert {axis.collections[0].norm.vmax for axis in figure.axes} == {100}
    found = texts(figure)
    assert found.count("25") == 4 and found.count("100") == 2 and {"one", "two"} <= set(found)


def test_changed_rates_show_both_halves_of_every_confusion():
    table = pd.DataFrame({"lower": [0.4, 0.1], "lower_low": 0.05, "lower_high": 0.5, "upper": [0.2, 0.1],
                          "upper_low": 0.05, "upper_high": 0.3}, index=["a → b", "b → a"])
    figure = figures.rate_changes(table, "unclear", "clear")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b → a", "a → b"]
    assert {"unclear", "clear"} <= set(texts(figure))


def test_looks_and_meaning_label_every_word_and_every_pair():
    table = pd.DataFrame({"first": ["anger", "anger", "fear"], "second": ["fear", "happiness", "happiness"],
                          "look": [1.0, 2, 3], "look_low": 0.5, "look_high": 3.5, "meaning": [1.0, 6, 5]})
    figure = figures.looks_and_meaning({"anger": (2, 6), "fear": (3, 6), "happiness": (8, 6)}, table)
    assert {"anger", "fear", "happiness", "anger, fear", "anger, happiness", "fear, happiness"} <= set(texts(figure))


@pytest.mark.parametrize("seed", range(4))
def test_names_beside_points_cover_no_other_name_where_there_is_room(seed):
    names = list(EMOTIONS[:6])
    pairs = [(a, b) for number, a in enumerate(names) for b in names[number + 1:]]
    random = np.random.default_rng(seed)
    table = pd.DataFrame(pairs, columns=["first", "second"]).assign(
        meaning=random.uniform(0, 8, 15), look=random.uniform(0.5, 1.5, 15))
    table = table.assign(look_low=table["look"] - 0.05, look_high=table["look"] + 0.05)
    figure = figures.looks_and_meaning({name: tuple(random.uniform(2, 7, 2)) for name in names}, table)
    figure.canvas.draw()
    for axis in figure.axes:
        boxes = [text.get_window_extent().padded(-1) for text in axis.texts]
        assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[number + 1:])


# --- notebook 06


@pytest.fixture(scope="module")
def answers(faces):
    table = predict_table(create_model("simple_cnn", 7, seed=0), faces)
    return error_analysis.describe_answers(table, error_analysis.describe_pictures(faces))


def test_the_failure_gallery_shows_the_images_asked_for_in_their_order(answers, faces):
    test = faces.only("test")
    wrong = answers.index[~answers["correct"]][:5]
    figure = figures.failure_gallery(answers.assign(support=0.25), test.images, wrong)
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]
    by_id = dict(zip(test.ids, test.images.numpy(), strict=True))
    assert all(np.array_equal(image, by_id[name]) for image, name in zip(shown, wrong, strict=True))
    row = answers.loc[wrong[0]]
    assert f"{row['true']} →\n{row['predicted']}, {row['confidence']:.0%}\nlabel backed 25%" in texts(figure)


def test_attribution_colours_are_centred_at_zero_and_stand_beside_their_face(faces):
    maps = {"one": torch.randn(3, 48, 48), "two": torch.zeros(3, 48, 48)}
    figure = figures.attributions(faces.images[:3], maps, list("abc"), columns=2)
    drawn = [axis for axis in figure.axes if axis.images]
    assert len(drawn) == 9
    by_face = [np.asarray(axis.images[0].get_array()) for axis in drawn]
    assert all(np.array_equal(by_face[3 * k + place], faces.images[k].numpy()) for k in range(3) for place in range(3))
    limits = [axis.images[1].get_clim() for axis in drawn if len(axis.images) == 2]
    assert len(limits) == 6 and all(low == -high and high > 0 for low, high in limits)


def test_figures_of_no_face_are_empty_but_there(faces):
    none = torch.empty(0, 48, 48)
    for figure in (plots.gallery(faces.images[:0]), figures.attributions(faces.images[:0], {"one": none}, [])):
        figure.canvas.draw()
        assert not any(axis.images for axis in figure.axes)


def test_the_focus_figure_marks_chance_and_tells_right_from_wrong():
    table = pd.DataFrame([(method, answers, measure, 0.2, 0.1, 2.0, 1.5, 2.5, 9) for method in ("a", "b")
                          for answers in ("right", "wrong") for measure in ("energy", "pointing game")],
                         columns=["method", "answers", "measure", "inside", "chance", "value", "low", "high", "images"])
    figure = figures.focus(table)
    assert {"a", "b", "energy", "pointing game", "right answers", "wrong answers"} <= set(texts(figure))
    assert all(any(np.allclose(line.get_xdata(), 1) for line in axis.lines) for axis in figure.axes)


def test_calibration_before_and_after_and_the_coverage_curve_draw_their_numbers():
    random = np.random.default_rng(0)
    labels, probs = random.integers(0, 7, 200), random.dirichlet(np.ones(7) / 3, 200)
    figure = plots.reliability(labels, {"before": probs, "after": calibration.rescale(probs, 2)})
    assert [axis.get_title(loc="left") for axis in figure.axes[:2]] == ["before", "after"]
    for axis, values in zip(figure.axes, (probs, calibration.rescale(probs, 2)), strict=False):
        assert np.allclose(axis.lines[1].get_ydata(), calibration_bins(labels, values)["accuracy"])
    curve, points = calibration.risk_coverage(labels, probs), calibration.selective_accuracy(probs, labels, probs)
    axis = figures.selective(curve, points).axes[0]
    assert np.isclose(axis.lines[1].get_ydata()[-1], (probs.argmax(1) == labels).mean())
    assert "threshold from validation, 95% interval" in texts(axis.figure)


def test_every_corruption_is_a_line_of_one_family_from_the_picture_as_it_is():
    kinds = [*CORRUPTIONS, *OCCLUSIONS]
    table = pd.DataFrame([("none", 0, 0.3), *((name, severity, 0.3 + 0.1 * severity) for name in kinds
                                              for severity in (1, 2))], columns=["corruption", "severity", "error"])
    figure = figures.corruption_lines(table)
    lines = {line.get_label(): line.get_ydata() for axis in figure.axes for line in axis.lines[1:]}
    assert set(lines) == {name.replace("_", " ") for name in kinds}
    assert all(np.allclose(values, [0.7, 0.6, 0.5]) for values in lines.values())


def test_two_rates_stand_in_the_order_of_the_rows_each_with_its_interval():
    table = pd.DataFrame({"a": [0.1, 0.2], "a_low": 0.05, "a_high": 0.3, "b": [0.5, 0.6], "b_low": 0.4, "b_high": 0.9},
                         index=["first", "second"])
    axis, = figures.two_rates(table, {"a": "before", "b": "after"}, "share").axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["second", "first"]
    assert {"before", "after"} <= set(texts(axis.figure)) and axis.get_xlabel() == "share"
    ends = [segment[:, 0].tolist() for part in axis.collections for segment in part.get_segments()]
    assert ends == [pytest.approx([0.05, 0.3])] * 2 + [pytest.approx([0.4, 0.9])] * 2


# --- methods


def test_method_outcomes_have_a_panel_an_outcome_and_colour_what_stands():
    rows = [("plain", "accuracy", 0.4, np.nan, np.nan), ("plain", "ECE", 0.1, np.nan, np.nan),
            ("cbam", "accuracy", 0.45, 0.05, 0.01), ("cbam", "ECE", 0.15, 0.05, 0.01),
            ("focal", "accuracy", 0.41, 0.01, 0.6), ("focal", "ECE", 0.05, -0.05, 0.02)]
    table = pd.DataFrame(rows, columns=["method", "outcome", "value", "difference", "p_holm"])
    table = table.assign(difference_low=table["difference"] - 0.02, difference_high=table["difference"] + 0.02,
                         network="short")
    figure = figures.method_outcomes(table, ["accuracy", "ECE", "mCE"])
    assert len(figure.axes) == 2  # mCE was not measured
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["CBAM", "focal loss"]
    assert {"accuracy\nplain: 40%", "ECE\nplain: 10%"} <= set(texts(figure))

    def colours(axis):
        return [to_rgba(line.get_color()) for line in axis.lines if line.get_marker() == "o"]

    helps, harms, unsure = map(to_rgba, (figures.HELPS, figures.HARMS, style.BASELINE))
    assert colours(figure.axes[0]) == [helps, unsure] and colours(figure.axes[1]) == [harms, helps]
    # A second network has marks of its own beside the first's, and names only where there are two.
    assert "short" not in texts(figure)
    longer = table.assign(network="longer", value=table["value"] + 0.2, p_holm=0.9)
    figure = figures.method_outcomes(pd.concat([table, longer]), ["accuracy"])
    assert {"short", "longer", "accuracy\nplain: 40%, 60%"} <= set(texts(figure))
    assert colours(figure.axes[0]) == [helps, unsure]
    places = {marker: [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_marker() == marker]
              for marker in "oD"}
    assert np.allclose(places["o"], [-0.15, 0.85]) and np.allclose(places["D"], [0.15, 1.15])


def test_label_efficiency_has_a_line_for_each_way_over_the_shares_of_labels():
    table = pd.DataFrame([(share, value, value - 0.02, value + 0.02, way)
                          for way, value in (("SimCLR", 0.4), ("plain", 0.5)) for share in (0.01, 0.1, 1.0)],
                         columns=["share", "value", "low", "high", "way"])
    figure = figures.label_efficiency(table)
    assert {"SimCLR", "plain", "1%", "10%", "100%"} <= set(texts(figure))
    assert [list(container[0].get_ydata()) for container in figure.axes[0].containers] == [[0.4] * 3, [0.5] * 3]
    assert list(figure.axes[0].containers[0][0].get_xdata()) == [0.01, 0.1, 1.0]
