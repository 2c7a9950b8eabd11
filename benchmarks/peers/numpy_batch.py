"""I/O (a worker): `batch.*` with numpy: a stable sort by home, differences and running sums."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.peers.job import FLAT, PEAK_S, PRICES_E8, Ints, tiers_e11, work


def prepare(of: dict[str, Ints]) -> Callable[[], tuple[Ints, Ints, Ints]]:
    """Everything in the arrays that were loaded."""

    def do() -> tuple[Ints, Ints, Ints]:
        homes = len(of["tariff"])
        order = np.argsort(of["meter"], kind="stable")
        meter, value, at_s = of["meter"][order], of["value"][order], of["at_s"][order]
        first = np.flatnonzero(np.r_[True, meter[1:] != meter[:-1]])
        energy = np.diff(value, prepend=0)
        energy[first] = value[first] - of["opening"][meter[first]]
        running = np.cumsum(energy)
        count = np.diff(np.r_[first, len(meter)])
        after = running - np.repeat(running[first] - energy[first], count) + of["used"][meter]
        tariff = of["tariff"][meter]
        charge = energy * PRICES_E8[tariff, (at_s > PEAK_S).astype(np.int64)]
        adder = np.where(tariff == FLAT, 0, tiers_e11(after) - tiers_e11(after - energy))
        assert len(first) == homes
        return np.add.reduceat(charge, first), np.add.reduceat(adder, first), after[np.r_[first[1:], len(meter)] - 1]

    return do


if __name__ == "__main__":
    work(prepare)
