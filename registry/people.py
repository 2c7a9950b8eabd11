"""Pure: who lives behind a point and who pays: parties, accounts, tariffs, attributes, mandates, opening money.

As in `registry.devices`: text tables in, every fault told, integer columns out, one row per row of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from registry import columns
from registry.checks import Checked, at
from registry.columns import Ints, Lines, Mask, Times
from registry.devices import Points
from registry.faults import Faults
from registry.image import NO_TRIGGER, NONE
from registry.layout import LANGUAGES
from registry.tables import Table

AMOUNT_MAX_FEN: Final = 10**12
_SLICE: Final = 1 << 20
_TIME: Final = "^(([01][0-9]|2[0-3]):[0-5][0-9])?$"
_NAME: Final = "^[a-z][a-z0-9_]{0,39}$"
_SHOWN: Final = "^[!-~]{1,120}$"


@dataclass(slots=True)
class Accounts:
    """Accounts in file order, with the money and energy that they bring in.

    `cycle_energy_wh`: -1 where nothing is said of it; `opening_line`: of opening_accounts.csv, 0 without a row.
    """

    ids: Any
    point: npt.NDArray[np.int32]
    from_s: Times
    to_s: Times
    balance_fen: Ints
    arrears_fen: Ints
    cycle_energy_wh: Ints
    opening_line: npt.NDArray[np.int32]
    trigger_fen: Ints
    lines: Lines | npt.NDArray[np.int64]

    def zone(self, rows: npt.NDArray[np.int32], where: Points) -> npt.NDArray[np.int16]:
        """Time zone of each account row (0 for -1)."""
        return at(where.zone, at(self.point, rows, -1), 0)


@dataclass(slots=True)
class TariffSpans:
    """Which tariff an account has when; `tariff` indexes `names`."""

    names: tuple[str, ...]
    account: npt.NDArray[np.int32]
    tariff: npt.NDArray[np.int32]
    from_s: Times
    to_s: Times


@dataclass(slots=True)
class Attributes:
    """Dated numbers of accounts; `name` indexes `names`."""

    names: tuple[str, ...]
    account: npt.NDArray[np.int32]
    name: npt.NDArray[np.int32]
    value: Ints
    from_s: Times


def parties(table: Table, faults: Faults) -> Any:
    """parties.csv: the ids."""
    checked = Checked(table, faults)
    checked.ids("party")
    checked.unique("party")
    checked.bad(~columns.printable(table["name"], 1, 100), "name {!r} is not 1 to 100 printable characters", "name")
    checked.choice("language", {name: place for place, name in enumerate(LANGUAGES)})
    checked.bad(
        ~columns.printable(table["notify"], 0, 500), "notify {!r} is longer than 500 or not printable", "notify"
    )
    return columns.plain(table["party"])


def accounts(table: Table, party_ids: Any, where: Points, faults: Faults) -> Accounts:
    """accounts.csv: one party at one point for a span; one account at a point at a time."""
    checked = Checked(table, faults)
    checked.ids("account")
    checked.unique("account")
    checked.places("party", party_ids, "parties.csv")
    point = checked.places("metering_point", where.ids, "points.csv")
    from_s, to_s = checked.span(at(where.zone, point, 0), where.zones)
    shared = columns.overlapping(point, from_s, to_s) & (point >= 0)
    checked.bad(shared, "another account is at point {} in that span", "metering_point")
    count = len(table)
    nothing = [np.zeros(count, np.int64) for _ in range(2)]
    no_trigger = np.full(count, NO_TRIGGER, np.int64)
    ids = columns.plain(table["account"])
    return Accounts(
        ids,
        point,
        from_s,
        to_s,
        nothing[0],
        nothing[1],
        np.full(count, NONE, np.int64),
        np.zeros(count, np.int32),
        no_trigger,
        table.lines,
    )


def opening_accounts(table: Table, known: Accounts, faults: Faults) -> None:
    """opening_accounts.csv: sets balance, arrears and the energy so far in the open tier cycle."""
    checked = Checked(table, faults)
    row = checked.places("account", known.ids, "accounts.csv")
    checked.unique("account")
    good = row >= 0
    into = row[good]
    known.balance_fen[into] = checked.decimal("balance", 2, signed=True, default=0)[good]
    known.arrears_fen[into] = checked.decimal("arrears", 2, default=0)[good]
    known.cycle_energy_wh[into] = checked.decimal("cycle_energy", 3, default=NONE)[good]
    known.opening_line[into] = table.lines[np.flatnonzero(good)]


def tariffs(
    table: Table, known: Accounts, where: Points, tariffs_known: frozenset[str] | None, faults: Faults
) -> TariffSpans:
    """tariffs.csv: every instant of every account has exactly one tariff."""
    checked = Checked(table, faults)
    account = checked.places("account", known.ids, "accounts.csv")
    checked.ids("tariff")
    codes, values = columns.coded(table["tariff"])
    names = tuple(values.to_pylist())
    if tariffs_known is not None and len(codes):
        unknown = np.array([name not in tariffs_known for name in names])[codes]
        checked.bad(unknown, f"tariff {{!r}} is none of {', '.join(sorted(tariffs_known))}", "tariff")
    from_s, to_s = checked.span(known.zone(account, where), where.zones)
    checked.bad(
        columns.overlapping(account, from_s, to_s) & (account >= 0),
        "overlaps another tariff of account {}",
        "account",
    )
    bare = _uncovered(known, account, from_s, to_s) & (table.file not in faults.unread)
    faults.rows(
        "accounts.csv", known.lines, bare, lambda row: f"account {known.ids[row]} has no tariff in a part of its span"
    )
    return TariffSpans(names, account, codes.astype(np.int32), from_s, to_s)


def _uncovered(known: Accounts, account: npt.NDArray[np.int32], from_s: Times, to_s: Times) -> Mask:
    """Accounts that their tariff spans (disjoint, else that was told) do not cover: compare lengths of time."""
    covered = np.zeros(len(known.lines), np.int64)
    for begin in range(0, len(account), _SLICE):
        cut = slice(begin, begin + _SLICE)
        good = account[cut] >= 0
        rows = account[cut][good]
        low = np.maximum(from_s[cut][good], known.from_s[rows])
        high = np.minimum(to_s[cut][good], known.to_s[rows])
        np.add.at(covered, rows, np.maximum(high.astype(np.int64) - low, 0))
    return covered < known.to_s.astype(np.int64) - known.from_s


def attributes(table: Table, known: Accounts, where: Points, faults: Faults) -> Attributes:
    """attributes.csv: numbers that change by date, such as household_size."""
    checked = Checked(table, faults)
    account = checked.places("account", known.ids, "accounts.csv")
    checked.bad(~columns.matches(table["name"], _NAME), "name {!r} is not lower_case_words", "name")
    codes, values = columns.coded(table["name"])
    value = checked.integer("value", 0, 10**9)
    from_s = checked.instant("from", known.zone(account, where), where.zones)
    order = np.lexsort((from_s, codes, account))
    again = np.zeros(len(order), bool)
    keys = np.stack([account, codes, from_s])[:, order]
    again[order[1:]] = np.all(keys[:, 1:] == keys[:, :-1], axis=0) & (account[order[1:]] >= 0)
    checked.bad(again, "{} of account {} is set twice at that time", "name", "account")
    return Attributes(tuple(values.to_pylist()), account, codes.astype(np.int32), value, from_s)


def mandates(
    table: Table, known: Accounts, where: Points, party_ids: Any, now_s: int, trigger_fen_default: int, faults: Faults
) -> dict[str, Ints]:
    """mandates.csv: sets each account's highest trigger, returns the parsed columns (-1: the settings' own)."""
    checked = Checked(table, faults)
    checked.ids("mandate")
    checked.unique("mandate")
    checked.places("payer", party_ids, "parties.csv")
    account = checked.places("account", known.ids, "accounts.csv")
    checked.ids("gateway")
    checked.bad(~columns.matches(table["token"], _SHOWN), "token is not 1 to 120 printable ASCII characters")
    parsed = {"priority": checked.integer("priority", 0, 10**6, default=1)}
    trigger = checked.decimal("trigger", 2, signed=True, default=trigger_fen_default)
    parsed["trigger_fen"] = trigger
    for name in ("amount", "target", "cap_charge", "cap_day", "cap_month"):
        parsed[f"{name}_fen"] = checked.decimal(name, 2, default=-1)
        checked.bad(parsed[f"{name}_fen"] == 0, f"{name} is 0", name)
        checked.bad(parsed[f"{name}_fen"] > AMOUNT_MAX_FEN, f"{name} {{}} is beyond reason", name)
    both = (parsed["amount_fen"] >= 0) & (parsed["target_fen"] >= 0)
    checked.bad(both, "amount and target exclude each other")
    low = (parsed["target_fen"] >= 0) & (parsed["target_fen"] <= trigger)
    checked.bad(low, "target {} is not above the trigger", "target")
    parsed["cap_day_count"] = checked.integer("cap_day_count", 1, 1000, default=-1)
    parsed["cooldown_s"] = checked.integer("cooldown_s", 0, 10**8, default=-1)
    for name in ("window_from", "window_to"):
        checked.bad(~columns.matches(table[name], _TIME), f"{name} {{!r}} is no local time like 07:00", name)
    half = columns.empty(table["window_from"]) != columns.empty(table["window_to"])
    checked.bad(half, "window_from and window_to go together")
    from_s, until_s = checked.span(known.zone(account, where), where.zones, "valid_from", "valid_to")
    parsed["valid_from_s"], parsed["valid_until_s"] = from_s.astype(np.int64), until_s.astype(np.int64)
    alive = (account >= 0) & (until_s > now_s)
    np.maximum.at(known.trigger_fen, account[alive], trigger[alive])
    return parsed


def in_force(spans: TariffSpans, known: Accounts, now_s: int) -> npt.NDArray[np.int32]:
    """Each account's tariff now; before its span the first, after it the last."""
    moment = np.clip(now_s, known.from_s, np.maximum(known.to_s - 1, known.from_s))
    found = np.full(len(known.lines), -1, np.int32)
    good = spans.account >= 0
    rows = spans.account[good]
    holds = (spans.from_s[good] <= moment[rows]) & (moment[rows] < spans.to_s[good])
    found[rows[holds]] = spans.tariff[good][holds]
    return found
