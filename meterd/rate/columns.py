"""Pure: a table of readings as text, into exact columns; whatever a row has wrong is its verdict, and the rest go on.

A row is `metering_point, register, read_at, value, unit, quality`: an ISO 8601 time with its offset, a decimal as
text, a letter of quality. A register is cumulative, or holds the energy of intervals where its OBIS code says so
(group D is 29): those are summed, and a gap between two of them holds no energy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from config.reasons import Reason
from config.units import Quality, Register

NAMES: Final = ("metering_point", "register", "read_at", "value", "unit", "quality")
# Thousandths of the tariff's unit in one of a row's unit.
UNITS: Final[dict[str, dict[str, int]]] = {
    "kWh": {"Wh": 1, "kWh": 1000, "MWh": 1_000_000},
    "m3": {"l": 1, "L": 1, "m3": 1000},
    "GJ": {"MJ": 1, "GJ": 1000},
}
_VALUE: Final = r"^(?P<sign>-?)(?P<whole>[0-9]{1,15})(?:\.(?P<rest>[0-9]{1,9}))?$"
_VALUE_MAX: Final = 10**15  # thousandths; what a register of 12 digits shows
_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(\.0+)?(Z|[+-][0-9]{2}:?[0-9]{2})$"
_OBIS: Final = re.compile(r"^(?:\d+-\d+:)?(\d+\.\d+\.\d+)(?:\*255)?$")
_LAST_S: Final = 2**32 - 2
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that was not rated as it stands: its line in the file (from 1, with the head), why, and a note."""

    line: int
    metering_point: str
    register: str
    read_at: str
    reason: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows that can be rated, in order of metering point, register and time (equal ones as in the file)."""

    points: tuple[str, ...]
    registers: tuple[str, ...]  # as the file writes them
    point: npt.NDArray[np.int32]
    register: npt.NDArray[np.int32]
    at_s: Int64s
    value: Int64s  # thousandths of the tariff's unit; cumulative
    quality: npt.NDArray[np.uint8]
    line: Int64s
    refusals: tuple[Refusal, ...]

    def __len__(self) -> int:
        return len(self.at_s)


def register_of(text: str) -> tuple[Register | None, bool]:
    """(register, whether it holds intervals) of an OBIS code, with or without medium and channel."""
    found = _OBIS.match(text)
    if not found:
        return None, False
    first, kind, last = found.group(1).split(".")
    of_intervals = kind == "29"
    try:
        return Register(f"{first}.8.{last}" if of_intervals else found.group(1)), of_intervals
    except ValueError:
        return None, False


def within(columns: Columns, from_s: int, to_s: int) -> Columns:
    """Rows read in [from_s, to_s]."""
    keep = (columns.at_s >= from_s) & (columns.at_s <= to_s)
    if keep.all():
        return columns
    names = ("point", "register", "at_s", "value", "quality", "line")
    return replace(columns, **{name: getattr(columns, name)[keep] for name in names})


class _Rows:
    """The table's rows and what has been found wrong with them so far; the first thing said of a row stands."""

    def __init__(self, table: pa.Table) -> None:
        self.text = {name: table[name].combine_chunks().fill_null("") for name in NAMES}
        self.good = np.ones(table.num_rows, bool)
        self.refusals: list[Refusal] = []

    def refuse(self, bad: npt.NDArray[np.bool_], reason: str, note: str) -> None:
        for row in np.flatnonzero(bad & self.good).tolist():
            self.tell(row, reason, note)
        self.good &= ~bad

    def tell(self, row: int, reason: str, note: str) -> None:
        point, register, at = (self.text[name][row].as_py() for name in ("metering_point", "register", "read_at"))
        self.refusals.append(Refusal(row + 2, point, register, at, reason, note))

    def match(self, name: str, pattern: str) -> npt.NDArray[np.bool_]:
        return np.asarray(pc.match_substring_regex(self.text[name], pattern))


def _codes(text: Any) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
    """Distinct values in order of their text, and each row's place among them."""
    coded = pc.dictionary_encode(text)
    names: list[str] = coded.dictionary.to_pylist()
    order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
    place = np.empty(len(names), np.int32)
    place[order] = np.arange(len(names), dtype=np.int32)
    return tuple(names[i] for i in order), place[np.asarray(coded.indices)]


