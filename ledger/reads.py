"""I/O: what people and the HTTP interface ask of the ledger, each inside the caller's one snapshot.

Live balance = posted balance - what accrued since the last crossing of a day - the remainders carried to the
bill - what the open bill costs beside its energy, floored to the minor unit (ARCHITECTURE, "Rating", 8; the engine
judges by the same sum). All are read from the same moment.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Select, bindparam, func, select

from ledger import pages
from ledger.effects import BILL, COMPONENT_NAME, PAGE_SLOTS, SUBLEDGER
from ledger.recover import Dtypes, load, newest
from ledger.schema import (
    bill_page,
    checkpoint,
    entry,
    exception,
    meta,
    order,
    order_step,
    posting,
    state_delta,
    state_page,
    subledger,
    switch,
)

E11_PER_FEN: Final = 10**9
LIMIT_DEFAULT: Final = 1000


@dataclass(frozen=True, slots=True)
class AccountState:
    """One account at one moment.

    `accrued_e11` is what is not posted yet: open days of its channels, the carry, and what the open bill costs beside
    its energy.
    """

    partition: int
    slot: int
    as_of_s: int
    balance_fen: int
    arrears_fen: int
    accrued_e11: int
    live_fen: int
    row: dict[str, int]  # every field of the account array


@dataclass(frozen=True, slots=True)
class StatementRow:
    """One line of the subledger: credit positive."""

    entry_id: int
    kind: str
    offset: int
    booked_at_s: int
    reference: str | None
    day: int
    component: str
    channel: int
    quantity: int
    amount_fen: int
    version: int = 0  # of a charge: of its ladder's tariff, and its place in it
    place: int = 0


@dataclass(frozen=True, slots=True)
class BillRow:
    """One closed bill cycle of an account."""

    entry_id: int
    cycle: int
    closed_at_s: int
    exact_e11: int
    rounding_fen: int
    complete: bool
    offset: int = 0  # of the checkpoint that booked it: the tick that closed it came no later


_P, _D = state_page.c, state_delta.c
_HOME: Final[Any] = bindparam("home")
_ARRAY: Final[Any] = bindparam("of_array")
_PAGES: Final = select(_P.page, _P.version, _P.body, _P.crc).where(
    _P.partition == _HOME, _P.array == _ARRAY, _P.page.in_(bindparam("pages", expanding=True))
)
_DELTAS: Final = (
    select(_D.version, _D.count, _D.body, _D.crc)
    .where(_D.partition == _HOME, _D.array == _ARRAY, _D.version > bindparam("oldest"))
    .order_by(_D.version)
)


@dataclass(frozen=True, slots=True)
class Balances:
    """Columns over the account slots of one partition, in fen."""

    partition: int
    as_of_s: int
    posted_fen: npt.NDArray[np.int64]
    live_fen: npt.NDArray[np.int64]
    arrears_fen: npt.NDArray[np.int64]


def partitions(connection: Connection) -> int:
    """How many partitions this ledger has."""
    return int(connection.execute(select(meta.c.value).where(meta.c.name == "partitions")).scalar_one())


def balances(connection: Connection, partition: int, dtypes: Dtypes) -> Balances:
    """Posted and live balance of every account of a partition; needs arrays account, channel and cold."""
    row = newest(connection, partition)
    if row is None:
        none = np.zeros(0, np.int64)
        return Balances(partition, 0, none, none, none)
    slots = json.loads(row.slots)
    loaders = {name: pages.Loader(partition, name, dtype, slots.get(name, 0)) for name, dtype in dtypes.items()}
    arrays = load(connection, partition, loaders)
    accounts, channels, cold = arrays["account"], arrays["channel"], arrays["cold"]
    accrued = accounts["carry_energy_e11"] + accounts["carry_adder_e11"] + accounts["pending_e11"]
    charged = cold["account"] >= 0
    both = channels["accrued_energy_e11"] + channels["accrued_adder_e11"]
    np.add.at(accrued, cold["account"][charged], both[charged])
    posted = accounts["balance_fen"].copy()
    return Balances(
        partition, row.as_of_s, posted, posted + (-accrued) // E11_PER_FEN, accounts["arrears_fen"].copy()
    )


def state_rows(
    connection: Connection, partition: int, array: str, slots: list[int], dtype: np.dtype[np.void]
) -> npt.NDArray[np.void]:
    """Rows of a few slots: their pages and the newer deltas only. KeyError for a slot that was never stored."""
    rows, stored = _stored_rows(connection, partition, array, np.asarray(slots, np.int64), dtype)
    if not stored.all():
        raise KeyError(slots[int(np.argmin(stored))])
    return rows


def _stored_rows(
    connection: Connection, partition: int, array: str, slots: npt.NDArray[np.int64], dtype: np.dtype[np.void]
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.bool_]]:
    """The newest row of every slot, and which of them were ever stored."""
    found = np.zeros(len(slots), dtype)
    stored = np.zeros(len(slots), np.bool_)
    versions = np.full(len(slots), -1, np.int64)  # of the page that a row came from
    if not len(slots):
        return found, stored
    page_of, where = slots // PAGE_SLOTS, {"home": partition, "of_array": array}
    for page, version, body, crc in connection.execute(_PAGES, where | {"pages": np.unique(page_of).tolist()}):
        _intact(pages.checksum(partition, array, page, version, body) == crc, f"{array} page {page}")
        rows = np.frombuffer(body, dtype)
        versions[page_of == page] = version
        here = np.flatnonzero((page_of == page) & (slots - page * PAGE_SLOTS < len(rows)))
        found[here] = rows[slots[here] - page * PAGE_SLOTS]
        stored[here] = True
    for version, count, body, crc in connection.execute(_DELTAS, where | {"oldest": int(versions.min())}):
        _intact(pages.checksum(partition, array, pages.DELTA, version, body) == crc, f"{array} delta {version}")
        places = np.frombuffer(body, "<i4", count)
        rows = np.frombuffer(body, dtype, count, offset=4 * count)
        at = np.minimum(np.searchsorted(places, slots), count - 1)
        here = np.flatnonzero((places[at] == slots) & (version > versions))
        found[here] = rows[at[here]]
        stored[here] = True
    return found, stored


def account_rows(
    connection: Connection, partition: int, wanted: Mapping[int, Sequence[int]], dtypes: Dtypes
) -> dict[int, tuple[np.void, npt.NDArray[np.void], list[int]]]:
    """Account slot -> its row, those of its channels, and their slots, as last committed; `wanted`: account slot ->
    channel slots.

    Slots that no checkpoint has stored yet (a registry version that is still new) are left out.
    """
    slots = sorted(wanted)
    accounts, stored = _stored_rows(connection, partition, "account", np.array(slots, np.int64), dtypes["account"])
    channels = sorted({channel for slot in slots for channel in wanted[slot]})
    held, there = _stored_rows(connection, partition, "channel", np.array(channels, np.int64), dtypes["channel"])
    place = {channel: at for at, channel in enumerate(channels)}
    found: dict[int, tuple[np.void, npt.NDArray[np.void], list[int]]] = {}
    for at, slot in enumerate(slots):
        if stored[at]:
            mine = [channel for channel in wanted[slot] if there[place[channel]]]
            found[slot] = accounts[at], held[[place[channel] for channel in mine]], mine
    return found


def live_fen_of(account: np.void, channels: npt.NDArray[np.void]) -> tuple[int, int]:
    """(live balance in fen, accrued and not posted) of one account's row and its channels' rows."""
    accrued = sum(int(c["accrued_energy_e11"]) + int(c["accrued_adder_e11"]) for c in channels)
    accrued += int(account["carry_energy_e11"]) + int(account["carry_adder_e11"]) + int(account["pending_e11"])
    return int(account["balance_fen"]) + (-accrued) // E11_PER_FEN, accrued


def account_state(
    connection: Connection, partition: int, slot: int, *, channels: list[int], dtypes: Dtypes
) -> AccountState:
    """Posted and live balance of one account; `channels`: its channel slots, as the registry image lists them."""
    row = newest(connection, partition)
    if row is None:
        raise KeyError(slot)
    account = state_rows(connection, partition, "account", [slot], dtypes["account"])[0]
    held = state_rows(connection, partition, "channel", channels, dtypes["channel"])
    names = [name for name in account.dtype.names or () if name != "pad"]
    fields = {name: int(account[name]) for name in names}
    live, accrued = live_fen_of(account, held)
    posted = fields["balance_fen"]
    return AccountState(partition, slot, row.as_of_s, posted, fields["arrears_fen"], accrued, live, fields)


def statement_rows(connection: Connection, partition: int, slot: int) -> list[StatementRow]:
    """Everything posted on one account, oldest first; reads its page of the subledger only."""
    s, e = subledger.c, entry.c
    query = (
        select(s.body, s.crc, e.id, e.kind, e.offset, e.booked_at_s, e.reference)
        .join_from(subledger, entry, s.entry_id == e.id)
        .where(s.partition == partition, s.page == slot // PAGE_SLOTS)
        .order_by(e.id)
    )
    lines: list[StatementRow] = []
    for body, crc, entry_id, kind, offset, booked_at_s, reference in connection.execute(query):
        intact = pages.checksum(partition, "subledger", slot // PAGE_SLOTS, entry_id, body) == crc
        _intact(intact, f"subledger of entry {entry_id}")
        rows = np.frombuffer(body, SUBLEDGER)
        lines += [
            StatementRow(
                entry_id,
                kind,
                offset,
                booked_at_s,
                reference,
                int(row["day"]),
                COMPONENT_NAME[int(row["component"])],
                int(row["channel"]),
                int(row["quantity"]),
                int(row["amount_fen"]),
                int(row["version"]),
                int(row["place"]),
            )
            for row in rows[rows["slot"] == slot]
        ]
    return lines


def bills(connection: Connection, partition: int, slot: int) -> list[BillRow]:
    """Closed bill cycles of one account, oldest first."""
    b = bill_page.c
    query = (
        select(b.entry_id, b.body, b.crc, entry.c.offset)
        .join_from(bill_page, entry, b.entry_id == entry.c.id)
        .where(b.partition == partition, b.page == slot // PAGE_SLOTS)
        .order_by(b.entry_id)
    )
    found: list[BillRow] = []
    for entry_id, body, crc, offset in connection.execute(query):
        intact = pages.checksum(partition, "bill", slot // PAGE_SLOTS, entry_id, body) == crc
        _intact(intact, f"bills of entry {entry_id}")
        rows = np.frombuffer(body, BILL)
        found += [
            BillRow(
                entry_id,
                int(row["cycle"]),
                int(row["closed_at_s"]),
                int(row["exact_e11"]),
                int(row["rounding_fen"]),
                bool(row["complete"]),
                offset,
            )
            for row in rows[rows["slot"] == slot]
        ]
    return found


def trial_balance(connection: Connection) -> dict[str, int]:
    """Sum of every named account in fen; the values sum to zero."""
    rows = connection.execute(
        select(posting.c.account_name, func.sum(posting.c.amount_fen))
        .group_by(posting.c.account_name)
        .order_by(posting.c.account_name)
    )
    return {name: int(amount) for name, amount in rows}


def counters(connection: Connection) -> dict[str, int]:
    """The engine's cumulative counters, summed over the partitions' newest checkpoints."""
    total: Counter[str] = Counter()
    for partition in range(partitions(connection)):
        newest_first = select(checkpoint.c.counters).where(checkpoint.c.partition == partition)
        text = connection.execute(newest_first.order_by(checkpoint.c.id.desc()).limit(1)).scalar()
        total.update(json.loads(text) if text else {})
    return dict(sorted(total.items()))


def cursors(connection: Connection) -> dict[int, tuple[int, int]]:
    """Partition -> (offset, as_of_s) of its newest checkpoint."""
    rows = {p: newest(connection, p) for p in range(partitions(connection))}
    return {p: (row.offset, row.as_of_s) for p, row in rows.items() if row is not None}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows of the exceptions queue; None: any. `before_s`: set aside before it, by the daemon's clock."""

    reason: str | None = None
    state: str | None = "open"
    source: str | None = None
    meter: str | None = None  # as the column has it (registry.address.address_text)
    before_s: int | None = None

    def of(self, query: Select[Any]) -> Select[Any]:
        for name in ("reason", "state", "source", "meter"):
            if (value := getattr(self, name)) is not None:
                query = query.where(exception.c[name] == value)
        return query if self.before_s is None else query.where(exception.c.received_at_s < self.before_s)


