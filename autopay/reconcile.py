"""I/O: after a restore: the gateway's book against our orders, so that no charge is forgotten and none repeated.

A restored database may be older than the last charges. Every line of the book is looked up by key; a line whose
order is missing is made one again from its reference (account, arm, attempt), and whatever we do not know as
charged is credited through `settle`. Lines that fit nothing are reported, and hold the HOLD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, insert, select

from autopay.gateways.port import Charge
from autopay.orders import SETTLED, State, Succeeded, key_of, parse_reference
from autopay.policy import Order
from autopay.records import (
    HOLD,
    OrderRow,
    create_order,
    low_balance,
    mandates_of,
    order_by_id,
    orders,
    set_switch,
    switch_row,
)
from autopay.settle import Book, settle
from config.clock import Clock
from config.steps import reach
from ledger.schema import event, order

CHUNK: Final = 100
RESTORED: Final = "restore"  # how the reason of a HOLD begins that a restore set
Write = Callable[[Callable[[Connection], Any]], Any]
PartitionOf = Callable[[str], int | None]


@dataclass(slots=True)
class ReconcileReport:
    """What the comparison found. `credited` are order ids, `unmatched` are lines that need a person."""

    gateway: str
    charges: int = 0
    known: int = 0
    credited: list[int] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)


def reconcile(
    write: Write,
    book: Book,
    gateway: str,
    pages: Iterable[Sequence[Charge]],
    clock: Clock,
    partition_of: PartitionOf | None,
) -> ReconcileReport:
    """Compare and credit page by page, in bounded transactions; idempotent.

    A clean pass to the end is what lets HOLD be lifted; what was credited before a page failed stays credited.
    """
    report = ReconcileReport(gateway)
    for charges in pages:
        report.charges += len(charges)
        for first in range(0, len(charges), CHUNK):
            some = charges[first : first + CHUNK]
            for word in write(partial(_several, book, gateway, some, clock.now_s(), partition_of)):
                if word is None:
                    report.known += 1
                elif isinstance(word, int):
                    report.credited.append(word)
                else:
                    report.unmatched.append(word)
            reach("book.compared")
    now_s = clock.now_s()
    reason = f"{report.charges} charges, {len(report.credited)} credited, {len(report.unmatched)} unmatched"
    clean = not report.unmatched
    write(lambda connection: set_switch(connection, _switch(gateway), reason, now_s, on=clean))
    return report


def _several(
    book: Book,
    gateway: str,
    charges: Sequence[Charge],
    now_s: int,
    partition_of: PartitionOf | None,
    connection: Connection,
) -> list[str | int | None]:
    return [_one(connection, book, gateway, charge, now_s, partition_of) for charge in charges]


def obstacles(connection: Connection, gateways: Sequence[str]) -> list[str]:
    """What stands against lifting HOLD: after a restore, every gateway must have been reconciled since."""
    on, why, since_s = switch_row(connection, HOLD)
    if not on or not why.startswith(RESTORED):
        return []
    missing = []
    for gateway in gateways:
        clean, reason, at_s = switch_row(connection, _switch(gateway))
        if not clean or at_s < since_s:
            missing.append(f"{gateway}: {reason or 'not reconciled'} (since the restore)")
    return missing


def _switch(gateway: str) -> str:
    return f"autopay.reconciled.{gateway}"[:40]


def _one(
    connection: Connection, book: Book, gateway: str, charge: Charge, now_s: int, partition_of: PartitionOf | None
) -> str | int | None:
    """None: known; an order id: credited now; text: why a person must look."""
    found = orders(connection, order.c.key == charge.key, limit=1)
    if found and found[0].gateway != gateway:  # the lost order of that key went another way than the one of now
        return f"{charge.txn}: {charge.amount_fen} fen under the key of order {found[0].id} of {found[0].gateway}"
    row = found[0] if found else _restored(connection, gateway, charge, partition_of)
    if row is None:
        return f"{charge.txn}: {charge.amount_fen} fen for {charge.reference!r} fits no account and mandate"
    if row.state in SETTLED and row.gateway_txn == charge.txn:
        return None
    after, word = settle(connection, book, row, Succeeded(charge.txn, charge.amount_fen), "book", now_s)
    return after.id if after.state in SETTLED and word.startswith("moved") else f"{charge.txn}: {word}"


def _restored(
    connection: Connection, gateway: str, charge: Charge, partition_of: PartitionOf | None
) -> OrderRow | None:
    """An order row for a charge that the database never heard of; `cancelled`, so that it is in nobody's way."""
    named = parse_reference(charge.reference)
    if named is None or key_of(*named) != charge.key:
        return None
    account, arm, attempt = named
    payer = next(
        (m for m in mandates_of(connection, account) if (m.gateway, m.token) == (gateway, charge.token)), None
    )
    if payer is None:
        return None
    mine = select(event.c.id, event.c.partition).where(event.c.account == account).order_by(event.c.id.desc())
    same_arm = connection.execute(mine.where(event.c.kind == "low_balance", event.c.arm == arm).limit(1)).first()
    if same_arm is not None:
        event_id = same_arm[0]
    else:
        other = connection.execute(mine.limit(1)).first()
        partition = other[1] if other is not None else partition_of(account) if partition_of is not None else None
        if partition is None:
            return None
        event_id = _event(connection, account, arm, partition)
    chosen = Order(payer, charge.amount_fen, attempt, (), "restored")
    low = low_balance(connection, event_id)
    return order_by_id(connection, create_order(connection, low, chosen, 0, charge.at_s, State.CANCELLED))


def _event(connection: Connection, account: str, arm: int, partition: int) -> int:
    # as_of 0: rating may yet tell of this arm again, with its own time, and must not collide
    values = {"kind": "low_balance", "account": account, "arm": arm, "partition": partition}
    result = connection.execute(insert(event).values(**values, as_of_s=0, balance_fen=0, decided=1))
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])
