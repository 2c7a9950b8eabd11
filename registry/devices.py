"""Pure: what stands in the street: points, concentrators, meters, registers, their first registers, change-outs.

Each function takes the text tables, tells every fault, and returns columns of integers in which names have
become row numbers. A row with a fault keeps its place (with 0 or -1), so that later checks go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from config.units import FED_IN_REGISTER, REGISTER_CODE, REGISTER_UNIT, Quality, Register
from registry import columns, lookup
from registry.address import addresses
from registry.checks import Checked, at
from registry.columns import Ints, Lines, Mask, Times
from registry.faults import Faults
from registry.image import FOREVER
from registry.layout import COMMODITIES
from registry.tables import Table

METERS_MAX: Final = 1 << 24  # so that (meter, register, time) packs into 64 bits
DIGITS_MAX: Final = 12
_SLICE: Final = 1 << 20
ZONES_MAX: Final = 1 << 15
_CODES: Final = {register.value: code for register, code in REGISTER_CODE.items()}
_RESOLUTIONS: Final = {"1": 1000, "1.0": 1000, "0.1": 100, "0.01": 10, "0.001": 1}
_TOTAL: Final = REGISTER_CODE[Register.IMPORT_TOTAL]
_BY_RATE: Final = (_TOTAL + 1, _TOTAL + 4)
_VOLUME: Final = REGISTER_CODE[Register.VOLUME]


@dataclass(slots=True)
class Points:
    """Metering points: their id, time zone, commodity (index into COMMODITIES)."""

    ids: Any
    zone: npt.NDArray[np.int16]
    zones: list[ZoneInfo]
    commodity: npt.NDArray[np.int8]


@dataclass(slots=True)
class Meters:
    """Distinct meters, and (in `row_*`) the dated rows of meters.csv that belong to them."""

    ids: Any
    address: npt.NDArray[np.uint64]
    point: npt.NDArray[np.int32]
    row_meter: npt.NDArray[np.int32]
    row_concentrator: npt.NDArray[np.int32]
    row_position: npt.NDArray[np.int32]
    row_from_s: Times
    row_to_s: Times
    row_digits: npt.NDArray[np.uint8]
    row_multiplier: npt.NDArray[np.uint16]
    row_power_max_w: npt.NDArray[np.uint32]


@dataclass(slots=True)
class Registers:
    """Registers of meters, one row each, and the final read of a change-out (-1: none)."""

    meter: npt.NDArray[np.int32]
    code: npt.NDArray[np.uint8]
    bill: npt.NDArray[np.bool_]
    resolution: npt.NDArray[np.uint16]
    closing: npt.NDArray[np.int64]
    lines: Lines | npt.NDArray[np.int64]

    def keys(self) -> npt.NDArray[np.int64]:
        """One number per (meter, register)."""
        return self.meter.astype(np.int64) * 256 + self.code


@dataclass(slots=True)
class Openings:
    """First registers: `register` is a row of Registers; `given` tells opening_registers.csv from change-outs.

    `lines` are those of opening_registers.csv, which stand first.
    """

    register: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    value: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    at_s: Times = field(default_factory=lambda: np.zeros(0, np.uint32))
    quality: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    given: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    lines: Lines | npt.NDArray[np.int64] = field(default_factory=Lines)

    def join(self, other: Openings) -> Openings:
        """Both, one behind the other."""
        if not len(other.register):
            return self
        names = ("register", "value", "at_s", "quality", "given")
        joined = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names}
        return Openings(**joined, lines=self.lines)


def points(table: Table, default_zone: str, faults: Faults) -> Points:
    """points.csv; an empty time zone is the settings' own."""
    checked = Checked(table, faults)
    checked.ids("metering_point")
    checked.unique("metering_point")
    commodity = checked.choice("commodity", {name: place for place, name in enumerate(COMMODITIES)})
    codes, values = columns.coded(table["timezone"])
    if len(values) > ZONES_MAX:
        faults.add(table.file, 0, f"{len(values)} time zones; at most {ZONES_MAX}")
        codes = codes % ZONES_MAX
    zones: list[ZoneInfo] = []
    known = np.zeros(len(values), bool)
    for place, name in enumerate(values.to_pylist()):
        zone = _zone(name or default_zone)
        known[place] = zone is not None
        zones.append(zone or ZoneInfo("UTC"))
    checked.bad(~known[codes] if len(codes) else np.zeros(0, bool), "timezone {!r} is not known", "timezone")
    ids = columns.plain(table["metering_point"])
    return Points(ids, codes.astype(np.int16), zones or [ZoneInfo("UTC")], commodity.astype(np.int8))


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def concentrators(table: Table, faults: Faults) -> Any:
    """concentrators.csv: the ids."""
    checked = Checked(table, faults)
    checked.ids("concentrator")
    checked.unique("concentrator")
    checked.ids("shard")
    return columns.plain(table["concentrator"])


