import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_helpers.metrics import intervals
from fer_helpers.metrics.intervals import Estimate


def test_estimates_print_with_their_interval():
    estimate = Estimate(0.652, 0.636, 0.668)
    assert str(estimate) == "0.652 [0.636, 0.668]" and estimate.percent == "65.2% [63.6, 66.8]"


def test_shares_have_the_interval_of_wilson_and_empty_groups_are_left_out():
    table = intervals.share_table({"some": np.arange(40) < 10, "none": np.zeros(0, bool)})
    assert list(table.index) == ["some"]
    assert table.loc["some"].tolist() == pytest.approx([0.25, 0.14187, 0.40194, 40], abs=1e-4)
    assert intervals.wilson(0, 0) == Estimate(0, 0, 1)


def test_a_difference_of_shares_is_as_in_newcombes_example():
    # Newcombe (1998), table II: 56/70 against 48/80, method 10: 0.2 with 0.0524 to 0.3339
    gap = intervals.difference(intervals.wilson(48, 80), intervals.wilson(56, 70))
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    random = np.random.default_rng(0)
    found = [intervals.bootstrap_mean(random.exponential(1, 150), 1000) for _ in range(60)]
    assert 51 <= sum(interval.low <= 1 <= interval.high for interval in found) <= 60
    assert all(interval.high - interval.low < 0.5 for interval in found)


def test_holm_gives_the_textbook_values_and_keeps_the_shape():
    # scipy has no Holm; R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    adjusted = intervals.holm(np.array([[0.01, 0.04], [0.03, 0.005]]))
    assert np.allclose(adjusted, [[0.03, 0.06], [0.06, 0.02]])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_raises_p_values_and_keeps_their_order(values):
    values = np.array(values)
    adjusted = intervals.holm(values)
    assert (adjusted >= values).all() and (adjusted <= 1).all()
    order = np.argsort(values)
    assert (np.diff(adjusted[order]) >= 0).all()
