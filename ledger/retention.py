"""I/O: old checkpoint rows are thinned, a bounded step at a time: planned on a snapshot, carried out by the writer.

    reader:  rows after the last one looked at -> which go (ledger.thinning)
    writer:  ONE transaction: their marks into `thinned_page`, the rows out of `checkpoint`

Rows are taken in order of id, all partitions together: neighbours share database pages, and partition by partition
each page would be written as often as it holds partitions. The plan may be made outside of the transaction because
nothing about a row that is not its partition's newest ever changes: it is not written again, and inbox rows are
stamped in the transaction of their own checkpoint. A kill between two steps leaves nothing half done; the next
start looks at the few rows again that stayed since the last page.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Integer, Row, bindparam, delete, func, insert, inspect, select

from ledger import pages
from ledger.commit import crc_of
from ledger.schema import checkpoint, inbox_applied, thinned_page
from ledger.thinning import Marks, Rows, due, going, unpack

ROWS_MAX: Final = 2000  # looked at in a step, so also the most that one transaction deletes
ARRAY: Final = "thinned"  # stands for the array's name in a page's checksum


_C = checkpoint.c
_AFTER: Final = (
    select(checkpoint).where(_C.id > bindparam("after")).order_by(_C.id).limit(bindparam("most", type_=Integer))
)
_NEWEST: Final = select(_C.as_of_s).where(_C.partition == bindparam("home")).order_by(_C.id.desc()).limit(1)
_FOLLOWING: Final = (
    select(_C.as_of_s).where(_C.partition == bindparam("home"), _C.id > bindparam("after")).order_by(_C.id).limit(1)
)


@dataclass(frozen=True, slots=True)
class Step:
    """Rows up to `through_id` were looked at; those of `marks` go."""

    through_id: int
    marks: Marks

    @property
    def count(self) -> int:
        return len(self.marks.id)


def through(connection: Connection) -> int:
    """The last row that went: whoever starts goes on after it. 0: none did."""
    return int(connection.execute(select(func.max(thinned_page.c.last_id))).scalar() or 0)


def planned(
    connection: Connection,
    after_id: int,
    *,
    keep_s: int,
    held: Callable[[], Collection[int]] = tuple,
    rows_max: int = ROWS_MAX,
) -> Step | None:
    """The next step after row `after_id`; None: nothing is old enough. `keep_s` > 0.

    `held`: ids that stay for whoever else names them; asked when there is something to do. A row whose checksum
    does not match stays, too, so that an audit still tells of it.
    """
    assert keep_s > 0, "0 keeps all rows: do not ask"
    first = connection.execute(_AFTER, {"after": after_id, "most": 1}).one_or_none()
    if first is None or not due(_columns([first]), {first.partition: _newest_s(connection, first.partition)}, keep_s):
        return None
    found = connection.execute(_AFTER, {"after": after_id, "most": rows_max}).all()
    rows = _columns(found)
    partitions = np.unique(rows.partition).tolist()
    rows = rows.head(due(rows, {p: _newest_s(connection, p) for p in partitions}, keep_s))
    last_id = int(rows.id[-1])
    following = {p: _following_s(connection, p, last_id) for p in np.unique(rows.partition).tolist()}
    damaged = (row.id for row in found if crc_of(row) != row.crc)
    stay = {*_named(connection, int(rows.id[0]), last_id), *damaged, *held()}
    return Step(last_id, going(rows, following, stay))


def carry_out(connection: Connection, step: Step) -> None:
    """Keep the marks and delete the rows, in the caller's transaction of the one writer."""
    last_id, body = int(step.marks.id.max()), step.marks.pack()
    crc = pages.checksum(0, ARRAY, step.count, last_id, body)
    connection.execute(insert(thinned_page).values(last_id=last_id, count=step.count, body=body, crc=crc))
    gone = connection.execute(delete(checkpoint).where(checkpoint.c.id.in_(step.marks.id.tolist())))
    assert gone.rowcount == step.count, f"{gone.rowcount} rows went, and {step.count} were planned"


def marks(connection: Connection, partition: int) -> Iterator[tuple[int, int]]:
    """(id, offset) of the partition's rows that went, in order; raises `pages.Damaged`."""
    if not inspect(connection).has_table(thinned_page.name):  # no daemon of this version has opened the ledger yet
        return
    c = thinned_page.c
    for last_id, count, body, crc in connection.execute(
        select(c.last_id, c.count, c.body, c.crc).order_by(c.last_id)
    ):
        if pages.checksum(0, ARRAY, count, last_id, body) != crc:
            raise pages.Damaged(f"marks of checkpoints up to {last_id}: the checksum does not match")
        found = unpack(body, count)
        ours = found.partition == partition
        yield from zip(found.id[ours].tolist(), found.offset[ours].tolist(), strict=True)


def _columns(rows: Sequence[Row[Any]]) -> Rows:
    table = np.array([(r.id, r.partition, r.offset, r.as_of_s) for r in rows], np.int64)
    return Rows(*table.T)


def _newest_s(connection: Connection, partition: int) -> int:
    return int(connection.execute(_NEWEST, {"home": partition}).scalar_one())


def _following_s(connection: Connection, partition: int, id_: int) -> int:
    """Time of the partition's first row after `id_`: there is one, for the newest is never due."""
    return int(connection.execute(_FOLLOWING, {"home": partition, "after": id_}).scalar_one())


def _named(connection: Connection, first_id: int, last_id: int) -> list[int]:
    """Rows in which inbox rows were applied (by an index of `inbox_applied`)."""
    c = inbox_applied.c
    asked = select(c.checkpoint_id).distinct().where(c.checkpoint_id.between(first_id, last_id))
    return list(connection.execute(asked).scalars())
