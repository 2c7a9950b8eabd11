"""Pure: what households draw over time: published load profiles blended, scaled and disturbed, seeded per meter.

Every shape is relative: its mean over a year is 1. A meter's power is its annual mean times a blend of the
shapes times noise of mean 1, capped by what its connection can carry. Floats live here and end here: what
leaves is the register, the floor of the cumulative energy in Wh, so that any two registers of a meter differ
by exactly what their intervals sum to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

DAY_S: Final = 86_400
QUARTER_S: Final = 900
QUARTERS_A_DAY: Final = 96
QUARTERS_A_YEAR: Final = 35_040
MEAN_KWH_A_DAY: Final = 8.0
SPREAD: Final = 0.45  # sigma of the log of annual consumption: one home in six uses over 1.5 times the mean
NOISE_SHAPE: Final = 3.0  # gamma; standard deviation 58 % of the mean, as one home looks beside a mean of many
CHUNK_METERS: Final = 256
SATURDAY, SUNDAY, WORKDAY = 0, 1, 2  # order of the columns of the BDEW files of 2025
WINTER, TRANSITION, SUMMER = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Shapes:
    """The published profiles, each with an annual mean of 1 (`simulators.fleet_shapes.load`)."""

    h25: Floats  # (12 months, 3 day types, 96): BDEW household 2025
    h0: Floats  # (3 seasons, 7 weekdays, 96): BDEW household 1999
    traces: Floats  # (n, 35040): synthetic single households of 2021, quarter hours from 1 January 00:00 local


@dataclass(frozen=True, slots=True)
class Instants:
    """Local calendar places of the intervals' middles, computed once for all meters."""

    month: Ints  # 0 to 11
    day_type: Ints
    season: Ints
    weekday: Ints  # Monday 0
    quarter: Ints  # of the day
    quarter_of_year: Ints


def season_of(month: int, day: int) -> int:
    """BDEW: winter 1 November to 20 March, summer 15 May to 14 September, transition between."""
    if (month, day) >= (11, 1) or (month, day) <= (3, 20):
        return WINTER
    return SUMMER if (5, 15) <= (month, day) <= (9, 14) else TRANSITION


def instants(ends_s: Ints, interval_s: int, offset_s: int) -> Instants:
    """Where intervals that end at `ends_s` (UTC) lie in the local calendar, `offset_s` east of UTC."""
    local_s = ends_s - interval_s // 2 - (interval_s % 2) + offset_s
    days, second = np.divmod(local_s, DAY_S)
    quarter = second // QUARTER_S
    distinct, place = np.unique(days, return_inverse=True)
    dates = [datetime.fromtimestamp(int(day) * DAY_S, UTC).date() for day in distinct]
    month = np.array([d.month - 1 for d in dates], np.int64)
    weekday = np.array([d.weekday() for d in dates], np.int64)
    season = np.array([season_of(d.month, d.day) for d in dates], np.int64)
    of_year = np.array([min((d - date(d.year, 1, 1)).days, 364) for d in dates], np.int64)
    day_type = np.where(weekday == 5, SATURDAY, np.where(weekday == 6, SUNDAY, WORKDAY))
    return Instants(
        month[place],
        day_type[place],
        season[place],
        weekday[place],
        quarter,
        of_year[place] * QUARTERS_A_DAY + quarter,
    )


def annual_kwh(seed: int, meters: npt.NDArray[np.uint64]) -> Floats:
    """Annual consumption by meter, log-normal, mean 8 kWh a day."""
    mean = MEAN_KWH_A_DAY * 365
    draws = np.array([generator(seed, int(meter), "annual").standard_normal() for meter in meters])
    return np.asarray(mean * np.exp(SPREAD * draws - SPREAD**2 / 2), np.float64)


def generator(seed: int, meter: int, purpose: str) -> np.random.Generator:
    """The meter's own random numbers: the same whatever other meters there are."""
    words = [seed, meter & 0xFFFFFFFF, meter >> 32, int.from_bytes(purpose.encode()[:4], "big")]
    return np.random.Generator(np.random.PCG64(words))


def power_shape(shapes: Shapes, seed: int, meter: int, when: Instants) -> Floats:
    """One meter's relative load at `when`: a blend of a mean profile and one household's trace, with noise."""
    random = generator(seed, meter, "blend")
    own = random.uniform(0.3, 0.7)  # share of the single household in the blend
    young = random.uniform(0.0, 1.0)  # share of the 2025 profile in the mean profile
    trace = shapes.traces[int(random.integers(len(shapes.traces)))]
    # Whole weeks keep the weekday, a few quarter hours keep neighbours from boiling water together.
    shift = int(random.integers(-4, 5)) * 7 * QUARTERS_A_DAY + int(random.integers(-6, 7))
    mean = young * shapes.h25[when.month, when.day_type, when.quarter]
    mean += (1.0 - young) * shapes.h0[when.season, when.weekday, when.quarter]
    blend = (1.0 - own) * mean + own * trace[(when.quarter_of_year + shift) % QUARTERS_A_YEAR]
    noise = random.standard_gamma(NOISE_SHAPE, len(when.quarter)) / NOISE_SHAPE
    return np.asarray(blend * noise, np.float64)


def registers_wh(
    shapes: Shapes,
    seed: int,
    meters: npt.NDArray[np.uint64],
    annual: Floats,
    power_cap_w: Floats,
    ends_s: Ints,
    interval_s: int,
    offset_s: int,
) -> Ints:
    """Cumulative Wh since the first interval began, (meters, intervals): the floor of the running sum.

    `annual` is in kWh; `power_cap_w` limits the mean power of an interval (0: no limit).
    """
    when = instants(ends_s, interval_s, offset_s)
    found = np.empty((len(meters), len(ends_s)), np.int64)
    mean_wh = annual * 1000.0 / (365 * DAY_S) * interval_s
    cap_wh = np.where(power_cap_w > 0, power_cap_w * (interval_s / 3600), np.inf)
    for first in range(0, len(meters), CHUNK_METERS):
        rows = range(first, min(first + CHUNK_METERS, len(meters)))
        load = np.stack([power_shape(shapes, seed, int(meters[row]), when) for row in rows])
        load *= mean_wh[rows.start : rows.stop, None]
        np.minimum(load, cap_wh[rows.start : rows.stop, None], out=load)
        found[rows.start : rows.stop] = np.floor(np.cumsum(load, axis=1))
    return found


def energy_wh(registers: Ints) -> Ints:
    """Integer Wh of each interval: differences of the registers, the first counted from 0."""
    return np.diff(registers, axis=1, prepend=0)
