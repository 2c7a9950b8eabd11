"""I/O (it measures time): the kernel on one core against the memory it must touch and against a batch job.

The baseline of `kernel.neighbours` and `kernel.random` is a bare gather-scatter of the same channel and ladder
rows by the same indexes; of `kernel.vs_batch`, DuckDB on the same readings with one thread. All verdicts are on.
A run is a city of its own and the median of its rounds; there are RUNS of them, in one process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

from benchmarks.city import STEP_S, City, Round, Runner, make_city, next_round, order_of, tiers_e11
from benchmarks.harness import Benchmark, Result, repeated, result, timed

CHANNELS: Final = 6_000_000
SMALL: Final = 100_000
ROUNDS: Final = 6
RUNS: Final = 5
UNIT: Final = "readings/s"

jit: Callable[[Any], Any] = njit(nogil=True)


@jit
def gather_scatter(channel: Any, ladder: Any, slots: Any, value: Any, read_at_s: Any) -> None:
    """Read and write one channel row and its ladder row for every reading, and nothing else."""
    for i in range(slots.shape[0]):
        row = channel[slots[i]]
        energy = value[i] - row.value
        row.value = value[i]
        row.at_s = read_at_s[i]
        row.accrued_energy_e11 += energy
        ladder[row.ladder].used += energy


def _warm() -> None:
    city = make_city(1000)
    batch = next_round(city, order_of(city, neighbours=True))
    gather_scatter(city.channel.copy(), city.ladder.copy(), batch.slots, batch.value, batch.read_at_s)
    Runner(city).run(batch)


def _check(city: City, runner: Runner) -> None:
    assert runner.accepted == city.rounds * len(city.channel), "accepted = published, all distinct"
    assert city.digest() == city.expected_digest(), "charges and ladders are what the tariff says"


def _rates(channels: int, *, neighbours: bool, use: str = "typical") -> tuple[float, float]:
    """Readings per second of the kernel and of the gather-scatter, medians of interleaved rounds."""
    _warm()
    city = make_city(channels, use)
    runner = Runner(city)
    channel, ladder = city.channel.copy(), city.ladder.copy()
    kernel, bare = [], []
    for _ in range(ROUNDS):
        batch = next_round(city, order_of(city, neighbours=neighbours))
        bare.append(timed(lambda b=batch: gather_scatter(channel, ladder, b.slots, b.value, b.read_at_s)))  # type: ignore[misc]
        kernel.append(timed(lambda b=batch: runner.run(b)))  # type: ignore[misc]
    _check(city, runner)
    return channels / float(np.median(kernel)), channels / float(np.median(bare))


def _against_memory(name: str, *, neighbours: bool, use: str = "typical") -> list[Result]:
    rates = repeated(RUNS, lambda: _rates(CHANNELS, neighbours=neighbours, use=use))
    return [result(name, UNIT, "a gather-scatter of the same rows", *zip(*rates, strict=True), paired=True)]


def neighbours() -> list[Result]:
    """Frames of 1,000 neighbours, concentrators in random order."""
    return _against_memory("kernel.neighbours", neighbours=True)


def mixed_tiers() -> list[Result]:
    """The same with a third of the homes above the first bound, so that no branch can be foreseen."""
    return _against_memory("kernel.mixed_tiers", neighbours=True, use="spread")


def random_order() -> list[Result]:
    """Every reading somewhere else: memory latency."""
    return _against_memory("kernel.random", neighbours=False)


def flatness() -> list[Result]:
    """Cost per reading (ns) with 6 million channels against 0.1 million, neighbours; both in every run."""
    both = repeated(RUNS, lambda: [1e9 / _rates(size, neighbours=True)[0] for size in (CHANNELS, SMALL)])
    ours, theirs = map(list, zip(*both, strict=True))
    return [result("scale.flatness", "ns/reading", f"the same with {SMALL:,} homes", ours, theirs, paired=True)]


BATCH_JOB: Final = """
with rated as (
    select s.meter, r.value, r.at_s, s.used, s.used + (r.value - s.value) as used_after,
           r.value - s.value as energy, t.price_e8
    from read_parquet('{readings}') r
    join read_parquet('{state}') s on r.meter = s.meter
    join tariff t on t.tariff = s.tariff and r.at_s > t.from_s and r.at_s <= t.to_s
    where r.at_s > s.at_s and r.at_s <= {not_after_s} and r.at_s <= s.until_s
      and r.value >= s.value and r.value % s.resolution = 0
      and (r.value - s.value) * 3600 <= s.power_max_w::bigint * (r.at_s - s.at_s)
)
select count(*), sum(value)::hugeint, sum(used_after)::hugeint, sum(energy * price_e8)::hugeint,
       sum(greatest(used_after - {b1}, 0) * {a1} + greatest(used_after - {b2}, 0) * {a2}
         - greatest(used - {b1}, 0) * {a1} - greatest(used - {b2}, 0) * {a2})::hugeint