def meters(table: Table, known: Points, concentrator_ids: Any, faults: Faults) -> Meters:
    """meters.csv: one point for a meter's life, one meter at a point at a time, one address each."""
    checked = Checked(table, faults)
    proper = checked.ids("meter", columns.SERIAL)
    serials = columns.plain(table["meter"])
    if not lookup.repeated(serials).any():
        ids, meter = serials, np.arange(len(serials), dtype=np.int32)
    else:
        meter, ids = columns.coded(serials)
    if len(ids) > METERS_MAX:
        faults.add(table.file, 0, f"{len(ids)} meters; at most {METERS_MAX}")
    row_point = checked.places("metering_point", known.ids, "points.csv")
    from_s, to_s = checked.span(at(known.zone, row_point, 0), known.zones)
    checked.bad(columns.overlapping(meter, from_s, to_s), "overlaps another span of meter {}", "meter")
    point = np.full(len(ids), -1, np.int32)
    point[meter[::-1]] = row_point[::-1]  # the first row of a meter stands
    checked.bad(
        (point[meter] != row_point) & (row_point >= 0),
        "meter {} is at another point already; a meter serves one point",
        "meter",
    )
    apart = columns.overlapping(row_point, from_s, to_s) & (row_point >= 0)
    checked.bad(apart, "another meter is at point {} in that span", "metering_point")
    del row_point, apart
    if proper.all():
        number = addresses(ids)
    else:
        good = np.zeros(len(ids), bool)
        good[meter] = proper
        number = np.zeros(len(ids), np.uint64)
        number[good] = addresses(ids.filter(pa.array(good)))
    twice = columns.repeated_numbers(number)
    checked.bad(twice[meter] & proper, "meter {} has the address of another meter", "meter")
    return Meters(
        ids,
        number,
        point,
        meter.astype(np.int32),
        checked.places("concentrator", concentrator_ids, "concentrators.csv"),
        checked.integer("position", 0, 10**6).astype(np.int32),
        from_s,
        to_s,
        checked.integer("digits", 0, DIGITS_MAX, default=0).astype(np.uint8),
        checked.integer("multiplier", 1, 2**16 - 1, default=1).astype(np.uint16),
        checked.integer("power_max_w", 0, 2**32 - 1, default=0).astype(np.uint32),
    )


