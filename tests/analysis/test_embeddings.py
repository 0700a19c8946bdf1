import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from fer_helpers.analysis import embeddings
from fer_helpers.data.emotions import EMOTIONS


@pytest.fixture
def clouds():
    """Three classes of 60 points in five dimensions: a and b overlap, c is far from both and narrow."""
    random, labels = np.random.default_rng(0), np.repeat([0, 1, 2], 60)
    centers = np.zeros((3, 5))
    centers[1, 0], centers[2, 1] = 1, 12
    return centers[labels] + random.normal(size=(180, 5)) * np.array([1, 1, 0.5])[labels][:, None], labels


def test_distances_are_measured_in_widths_of_a_class(clouds):
    points, labels = clouds
    looks, scaled = (embeddings.looks_and_meaning(some, labels, EMOTIONS[:3], bootstraps=2)["look"]
                     for some in (points, 7 * points + 3))
    assert np.allclose(looks, scaled, rtol=1e-4)
    flat = np.array([[0.0, 0], [2, 0], [10, 0], [12, 0]])  # both classes: 1 from their mean
    assert embeddings.looks_and_meaning(flat, np.array([0, 0, 1, 1]), EMOTIONS[:2], 2)["look"][0] == pytest.approx(10)


def test_overlapping_classes_are_wide_for_their_distance(clouds):
    points, labels = clouds
    table = embeddings.separation(points, labels, ("a", "b", "c"), bootstraps=100)
    assert table["ratio"].drop("all").idxmin() == "c" and table.loc["a", "nearest"] == "b"
    assert table.loc["a", "silhouette"] < 0.3 < table.loc["c", "silhouette"]
    for name in ("ratio", "silhouette"):
        assert (table[f"{name}_low"] < table[name]).all() and (table[name] < table[f"{name}_high"]).all()


def test_separation_agrees_with_its_definition_wherever_the_cloud_lies(clouds):
    points, labels = clouds
    table = embeddings.separation((points + 1000).astype(np.float32), labels, ("a", "b", "c"), bootstraps=10)
    means = np.stack([points[labels == label].mean(0) for label in range(3)])
    width = np.sqrt(((points[labels == 2] - means[2]) ** 2).sum(1).mean())
    reach = np.linalg.norm(means[:2] - means[2], axis=1).mean()
    assert table.loc["c", "ratio"] == pytest.approx(width / reach, rel=1e-3)
    assert table.loc["all", "silhouette"] == pytest.approx(silhouette_score(points, labels), rel=1e-3)
    assert list(table["images"]) == [180, 60, 60, 60]


def test_pairs_are_ranked_in_looks_and_in_meaning(clouds):
    points, labels = clouds
    classes = ("fear", "surprise", "anger")  # fear and surprise overlap in the cloud, fear and anger in words
    table = embeddings.looks_and_meaning(points, labels, classes, bootstraps=100).set_index(["first", "second"])
    assert np.allclose(table["meaning"], embeddings.word_distances(classes).to_numpy()[[0, 0, 1], [1, 2, 2]])
    assert (table["look_low"] <= table["look"]).all() and (table["look"] <= table["look_high"]).all()
    ranks = ["look_rank", "look_rank_low", "look_rank_high", "meaning_rank"]
    assert list(table.loc[("fear", "surprise"), ranks]) == [1, 1, 1, 2]
    assert list(table.loc[("fear", "anger"), ["look_rank_low", "look_rank_high", "meaning_rank"]]) == [2, 3, 1]


def test_every_emotion_has_a_word_with_valence_and_arousal():
    assert set(embeddings.VALENCE_AROUSAL) == set(EMOTIONS)
    table = embeddings.word_distances(EMOTIONS)
    assert table.loc["fear", "anger"] < table.loc["fear", "happiness"] and np.allclose(np.diag(table), 0)
    valence, arousal = embeddings.VALENCE_AROUSAL["sadness"]
    assert table.loc["sadness", "neutral"] == pytest.approx(np.hypot(valence - 5.5, arousal - 3.45))
