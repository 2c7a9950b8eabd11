"""Marks that are appended and folded: whatever was committed is the newest, at every moment and after every kill."""

import re
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import mark_journal
from ingest.log_sqlite import SqliteLog
from ingest.mark_journal import MarkJournal, newest
from ingest.sequences import Mark
from rating.readings import LogFailed


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(mark_journal, "SLICE_MIN", 2)


def opened(path=":memory:"):
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(mark_journal.SCHEMA)
    return db


def mark(stream, contiguous):
    return Mark(f"C{stream % 3}", f"s{stream}", "0", contiguous, ((contiguous + 2, contiguous + 3),), 1, contiguous)


def found(db):
    return {(m.source, m.stream): m for m in newest(db)}


def rows(db):
    return db.execute("SELECT count(*) FROM mark").fetchone()[0], db.execute(
        "SELECT count(*) FROM mark_journal"
    ).fetchone()[0]


ONE = st.tuples(
    st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True),
    st.sampled_from(["commit", "commit", "fail", "kill before", "kill after"]),
)


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(ONE, max_size=60))
def test_what_was_committed_is_the_newest(steps):
    """`kill`: the process that knew what is folded is gone, before or after the commit."""
    with closing(opened()) as db:
        journal, truth = MarkJournal(db, 12), {}
        for number, (streams, end) in enumerate(steps):
            marks = [mark(stream, number) for stream in streams]
            db.execute("BEGIN IMMEDIATE")
            written = journal.write(db, marks)
            if end in ("fail", "kill before"):
                db.execute("ROLLBACK")
            else:
                db.execute("COMMIT")
                truth.update({(m.source, m.stream): m for m in marks})
            if end == "commit":
                journal.committed(written)
            elif end != "fail":
                journal = MarkJournal(db, 12)
            assert found(db) == truth


def test_the_journal_stays_short_and_all_come_into_the_table():
    with closing(opened()) as db:
        journal = MarkJournal(db, 12)
        for number in range(500):
            db.execute("BEGIN IMMEDIATE")
            written = journal.write(db, [mark(number % 40, number)])
            db.execute("COMMIT")
            journal.committed(written)
            assert rows(db)[1] <= 24  # two generations of marks, one a row
        assert rows(db)[0] == 40


def test_a_slice_is_in_the_order_of_the_keys_and_twice_what_came():
    with closing(opened()) as db:
        journal = MarkJournal(db, 12)
        put = []
        db.set_trace_callback(lambda sql: put.append(sql) if "REPLACE" in sql else None)
        for number in range(4):
            db.execute("BEGIN IMMEDIATE")
            written = journal.write(db, [mark((number * 3 + i) * 7 % 12, number) for i in range(3)])
            db.execute("COMMIT")
            journal.committed(written)
        assert not put
        db.execute("BEGIN IMMEDIATE")
        journal.write(db, [mark(1, 9), mark(2, 9), mark(3, 9)])
        db.execute("COMMIT")
        keys = [key for sql in put for key in re.findall(r"\('([^']*)','([^']*)'", sql)]
        assert keys == sorted(f for f in found(db))[:6]


def test_a_log_of_before_is_read_and_an_older_daemon_refuses_it_then(tmp_path, record):
    path = tmp_path / "log.db"
    log = SqliteLog(path)
    log.append([record(0)])
    log.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE mark_journal")
        db.execute("INSERT INTO mark VALUES ('C1', 'a', '0', 7, '[[9,12]]', 3, 5)")
        db.execute("UPDATE meta SET value = '1' WHERE name = 'format'")
        db.commit()
    log = SqliteLog(path)
    assert log.marks() == [Mark("C1", "a", "0", 7, ((9, 12),), 3, 5)]
    log.append([record(0)], [Mark("C1", "a", "0", 12, (), 3, 5)])
    log.close()
    log = SqliteLog(path)
    assert log.marks() == [Mark("C1", "a", "0", 12, (), 3, 5)]
    log.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone() == ("2",)


@pytest.mark.parametrize("text", ["[", "[[1]]", "{}x", "[1]", "5", "null"])
def test_a_damaged_journal_is_refused(tmp_path, text):
    path = tmp_path / "log.db"
    SqliteLog(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO mark_journal (marks) VALUES (?)", (text,))
        db.commit()
    with pytest.raises(LogFailed) as failed:
        SqliteLog(path)
    assert not failed.value.retriable
