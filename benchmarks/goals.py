"""Pure: the project's goals, and whether a row of the results meets its own; what the pages show of it.

A goal is about the median of ours (`value`) or about its ratio to what it is compared with (`ratio`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Row = Mapping[str, Any]
GB_IN_MIB: Final = 1e9 / 2**20


@dataclass(frozen=True, slots=True)
class Goal:
    """`text` says it in words; `most`: not above the limit, else not below it."""

    row: str
    text: str
    of: Literal["value", "ratio"]
    limit: float
    most: bool

    def met(self, row: Row) -> bool:
        found = float(row[self.of])
        return found <= self.limit if self.most else found >= self.limit


def _least(row: str, text: str, of: Literal["value", "ratio"], limit: float) -> Goal:
    return Goal(row, text, of, limit, most=False)


def _most(row: str, text: str, of: Literal["value", "ratio"], limit: float) -> Goal:
    return Goal(row, text, of, limit, most=True)


GOALS: Final = (
    _least("kernel.neighbours", "half of the gather-scatter", "ratio", 0.5),
    _least("kernel.random", "a fifth of its gather-scatter", "ratio", 0.2),
    _least("kernel.vs_batch", "25 times DuckDB", "ratio", 25),
    _most("scale.flatness", "within 15 %", "ratio", 1.15),
    _least("e2e.embedded", "3 M readings/s", "value", 3e6),
    _most("e2e.embedded.rss", "flat: within 5 % over four million readings", "ratio", 1.05),
    _least("e2e.mosquitto", "4 M readings/s", "value", 4e6),
    _most("e2e.mosquitto.rss", "flat, the same", "ratio", 1.05),
    _least("e2e.json_single", "0.80 of bare paho", "ratio", 0.8),
    _most("e2e.json_single.rss", "flat: within 5 % over 80,000 messages", "ratio", 1.05),
    _most("latency.city.reading_to_balance_p99", "100 ms", "value", 100),
    _most("latency.city.reading_to_order_p99", "250 ms", "value", 250),
    _most("latency.lone.reading_to_balance_p99", "100 ms", "value", 100),
    _most("latency.lone.reading_to_order_p99", "250 ms", "value", 250),
    _most("replay.city_day", "60 s", "value", 60),
    _most("replay.city_day_memory", "2 GB, 1,907 MiB", "value", 2 * GB_IN_MIB),
    _most("registry.import_6m", "2 minutes", "value", 120),
    _most("registry.import_6m_memory", "2 GB, 1,907 MiB", "value", 2 * GB_IN_MIB),
    _most("start.accounts_6m", "10 s", "value", 10),
)
FIGURES: Final = {  # what README.md shows, in this order, and what each is
    "kernel.neighbours": "6 million channels, one core, all verdicts",
    "kernel.random": "the same, every reading somewhere else",
    "kernel.vs_batch": "the same round as a batch job",
    "scale.flatness": "6 million channels, not 100,000",
    "e2e.embedded": "1 million meters, all durable, embedded broker",
    "e2e.mosquitto": "the same over Mosquitto",
    "e2e.json_single": "one reading a message",
    "batch.ordered.duckdb": "10 million readings in order of arrival, one thread each",
    "batch.ordered.polars": "",
    "batch.ordered.pandas": "",
    "batch.ordered.numpy": "",
    "batch.month_totals.duckdb": "the same bill, where order does not matter",
    "stream.frames.numpy": "frames of 1,000, a call each",
    "stream.frames.bytewax": "",
    "stream.frames.dict": "",
    "stream.single.dict": "a reading a call, which meterd never does",
    "stream.single.bytewax": "",
    "state.postgres": "durable batches of 10,000",
    "state.sqlite": "",
    "year.pysam": "a year of hours, bills to the fen",
    "replay.city_day": "576 million readings from the archive",
    "replay.city_day_memory": "",
    "latency.city.reading_to_balance_p99": "a city's 6,667 readings/s from concentrators",
    "latency.city.reading_to_order_p99": "",
    "latency.lone.reading_to_balance_p99": "the same, a message a reading",
    "latency.lone.reading_to_order_p99": "",
    "notices.backlog": "a midnight's 190,000 alerts",
    "start.accounts_6m": "a start with 6 million homes",
    "registry.import_6m": "6 million meters from CSV",
    "registry.import_6m_memory": "",
}


def number(value: float, unit: str, low: float | None = None, high: float | None = None) -> str:
    """A value as people read it, with its range: 94.4 M readings/s, 1,031 (980 to 1,102) ms."""
    scale = 1e6 if abs(value) >= 1e6 else 1.0
    span = f" ({_short(low / scale)} to {_short(high / scale)})" if low is not None and high is not None else ""
    name = unit if scale == 1.0 else "MB" if unit == "bytes" else f"M {unit}"
    return f"{_short(value / scale)}{span} {name}".rstrip()


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def told(row: Row, of: str, unit: str = "") -> str:
    """One of a row's numbers with its range, if it has one."""
    some = row["repeats"] > 1
    return number(row[of], unit, row.get(f"{of}_low") if some else None, row.get(f"{of}_high") if some else None)


