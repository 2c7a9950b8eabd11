"""The tables: pages say what the file of results says; each row can be repeated and has its reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.goals import FIGURES, GOALS, figures, number, table, targets
from benchmarks.harness import choose, collect, merge, ran, result
from benchmarks.table import BEGIN, END, PAGES, ROOT, read, reasons, replaced, write

ROWS = read()
ONE: dict[str, Any] = {
    "name": "a", "unit": "s", "value": 1.0, "baseline": 2.0, "ratio": 0.5, "command": "c", "peer": "X", "repeats": 1,
    "date": "2026-11-28",
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_what_was_measured(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == replaced(text, PAGES[page](ROWS)), "run: python -m benchmarks --table"


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_a_row_can_be_repeated_and_has_its_peer_and_reason(row: Mapping[str, Any]) -> None:
    make, only = row["command"].split(" ONLY=")
    assert make == "make bench"
    assert choose(collect(), only)
    assert row["peer"] != "baseline"
    assert row["repeats"] >= 1
    assert reasons()[row["name"]]


def test_reasons_and_goals_are_of_rows_that_there_are() -> None:
    """A reason for a row that has another name by now would never be read."""
    names = collect().keys()
    for name in (*reasons(), *FIGURES, *(goal.row for goal in GOALS)):
        head = name.removesuffix("_memory").removesuffix(".rss")
        assert choose(names, head), name
    assert all(len(reason) < 240 and "|" not in reason for reason in reasons().values())


def test_what_ran_says_the_command_that_ran_it() -> None:
    (found,) = ran("latency.city", lambda: [result("latency.city.held_p99", "ms", "X", [1.0], [2.0])])
    assert found.command == "make bench ONLY=latency.city"


def test_the_range_is_worst_against_best() -> None:
    r = result("batch.duckdb", "readings/s", "DuckDB", [10.0, 40.0, 20.0], [2.0, 4.0, 5.0])
    assert (r.value, r.baseline, r.ratio, r.ratio_low, r.ratio_high) == (20.0, 4.0, 5.0, 2.0, 20.0)
    assert (r.value_low, r.value_high, r.baseline_low, r.baseline_high) == (10.0, 40.0, 2.0, 5.0)
    assert (r.peer, r.repeats) == ("DuckDB", 3)


def test_runs_that_are_pairs_have_ratios_of_their_own() -> None:
    r = result("x.rss", "bytes", "before", [10.0, 20.0, 33.0], [10.0, 10.0, 30.0], paired=True)
    assert (r.ratio, r.ratio_low, r.ratio_high) == (1.1, 1.0, 2.0)
    with pytest.raises(AssertionError):
        result("x", "s", "y", [1.0, 2.0], [1.0])


def test_tables_are_written_between_their_marks(tmp_path: Path) -> None:
    results = tmp_path / "latest.json"
    merge([result("kernel.random", "readings/s", "X", [1e6], [4e6])], results)
    merge(ran("state", lambda: [result("state.sqlite", "updates/s", "SQLite", [2.0, 3.0, 4.0], [8.0] * 3)]), results)
    for page in PAGES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / page).write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write(tmp_path, results)
    texts = {page: (tmp_path / page).read_text(encoding="utf-8") for page in PAGES}
    for text in texts.values():
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
        assert "\nold\n" not in text
    all_rows = texts["benchmarks/README.md"]
    assert (
        "| `state.sqlite` | SQLite | 3 (2 to 4) updates/s | 8 (8 to 8) updates/s | 0.375 (0.25 to 0.5, 3 runs) |"
        in all_rows
    )
    assert "| `make bench ONLY=state` | 20" in all_rows
    assert "| 0.25 (one run) |" in all_rows
    assert "1 M readings/s" in texts["README.md"]
    assert "| `kernel.random` | a fifth of its gather-scatter | 0.25 of X | met | 1 |" in texts["docs/performance.md"]


def test_a_reason_stands_in_its_row() -> None:
    assert table([ONE], {"a": "it sorts"}).endswith("| it sorts |")


def test_a_goal_that_is_missed_is_said() -> None:
    late = ONE | {"name": "latency.lone.reading_to_balance_p99", "unit": "ms", "value": 270.3}
    rows = {late["name"]: late}
    assert "Goals that are missed: `latency.lone.reading_to_balance_p99` (270 ms; goal 100 ms)." in figures(rows)
    assert "**missed**" in targets(rows)
    assert "No goal is missed." in figures({late["name"]: late | {"value": 99.0}})


def test_numbers_as_people_read_them() -> None:
    told = [number(*one) for one in ((94_360_000, "readings/s"), (1031.0, "ms"), (0.1581, "s"), (9.443e8, "bytes"))]
    assert told == ["94.4 M readings/s", "1,031 ms", "0.158 s", "944 MB"]
    assert number(68_050_000, "readings/s", 61_234_000, 1.2e8) == "68 (61.2 to 120) M readings/s"


def test_older_files_of_results_are_read(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    path.write_text(json.dumps([ONE]), encoding="utf-8")
    assert read(path) == {"a": ONE}
