"""The load shapes have their published figures, and registers are exact sums."""

from __future__ import annotations

import numpy as np
import pytest

from simulators import fleet_shapes, profiles

METERS = np.arange(1, 41, dtype=np.uint64)
YEAR_ENDS = 1_767_196_800 + 900 * np.arange(1, 35_041, dtype=np.int64)  # 2026 in Shanghai


def _registers(meters: np.ndarray, ends: np.ndarray, cap_w: float = 0.0, seed: int = 7) -> np.ndarray:
    annual = profiles.annual_kwh(seed, meters)
    caps = np.full(len(meters), cap_w)
    return profiles.registers_wh(fleet_shapes.load(), seed, meters, annual, caps, ends, 900, 28_800)


def test_shapes_have_an_annual_mean_of_one() -> None:
    shapes = fleet_shapes.load()
    assert shapes.traces.shape == (4, 35_040)
    assert shapes.traces.mean(axis=1) == pytest.approx(np.ones(4))
    when = profiles.instants(YEAR_ENDS, 900, 28_800)
    assert shapes.h25[when.month, when.day_type, when.quarter].mean() == pytest.approx(1.0, abs=0.005)
    assert shapes.h0[when.season, when.weekday, when.quarter].mean() == pytest.approx(1.0, abs=0.01)


def test_evening_uses_more_than_the_small_hours() -> None:
    h25 = fleet_shapes.load().h25[0, profiles.WORKDAY]
    assert h25[19 * 4] > 2 * h25[3 * 4]


def test_a_year_of_a_meter_is_its_annual_consumption() -> None:
    registers = _registers(METERS, YEAR_ENDS)
    annual = profiles.annual_kwh(7, METERS)
    assert registers[:, -1] / 1000 / annual == pytest.approx(np.ones(len(METERS)), abs=0.02)


def test_mean_consumption_is_eight_kwh_a_day() -> None:
    assert profiles.annual_kwh(3, np.arange(4000, dtype=np.uint64)).mean() / 365 == pytest.approx(8.0, rel=0.03)


def test_registers_are_the_exact_sums_of_their_intervals() -> None:
    registers = _registers(METERS, YEAR_ENDS[:5000])
    energy = profiles.energy_wh(registers)
    assert energy.dtype == np.int64
    assert (energy >= 0).all()
    assert (np.cumsum(energy, axis=1) == registers).all()


def test_a_meter_draws_the_same_whoever_is_beside_it() -> None:
    alone, among = _registers(METERS[7:8], YEAR_ENDS[:500]), _registers(METERS, YEAR_ENDS[:500])
    assert (alone[0] == among[7]).all()
    assert (_registers(METERS, YEAR_ENDS[:500], seed=8) != among).any()


def test_power_stays_below_the_cap() -> None:
    energy = profiles.energy_wh(_registers(METERS, YEAR_ENDS[:2000], cap_w=1200.0))
    assert energy.max() <= 301  # 1,200 W for a quarter hour, and the floor's one
    assert energy.max() >= 299


@pytest.mark.parametrize(
    ("month", "day", "season"),
    [
        (11, 1, profiles.WINTER),
        (3, 20, profiles.WINTER),
        (3, 21, profiles.TRANSITION),
        (5, 14, profiles.TRANSITION),
        (5, 15, profiles.SUMMER),
        (9, 14, profiles.SUMMER),
        (9, 15, profiles.TRANSITION),
        (10, 31, profiles.TRANSITION),
    ],
)
def test_seasons(month: int, day: int, season: int) -> None:
    assert profiles.season_of(month, day) == season
