"""Rows go into SQLite whole and in order, however many they are, by few statements."""

import sqlite3
from contextlib import closing

import pytest

from ingest.many_rows import SIZES, insert, many


@pytest.mark.parametrize("count", [0, 1, 2, 3, 127, 128, 129, 255, 256, 1000])
def test_all_rows_in_order_by_few_statements(count):
    rows = [(number, f"row {number}") for number in range(count)]
    asked = []
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, told TEXT)")
        db.set_trace_callback(asked.append)
        insert(db, many("INSERT INTO t VALUES ", 2), rows)
        db.set_trace_callback(None)
        assert db.execute("SELECT * FROM t ORDER BY id").fetchall() == rows
    assert len(asked) == count // SIZES[0] + (count % SIZES[0]).bit_count()
