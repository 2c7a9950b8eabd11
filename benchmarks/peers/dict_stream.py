"""I/O (a worker): `stream.*` as a consumer in plain Python: a dictionary of homes, messages of so many readings.

python -m benchmarks.peers.dict_stream FOLDER RUNS SIZE
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from benchmarks.peers.job import Ints, work
from benchmarks.peers.single import Home, charge, records


def prepare(of: dict[str, Ints]) -> Callable[[], tuple[Any, Any, Any]]:
    """The records as a consumer gets them."""
    told, size = records(of), int(sys.argv[3])
    messages = [told[at : at + size] for at in range(0, len(told), size)]
    columns = zip(*(of[name].tolist() for name in ("tariff", "used", "opening")), strict=True)
    homes = {number: Home(*row) for number, row in enumerate(columns)}

    def do() -> tuple[Any, Any, Any]:
        for message in messages:
            for meter, value, at_s in message:
                charge(homes[meter], value, at_s)
        rows = homes.values()
        return [h.charge for h in rows], [h.adder for h in rows], [h.used for h in rows]

    return do


if __name__ == "__main__":
    work(prepare)
