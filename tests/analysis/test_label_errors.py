import numpy as np
import pytest
import torch

from fer_helpers.analysis import label_errors
from fer_helpers.files import FerError


def separable(count=900):
    """Features that tell the class of 3, under a little noise."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, count)
    return np.eye(3)[labels] @ random.standard_normal((3, 120)) + 0.3 * random.standard_normal((count, 120)), labels


def test_labels_changed_on_purpose_are_found_where_the_features_tell_the_class():
    features, labels = separable()
    noisy, flipped = label_errors.flip_labels(labels, 0.1, 3)
    suspects = label_errors.doubtful_labels(features, noisy, np.arange(900))
    table = label_errors.detection(flipped, suspects.flagged)
    assert table.loc["precision", "low"] > 0.6 and table.loc["recall", "value"] > 0.9
    assert table.loc["guessing", "value"] == pytest.approx(0.1) and table.loc["recall", "images"] == 90
    assert set(np.argsort(suspects.quality)[:20]) <= set(np.flatnonzero(flipped))
    assert (suspects.suggestion[flipped] == labels[flipped]).mean() > 0.9


def test_a_copy_does_not_vouch_for_its_own_label():
    random = np.random.default_rng(0)
    features = np.repeat(random.standard_normal((150, 120)), 2, 0)  # noise, every image twice
    labels = np.repeat(np.r_[np.arange(150) % 3], 2)
    together = label_errors.doubtful_labels(features, labels, np.repeat(np.arange(150), 2))
    apart = label_errors.doubtful_labels(features, labels, np.arange(300))
    assert (together.suggestion == labels).mean() < 0.5 < 0.8 < (apart.suggestion == labels).mean()


def test_flipping_changes_exactly_the_marked_labels():
    labels = torch.arange(7).repeat(100).numpy()
    noisy, flipped = label_errors.flip_labels(labels, 0.05, 7)
    assert flipped.sum() == 35 and np.array_equal(noisy != labels, flipped)
    assert noisy.min() >= 0 and noisy.max() <= 6
    with pytest.raises(FerError, match="share=1 must"):
        label_errors.flip_labels(labels, 1, 7)
