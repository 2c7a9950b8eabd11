"""I/O (a worker): `stream.*` with Bytewax: keyed, stateful, one worker.

    python -m benchmarks.peers.bytewax_stream FOLDER RUNS SIZE

Frames are items, keyed by their concentrator, whose state is the columns of its homes (numpy): the key and the
hand-over are paid once for a frame. Of size 1 an item is a reading, keyed by its home.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from benchmarks.peers.job import Ints, work
from benchmarks.peers.numpy_stream import Frame, Homes, frames
from benchmarks.peers.single import Home, charge, records

BATCH: int = 1000  # items that the source gives at once


def _flow(items: list[Any], key: Callable[[Any], str], rate: Callable[..., Any], into: list[Any]) -> Dataflow:
    flow = Dataflow("rating")
    stream = op.input("readings", flow, TestingSource(items, batch_size=BATCH))
    keyed = op.key_on("by_key", stream, key)
    op.output("charges", op.stateful_map("rate", keyed, rate), TestingSink(into))
    return flow


def by_home(of: dict[str, Ints]) -> Callable[[], tuple[Any, Any, Any]]:
    """What leaves the flow is each home's newest state."""
    first = list(zip(*(of[name].tolist() for name in ("tariff", "used", "opening")), strict=True))
    out: list[tuple[str, Home]] = []

    def rate(home: Home | None, record: tuple[int, int, int]) -> tuple[Home, Home]:
        meter, value, at_s = record
        if home is None:
            home = Home(*first[meter])
        charge(home, value, at_s)
        return home, home

    flow = _flow(records(of), lambda record: str(record[0]), rate, out)

    def do() -> tuple[Any, Any, Any]:
        run_main(flow)
        homes = {int(key): home for key, home in out}
        rows = [homes[number] for number in range(len(first))]
        return [h.charge for h in rows], [h.adder for h in rows], [h.used for h in rows]

    return do


def by_concentrator(of: dict[str, Ints], size: int) -> Callable[[], tuple[Any, Any, Any]]:
    """What leaves the flow is each concentrator's newest state."""
    out: list[tuple[str, Homes]] = []

    def rate(homes: Homes | None, frame: Frame) -> tuple[Homes, Homes]:
        meter, value, at_s = frame
        first = int(meter[0]) // size * size
        if homes is None:
            homes = Homes.of(of, slice(first, first + size))
        homes.rate(meter - first, value, at_s)
        return homes, homes

    flow = _flow(frames(of, size), lambda frame: str(int(frame[0][0]) // size), rate, out)

    def do() -> tuple[Any, Any, Any]:
        run_main(flow)
        newest = {int(key): homes for key, homes in out}
        parts = [newest[number] for number in sorted(newest)]
        charge, adder, used = (np.concatenate([getattr(p, n) for p in parts]) for n in ("charge", "adder", "used"))
        return charge, adder, used

    return do


def prepare(of: dict[str, Ints]) -> Callable[[], tuple[Any, Any, Any]]:
    """By the size of a frame."""
    size = int(sys.argv[3])
    return by_home(of) if size == 1 else by_concentrator(of, size)


if __name__ == "__main__":
    work(prepare)