def figures(rows: Mapping[str, Row]) -> str:
    """README's table, and under it what misses its goal."""
    lines = [
        "| Benchmark | Figure | Compared with, in the same run | Ratio (range) | Runs | Date |",
        "|" + "---|" * 6,
    ]
    for name, what in FIGURES.items():
        if (row := rows.get(name)) is None:
            continue
        title = f"`{name}`" + (f", {what}" if what else "")
        peer = f"{number(row['baseline'], row['unit'])}, {row['peer']}"
        cells = (title, told(row, "value", row["unit"]), peer, told(row, "ratio"))
        lines.append("| " + " | ".join((*cells, str(row["repeats"]), row["date"])) + " |")
    return "\n".join([*lines, "", missed(rows)])


def missed(rows: Mapping[str, Row]) -> str:
    """One line."""
    found = [
        f"`{goal.row}` ({_measured(goal, rows[goal.row])}; goal {goal.text})"
        for goal in GOALS
        if goal.row in rows and not goal.met(rows[goal.row])
    ]
    return f"Goals that are missed: {', '.join(found)}." if found else "No goal is missed."


def targets(rows: Mapping[str, Row]) -> str:
    """The table of goals in docs/performance.md."""
    lines = ["| Benchmark | Goal | Measured | | Runs | Date |", "|" + "---|" * 6]
    for goal in GOALS:
        if (row := rows.get(goal.row)) is not None:
            cells = (f"`{goal.row}`", goal.text, _measured(goal, row), "met" if goal.met(row) else "**missed**")
            lines.append("| " + " | ".join((*cells, str(row["repeats"]), row["date"])) + " |")
    return "\n".join(lines)


def _measured(goal: Goal, row: Row) -> str:
    if goal.of == "value":
        return told(row, "value", row["unit"])
    return f"{told(row, 'ratio')} of {row['peer']}"


def table(results: list[Row], why: Mapping[str, str]) -> str:
    """The table of benchmarks/README.md: a row a result."""
    head = "| Benchmark | Compared with | Ours | Theirs | Ratio (range, runs) | Command | When, where | Why |"
    return "\n".join([head, "|" + "---|" * 8, *_lines(results, why)])


def _lines(results: list[Row], why: Mapping[str, str]) -> Iterator[str]:
    for r in results:
        runs = f"{r['repeats']} runs" if r["repeats"] > 1 else "one run"
        span = f"{r['ratio_low']:.3g} to {r['ratio_high']:.3g}, " if r["repeats"] > 1 else ""
        where = ", ".join(filter(None, (r.get("date"), r.get("machine"))))
        cells = (f"`{r['name']}`", r["peer"], told(r, "value", r["unit"]), told(r, "baseline", r["unit"]))
        reason = why.get(r["name"], "")
        yield (
            "| " + " | ".join((*cells, f"{r['ratio']:.3g} ({span}{runs})", f"`{r['command']}`", where, reason)) + " |"
        )
