"""The table of figures: older entries load, ranges are told, the prose around the table stays."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness import against, merge, result
from benchmarks.table import BEGIN, END, table, write


def test_the_range_is_worst_against_best() -> None:
    r = against("batch.duckdb", "readings/s", "DuckDB", [10.0, 20.0, 40.0], [2.0, 4.0, 5.0])
    assert (r.value, r.baseline, r.ratio, r.ratio_low, r.ratio_high) == (20.0, 4.0, 5.0, 2.0, 20.0)
    assert (r.peer, r.repeats, r.command) == ("DuckDB", 3, "make bench ONLY=batch")


def test_the_table_is_written_between_its_marks(tmp_path: Path) -> None:
    results, page = tmp_path / "latest.json", tmp_path / "README.md"
    merge([result("kernel.old", "s", 1.0, 4.0), against("b.x", "r/s", "X", [2.0], [8.0])], results)
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write(page, results)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "\nold\n" not in text
    assert "| `b.x` | X | 2 | 8 | r/s | 0.25 (0.25 to 0.25, 1) | `make bench ONLY=b` | 20" in text
    assert " cores, " in text
    assert "| `kernel.old` | baseline | 1 | 4 | s | 0.25 |" in text


def test_a_reason_stands_in_its_row() -> None:
    row = {"name": "a", "unit": "s", "value": 1.0, "baseline": 2.0, "ratio": 0.5, "command": "c"}
    assert table([row], {"a": "it sorts"}).endswith("| it sorts |")
