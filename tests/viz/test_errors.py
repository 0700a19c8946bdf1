import numpy as np
import pandas as pd
import pytest
import torch
from conftest import texts

from fer_helpers.analysis import error_analysis
from fer_helpers.metrics import calibration
from fer_helpers.metrics.evaluation import calibration_bins
from fer_helpers.models.factory import create_model
from fer_helpers.training.runs import predict_table
from fer_helpers.transforms import CORRUPTIONS, OCCLUSIONS
from fer_helpers.viz import errors

pytestmark = pytest.mark.usefixtures("figure_style")


def test_extremes_show_what_each_label_got_most_and_least_of(faces):
    given = np.linspace(0, 1, len(faces))
    figure = errors.extremes(faces, given, each=2)
    place = {image.tobytes(): number for number, image in enumerate(faces.images.numpy())}
    rows = np.array([place[np.asarray(axis.images[0].get_array()).tobytes()] for axis in figure.axes if axis.images])
    for label, row in enumerate(rows.reshape(7, 4)):
        own = np.flatnonzero(faces.labels.numpy() == label)
        assert row.tolist() == [own[-1], own[-2], own[0], own[1]]


@pytest.fixture(scope="module")
def answers(faces):
    table = predict_table(create_model("simple_cnn", 7, seed=0), faces)
    return error_analysis.describe_answers(table, error_analysis.describe_pictures(faces))


def test_the_failure_gallery_shows_the_images_asked_for_in_their_order(answers, faces):
    test = faces.only("test")
    wrong = answers.index[~answers["correct"]][:5]
    figure = errors.failure_gallery(answers.assign(support=0.25), test.images, wrong)
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]
    by_id = dict(zip(test.ids, test.images.numpy(), strict=True))
    assert all(np.array_equal(image, by_id[name]) for image, name in zip(shown, wrong, strict=True))
    row = answers.loc[wrong[0]]
    assert f"{row['true']} →\n{row['predicted']}, {row['confidence']:.0%}\nlabel backed 25%" in texts(figure)


def test_reliability_draws_accuracy_at_each_confidence():
    labels = np.repeat(np.arange(2), 50)
    probs = np.where(np.arange(100)[:, None] % 5 == 0, [[0.1, 0.9]], [[0.9, 0.1]])
    above, below = errors.reliability(labels, {"some": probs}).axes
    line, = (line for line in above.get_lines() if line.get_label() != "perfectly calibrated")
    assert list(line.get_xdata()) == pytest.approx([0.9]) and list(line.get_ydata()) == pytest.approx([0.5])
    assert sum(bar.get_height() for bar in below.patches) == 100 and above.get_title(loc="left") == "some"


def test_calibration_before_and_after_and_the_coverage_curve_draw_their_numbers():
    random = np.random.default_rng(0)
    labels, probs = random.integers(0, 7, 200), random.dirichlet(np.ones(7) / 3, 200)
    figure = errors.reliability(labels, {"before": probs, "after": calibration.rescale(probs, 2)})
    assert [axis.get_title(loc="left") for axis in figure.axes[:2]] == ["before", "after"]
    for axis, values in zip(figure.axes, (probs, calibration.rescale(probs, 2)), strict=False):
        assert np.allclose(axis.lines[1].get_ydata(), calibration_bins(labels, values)["accuracy"])
    curve, points = calibration.risk_coverage(labels, probs), calibration.selective_accuracy(probs, labels, probs)
    axis = errors.selective(curve, points).axes[0]
    assert np.isclose(axis.lines[1].get_ydata()[-1], (probs.argmax(1) == labels).mean())
    assert "threshold from validation, 95% interval" in texts(axis.figure)


def test_every_corruption_is_a_line_of_one_family_from_the_picture_as_it_is():
    kinds = [*CORRUPTIONS, *OCCLUSIONS]
    table = pd.DataFrame([("none", 0, 0.3), *((name, severity, 0.3 + 0.1 * severity) for name in kinds
                                              for severity in (1, 2))], columns=["corruption", "severity", "error"])
    figure = errors.corruption_lines(table)
    lines = {line.get_label(): line.get_ydata() for axis in figure.axes for line in axis.lines[1:]}
    assert set(lines) == {name.replace("_", " ") for name in kinds}
    assert all(np.allclose(values, [0.7, 0.6, 0.5]) for values in lines.values())


def test_attribution_colours_are_centred_at_zero_and_stand_beside_their_face(faces):
    maps = {"one": torch.randn(3, 48, 48), "two": torch.zeros(3, 48, 48)}
    figure = errors.attributions(faces.images[:3], maps, list("abc"), columns=2)
    drawn = [axis for axis in figure.axes if axis.images]
    assert len(drawn) == 9
    by_face = [np.asarray(axis.images[0].get_array()) for axis in drawn]
    assert all(np.array_equal(by_face[3 * k + place], faces.images[k].numpy()) for k in range(3) for place in range(3))
    limits = [axis.images[1].get_clim() for axis in drawn if len(axis.images) == 2]
    assert len(limits) == 6 and all(low == -high and high > 0 for low, high in limits)


def test_the_focus_figure_marks_chance_and_tells_right_from_wrong():
    table = pd.DataFrame([(method, answers, measure, 0.2, 0.1, 2.0, 1.5, 2.5, 9) for method in ("a", "b")
                          for answers in ("right", "wrong") for measure in ("energy", "pointing game")],
                         columns=["method", "answers", "measure", "inside", "chance", "value", "low", "high", "images"])
    figure = errors.focus(table)
    assert {"a", "b", "energy", "pointing game", "right answers", "wrong answers"} <= set(texts(figure))
    assert all(any(np.allclose(line.get_xdata(), 1) for line in axis.lines) for axis in figure.axes)
