"""Pure: stretches of days under one version of a tariff, one bill cycle and one part of the year of each charge.

July          | August, version 1  | August, version 2 | September, summer | September, winter |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rating.calendar import days_of_year, first_day_of, months_of
from rating.tariff.charges import Charge
from rating.tariff.fields import DAYS_OF_YEAR
from rating.tariff.model import Season, Tariff
from rating.tariff.plans import days_of
from rating.timeline import day_number

Int64s = npt.NDArray[np.int64]


class Stretch(NamedTuple):
    """Local days [first, end); `allowance`: of each charge of the version, the one that holds; of a charge for some
    days of the year, how many days in a row it is for; -1: none."""

    cycle: int
    version: int
    first_day: int
    end_day: int
    allowance: tuple[int, ...]


def stretches_of(tariff: Tariff, first_day: int, end_day: int) -> tuple[Stretch, ...]:
    """Stretches of the local days [first, end), in order; days before the first version are in none."""
    from_days = [day_number(tariff, v) for v in range(len(tariff.version))]
    first_day = max(first_day, from_days[0])
    if first_day >= end_day:
        return ()
    day = np.arange(first_day, end_day, dtype=np.int64)
    version = np.searchsorted(np.array(from_days), day, side="right") - 1
    widest = max(len(one.charge) for one in tariff.version)
    allowance = np.full((len(day), widest), -1, np.int64)
    for v, one in enumerate(tariff.version):
        mine = np.flatnonzero(version == v)
        for c, charge in enumerate(one.charge):
            allowance[mine, c] = _places(charge, tariff.season, day[mine])
    key = np.column_stack([months_of(day), version, allowance])
    starts = np.flatnonzero(np.append(True, (np.diff(key, axis=0) != 0).any(axis=1)))
    ends = np.append(starts[1:], len(day))
    return tuple(
        Stretch(int(key[s, 0]), int(key[s, 1]), int(day[s]), int(day[e - 1]) + 1, _row(tariff, key[s]))
        for s, e in zip(starts.tolist(), ends.tolist(), strict=True)
    )


def _row(tariff: Tariff, key: Int64s) -> tuple[int, ...]:
    cycle_and_version, charges = 2, len(tariff.version[int(key[1])].charge)
    return tuple(key[cycle_and_version : cycle_and_version + charges].tolist())


def _places(charge: Charge, seasons: Sequence[Season], day: Int64s) -> Int64s:
    """Of each day the place of the allowance that holds, or the length of the season; `day`: one after another."""
    if charge.limited:
        return _lengths(sorted(days_of(charge, seasons)), day)
    found = np.full(DAYS_OF_YEAR, -1, np.int64)
    for place, allowance in enumerate(charge.allowance):
        found[sorted(days_of(allowance, seasons))] = place
    return np.asarray(found[days_of_year(day)], np.int64)


def _lengths(places: Sequence[int], day: Int64s) -> Int64s:
    """Of each day that lies at one of these places of the year, how many do so in a row around it; else -1."""
    wide = np.arange(day[0] - DAYS_OF_YEAR, day[-1] + DAYS_OF_YEAR + 1) if len(day) else day
    inside = np.isin(days_of_year(wide), places)
    heads = np.flatnonzero(np.diff(inside, prepend=~inside[:1]))
    lengths = np.repeat(np.diff(np.append(heads, len(wide))), np.diff(np.append(heads, len(wide))))
    return np.asarray(np.where(inside, lengths, -1)[DAYS_OF_YEAR : DAYS_OF_YEAR + len(day)], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """What many accounts did in the stretches of one version in one cycle, a row each."""

    stretches: tuple[Stretch, ...]
    days: Int64s  # [accounts, stretches] in which they were served
    wh: Int64s  # [accounts, stretches]
    energy_e11: Int64s  # [accounts]: what that energy costs by itself
    fed_in: Int64s  # [accounts, stretches]: and not netted
    times: Mapping[str, Int64s] = field(default_factory=dict)  # [accounts, stretches]: days times an attribute

    @property
    def month_days(self) -> int:
        """Days of the whole month."""
        cycle = self.stretches[0].cycle
        return first_day_of(cycle + 1) - first_day_of(cycle)

    @property
    def served(self) -> Int64s:
        """Days of each account."""
        return np.asarray(self.days.sum(axis=1), np.int64)
