"""I/O (a worker): `stream.*` with Bytewax: keyed, stateful, one worker, a thousand records a batch of its source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from benchmarks.peers.job import Ints, work
from benchmarks.peers.single import Home, charge, records


def prepare(of: dict[str, Ints]) -> Callable[[], tuple[Any, Any, Any]]:
    """A flow over the records; what leaves it is each home's newest state."""
    told = records(of)
    first = list(zip(*(of[name].tolist() for name in ("tariff", "used", "opening")), strict=True))
    out: list[tuple[str, Home]] = []

    def rate(home: Home | None, record: tuple[int, int, int]) -> tuple[Home, Home]:
        meter, value, at_s = record
        if home is None:
            home = Home(*first[meter])
        charge(home, value, at_s)
        return home, home

    flow = Dataflow("rating")
    stream = op.input("readings", flow, TestingSource(told, batch_size=1000))
    keyed = op.key_on("by_home", stream, lambda record: str(record[0]))
    op.output("charges", op.stateful_map("rate", keyed, rate), TestingSink(out))

    def do() -> tuple[Any, Any, Any]:
        run_main(flow)
        homes = {int(key): home for key, home in out}
        rows = [homes[number] for number in range(len(first))]
        return [h.charge for h in rows], [h.adder for h in rows], [h.used for h in rows]

    return do


if __name__ == "__main__":
    work(prepare)
