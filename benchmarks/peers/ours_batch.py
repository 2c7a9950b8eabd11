"""I/O (a worker): `batch.*` with meterd's kernel as the engine calls it: all rules of a register, state in arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.city import CHUNK, City, Round, Runner, make_city
from benchmarks.peers.job import START_S, Ints, work


def city_of(of: dict[str, Ints]) -> City:
    """The homes of the job in the kernel's arrays, as they stand at 09:00."""
    homes = len(of["tariff"])
    city = make_city(homes)
    city.tariff[:] = of["tariff"]
    at_s = np.full(homes, START_S, dtype=np.int64)
    city.ladder["used"] = of["used"]
    city.ladder["stage"] = city.book.stage_at(city.tariff, np.zeros_like(city.tariff), at_s)
    city.channel["segment"] = city.book.segment_at(city.tariff, at_s)
    city.channel["value"] = of["opening"]
    return city


def in_rounds(of: dict[str, Ints], size: int) -> Callable[[], tuple[Ints, Ints, Ints]]:
    """State anew, and a call of the kernel for each round of so many readings, in the order of arrival.

    The rounds are arrays as decoding leaves them. The kernel is compiled, and warm.
    """
    meter, value = of["meter"].astype(np.int32), of["value"]
    at_s, quality = of["at_s"].astype(np.uint32), np.full(len(meter), 4, np.uint8)
    told = [
        Round(meter[part], value[part], at_s[part], quality[part], int(at_s[part][-1]) + 300)
        for part in (slice(start, start + size) for start in range(0, len(meter), size))
    ]
    Runner(city_of(of)).run(Round(meter[:1000], value[:1000], at_s[:1000], quality[:1000], START_S + 360))
    city = city_of(of)
    runner = Runner(city)

    def do() -> tuple[Ints, Ints, Ints]:
        for some in told:
            runner.run(some)
        assert runner.accepted == len(meter)
        rows = city.channel
        return rows["accrued_energy_e11"], rows["accrued_adder_e11"], city.ladder["used"]

    return do


def prepare(of: dict[str, Ints]) -> Callable[[], tuple[Ints, Ints, Ints]]:
    """In chunks, as the engine rates a backlog."""
    return in_rounds(of, CHUNK)


if __name__ == "__main__":
    work(prepare)
