"""The histogram against numpy's own percentiles: to a thousandth of the value, whatever the values."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulators.load.histogram import Histogram

latencies = st.lists(st.floats(1e-6, 80_000.0), min_size=1, max_size=300)


@given(latencies, st.sampled_from([1.0, 50.0, 90.0, 99.0, 99.9, 100.0]))
def test_a_percentile_is_right_to_a_thousandth(values: list[float], percent: float) -> None:
    made = Histogram()
    made.add(values)
    true = float(np.percentile(values, percent, method="inverted_cdf"))
    assert abs(made.percentile(percent) - true) <= true / 1000 + 1e-6
    assert made.most_s == max(values)
    assert len(made) == len(values)


@given(latencies, latencies)
def test_two_that_are_merged_are_one(first: list[float], second: list[float]) -> None:
    one, other, both = Histogram(), Histogram(), Histogram()
    one.add(first)
    other.add(second)
    both.add(first + second)
    one.merge(other)
    assert one.curve() == both.curve()
    assert one.most_s == both.most_s


def test_what_is_no_latency_is_not_counted() -> None:
    made = Histogram()
    made.add([float("nan"), 1.0, -1.0])
    assert len(made) == 2  # a clock may be set back a little: that is no time at all
    assert made.percentile(1) == 0.0
    assert Histogram().as_json() == {"count": 0}
    assert np.isnan(Histogram().percentile(50))


def test_what_is_told_is_in_milliseconds() -> None:
    made = Histogram()
    made.add(np.arange(1, 1001) / 1000)
    told = made.as_json()
    assert told["count"] == 1000
    assert abs(told["p50"] - 500) < 1
    assert abs(told["p99"] - 990) < 1.5
    assert told["max"] == 1000.0
