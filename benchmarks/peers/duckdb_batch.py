"""I/O (a worker): `batch.*` with DuckDB: one query with windows; with `totals`, the order-free one without."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import duckdb
import pandas as pd

from benchmarks.peers.job import ADDERS_E8, BOUNDS_WH, FLAT, PEAK_S, PRICES_E8, Ints, work


def _tiers(used: str) -> str:
    parts = (f"greatest({used} - {bound}, 0) * {adder}" for bound, adder in zip(BOUNDS_WH, ADDERS_E8, strict=True))
    return "(" + " + ".join(parts) + ")"


ORDERED: Final = f"""
with moved as (
    select r.meter, at_s, tariff, low, high, h.used,
           value - lag(value, 1, opening) over (partition by r.meter order by at_s) as energy
    from readings r join homes h using (meter)
), so_far as (
    select *, used + sum(energy) over (partition by meter order by at_s rows unbounded preceding) as after from moved
)
select meter, sum(energy * case when at_s > {PEAK_S} then high else low end)::bigint,
       sum(case when tariff = {FLAT} then 0 else {_tiers("after")} - {_tiers("(after - energy)")} end)::bigint,
       max(after)::bigint
from so_far group by meter order by meter
"""
TOTALS: Final = f"""
with ends as (
    select meter, max(value) as last, max(value) filter (at_s <= {PEAK_S}) as middle from readings group by meter
)
select meter, ((middle - opening) * low + (last - middle) * high)::bigint,
       case when tariff = {FLAT} then 0 else {_tiers("(used + last - opening)")} - {_tiers("used")} end::bigint,
       (used + last - opening)::bigint
from ends join homes using (meter) order by meter
"""


def prepare(of: dict[str, Ints]) -> Callable[[], tuple[Any, Any, Any]]:
    """Tables in memory, one thread."""
    base = duckdb.connect()
    base.execute("set threads = 1")
    readings = pd.DataFrame({name: of[name] for name in ("meter", "value", "at_s")})
    homes = pd.DataFrame({name: of[name] for name in ("tariff", "used", "opening")})
    homes["meter"] = range(len(homes))
    homes["low"], homes["high"] = PRICES_E8[of["tariff"], 0], PRICES_E8[of["tariff"], 1]
    for name, frame in (("readings", readings), ("homes", homes)):
        base.register("given", frame)
        base.execute(f"create table {name} as select * from given")
    query = TOTALS if "totals" in sys.argv else ORDERED

    def do() -> tuple[Any, Any, Any]:
        found = base.execute(query).fetchnumpy()
        columns = list(found.values())
        return columns[1], columns[2], columns[3]

    return do


if __name__ == "__main__":
    work(prepare)