ANY_OPEN: Final = Wanted()


def exceptions(
    connection: Connection, wanted: Wanted = ANY_OPEN, *, after_id: int = 0, limit: int = LIMIT_DEFAULT
) -> list[dict[str, Any]]:
    """Rows of the exceptions queue in the order of their ids."""
    query = select(exception).where(exception.c.id > after_id).order_by(exception.c.id).limit(limit)
    return _dicts(connection, wanted.of(query))


def exceptions_to_judge(connection: Connection, wanted: Wanted, limit: int | None = None) -> list[tuple[int, str]]:
    """(id, reason) in the order in which they are to be judged again: the oldest reading first.

    Once a register has gone on, an older reading of it is late. A whole message has the time it came at.
    """
    at_s = func.coalesce(exception.c.read_at_s, exception.c.received_at_s)
    query = wanted.of(select(exception.c.id, exception.c.reason)).order_by(at_s, exception.c.id).limit(limit)
    return [(int(number), str(reason)) for number, reason in connection.execute(query)]


def exceptions_by_reason(connection: Connection) -> dict[str, int]:
    """How many rows each reason has, resolved ones included."""
    grouped = select(exception.c.reason, func.count()).group_by(exception.c.reason).order_by(exception.c.reason)
    return {reason: int(count) for reason, count in connection.execute(grouped)}


