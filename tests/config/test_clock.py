"""Clocks: business time that runs fast, stands still, or is wrong on purpose."""

import pytest

from config.clock import ManualClock, RealClock, ScaledClock


def test_a_scaled_clock_stands_at_its_start_before_the_origin() -> None:
    clock = ScaledClock(origin_unix=4e12, start_s=1_000, factor=100.0)
    assert clock.now_s() == 1_000


def test_processes_with_the_same_three_numbers_read_the_same_time() -> None:
    origin = RealClock().now_s() - 10
    one, two = (ScaledClock(float(origin), 1_000_000, 60.0) for _ in range(2))
    first, second, third = one.now_s(), two.now_s(), one.now_s()
    assert first <= second <= third
    assert 1_000_000 + 10 * 60 <= first < 1_000_000 + 3_600


@pytest.mark.parametrize(("factor", "business_s", "real_s"), [(1.0, 60, 60.0), (60.0, 60, 1.0), (0.5, 60, 120.0)])
def test_waiting_is_scaled(factor: float, business_s: float, real_s: float) -> None:
    assert ScaledClock(0.0, 0, factor).real_seconds(business_s) == real_s


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(5)
    clock.advance(10)
    assert (clock.now_s(), clock.monotonic_s()) == (15, 15.0)
    clock.set(3)
    assert clock.now_s() == 3


def test_real_time_is_whole_seconds_of_this_century() -> None:
    clock = RealClock()
    assert isinstance(clock.now_s(), int)
    assert 946_684_800 < clock.now_s() < 4_102_444_800
    assert clock.monotonic_s() <= clock.monotonic_s()