def registers(table: Table, known: Meters, where: Points, meter_lines: Lines, faults: Faults) -> Registers:
    """registers.csv: what each meter counts, and which of it is billed."""
    checked = Checked(table, faults)
    meter = checked.places("meter", known.ids, "meters.csv")
    code = checked.choice("register", _CODES)
    bill = checked.choice("role", {"bill": 1, "check": 0}).astype(bool)
    resolution = checked.choice("resolution", _RESOLUTIONS)
    unit = checked.choice("unit", {"kWh": 1, "kvarh": 2, "m3": 3})
    unit_of = np.zeros(256, np.int16)
    for register, number in REGISTER_CODE.items():
        unit_of[number] = {"kWh": 1, "kvarh": 2, "m3": 3}[REGISTER_UNIT[register]]
    checked.bad(
        (unit_of[code] != unit) & (code > 0) & (unit > 0), "unit {} is not that of register {}", "unit", "register"
    )
    found = Registers(
        meter,
        code.astype(np.uint8),
        bill,
        resolution.astype(np.uint16),
        np.full(len(meter), -1, np.int64),
        table.lines,
    )
    checked.bad(
        columns.repeated_numbers(found.keys()) & (meter >= 0), "register {} of that meter stands twice", "register"
    )
    billable = (
        ((code >= _TOTAL) & (code <= _BY_RATE[1])) | (code == FED_IN_REGISTER) | (code == _VOLUME) | (code == 0)
    )
    checked.bad(bill & ~billable, "register {} can only have the role check", "register")
    total, by_rate = np.zeros(len(known.ids) + 1, bool), np.zeros(len(known.ids) + 1, bool)
    total[meter[bill & (code == _TOTAL)]] = True
    is_rate = bill & (code >= _BY_RATE[0]) & (code <= _BY_RATE[1])
    by_rate[meter[is_rate]] = True
    checked.bad(is_rate & total[meter] & (meter >= 0), "{} is billed beside the total of the same meter", "register")
    commodity = at(where.commodity, at(known.point, meter, -1), -1)
    electric = commodity == COMMODITIES.index("electricity")
    piped = (commodity == COMMODITIES.index("water")) | (commodity == COMMODITIES.index("gas"))
    checked.bad(
        (electric & (code == _VOLUME)) | (piped & (code != _VOLUME) & (code > 0)),
        "register {} does not count what that point delivers",
        "register",
    )
    has = np.bincount(meter[meter >= 0], minlength=len(known.ids)) > 0
    bare = ~has & (table.file not in faults.unread)
    if bare.any():
        first_line = np.zeros(len(known.ids), np.int64)
        first_line[known.row_meter[::-1]] = meter_lines[np.arange(len(meter_lines))][::-1]
        faults.rows("meters.csv", first_line, bare, lambda row: f"meter {known.ids[row]} has no row in registers.csv")
    return found


def openings(table: Table, known: Meters, counted: Registers, where: Points, faults: Faults) -> Openings:
    """opening_registers.csv: the registers from which meterd counts."""
    checked = Checked(table, faults)
    meter = checked.places("meter", known.ids, "meters.csv")
    code = checked.choice("register", _CODES)
    row = _register_rows(meter, code, counted)
    checked.bad(
        (row < 0) & (meter >= 0) & (code > 0), "register {} of meter {} is not in registers.csv", "register", "meter"
    )
    value = checked.decimal("value", 3)
    step = np.maximum(at(counted.resolution, row, 1), 1)  # 0: that row was told already
    checked.bad(value % step != 0, "value {} is finer than the register's resolution", "value")
    checked.bad(_too_long(value, meter, known), "value {} has more digits than the meter", "value")
    zone = at(where.zone, at(known.point, meter, -1), 0)
    at_s = checked.instant("read_at", zone, where.zones)
    quality = checked.choice("quality", {name.name: int(name) for name in Quality})
    checked.bad(
        columns.repeated_numbers(_keyed(row, at_s)),
        "register {} of meter {} is opened twice at that time",
        "register",
        "meter",
    )
    return Openings(row, value, at_s, quality.astype(np.uint8), np.ones(len(row), bool), table.lines)


