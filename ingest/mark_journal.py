"""I/O: the marks of streams in the log's file: appended with the records, folded into their table later.

A mark is a row of a hundred bytes somewhere in its table. A group of messages from lone meters moves a few hundred
of them, each on a page of its own: 30 kB written a reading. So the marks of a transaction are one row of
`mark_journal`; once GENERATION of them have come, the newest of each stream are put into `mark` in the order of its
keys, a slice with each transaction, and the rows that they came from are deleted with the last slice. They are put in
order by merging runs, as far as a slice needs: to sort them all would hold everything up for 50 ms.

    what is true of a stream: the last of its marks in `mark_journal`, or else the one in `mark`

    journal rows     meaning                                         leave when
    <= old_last      the generation that is being folded             its last slice is in `mark`
    >  old_last      the generation that is being written            they are GENERATION: they become the old one
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec

from ingest.many_rows import insert, many
from ingest.sequences import Key, Mark, ahead_of

GENERATION: Final = 32_768  # marks
RUN_MAX: Final = 512  # keys of short transactions that are sorted together
SLICE_MIN: Final = 64  # marks folded with one transaction; at least twice as many as it brings
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS mark (
    source TEXT NOT NULL, stream TEXT NOT NULL, shard TEXT NOT NULL, contiguous INTEGER NOT NULL,
    ahead TEXT NOT NULL, boot INTEGER NOT NULL, boot_sequence INTEGER NOT NULL, PRIMARY KEY (source, stream)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mark_journal (id INTEGER PRIMARY KEY, marks TEXT NOT NULL);
"""
_PUT: Final = many("INSERT OR REPLACE INTO mark VALUES ", 7)
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
        self._runs: list[list[Key]] = []  # the keys of `_young`, each run in order
        self._old: dict[Key, Row] = {}  # of what is being folded, what is not in `_ready` yet
        self._order: Iterator[Key] = iter(())  # of `_old`, ascending; a key may come again
        self._ready: deque[Row] = deque()  # the next ones in order
        self._old_last = 0
        self._last = 0
        for row, text in connection.execute("SELECT id, marks FROM mark_journal ORDER BY id"):
            self._add(_rows(text), row)
        self._turn()

    def write(self, connection: sqlite3.Connection, marks: Sequence[Mark]) -> Written:
        """In the caller's transaction: the marks, and a slice of what is folded."""
        rows = [(m.source, m.stream, m.shard, m.contiguous, m.ahead_text(), m.boot, m.boot_sequence) for m in marks]
        text = msgspec.json.encode(rows).decode()
        row = connection.execute("INSERT INTO mark_journal (marks) VALUES (?)", (text,)).lastrowid
        assert row is not None
        wanted = max(SLICE_MIN, 2 * len(marks))
        while self._old and len(self._ready) < wanted:
            newest_of = self._old.pop(next(self._order), None)
            if newest_of is not None:
                self._ready.append(newest_of)
        folded = min(len(self._ready), wanted)
        if folded:
            insert(connection, _PUT, list(islice(self._ready, folded)))
            if not self._old and folded == len(self._ready):
                connection.execute("DELETE FROM mark_journal WHERE id <= ?", (self._old_last,))
        return Written(rows, row, folded)

    def committed(self, written: Written) -> None:
        """The transaction that `written` was part of is durable."""
        self._add({(mark[0], mark[1]): mark for mark in written.marks}, written.row)
        for _ in range(written.folded):
            self._ready.popleft()
        self._turn()

    def _add(self, marks: dict[Key, Row], row: int) -> None:
        self._young.update(marks)
        self._young_count += len(marks)
        if self._runs and len(self._runs[-1]) + len(marks) <= RUN_MAX:
            self._runs[-1] = sorted([*self._runs[-1], *marks])
        else:
            self._runs.append(sorted(marks))
        self._last = row

    def _turn(self) -> None:
        if self._young_count >= self._generation and not self._old and not self._ready:
            self._old, self._order, self._old_last = self._young, heapq.merge(*self._runs), self._last
            self._young, self._young_count, self._runs = {}, 0, []


def _rows(text: str) -> dict[Key, Row]:
    found: Any = json.loads(text)
    try:
        return {(a, b): (a, b, c, d, e, f, g) for a, b, c, d, e, f, g in found}
    except TypeError as error:  # JSON, and no table
        raise ValueError(f"a damaged row of marks: {error}") from error