def columns_of(table: pa.Table, unit: str) -> Columns:
    """Read a table of text under `NAMES`; `unit` is the tariff's. Raises ValueError for missing columns."""
    missing = [name for name in NAMES if name not in table.column_names]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}; a file of readings has {', '.join(NAMES)}")
    rows = _Rows(table)
    empty = np.asarray(pc.equal(rows.text["metering_point"], ""))
    rows.refuse(empty, Reason.MALFORMED, "no metering point")
    points, point = _codes(rows.text["metering_point"])
    registers, register = _codes(rows.text["register"])
    known = np.array([register_of(name)[0] is not None for name in registers], bool)
    if len(registers):
        rows.refuse(~known[register], Reason.UNKNOWN_REGISTER, "no OBIS code that is known")
    at_s = _times(rows)
    quality = _qualities(rows)
    value = _values(rows, point.astype(np.int64) * len(registers) + register, unit)
    return _ordered(rows, points, registers, point, register, at_s, value, quality)


def _times(rows: _Rows) -> Int64s:
    told = rows.text["read_at"]
    formed = rows.match("read_at", _TIME)
    rows.refuse(~formed, Reason.TIME_RANGE, "no ISO 8601 time with its offset")
    moments = _moments(pc.if_else(pa.array(formed), told, "1970-01-01T00:00:00Z"))
    rows.refuse((moments <= 0) | (moments > _LAST_S), Reason.TIME_RANGE, "no such time, or out of range")
    return moments


def _moments(texts: Any) -> Int64s:
    """UTC seconds; 0 for a day that is not in the calendar."""
    try:
        cast: Int64s = np.asarray(pc.cast(texts, pa.timestamp("s", "UTC"))).astype("datetime64[s]").astype(np.int64)
        return cast
    except pa.ArrowInvalid:
        import pandas as pd

        read = pd.to_datetime(pd.Series(texts.to_pylist()), utc=True, format="ISO8601", errors="coerce")
        seconds = read.to_numpy("datetime64[s]")
        found: Int64s = np.where(np.isnat(seconds), 0, seconds.astype(np.int64))
        return found


def _qualities(rows: _Rows) -> npt.NDArray[np.uint8]:
    names, code = _codes(rows.text["quality"])
    ranks = np.array([Quality[n] if n in Quality.__members__ else 0 for n in names] or [0], np.uint8)
    quality = ranks[code] if len(code) else np.zeros(0, np.uint8)
    rows.refuse(quality == 0, Reason.WRONG_TYPE, f"quality is one of {', '.join(Quality.__members__)}")
    return quality


