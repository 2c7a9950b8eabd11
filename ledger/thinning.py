"""Pure: which old checkpoint rows go, and the few bytes that stay of each: its partition, id and offset.

Where checkpoints stood decides state: an account is judged at each of them (rule 8 of docs/ARCHITECTURE.md), so a
balance that was low at one and topped up by the next has an arm more than one that was judged at the second alone.
A replay must therefore judge at every one of them, also at those whose rows went. What it does not need is the rest
of the row (a kilobyte of counters, digests, lengths), so that is what goes.

    partition 0, hours    | 13                | 14           | 15 ... newest - keep_s ...        newest
    rows                  x   x  n  x   o   K | x  x   a   K | .   .   .   .   .   .   .   .   .   .

    x goes, o of another partition, n an inbox row was applied in it, a an audit goes on from it, K the last of its
    hour, . not old enough: an hour goes when all of it lies further back than keep_s.

The last of an hour stays, because its counters are those of the whole hour, and the hour after begins with them.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ledger.pages import Damaged

HOUR_S: Final = 3600
COUNT_MAX: Final = 1 << 16  # marks in a page: what unpacks to more is not ours
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Checkpoint rows in order of id, as columns of one length."""

    id: Integers
    partition: Integers
    offset: Integers
    as_of_s: Integers

    def head(self, count: int) -> Rows:
        """The first `count` rows."""
        return Rows(self.id[:count], self.partition[:count], self.offset[:count], self.as_of_s[:count])


@dataclass(frozen=True, slots=True)
class Marks:
    """What is left of rows that went, in order of partition, then id."""

    partition: Integers
    id: Integers
    offset: Integers

    def pack(self) -> bytes:
        """Differences of int64, by byte of significance, deflated: two to three bytes a mark."""
        columns = np.stack((self.partition, self.id, self.offset)).astype("<i8")
        steps = np.ascontiguousarray(np.diff(columns, axis=1, prepend=0))
        planes = steps.view(np.uint8).reshape(3, -1, 8).transpose(0, 2, 1)
        return zlib.compress(planes.tobytes())


def unpack(body: bytes, count: int) -> Marks:
    """The marks that `Marks.pack` packed; raises `Damaged` when they are not `count`."""
    wanted = 3 * 8 * count
    try:
        if not 0 < count <= COUNT_MAX:
            raise Damaged(f"a page of {count} marks")
        bytes_ = zlib.decompressobj().decompress(body, wanted + 1)
    except zlib.error as error:
        raise Damaged(f"a page of {count} marks: {error}") from error
    if len(bytes_) != wanted:
        raise Damaged(f"a page of {count} marks unpacks to {len(bytes_)} bytes")
    planes = np.frombuffer(bytes_, np.uint8).reshape(3, 8, count).transpose(0, 2, 1)
    partition, id_, offset = np.cumsum(np.ascontiguousarray(planes).view("<i8")[:, :, 0], axis=1)
    return Marks(partition, id_, offset)


def due(rows: Rows, newest_as_of_s: Mapping[int, int], keep_s: int) -> int:
    """How many rows, from the first on, lie in hours that are over by `keep_s` by their own partition's newest row.

    It stops at the first that does not: what comes later is looked at again with it, so nothing is passed over.
    """
    over_s = (rows.as_of_s // HOUR_S + 1) * HOUR_S
    newest = np.array([newest_as_of_s[p] for p in rows.partition.tolist()], np.int64)
    waiting = np.flatnonzero(over_s > newest - keep_s)
    return int(waiting[0]) if len(waiting) else len(rows.id)


def going(rows: Rows, following_as_of_s: Mapping[int, int], stay: Collection[int]) -> Marks:
    """Of `rows`, all of which are due, those that go: another of the partition follows in the same hour.

    `following_as_of_s`: of the first row of each partition after these; `stay`: ids that stay in any case.
    """
    hour = rows.as_of_s // HOUR_S
    next_hour = np.array([following_as_of_s[p] // HOUR_S for p in rows.partition.tolist()], np.int64)
    order = np.argsort(rows.partition, kind="stable")
    before, after = order[:-1], order[1:]
    same = rows.partition[before] == rows.partition[after]
    next_hour[before[same]] = hour[after[same]]
    gone = order[((hour == next_hour) & ~np.isin(rows.id, np.fromiter(stay, np.int64)))[order]]
    return Marks(rows.partition[gone], rows.id[gone], rows.offset[gone])
