import dataclasses

import numpy as np
import pytest

from fer_helpers.analysis import baselines, leakage
from fer_helpers.data.synthetic import make_faces


@pytest.fixture(scope="module")
def drawn():
    return make_faces(400, test=100, copies=0.2, seed=3)


def test_a_learner_that_remembers_gains_from_copies_and_loses_it_without_them(drawn):
    grey = baselines.pixels(drawn.images)
    leak = leakage.measure_leak(baselines.eigenface_neighbour(), grey, drawn)
    table = leak.table()
    assert leak.copied.sum() == 20 and table["images"].tolist() == [20, 20, 80, 100]
    assert table.loc["copies of train images", "value"] == pytest.approx(0.9)  # a tenth of the copies is mislabelled
    assert table.loc["the same, originals removed", "value"] < 0.6
    gain = leak.gain()
    assert gain.value == pytest.approx(table["value"]["all test images"] - table["value"]["all others"])
    assert gain.low > 0 and gain.low < gain.value < gain.high


def test_without_copies_there_is_nothing_to_gain(drawn):
    leak = leakage.measure_leak(baselines.eigenface_neighbour(20), baselines.pixels(drawn.clean_test().images),
                                drawn.clean_test())
    assert not leak.copied.any() and list(leak.table().index) == ["all others", "all test images"]
    assert leak.gain().value == leak.gain().low == leak.gain().high == 0


def test_a_copy_in_val_counts_as_a_leak_because_val_is_learned_from_too(drawn):
    split = np.where(np.isin(drawn.groups, drawn.groups[drawn.split == "test"]) & (drawn.split == "train"), "val",
                     drawn.split)
    leak = leakage.measure_leak(baselines.eigenface_neighbour(), baselines.pixels(drawn.images),
                                dataclasses.replace(drawn, split=split))
    assert leak.copied.sum() == 20 and leak.correct[leak.copied].mean() == pytest.approx(0.9)
