"""Pure: the job of `stream.*` for one reading, in plain Python, as a user would write it for any stream processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.peers.job import ADDERS_E8, BOUNDS_WH, FLAT, PEAK_S, PRICES_E8, Ints

PRICES: Final = PRICES_E8.tolist()


@dataclass(slots=True)
class Home:
    """What is kept by key."""

    tariff: int
    used: int
    value: int
    charge: int = 0
    adder: int = 0


def tiers(used: int) -> int:
    total = 0
    for bound, adder in zip(BOUNDS_WH, ADDERS_E8, strict=True):
        if used > bound:
            total += (used - bound) * adder
    return total


def charge(home: Home, value: int, at_s: int) -> None:
    """Rate one reading."""
    energy = value - home.value
    home.value = value
    home.charge += energy * PRICES[home.tariff][at_s > PEAK_S]
    if home.tariff != FLAT:
        home.adder += tiers(home.used + energy) - tiers(home.used)
    home.used += energy


def records(of: dict[str, Ints]) -> list[tuple[int, int, int]]:
    """(meter, value, at_s) of every reading."""
    return list(zip(of["meter"].tolist(), of["value"].tolist(), of["at_s"].tolist(), strict=True))