def orders(
    connection: Connection, *, account: str | None = None, state: str | None = None, limit: int = LIMIT_DEFAULT
) -> list[dict[str, Any]]:
    """Orders, newest first."""
    query = select(order).order_by(order.c.id.desc()).limit(limit)
    if account is not None:
        query = query.where(order.c.account == account)
    if state is not None:
        query = query.where(order.c.state == state)
    return _dicts(connection, query)


def order_steps(connection: Connection, order_id: int) -> list[dict[str, Any]]:
    """Every transition of an order, oldest first."""
    return _dicts(connection, select(order_step).where(order_step.c.order_id == order_id).order_by(order_step.c.id))


def orders_by_state(connection: Connection) -> dict[str, int]:
    """How many orders are in each state."""
    grouped = select(order.c.state, func.count()).group_by(order.c.state).order_by(order.c.state)
    return {state: int(count) for state, count in connection.execute(grouped)}


def switch_value(connection: Connection, name: str) -> tuple[int, str]:
    """Value of a switch and why; (0, "") when it was never set."""
    row = connection.execute(select(switch.c.value, switch.c.reason).where(switch.c.name == name)).one_or_none()
    return (0, "") if row is None else (int(row.value), str(row.reason))


def _dicts(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _intact(matches: bool, what: str) -> None:
    if not matches:
        raise pages.Damaged(f"{what}: the checksum does not match")
