"""Pure: the job of `stream.*` for one reading, in plain Python, as a user would write it for any stream processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.peers.job import ADDERS_E8, BOUNDS_WH, FLAT, PEAK_S, PRICES_E8, Ints

PRICES: Final = PRICES_E8.tolist()
BOUND_1: Final = BOUNDS_WH[0]
BOUND_2: Final = BOUNDS_WH[1]
ADDER_1: Final = ADDERS_E8[0]
ADDER_2: Final = ADDERS_E8[1]


@dataclass(slots=True)
class Home:
    """What is kept by key."""

    tariff: int
    used: int
    value: int
    charge: int = 0
    adder: int = 0


def tiers(used: int) -> int:
    if used <= BOUND_1:
        return 0
    total = (used - BOUND_1) * ADDER_1
    return total + (used - BOUND_2) * ADDER_2 if used > BOUND_2 else total


def charge(home: Home, value: int, at_s: int) -> None:
    """Rate one reading."""
    energy = value - home.value
    home.value = value
    tariff, before = home.tariff, home.used
    home.used = after = before + energy
    home.charge += energy * PRICES[tariff][at_s > PEAK_S]
    if after > BOUND_1 and tariff != FLAT:
        home.adder += tiers(after) - tiers(before)


def records(of: dict[str, Ints]) -> list[tuple[int, int, int]]:
    """(meter, value, at_s) of every reading."""
    return list(zip(of["meter"].tolist(), of["value"].tolist(), of["at_s"].tolist(), strict=True))
