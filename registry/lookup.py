"""Pure: ids as text: which stand twice, and at which row others stand. Exact, in bounded memory for any order.

Files mostly come in order, and in the same order as each other: that costs comparisons only.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from registry import columns

_SLICE: Final = 1 << 18  # names that are compared at a time
_HASHED: Final = 1 << 20  # names that stand in one hash table
_DIGESTED: Final = 1 << 16
_FACTOR: Final = 0x9E3779B97F4A7C15  # odd, so that it can be divided by, modulo 2**64
_UNFACTOR: Final = pow(_FACTOR, -1, 1 << 64)


def ascending(column: Any) -> bool:
    """Whether a plain string array rises strictly: then it has no duplicates and needs no sorting."""
    if len(column) < 2:
        return True
    return bool(pc.all(pc.less(column[:-1], column[1:])).as_py())


def repeated(column: Any) -> columns.Mask:
    """Which rows repeat the value of an earlier row."""
    again = np.zeros(len(column), bool)
    if ascending(column):
        return again
    digests = _digests(columns.plain(column))
    rising = np.sort(digests)
    shared = rising[1:][rising[1:] == rising[:-1]]
    if len(shared):  # equal text, or by chance: only these are compared as text
        rows = np.flatnonzero(np.isin(digests, shared))
        codes, values = columns.coded(columns.take(column, rows))
        again[rows] = columns.repeated_numbers(codes, len(values))
    return again


def _digests(values: Any) -> npt.NDArray[np.uint64]:
    """64 bits of each text, equal for equal texts: a polynomial of its bytes, by differences of running sums."""
    found = np.zeros(len(values), np.uint64)
    _, begins, text = values.buffers()
    if not len(values) or text is None:
        return found
    offsets = np.frombuffer(begins, np.int32)[values.offset : values.offset + len(values) + 1]
    everything = np.frombuffer(text, np.uint8)
    for low in range(0, len(values), _DIGESTED):
        cut = offsets[low : low + _DIGESTED + 1]
        places = cut - cut[0]
        count = int(places[-1])
        sums = np.zeros(count + 1, np.uint64)
        letters = everything[cut[0] : cut[-1]].astype(np.uint64) + np.uint64(1)
        np.cumsum(letters * np.cumprod(np.full(count, _FACTOR, np.uint64)), out=sums[1:])
        shift = np.cumprod(np.full(count + 1, _UNFACTOR, np.uint64))[places[:-1]]
        found[low : low + len(shift)] = (sums[places[1:]] - sums[places[:-1]]) * shift
    return found


def places(needles: Any, ids: Any) -> npt.NDArray[np.int32]:
    """Row of each needle in `ids` (plain, distinct); -1 where there is none."""
    if len(ids) == 0:
        return np.full(len(needles), -1, np.int32)
    if pa.types.is_dictionary(needles.type):
        codes, values = columns.coded(needles)
        found = np.asarray(pc.fill_null(pc.index_in(values, value_set=ids), -1))
        return found[codes].astype(np.int32)
    if len(needles) == len(ids) and needles.equals(ids):
        return np.arange(len(ids), dtype=np.int32)
    found = _near(needles, ids)
    missing = np.flatnonzero(found < 0)
    for low in range(0, len(missing), _HASHED):
        rows = missing[low : low + _HASHED]
        found[rows] = _hashed(needles.take(pa.array(rows)), ids)
    return found


def _near(needles: Any, ids: Any) -> npt.NDArray[np.int32]:
    """`places` for files in about the same order: each slice is looked for where the one before it ended.

    -1 also for what is elsewhere; stops when little is found, so that files in no order lose no time.
    """
    found = np.full(len(needles), -1, np.int32)
    ahead = -(-len(ids) * _SLICE // max(1, len(needles)))  # as far as one slice of needles reaches, if evenly
    at = 0
    for low in range(0, len(needles), _SLICE):
        some = needles.slice(low, _SLICE)
        if at + len(some) <= len(ids) and ids.slice(at, len(some)).equals(some):
            found[low : low + len(some)] = np.arange(at, at + len(some))
            at += len(some)
            continue
        begin = max(0, at - ahead)
        here = _hashed(some, ids.slice(begin, at - begin + 2 * ahead))
        there = np.flatnonzero(here >= 0)
        found[low + there] = here[there] + begin
        if 2 * len(there) < len(some):
            break
        at = int(here[there[-1]]) + begin + 1
    return found


def _hashed(needles: Any, ids: Any) -> npt.NDArray[np.int32]:
    """`places` by one hash table of the needles: they are the fewer."""
    codes, values = columns.coded(needles)
    code = np.asarray(pc.fill_null(pc.index_in(ids, value_set=values), -1))
    row = np.full(len(values), -1, np.int32)
    there = np.flatnonzero(code >= 0)
    row[code[there]] = there
    return row[codes] if len(codes) else np.zeros(0, np.int32)
