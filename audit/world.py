"""Pure: the registry's tables as dicts -> who is counted where, when, and from which register on.

The auditor's own derivation: for each register it cuts time at everything that is dated (meter, account,
tariff), joins pieces that touch into runs, and lets a run begin at its opening register or at the initial read
of a change-out. What lies before is history; what a run without an opening counts is nobody's.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from audit.tariffs import History, thousandths
from config.units import REGISTER_CODE, Quality, Register

FOREVER: Final = 2**32 - 1
Row = Mapping[str, Any]
Tables = Mapping[str, Iterable[Row]]  # may be gone through more than once
_STEPS: Final = {"1": 1000, "1.0": 1000, "0.1": 100, "0.01": 10, "0.001": 1}


@dataclass(slots=True)
class Span:
    """One register counted for one account under one tariff; the first of a run has an opening."""

    key: tuple[str, int, int]  # serial, register code, from_s
    account: str
    tariff: str
    from_s: int
    until_s: int
    bill: bool
    resolution: int
    multiplier: int
    digits: int
    power_max_w: int
    opening: tuple[int, int, int] | None = None  # value, at_s, quality
    closing: int | None = None  # old final read of a change-out


@dataclass(slots=True)
class Account:
    """One party at one point, in one partition."""

    id: str
    partition: int
    slot: int
    from_s: int
    until_s: int
    tariff: str
    balance_fen: int = 0
    arrears_fen: int = 0
    cycle_energy_wh: int = 0
    history: History = ()


@dataclass(slots=True)
class World:
    """A registry version, or a partition of it.

    `chains`: the spans of each register in order of time; `addresses`: (concentrator, address, code) -> its chain.
    """

    digest: str
    partitions: int
    accounts: dict[str, Account] = field(default_factory=dict)
    chains: list[list[Span]] = field(default_factory=list)
    addresses: dict[tuple[str, int, int], int] = field(default_factory=dict)  # -> place in chains
    meters: dict[tuple[str, int], bool] = field(default_factory=dict)
    linear: frozenset[str] | None = None  # tariffs that are, as this version has them; None: as the newest has them


def address(serial: str) -> int:
    """A serial as the number on the wire."""
    if len(serial) == 12 and serial.isascii() and serial.isdigit():
        return int(serial)
    return 2**63 + (int.from_bytes(hashlib.blake2b(serial.encode(), digest_size=8).digest(), "big") >> 1)


@lru_cache(maxsize=1 << 16)  # a city has few dates
def instant_s(text: str, zone: ZoneInfo) -> int:
    """A local date or an ISO instant; the empty text is open."""
    if text == "":
        return FOREVER
    moment = datetime.fromisoformat(text)
    return int((moment.replace(tzinfo=zone) if len(text) == 10 else moment).timestamp())


def fen(text: str) -> int:
    return int(Decimal(text or "0") * 100)


def build(digest: str, partitions: int, default_zone: str, tables: Tables) -> World:
    """Everything that is dated, cut and joined. `tables`: rows by file name, as text, of the accounts to build."""
    world = World(digest, partitions)
    zones = {r["metering_point"]: ZoneInfo(r["timezone"] or default_zone) for r in tables["points"]}
    point_of = {r["account"]: r["metering_point"] for r in tables["accounts"]}
    at_point: dict[str, list[tuple[int, int, str, str]]] = defaultdict(list)  # from, until, account, tariff
    for r in tables["accounts"]:
        zone = zones[r["metering_point"]]
        from_s, until_s = instant_s(r["from"], zone), instant_s(r["to"], zone)
        account = Account(r["account"], int(r["partition"]), int(r["slot"]), from_s, until_s, "")
        world.accounts[account.id] = account
    for r in sorted(tables["tariffs"], key=lambda r: instant_s(r["from"], zones[point_of[r["account"]]])):
        account, zone = world.accounts[r["account"]], zones[point_of[r["account"]]]
        from_s = max(account.from_s, instant_s(r["from"], zone))
        until_s = min(account.until_s, instant_s(r["to"], zone))
        account.tariff = r["tariff"]
        at_point[point_of[account.id]].append((from_s, until_s, account.id, r["tariff"]))
    _money(world, tables)
    _attributes(world, tables, {a: zones[p] for a, p in point_of.items()})
    _registers(world, tables, zones, at_point)
    return world


def _money(world: World, tables: Tables) -> None:
    for r in tables["opening_accounts"]:
        account = world.accounts[r["account"]]
        account.balance_fen, account.arrears_fen = fen(r["balance"]), fen(r["arrears"])
        account.cycle_energy_wh = thousandths(r["cycle_energy"] or "0")


def _attributes(world: World, tables: Tables, zone_of: Mapping[str, ZoneInfo]) -> None:
    found: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for r in tables["attributes"]:
        found[r["account"]].append((r["name"], instant_s(r["from"], zone_of[r["account"]]), int(r["value"])))
    for id_, changes in found.items():
        account = world.accounts[id_]
        changes.sort(key=lambda change: change[1])
        # What an account brings to its first day holds since ever: no word for changes inside a cycle applies.
        account.history = tuple((n, 0 if at_s <= account.from_s else at_s, v) for n, at_s, v in changes)


def _registers(
    world: World,
    tables: Tables,
    zones: Mapping[str, ZoneInfo],
    at_point: Mapping[str, list[tuple[int, int, str, str]]],
) -> None:
    installed: dict[str, list[Row]] = defaultdict(list)
    for r in tables["meters"]:
        installed[r["meter"]].append(r)
    zone_of = {serial: zones[rows[0]["metering_point"]] for serial, rows in installed.items()}
    billed: dict[str, list[int]] = defaultdict(list)
    for r in tables["registers"]:
        if r["role"] == "bill":
            billed[r["meter"]].append(REGISTER_CODE[Register(r["register"])])
    given: dict[tuple[str, int], list[tuple[int, int, int, int]]] = defaultdict(list)  # rank, at, value, quality
    closing: dict[tuple[str, int], int] = {}
    for r in tables["opening_registers"]:
        code = REGISTER_CODE[Register(r["register"])]
        at_s = instant_s(r["read_at"], zone_of[r["meter"]])
        given[r["meter"], code].append((0, at_s, thousandths(r["value"]), int(Quality[r["quality"]])))
    for r in tables["changeouts"]:
        at_s = instant_s(r["at"], zones[r["metering_point"]])
        old, new = r["old_meter"], r["new_meter"]
        closing[old, billed[old][0]] = thousandths(r["old_final"])
        given[new, billed[new][0]].append((1, at_s, thousandths(r["new_initial"]), int(Quality.A)))
    for r in tables["registers"]:
        serial, code = r["meter"], REGISTER_CODE[Register(r["register"])]
        rows = installed[serial]
        pieces = []
        for meter in rows:
            low = instant_s(meter["from"], zone_of[serial])
            high = instant_s(meter["to"], zone_of[serial])
            for from_s, until_s, account, tariff in at_point.get(meter["metering_point"], []):
                span = Span(
                    (serial, code, max(low, from_s)),
                    account,
                    tariff,
                    max(low, from_s),
                    min(high, until_s),
                    r["role"] == "bill",
                    _STEPS[r["resolution"]],
                    int(meter["multiplier"] or 1),
                    int(meter["digits"] or 0),
                    int(meter["power_max_w"] or 0),
                )
                if span.from_s < span.until_s:
                    pieces.append((span, high))
        chain = _opened(sorted(pieces, key=lambda p: p[0].from_s), given[serial, code], closing.get((serial, code)))
        if chain:
            for meter in rows:
                world.addresses[meter["concentrator"], address(serial), code] = len(world.chains)
                world.meters[meter["concentrator"], address(serial)] = True
            world.chains.append(chain)


def _opened(
    pieces: list[tuple[Span, int]], given: list[tuple[int, int, int, int]], closing: int | None
) -> list[Span]:
    """Runs of touching pieces, each from the piece that holds its opening on."""
    runs: list[list[Span]] = []
    for span, _ in pieces:
        if runs and runs[-1][-1].until_s == span.from_s:
            runs[-1].append(span)
        else:
            runs.append([span])
    kept: list[Span] = []
    for run in runs:
        inside = sorted(o for o in given if run[0].from_s <= o[1] < run[-1].until_s)
        if not inside:
            continue
        _, at_s, value, quality = inside[0]
        run = [span for span in run if at_s < span.until_s]
        run[0].opening = value, at_s, quality
        kept += run
    if kept and closing is not None:
        ends = {span.key: high for span, high in pieces}
        if ends[kept[-1].key] == kept[-1].until_s:
            kept[-1].closing = closing
    return kept
