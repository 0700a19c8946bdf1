
import numpy as np
import pytest

from fer_helpers.analysis import baselines, label_errors
from fer_helpers.data.synthetic import make_faces
from fer_helpers.files import FerError
from fer_helpers.metrics.evaluation import compare, evaluate


@pytest.fixture(scope="module")
def drawn():
    return make_faces(400, test=100, copies=0.2, seed=3)


def test_a_classical_baseline_learns_what_is_linear(faces):
    test = faces.split == "test"
    probs = baselines.predict(baselines.eigenface_regression(20), baselines.pixels(faces.images), faces, ~test, test)
    result = evaluate(faces.labels.numpy()[test], probs, faces.classes)
    assert result.accuracy.low > result.majority.high and result.count == 42


def test_gradient_histograms_see_directions_and_no_brightness(faces):
    image = faces.images[:4]
    features = baselines.hog_features(image)
    assert features.shape == (4, 800) and features.dtype == np.float32
    assert np.allclose(baselines.hog_features(image // 2 + 60), features, atol=0.15)
    assert not np.allclose(baselines.hog_features(image.transpose(1, 2)), features, atol=0.15)
    assert baselines.hog_features(image[:0]).shape == (0, 800)


@pytest.mark.parametrize("model", [baselines.eigenface_neighbour(20), baselines.hog_svm(20),
                                   baselines.hog_regression(20)])
def test_every_model_gives_probabilities_in_the_order_of_the_classes(model, faces):
    test = faces.split == "test"
    train = ~test & (faces.labels.numpy() != 2)  # a class without train images gets nothing
    probs = baselines.predict(model, baselines.pixels(faces.images), faces, train, test)
    assert probs.shape == (42, 7) and np.allclose(probs.sum(1), 1) and (probs[:, 2] == 0).all()
    labels = faces.labels.numpy()[test]
    assert (probs.argmax(1) == labels)[labels != 2].mean() > 0.8


def test_features_of_other_images_and_too_few_images_are_refused(faces):
    grey = baselines.pixels(faces.images)
    test = faces.split == "test"
    with pytest.raises(FerError, match="153 rows of features for 154 images"):
        baselines.predict(baselines.hog_svm(), grey[1:], faces, ~test, test)
    with pytest.raises(FerError, match="112 images are too few for 150 principal components"):
        baselines.predict(baselines.hog_svm(), grey, faces, ~test, test)
    with pytest.raises(FerError, match="too few for 100"):
        label_errors.doubtful_labels(grey, faces.labels.numpy(), faces.groups, folds=2)
    with pytest.raises(FerError, match="a class has 1 images, too few for 5 folds"):
        label_errors.doubtful_labels(grey[:3], np.array([0, 0, 1]), np.arange(3))


def test_the_baselines_answer_every_test_image_and_bear_unknown_statistics(drawn):
    statistics = np.random.default_rng(0).standard_normal((500, 3))
    statistics[5, 1] = np.nan
    scores_of = baselines.classical_baselines(drawn, statistics, baselines.hog_features(drawn.images))
    assert len(scores_of) == 4 and all(probs.shape == (100, 7) for probs in scores_of.values())
    assert all(np.allclose(probs.sum(1), 1) for probs in scores_of.values())
    right = {name: (probs.argmax(1) == drawn.only("test").labels.numpy()).mean() for name, probs in scores_of.items()}
    assert right["HOG + linear SVM"] > right["image statistics + logistic regression"]


def test_every_pair_is_compared_once_from_its_better_side():
    answers = {"a": np.arange(300) % 3 > 0, "b": np.ones(300, bool), "c": np.arange(300) % 3 > 0}
    table = baselines.compare_all(answers)
    assert len(table) == 3 and set(table["better"][:2]) == {"b"} and (table["value"] >= 0).all()
    assert table["value"][0] == pytest.approx(1 / 3) and table["p"][2] == 1
    assert table["p"][0] == pytest.approx(3 * compare(answers["b"], answers["a"]).p_value)