def _values(rows: _Rows, series: Int64s, unit: str) -> Int64s:
    """Thousandths of the tariff's unit. A register keeps the unit of its first row; another one is a fault."""
    names, code = _codes(rows.text["unit"])
    factors = np.array([UNITS[unit].get(name, 0) for name in names] or [0], np.int64)
    factor = factors[code] if len(code) else np.zeros(0, np.int64)
    rows.refuse(factor == 0, Reason.UNIT, f"the tariff is by {unit}: one of {', '.join(UNITS[unit])}")
    good = np.flatnonzero(rows.good)
    first = np.zeros(int(series.max(initial=-1)) + 1, np.int64)
    first[series[good[::-1]]] = factor[good[::-1]]
    rows.refuse(rows.good & (factor != first[series]), Reason.UNIT, "another unit than the register's rows before")
    parts = pc.extract_regex(rows.text["value"], _VALUE)
    formed = np.asarray(pc.is_valid(parts))
    rows.refuse(~formed, Reason.NUMBER_FORM, "no plain decimal of at most 15 digits before the point and 9 after")
    whole = _digits(parts.field("whole"))
    billionths = _digits(pc.utf8_rpad(parts.field("rest"), 9, padding="0"))
    one = np.maximum(factor, 1)
    rest, finer = np.divmod(billionths * one, 10**9)
    rows.refuse(finer != 0, Reason.RESOLUTION, f"finer than a thousandth of a {unit}")
    rows.refuse(whole > _VALUE_MAX // one, Reason.OVERFLOW, "larger than any register")
    value = np.minimum(whole, _VALUE_MAX // one) * one + rest
    below = np.asarray(pc.fill_null(pc.equal(parts.field("sign"), "-"), fill_value=False))
    signed: Int64s = np.where(below, -value, value)
    return signed


def _digits(texts: Any) -> Int64s:
    """Digits as numbers; 0 where there are none."""
    filled = pc.if_else(pc.fill_null(pc.equal(texts, ""), fill_value=True), "0", texts)
    return np.asarray(pc.cast(filled, pa.int64()))


def _ordered(
    rows: _Rows,
    points: tuple[str, ...],
    registers: tuple[str, ...],
    point: npt.NDArray[np.int32],
    register: npt.NDArray[np.int32],
    at_s: Int64s,
    value: Int64s,
    quality: npt.NDArray[np.uint8],
) -> Columns:
    keep = np.flatnonzero(rows.good)
    series = point[keep].astype(np.int64) * max(len(registers), 1) + register[keep]
    late = _out_of_order(series, at_s[keep])
    if late.any():
        for row in keep[late].tolist():
            rows.tell(row, "unsorted", "rated in its place")
    holds = [n for n, name in enumerate(registers) if register_of(name)[1]]
    if (np.diff(series) < 0).any() or late.any() or holds:
        # Of two rows for one interval the one of better quality comes first: the others change nothing.
        rank = np.where(np.isin(register[keep], holds), -quality[keep].astype(np.int64), 0)
        keep = keep[np.lexsort((np.arange(len(keep)), rank, at_s[keep], series))]
    chosen = Chosen(point[keep], register[keep], at_s[keep], value[keep], quality[keep], keep + 2)
    columns = _summed(chosen, holds) if holds else chosen
    return Columns(points, registers, *columns, tuple(sorted(rows.refusals, key=lambda r: r.line)))


def _out_of_order(series: Int64s, at_s: Int64s) -> npt.NDArray[np.bool_]:
    """Rows that stand behind a later one of their register, in the order of the file."""
    order = np.argsort(series, kind="stable")
    ranked = series[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = ranked[1:] != ranked[:-1]
    # A running maximum for each register: offsets keep registers apart.
    base = np.cumsum(fresh) * (1 << 33)
    running = np.maximum.accumulate(at_s[order] + base)
    out = np.zeros(len(order), bool)
    out[order] = at_s[order] + base < running
    return out


class Chosen(NamedTuple):
    """Rows that are rated, in columns as `Columns` has them."""

    point: npt.NDArray[np.int32]
    register: npt.NDArray[np.int32]
    at_s: Int64s
    value: Int64s
    quality: npt.NDArray[np.uint8]
    line: Int64s

    def between(self, begin: int, end: int) -> Chosen:
        here = slice(begin, end)
        head = self.point[here], self.register[here], self.at_s[here]
        return Chosen(*head, self.value[here], self.quality[here], self.line[here])


def _summed(rows: Chosen, holds: Sequence[int]) -> Chosen:
    """Rows of interval registers as a cumulative one: a row before the first, and one behind every gap."""
    parts: list[Chosen] = []
    series = rows.point.astype(np.int64) << 32 | rows.register
    begins = np.flatnonzero(np.diff(series, prepend=-1) != 0)
    for begin, end in zip(begins, np.append(begins[1:], len(series)), strict=True):
        part = rows.between(int(begin), int(end))
        parts.append(_cumulated(part) if int(part.register[0]) in holds else part)
    return Chosen(*map(np.concatenate, zip(*parts, strict=True))) if parts else rows


def _cumulated(rows: Chosen) -> Chosen:
    point, register, at_s, value, quality, line = rows
    fresh = np.diff(at_s, prepend=at_s[0] - 1) > 0  # of two rows for one interval the first counts
    steps = np.diff(at_s[fresh])
    length = int(np.bincount(np.minimum(steps, 86_400)).argmax()) if len(steps) else 900
    counted = np.where(fresh, value, 0)
    before = np.cumsum(counted) - counted
    first = np.maximum.accumulate(np.where(fresh, np.arange(len(at_s)), 0))
    total = before[first] + value
    gap = np.diff(at_s, prepend=at_s[0] - length - 1) > length  # its energy is of its own interval alone
    take = np.repeat(np.arange(len(at_s)), 1 + gap)
    starts = np.append(gap[take][1:] & (take[1:] == take[:-1]), False)
    return Chosen(
        point[take],
        register[take],
        np.where(starts, at_s[take] - length, at_s[take]),
        np.where(starts, before[take], total[take]),
        quality[take],
        np.where(starts, 0, line[take]),
    )