from rated
"""


def _write_batch(city: City, batch: Round, state: Path, readings: Path) -> None:
    """State before the round and the round itself, as a batch job would keep them: plain Parquet, sorted state."""
    rows = city.channel
    columns: dict[str, Any] = {n: rows[n].copy() for n in ("value", "at_s", "until_s", "power_max_w", "resolution")}
    columns |= {
        "meter": np.arange(len(rows), dtype=np.int64),
        "used": city.ladder["used"].copy(),
        "tariff": city.tariff,
    }
    pq.write_table(pa.table(columns), state, compression="zstd")
    told = {"meter": batch.slots.astype(np.int64), "value": batch.value, "at_s": batch.read_at_s}
    pq.write_table(pa.table(told), readings, compression="zstd")


def vs_batch() -> list[Result]:
    """The kernel against DuckDB: the same round, one thread each; DuckDB loads registers and readings from Parquet.

    DuckDB is spared what the kernel also does: writing the new state, late and duplicate verdicts as rows,
    readings that span segments, and tiers of tariffs other than the common one (its flat homes are left out
    of the tier sum by loading their use as 0).
    """
    _warm()
    city = make_city(CHANNELS)
    city.ladder["used"][city.tariff == 2] = 0
    city.opening_used[city.tariff == 2] = 0
    city.channel["value"] = city.value = city.channel_opening.copy()
    runner = Runner(city)
    kernel, job, before = [], [], tiers_e11(city.opening_used)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as base:
        base.execute("set threads = 1")
        base.execute("create table tariff (tariff int, from_s bigint, to_s bigint, price_e8 bigint)")
        base.execute(
            "insert into tariff values (0, 0, 1e11, 58886875), (2, 0, 1e11, 62586875), "
            "(1, 1784073600, 1784080800, 58886875), (1, 1784080800, 1784088000, 99496875)"
        )
        state, readings = Path(folder) / "state.parquet", Path(folder) / "readings.parquet"
        for turn in range(RUNS):
            charged = int(city.charge_e11.sum())
            batch = next_round(city, order_of(city, neighbours=True))
            _write_batch(city, batch, state, readings)
            query = BATCH_JOB.format(
                readings=readings,
                state=state,
                not_after_s=batch.not_after_s,
                b1=260_000,
                a1=5_000_000,
                b2=600_000,
                a2=25_000_000,
            )
            rows: list[Any] = []
            job.append(timed(lambda q=query, out=rows: out.extend(base.execute(q).fetchall())))  # type: ignore[misc]
            kernel.append(timed(lambda b=batch: runner.run(b)))  # type: ignore[misc]
            after = tiers_e11(city.ladder["used"])
            assert rows[0] == (
                CHANNELS,
                int(city.value.sum()),
                int(city.ladder["used"].sum()),
                int(city.charge_e11.sum()) - charged,
                int((after - before).sum()),
            ), f"both did the same job in round {turn} of {STEP_S} s"
            before = after
    _check(city, runner)
    rates = ([CHANNELS / seconds for seconds in side] for side in (kernel, job))
    return [result("kernel.vs_batch", UNIT, "DuckDB, one thread", *rates, paired=True)]


WHY: Final = {
    "kernel.neighbours": "the gather-scatter judges and prices nothing: it is the memory's part, half of the time",
    "kernel.mixed_tiers": "the same where a third of the homes are past a bound, which no processor can guess",
    "kernel.random": "every register and ladder is a cache miss for both; they are fetched ahead",
    "kernel.vs_batch": "DuckDB joins and sorts whole columns; the kernel changes each home's row in place",
    "scale.flatness": "6 million homes against 100,000: what no longer fits the caches",
}
BENCHMARKS: Final[dict[str, Benchmark]] = {
    "kernel.neighbours": neighbours,
    "kernel.mixed_tiers": mixed_tiers,
    "kernel.random": random_order,
    "kernel.vs_batch": vs_batch,
    "scale.flatness": flatness,
}
