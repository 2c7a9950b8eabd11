"""Pure: columns of text to columns of integers, a whole column at a time; and joins and spans over them.

A column is a pyarrow array of strings, plain or dictionary-encoded. What few distinct values have (dates,
roles) is parsed once per distinct value; what all rows have (ids, registers) by compiled expressions. Nothing
loops over rows in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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
Mask = npt.NDArray[np.bool_]

ID: Final = "^[A-Za-z0-9._-]{1,64}$"
SERIAL: Final = "^[A-Za-z0-9._-]{1,32}$"
BAD: Final = -(2**62)  # an instant or integer that could not be read
_FINER: Final = BAD + 1
_MICRO_DIGITS: Final = 6
_SLICE: Final = 1 << 18  # rows that are computed at a time: what is between must not be as long as the file
_DECIMAL: Final = r"^[0-9]{1,12}(\.[0-9]{1,6})?$"
_SIGNED: Final = r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$"


@dataclass(frozen=True, slots=True)
class Lines:
    """The line of each row of a file; `skipped` are lines (rising) that are no rows. Line 1 is the header."""

    count: int = 0
    skipped: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Any) -> Any:
        """Line of a row, or of each of many."""
        before = self.skipped - 2 - np.arange(len(self.skipped))  # rows before each
        return rows + 2 + np.searchsorted(before, rows, "right")


def coded(column: Any) -> tuple[npt.NDArray[np.int32], Any]:
    """(code per row, distinct values as a string array)."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return np.asarray(column.indices), column.dictionary


def plain(column: Any) -> Any:
    """The column as a plain string array."""
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def take(column: Any, rows: npt.NDArray[np.integer[Any]]) -> Any:
    """Some rows of a column."""
    return column.take(pa.array(rows))


def _spread(column: Any, compute: Callable[[Any], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """`compute` over the distinct values of an encoded column, or over the rows of a plain one."""
    if pa.types.is_dictionary(column.type):
        found: npt.NDArray[Any] = compute(column.dictionary)[np.asarray(column.indices)]
        return found
    if len(column) <= _SLICE:
        return compute(column)
    return np.concatenate([compute(column.slice(low, _SLICE)) for low in range(0, len(column), _SLICE)])


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
    divisor = 10 ** (_MICRO_DIGITS - digits)

    def compute(values: Any) -> Ints:
        micro = _micro(values, _SIGNED if signed else _DECIMAL)
        whole, rest = np.divmod(micro, divisor)
        return np.where(micro == BAD, BAD, np.where(rest != 0, _FINER, whole))

    found = _spread(column, compute)
    bad, finer = found == BAD, found == _FINER
    found[bad | finer] = 0
    return found, bad, finer


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
    found[bad] = low
    return found, bad


def choices(column: Any, known: dict[str, int]) -> tuple[npt.NDArray[np.int16], Mask]:
    """(the number of each word, below 2**15; which words are not known)."""
    codes, values = coded(column)
    words = values.to_pylist()
    table = np.array([known.get(word, 0) for word in words], np.int16)
    strange = np.array([word not in known for word in words], bool)
    return table[codes], strange[codes]


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
    column: Any, zone_of: npt.NDArray[np.int16], zones: list[ZoneInfo], *, open_s: int | None
) -> tuple[Times, Mask]:
    """(UTC seconds, which are no instants: they hold 0); the empty text is `open_s`, or bad without one."""
    codes, values = coded(column)
    texts = values.to_pylist()
    table = np.zeros((max(1, len(zones)), len(texts)), np.uint32)
    bad = np.ones(table.shape, bool)
    for row, zone in enumerate(zones):
        for place, text in enumerate(texts):
            found = open_s if text == "" else instant_s(text, zone)
            if found is not None:
                table[row, place], bad[row, place] = found, False
    if len(zones) == 1:
        return table[0][codes], bad[0][codes]
    return table[zone_of, codes], bad[zone_of, codes]


def repeated_numbers(numbers: npt.NDArray[Any], distinct: int | None = None) -> Mask:
    """Which numbers repeat an earlier one."""
    again = np.zeros(len(numbers), bool)
    if distinct == len(numbers) or bool(np.all(numbers[:-1] < numbers[1:])):
        return again
    rising = np.sort(numbers)
    if bool(np.all(rising[:-1] < rising[1:])):
        return again
    _, first = np.unique(numbers, return_index=True)
    if len(first) < len(numbers):
        again[:] = True
        again[first] = False
    return again


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


def overlapping(keys: npt.NDArray[Any], from_s: npt.NDArray[Any], to_s: npt.NDArray[Any]) -> Mask:
    """Which spans begin before an earlier span of the same key has ended."""
    bad = np.zeros(len(keys), bool)
    order = None if bool(np.all(keys[:-1] <= keys[1:])) else np.argsort(keys, kind="stable")
    rising = keys if order is None else keys[order]
    same = rising[1:] == rising[:-1]
    shared = np.zeros(len(keys), bool)  # by a second span of the same key: mostly few
    shared[1:] = same
    shared[:-1] |= same
    rows = np.flatnonzero(shared) if order is None else order[shared]
    rows = rows[np.lexsort((from_s[rows], keys[rows]))]
    again = keys[rows][1:] == keys[rows][:-1]
    bad[rows[1:]] = again & (from_s[rows][1:] < to_s[rows][:-1])
    return bad
