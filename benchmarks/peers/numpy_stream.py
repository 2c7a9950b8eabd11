"""I/O (a worker): `stream.frames` with numpy: a frame is a step over the rows of its homes, as one who knows does it.

A frame has a home once, so that its readings can be rated side by side. `Homes` is Bytewax's step, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.peers.job import ADDERS_E8, BOUNDS_WH, FLAT, PEAK_S, PRICES_E8, Ints, work

Frame = tuple[Ints, Ints, Ints]  # meter, value, at_s


@dataclass(slots=True, eq=False)
class Homes:
    """Columns of state, a row a home."""

    tariff: Ints
    used: Ints
    value: Ints
    charge: Ints
    adder: Ints

    @classmethod
    def of(cls, columns: dict[str, Ints], part: slice) -> Homes:
        """As they stand at the beginning."""
        tariff, used, value = (columns[name][part].copy() for name in ("tariff", "used", "opening"))
        return cls(tariff, used, value, np.zeros_like(used), np.zeros_like(used))

    def rate(self, row: Ints, value: Ints, at_s: Ints) -> None:
        """One frame; rows are looked up once for each column."""
        tariff, before = self.tariff[row], self.used[row]
        energy = value - self.value[row]
        after = before + energy
        self.value[row], self.used[row] = value, after
        self.charge[row] += energy * PRICES_E8[tariff, (at_s > PEAK_S).astype(np.int64)]
        over = (after > BOUNDS_WH[0]) & (tariff != FLAT)  # the others pay nothing for tiers
        if over.any():
            self.adder[row[over]] += _tiers(after[over]) - _tiers(before[over])


def _tiers(used: Ints) -> Ints:
    first, second = (np.maximum(used - bound, 0) * adder for bound, adder in zip(BOUNDS_WH, ADDERS_E8, strict=True))
    return np.asarray(first + second, np.int64)


def frames(of: dict[str, Ints], size: int) -> list[Frame]:
    """The readings as they come, so many at a time."""
    return [
        (of["meter"][at : at + size], of["value"][at : at + size], of["at_s"][at : at + size])
        for at in range(0, len(of["meter"]), size)
    ]


def prepare(of: dict[str, Ints]) -> Callable[[], tuple[Ints, Ints, Ints]]:
    """State of all homes in five arrays."""
    told, homes = frames(of, int(sys.argv[3])), Homes.of(of, slice(None))

    def do() -> tuple[Ints, Ints, Ints]:
        for meter, value, at_s in told:
            homes.rate(meter, value, at_s)
        return homes.charge, homes.adder, homes.used

    return do


if __name__ == "__main__":
    work(prepare)
