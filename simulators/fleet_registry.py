"""I/O: the fleet as the registry directory's CSV files describe it, and the directories that faults need.

Only what a concentrator knows is read: which meters hang on it in which order, their registers, steps, digits
and opening registers. Two things are written: a directory whose rollover meters start near the end of their
digits (before the import), and one with the change-outs of the run (to be imported while it runs).
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from config.units import decimal_text, scaled
from registry.address import address
from registry.columns import instant_s
from registry.image import FOREVER
from registry.layout import CHANGEOUTS

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class FleetChannel:
    """One register of one meter, as its concentrator reads it. Energy in Wh (thousandths of the unit)."""

    meter: str
    address: int
    register: str
    concentrator: str
    point: str
    position: int
    from_s: int
    until_s: int
    digits: int  # 0: never rolls over
    multiplier: int
    power_max_w: int
    resolution: int
    billed: bool
    opening: int
    opening_at_s: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """Channels in the order of concentrators and lists; `shards` by concentrator, in the same order."""

    channels: tuple[FleetChannel, ...]
    shards: dict[str, str]


class BadFleet(Exception):
    """The directory does not say enough to simulate it."""


def rows_of(directory: Path, name: str) -> list[Row]:
    """All rows of one file; none when it is missing."""
    path = directory / f"{name}.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _instant(text: str, zone: ZoneInfo, otherwise: int) -> int:
    if not text:
        return otherwise
    found = instant_s(text, zone)
    if found is None:
        raise BadFleet(f"not an instant: {text!r}")
    return found


def read_fleet(directory: Path, start_s: int, end_s: int) -> Fleet:
    """Meters installed at some time between `start_s` and `end_s`; `BadFleet` when something is missing."""
    zones = {
        row["metering_point"]: ZoneInfo(row["timezone"] or "Asia/Shanghai") for row in rows_of(directory, "points")
    }
    shanghai = ZoneInfo("Asia/Shanghai")
    meters = {row["meter"]: row for row in rows_of(directory, "meters") if row["concentrator"]}
    openings = {(row["meter"], row["register"]): row for row in rows_of(directory, "opening_registers")}
    changes = {row["new_meter"]: row for row in rows_of(directory, "changeouts")}
    shards = {row["concentrator"]: row["shard"] for row in rows_of(directory, "concentrators")}
    order = {name: place for place, name in enumerate(shards)}
    channels = []
    for row in rows_of(directory, "registers"):
        meter = meters.get(row["meter"])
        if meter is None:
            continue
        zone = zones.get(meter["metering_point"], shanghai)
        from_s = _instant(meter["from"], zone, 0)
        until_s = _instant(meter["to"], zone, FOREVER)
        opening = openings.get((row["meter"], row["register"]))
        if opening is not None:
            value, at_s = scaled(opening["value"], 3), _instant(opening["read_at"], zone, from_s)
        elif row["meter"] in changes:
            change = changes[row["meter"]]
            value, at_s = scaled(change["new_initial"], 3), _instant(change["at"], zone, from_s)
        else:
            raise BadFleet(f"no opening register for meter {row['meter']} register {row['register']}")
        if until_s <= start_s or from_s >= end_s:
            continue
        channels.append(
            FleetChannel(
                row["meter"],
                address(row["meter"]),
                row["register"],
                meter["concentrator"],
                meter["metering_point"],
                int(meter["position"] or 0),
                from_s,
                until_s,
                int(meter["digits"] or 0),
                int(meter["multiplier"] or 1),
                int(meter["power_max_w"] or 0),
                resolution_wh(row["resolution"]),
                row["role"] == "bill",
                value,
                at_s,
            )
        )
    if not channels:
        raise BadFleet(f"{directory}: no meter has a concentrator")
    channels.sort(key=lambda c: (order[c.concentrator], c.position, c.meter, c.register))
    used = {c.concentrator for c in channels}
    return Fleet(tuple(channels), {name: shard for name, shard in shards.items() if name in used})


def resolution_wh(text: str) -> int:
    """Step of a register in thousandths: decimal text of the unit ("0.01" kWh is 10); empty is 10."""
    return scaled(text, 3) if text else 10


# -- writing ---------------------------------------------------------------------------------------------------


def _write(path: Path, rows: Iterable[Mapping[str, str]], columns: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_rollover(source: Path, target: Path, openings: Mapping[tuple[str, str], int]) -> None:
    """A copy of `source` with other opening registers, {(meter, register): Wh}: import that one."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    rows = rows_of(source, "opening_registers")
    for row in rows:
        value = openings.get((row["meter"], row["register"]))
        if value is not None:
            row["value"] = decimal_text(value, 3)
    _write(target / "opening_registers.csv", rows, rows[0])


@dataclass(frozen=True, slots=True)
class ChangeoutRow:
    """One meter replaced at a point, with both registers in Wh."""

    point: str
    at_s: int
    at_text: str  # ISO with offset, as written
    old_meter: str
    old_final: int
    new_meter: str
    new_initial: int


def write_changeouts(source: Path, target: Path, changes: Iterable[ChangeoutRow]) -> None:
    """A copy of `source` in which `changes` have happened: meters.csv, registers.csv and changeouts.csv."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    meters, registers = rows_of(source, "meters"), rows_of(source, "registers")
    changeouts = rows_of(source, "changeouts")
    by_name = {row["meter"]: row for row in meters}
    for change in changes:
        old = by_name[change.old_meter]
        new = dict(old, meter=change.new_meter)
        new["from"], old["to"] = change.at_text, change.at_text
        meters.append(new)
        registers += [dict(row, meter=change.new_meter) for row in registers if row["meter"] == change.old_meter]
        changeouts.append(
            {
                "metering_point": change.point,
                "at": change.at_text,
                "old_meter": change.old_meter,
                "old_final": decimal_text(change.old_final, 3),
                "new_meter": change.new_meter,
                "new_initial": decimal_text(change.new_initial, 3),
            }
        )
    _write(target / "meters.csv", meters, meters[0])
    _write(target / "registers.csv", registers, registers[0])
    _write(target / CHANGEOUTS.file, changeouts, CHANGEOUTS.columns)
