"""What a latency's rows are made of: each measure has its own, and the wire's bytes are a packet's."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.latency import MEASURES, WHY, rows, wire_bytes


def report(ms: float, written: float) -> dict[str, Any]:
    measured = {name: {"p99": ms * number} for number, name in enumerate(("published", *MEASURES), 1)}
    return {
        "latency_ms": measured,
        "resources": {"daemon": {"written_a_reading": written}, "broker": {"written_a_reading": 0.0}},
    }


def test_every_measure_is_a_row_of_median_and_range() -> None:
    found = {row.name: row for row in rows("latency.city", [report(3, 9.0), report(1, 7.0), report(2, 8.0)], 4.0)}
    assert found.keys() == {name for name in WHY if name.startswith("latency.city.")}
    order = found["latency.city.reading_to_order_p99"]
    assert (order.value, order.value_low, order.value_high, order.baseline, order.repeats) == (8.0, 4.0, 12.0, 2.0, 3)
    assert (order.ratio_low, order.ratio_high) == (4.0, 4.0)  # each run with its own PUBACK
    assert found["latency.city.written"].ratio == 2.0


def test_memory_is_no_disk() -> None:
    assert all("written" not in row.name for row in rows("latency.city", [report(1, 0.0)], 4.0))


def test_every_row_has_a_reason_of_its_own() -> None:
    assert len(set(WHY.values())) == len(WHY) == 10


@pytest.mark.parametrize(("how", "least", "most"), [((100, "arrow"), 22, 30), ((1, "json"), 200, 300)])
def test_the_wire(how: tuple[int, str], least: float, most: float) -> None:
    assert least < wire_bytes(*how) < most
