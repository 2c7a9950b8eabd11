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


def prepare(of: dict[str, Ints]) -> Callable[[], tuple[Ints, Ints, Ints]]:
    """State for each run anew; readings in chunks in the order of arrival."""
    city = city_of(of)
    runner = Runner(city)
    meter, value = of["meter"].astype(np.int32), of["value"]
    at_s, quality = of["at_s"].astype(np.uint32), np.full(len(meter), 4, np.uint8)
    warm = Runner(city_of(of))
    warm.run(Round(meter[:1000], value[:1000], at_s[:1000], quality[:1000], START_S + 360))

    def do() -> tuple[Ints, Ints, Ints]:
        for start in range(0, len(meter), CHUNK):
            part = slice(start, start + CHUNK)
            newest_s = int(at_s[part][-1]) + 300
            runner.run(Round(meter[part], value[part], at_s[part], quality[part], newest_s))
        assert runner.accepted == len(meter)
        rows = city.channel
        return rows["accrued_energy_e11"], rows["accrued_adder_e11"], city.ladder["used"]

    return do


if __name__ == "__main__":
    work(prepare)
