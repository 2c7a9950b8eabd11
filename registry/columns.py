"""Pure: columns of text to columns of integers, a whole column at a time; and joins and spans over them.

A column is a pyarrow array of strings, plain or dictionary-encoded. What few distinct values have (dates,
roles) is parsed once per distinct value; what all rows have (ids, registers) by compiled expressions. Nothing
loops over rows in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from registry.image import FOREVER

Ints = npt.NDArray[np.int64]
Times = npt.NDArray[np.uint32]  # UTC seconds
Lines = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

ID: Final = "^[A-Za-z0-9._-]{1,64}$"
SERIAL: Final = "^[A-Za-z0-9._-]{1,32}$"
BAD: Final = -(2**62)  # an instant or integer that could not be read
_MICRO_DIGITS: Final = 6
_DECIMAL: Final = r"^[0-9]{1,12}(\.[0-9]{1,6})?$"
_SIGNED: Final = r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$"


def coded(column: Any) -> tuple[npt.NDArray[np.int32], Any]:
    """(code per row, distinct values as a string array)."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return np.asarray(column.indices), column.dictionary


def plain(column: Any) -> Any:
    """The column as a plain string array."""
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _spread(column: Any, compute: Callable[[Any], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """`compute` over the distinct values of an encoded column, or over the rows of a plain one."""
    if pa.types.is_dictionary(column.type):
        found: npt.NDArray[Any] = compute(column.dictionary)[np.asarray(column.indices)]
        return found
    return compute(column)


def matches(column: Any, pattern: str) -> Mask:
    """Which rows match an RE2 pattern."""
    return _spread(column, lambda values: np.asarray(pc.match_substring_regex(values, pattern), dtype=bool))


def printable(column: Any, shortest: int, longest: int) -> Mask:
    """Which rows are printable text of that many characters."""

    def compute(values: Any) -> Mask:
        length = np.asarray(pc.utf8_length(values))
        clean = np.asarray(pc.utf8_is_printable(values), dtype=bool)
        good: Mask = (clean | (length == 0)) & (length >= shortest) & (length <= longest)
        return good

    return _spread(column, compute)


def empty(column: Any) -> Mask:
    """Which rows are the empty text."""
    return _spread(column, lambda values: np.asarray(pc.equal(values, ""), dtype=bool))


def _micro(values: Any, pattern: str) -> Ints:
    """Decimal text as millionths; `BAD` where it is no plain decimal of at most 12 and 6 digits."""
    fits = pc.match_substring_regex(values, pattern)
    safe = pc.if_else(fits, values, pa.scalar("0", values.type))
    exact = pc.cast(safe, pa.decimal128(24, _MICRO_DIGITS))
    if len(exact) == 0:
        return np.zeros(0, np.int64)
    # 18 digits fit the low half of the 128-bit little-endian integer, sign included.
    low = np.frombuffer(exact.buffers()[1], dtype="<i8")[::2][exact.offset : exact.offset + len(exact)]
    return np.where(np.asarray(fits, dtype=bool), low, BAD)


def decimals(column: Any, digits: int, *, signed: bool = False) -> tuple[Ints, Mask, Mask]:
    """(integers in 10**-digits, which are no decimals, which are finer than that). Bad rows hold 0."""
    micro = _spread(column, lambda values: _micro(values, _SIGNED if signed else _DECIMAL))
    bad = micro == BAD
    divisor = 10 ** (_MICRO_DIGITS - digits)
    whole, rest = np.divmod(micro, divisor)
    finer = (rest != 0) & ~bad
    return np.where(bad, 0, whole), bad, finer


def integers(column: Any, low: int, high: int, *, default: int | None = None) -> tuple[Ints, Mask]:
    """(integers, which are none within [low, high]); the empty text is `default` when there is one."""

    def compute(values: Any) -> Ints:
        fits = pc.match_substring_regex(values, "^[0-9]{1,10}$")
        numbers = np.asarray(pc.cast(pc.if_else(fits, values, pa.scalar("0", values.type)), pa.int64()))
        good = np.asarray(fits, dtype=bool) & (numbers >= low) & (numbers <= high)
        found = np.where(good, numbers, BAD)
        if default is not None:
            found = np.where(np.asarray(pc.equal(values, ""), dtype=bool), default, found)
        return found

    found = _spread(column, compute)
    bad = found == BAD
    return np.where(bad, low, found), bad


def choices(column: Any, known: dict[str, int]) -> tuple[Ints, Mask]:
    """(the number of each word, which words are not known)."""
    codes, values = coded(column)
    table = np.array([known.get(value, BAD) for value in values.to_pylist()] or [BAD], np.int64)
    found = table[codes] if len(codes) else np.zeros(0, np.int64)
    bad = found == BAD
    return np.where(bad, 0, found), bad


def instant_s(text: str, zone: ZoneInfo) -> int | None:
    """UTC seconds of a local date (its midnight) or of an ISO instant with offset; None when it is neither."""
    try:
        if len(text) == 10 and text[4] == text[7] == "-":
            found = int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())
        elif len(text) >= 17 and text[4] == text[7] == "-" and text[10] == "T":
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None or moment.microsecond:
                return None
            found = int(moment.timestamp())
        else:
            return None
    except ValueError:
        return None
    return found if 0 <= found < FOREVER else None


def instants(
    column: Any, zone_of: npt.NDArray[np.int32], zones: list[ZoneInfo], *, open_s: int | None
) -> tuple[Ints, Mask]:
    """(UTC seconds, which are no instants); the empty text is `open_s`, or bad without one."""
    codes, values = coded(column)
    if len(codes) == 0:
        return np.zeros(0, np.int64), np.zeros(0, bool)
    texts = values.to_pylist()
    table = np.full((max(1, len(zones)), max(1, len(texts))), BAD, np.int64)
    for row, zone in enumerate(zones):
        for place, text in enumerate(texts):
            found = open_s if text == "" else instant_s(text, zone)
            if found is not None:
                table[row, place] = found
    found_s = table[0][codes] if len(zones) == 1 else table[zone_of, codes]
    bad = found_s == BAD
    return np.where(bad, 0, found_s), bad


def ascending(column: Any) -> bool:
    """Whether a plain string array rises strictly: then it has no duplicates and needs no sorting."""
    if len(column) < 2:
        return True
    return bool(pc.all(pc.less(column[:-1], column[1:])).as_py())


def repeated(column: Any) -> Mask:
    """Which rows repeat the value of an earlier row."""
    if ascending(column):
        return np.zeros(len(column), bool)
    codes, values = coded(column)
    return repeated_numbers(codes, len(values))


def repeated_numbers(numbers: npt.NDArray[Any], distinct: int | None = None) -> Mask:
    """Which numbers repeat an earlier one."""
    again = np.zeros(len(numbers), bool)
    if distinct is not None and distinct == len(numbers):
        return again
    _, first = np.unique(numbers, return_index=True)
    if len(first) < len(numbers):
        again[:] = True
        again[first] = False
    return again


def places(needles: Any, ids: Any) -> npt.NDArray[np.int32]:
    """Row of each needle in `ids` (plain, distinct); -1 where there is none."""
    if len(ids) == 0:
        return np.full(len(needles), -1, np.int32)
    if pa.types.is_dictionary(needles.type):
        codes, values = coded(needles)
        found = np.asarray(pc.fill_null(pc.index_in(values, value_set=ids), -1))
        return found[codes].astype(np.int32)
    if len(needles) == len(ids) and needles.equals(ids):
        return np.arange(len(ids), dtype=np.int32)
    return np.asarray(pc.fill_null(pc.index_in(needles, value_set=ids), -1)).astype(np.int32)


def grouped(keys: npt.NDArray[Any], groups: int) -> tuple[Ints, Ints]:
    """(rows in order of their key, stable; where each key starts, `groups` + 1 of them). Keys within [0, groups)."""
    counts = np.bincount(keys, minlength=groups)
    start = np.zeros(groups + 1, np.int64)
    np.cumsum(counts, out=start[1:])
    rising = len(keys) < 2 or bool(np.all(keys[:-1] <= keys[1:]))
    order = np.arange(len(keys)) if rising else np.argsort(keys, kind="stable")
    return order, start


def joined(keys: npt.NDArray[Any], order: Ints, start: Ints) -> tuple[Ints, Ints]:
    """All pairs (left row, right row) with equal keys, the right side `grouped`, in the order of the left."""
    low = start[keys]
    counts = start[keys + 1] - low
    if len(counts) and bool(np.all(counts == 1)):
        return np.arange(len(keys)), order[low]
    left = np.repeat(np.arange(len(keys)), counts)
    within = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    return left, order[np.repeat(low, counts) + within]


def by_span(keys: npt.NDArray[Any], from_s: npt.NDArray[Any]) -> Ints:
    """Rows in order of (key, from)."""
    return np.lexsort((from_s, keys))


def overlapping(keys: npt.NDArray[Any], from_s: npt.NDArray[Any], to_s: npt.NDArray[Any]) -> Mask:
    """Which spans begin before an earlier span of the same key has ended."""
    bad = np.zeros(len(keys), bool)
    if len(keys) < 2 or bool(np.all(keys[:-1] < keys[1:])):
        return bad
    order = by_span(keys, from_s)
    same = keys[order][1:] == keys[order][:-1]
    bad[order[1:]] = same & (from_s[order][1:] < to_s[order][:-1])
    return bad
