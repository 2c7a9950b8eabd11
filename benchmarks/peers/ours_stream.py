"""I/O (a worker): `stream.*` with meterd's kernel: a call for each frame of so many readings, as they arrive.

python -m benchmarks.peers.ours_stream FOLDER RUNS SIZE      1,000: a concentrator's message; 1: a reading
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from benchmarks.city import Round, Runner
from benchmarks.peers.job import Ints, work
from benchmarks.peers.ours_batch import city_of


def prepare(of: dict[str, Ints]) -> Callable[[], tuple[Ints, Ints, Ints]]:
    """The frames' arrays, as decoding leaves them, and state anew."""
    size = int(sys.argv[3])
    meter, value = of["meter"].astype(np.int32), of["value"]
    at_s, quality = of["at_s"].astype(np.uint32), np.full(len(meter), 4, np.uint8)
    told = [
        Round(meter[part], value[part], at_s[part], quality[part], int(at_s[part.start]) + 300)
        for part in (slice(start, start + size) for start in range(0, len(meter), size))
    ]
    Runner(city_of(of)).run(told[0])  # compiled, and warm
    city = city_of(of)
    runner = Runner(city)

    def do() -> tuple[Ints, Ints, Ints]:
        for frame in told:
            runner.run(frame)
        assert runner.accepted == len(meter)
        rows = city.channel
        return rows["accrued_energy_e11"], rows["accrued_adder_e11"], city.ladder["used"]

    return do


if __name__ == "__main__":
    work(prepare)