def changeouts(
    table: Table, known: Meters, counted: Registers, where: Points, now_s: int, faults: Faults
) -> Openings:
    """changeouts.csv: sets the old register's closing value, returns the new register's opening."""
    if not len(table):
        return Openings()
    checked = Checked(table, faults)
    point = checked.places("metering_point", where.ids, "points.csv")
    at_s = checked.instant("at", at(where.zone, point, 0), where.zones)
    checked.bad(at_s > now_s, "a change-out at {} is in the future", "at")
    old = checked.places("old_meter", known.ids, "meters.csv")
    new = checked.places("new_meter", known.ids, "meters.csv")
    there = point >= 0
    gone = there & (old >= 0) & ~_stood(old, point, at_s, known, known.row_to_s)
    checked.bad(gone, "meter {} is not at point {} until {}", "old_meter", "metering_point", "at")
    absent = there & (new >= 0) & ~_stood(new, point, at_s, known, known.row_from_s)
    checked.bad(absent, "meter {} is not at point {} from {}", "new_meter", "metering_point", "at")
    checked.bad(
        columns.repeated_numbers(_keyed(point, at_s)),
        "point {} has two change-outs at that time",
        "metering_point",
    )
    billed = _only_billed(known, counted)
    rows = {"old_meter": at(billed, old, -1), "new_meter": at(billed, new, -1)}
    values = {"old_meter": checked.decimal("old_final", 3), "new_meter": checked.decimal("new_initial", 3)}
    for name, meter in (("old_meter", old), ("new_meter", new)):
        row, value = rows[name], values[name]
        checked.bad((row < 0) & (meter >= 0), "meter {} has not exactly one billed register", name)
        checked.bad(value % at(counted.resolution, row, 1) != 0, "the read of {} is finer than its resolution", name)
        checked.bad(_too_long(value, meter, known), "the read of {} has more digits than the meter", name)
    good = rows["old_meter"] >= 0
    counted.closing[rows["old_meter"][good]] = values["old_meter"][good]
    good = rows["new_meter"] >= 0
    return Openings(
        rows["new_meter"][good],
        values["new_meter"][good],
        at_s[good],
        np.full(int(good.sum()), int(Quality.A), np.uint8),
        np.zeros(int(good.sum()), bool),
    )


def _register_rows(
    meter: npt.NDArray[np.int32], code: npt.NDArray[np.int16], counted: Registers
) -> npt.NDArray[np.int32]:
    """Row in Registers of each (meter, register); -1: none."""
    keys, wanted = counted.keys(), meter.astype(np.int64) * 256 + code
    if len(keys) == 0:
        return np.full(len(wanted), -1, np.int32)
    if len(keys) == len(wanted) and np.array_equal(keys, wanted):
        return np.where(meter >= 0, np.arange(len(keys), dtype=np.int32), np.int32(-1))
    order = np.argsort(keys, kind="stable")
    found = np.full(len(wanted), -1, np.int32)
    for low in range(0, len(wanted), _SLICE):
        some = wanted[low : low + _SLICE]
        row = order[np.minimum(np.searchsorted(keys, some, sorter=order), len(keys) - 1)]
        there = (keys[row] == some) & (meter[low : low + _SLICE] >= 0)
        found[low : low + _SLICE][there] = row[there]
    return found


def _keyed(row: npt.NDArray[np.int32], at_s: Times) -> Ints:
    """One number per (row, time); what has no row (-1) gets a number of its own."""
    keys = row.astype(np.int64) << 32
    keys |= at_s
    stray = np.flatnonzero(row < 0)
    keys[stray] = -1 - stray
    return keys


def _only_billed(known: Meters, counted: Registers) -> npt.NDArray[np.int32]:
    """Per meter the row of its one billed register of what is taken; -1 when it has none or several."""
    rows = np.flatnonzero(counted.bill & (counted.meter >= 0) & (counted.code != FED_IN_REGISTER))
    found = np.full(len(known.ids), -1, np.int32)
    found[counted.meter[rows]] = rows
    found[np.bincount(counted.meter[rows], minlength=len(known.ids)) != 1] = -1
    return found


def _stood(
    meter: npt.NDArray[np.int32], point: npt.NDArray[np.int32], at_s: Times, known: Meters, edge_s: Times
) -> npt.NDArray[np.bool_]:
    """Whether a row of that meter, at that point, has its edge at that time."""
    edges = known.row_meter.astype(np.int64) << 32 | edge_s
    stood: Mask = np.isin(meter.astype(np.int64) << 32 | at_s, edges) & (at(known.point, meter, -1) == point)
    return stood


def _too_long(value: Ints, meter: npt.NDArray[np.int32], known: Meters) -> npt.NDArray[np.bool_]:
    """Whether a value (thousandths) has more whole digits than its meter shows."""
    digits = np.zeros(len(known.ids), np.uint8)
    digits[known.row_meter] = known.row_digits
    limit = np.array([FOREVER << 31, *(10 ** (count + 3) for count in range(1, DIGITS_MAX + 1))], np.int64)
    too_long: Mask = value >= limit[at(digits, meter, 0)]
    return too_long
