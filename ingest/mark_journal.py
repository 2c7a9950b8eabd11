"""I/O: the marks of streams in the log's file: appended with the records, folded into their table later.

A mark is a row of a hundred bytes somewhere in its table. A group of messages from lone meters moves a few hundred
of them, each on a page of its own: 30 kB written a reading. So the marks of a transaction are one row of
`mark_journal`; once GENERATION of them have come, the newest of each stream are put into `mark` in the order of its
keys, a slice with each transaction, and the rows that they came from are deleted with the last slice.

    what is true of a stream: the last of its marks in `mark_journal`, or else the one in `mark`

    journal rows     meaning                                         leave when
    <= old_last      the generation that is being folded             its last slice is in `mark`
    >  old_last      the generation that is being written            they are GENERATION: they become the old one
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ingest.sequences import Key, Mark, ahead_of

GENERATION: Final = 32_768  # marks
SLICE_MIN: Final = 64  # marks folded with one transaction; at least twice as many as it brings
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS mark (
    source TEXT NOT NULL, stream TEXT NOT NULL, shard TEXT NOT NULL, contiguous INTEGER NOT NULL,
    ahead TEXT NOT NULL, boot INTEGER NOT NULL, boot_sequence INTEGER NOT NULL, PRIMARY KEY (source, stream)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mark_journal (id INTEGER PRIMARY KEY, marks TEXT NOT NULL);
"""
_PUT: Final = "INSERT OR REPLACE INTO mark VALUES (?,?,?,?,?,?,?)"
_ALL: Final = """
SELECT 0 AS id, json_array(json_array(source, stream, shard, contiguous, ahead, boot, boot_sequence)) FROM mark
UNION ALL SELECT id, marks FROM mark_journal ORDER BY id
"""  # one statement: one moment, for a reader beside the daemon, too

Row = tuple[str, str, str, int, str, int, int]


@dataclass(frozen=True, slots=True)
class Written:
    """What one transaction has written, for `MarkJournal.committed`."""

    marks: Sequence[Row]
    row: int
    folded: int


def newest(connection: sqlite3.Connection) -> list[Mark]:
    """The newest mark of every stream, as the file has it; ValueError when a row is damaged."""
    found: dict[Key, Row] = {}
    for _, text in connection.execute(_ALL):
        found.update(_rows(text))
    return [Mark(a, b, c, d, ahead_of(e), f, g) for a, b, c, d, e, f, g in found.values()]


class MarkJournal:
    """For the log's one writer. Between transactions it knows what the file says, and changes only with commits."""

    def __init__(self, connection: sqlite3.Connection, generation: int = GENERATION) -> None:
        """`generation`: marks that are folded together. ValueError when a row is damaged."""
        self._generation = generation
        self._young: dict[Key, Row] = {}
        self._young_count = 0
        self._old: list[Row] = []  # by key, descending: the next ones are at the end
        self._old_last = 0
        self._last = 0
        for row, text in connection.execute("SELECT id, marks FROM mark_journal ORDER BY id"):
            marks = _rows(text)
            self._young.update(marks)
            self._young_count += len(marks)
            self._last = row
        self._turn()

    def write(self, connection: sqlite3.Connection, marks: Sequence[Mark]) -> Written:
        """In the caller's transaction: the marks, and a slice of what is folded."""
        rows = [(m.source, m.stream, m.shard, m.contiguous, m.ahead_text(), m.boot, m.boot_sequence) for m in marks]
        text = msgspec.json.encode(rows).decode()
        row = connection.execute("INSERT INTO mark_journal (marks) VALUES (?)", (text,)).lastrowid
        assert row is not None
        folded = min(len(self._old), max(SLICE_MIN, 2 * len(marks)))
        if folded:
            connection.executemany(_PUT, self._old[: -folded - 1 : -1])
            if folded == len(self._old):
                connection.execute("DELETE FROM mark_journal WHERE id <= ?", (self._old_last,))
        return Written(rows, row, folded)

    def committed(self, written: Written) -> None:
        """The transaction that `written` was part of is durable."""
        self._young.update({(mark[0], mark[1]): mark for mark in written.marks})
        self._young_count += len(written.marks)
        self._last = written.row
        if written.folded:
            del self._old[-written.folded :]
        self._turn()

    def _turn(self) -> None:
        if self._young_count >= self._generation and not self._old:
            self._old = sorted(self._young.values(), reverse=True)
            self._old_last = self._last
            self._young, self._young_count = {}, 0


def _rows(text: str) -> dict[Key, Row]:
    found: Any = json.loads(text)
    try:
        return {(a, b): (a, b, c, d, e, f, g) for a, b, c, d, e, f, g in found}
    except TypeError as error:  # JSON, and no table
        raise ValueError(f"a damaged row of marks: {error}") from error
