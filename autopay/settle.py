"""I/O: evidence meets an order, inside one transaction: the moves, and everything that must be true with them.

This is the only place that inserts credits. An answer, a lookup, a webhook and a line of the gateway's book all
come through `settle`, in any order and any number of times; the state decides what they still mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, bindparam, exists, select, update

from autopay import caps
from autopay.orders import DOUBT, PERSON, SETTLED, WAITING, Answer, Declined, State, Succeeded, judge
from autopay.policy import Mandate, Wait, limits_of, periods_of
from autopay.records import (
    OrderRow,
    add_notice,
    low_balance,
    order_by_id,
    orders,
    switch_row,
    transition,
    write_decision,
)
from config.settings import AutopaySettings
from ledger.inbox import submit
from ledger.schema import LEDGER_RESTORED, inbox, inbox_applied, order

REASON_MAX: Final = 120  # as the column holds it
_TAKEN: Final = select(
    exists().where(
        order.c.gateway == bindparam("of_gateway"),
        order.c.gateway_txn == bindparam("of_txn"),
        order.c.id != bindparam("one"),
    )
)


@dataclass(frozen=True, slots=True)
class Book:
    """What settling needs beside the order: local days for caps, whether people are told, and when they must be."""

    zone: ZoneInfo
    notices: bool
    person_after_s: int = 3 * 86_400


def settle(
    connection: Connection,
    book: Book,
    row: OrderRow,
    evidence: Answer,
    source: str,
    now_s: int,
    said: Mapping[str, str] | None = None,
) -> tuple[OrderRow, str]:
    """Apply evidence to an order as read in this transaction; returns it as it is now and a word for the record.

    `said`: who and why, when it is a person's word; only that, or a success that fits, ends a doubt.
    """
    told = {"source": source, "kind": type(evidence).__name__.lower()} | asdict(evidence) | dict(said or {})
    if isinstance(evidence, Succeeded):
        row = _as_charged(connection, book, row, evidence, now_s)
        doubt = doubt_of(connection, row, evidence)
        if doubt is not None:
            return _doubted(connection, book, row, doubt, told, now_s), f"{DOUBT}{doubt}"
    elif isinstance(evidence, Declined) and said is None and row.reason.startswith(DOUBT):
        return row, "nothing new: it was contradicted before, and waits for a person"
    moves = judge(row.state, evidence)
    for new in moves:
        match new:
            case State.SUBMITTED:
                row = transition(connection, row, new, told, now_s, submitted_at_s=now_s)
            case State.SUCCEEDED | State.SUCCEEDED_LATE:
                assert isinstance(evidence, Succeeded)
                row = _succeed(connection, book, row, new, evidence, told, now_s)
            case State.DECLINED:
                assert isinstance(evidence, Declined)
                row = _decline(connection, book, row, evidence, told, now_s)
            case _:
                row = transition(connection, row, new, told, now_s, next_action_at_s=now_s)
    return row, "moved to " + row.state.value if moves else "nothing new"


def _as_charged(connection: Connection, book: Book, row: OrderRow, evidence: Succeeded, now_s: int) -> OrderRow:
    """After a restore, an order that was never sent and that the gateway charged: it is the lost one of that key.

    What we would have asked for nobody has heard; the amount is what the lost order asked for, as it is when
    the book brings an order back that is not there at all.
    """
    never_sent = row.submitted_at_s is None and row.state not in SETTLED and row.amount_fen != evidence.amount_fen
    if not never_sent or not switch_row(connection, LEDGER_RESTORED)[0]:
        return row
    if doubt_of(connection, replace(row, amount_fen=evidence.amount_fen), evidence) is not None:
        return row
    if row.state in (State.CREATED, State.UNKNOWN):
        row = cancel(connection, book, row, f"charged {evidence.amount_fen} fen before the restore", now_s)
    connection.execute(update(order).where(order.c.id == row.id).values(amount_fen=evidence.amount_fen))
    return order_by_id(connection, row.id)


def _doubted(
    connection: Connection, book: Book, row: OrderRow, doubt: str, told: Mapping[str, Any], now_s: int
) -> OrderRow:
    """Evidence that must not be believed: nobody knows what became of the order, and a person is told.

    One that the gateway may have heard of becomes unknown, so that it is asked about by the schedule and blocks
    a new charge; one that was paid stays so. The same doubt again changes nothing.
    """
    if row.reason != _mark(DOUBT + doubt):
        told = dict(told) | {"doubt": doubt}
        if row.state is State.CREATED:  # after a restore: it had been submitted, so it must not be again
            row = transition(connection, row, State.SUBMITTED, told, now_s, submitted_at_s=now_s)
        if row.state in WAITING:
            row = transition(connection, row, State.UNKNOWN, told, now_s, next_action_at_s=now_s)
    call_person(connection, row, "doubt", DOUBT + doubt, now_s, tell=book.notices)
    return order_by_id(connection, row.id)


def cancel(connection: Connection, book: Book, row: OrderRow, why: str, now_s: int) -> OrderRow:
    """Cancel an order that we never sent; its caps are free again, and its event is decided again."""
    row = transition(connection, row, State.CANCELLED, {"why": why}, now_s, reason=why[:REASON_MAX])
    caps.release(connection, _scopes(book, row), row.amount_fen)
    low = low_balance(connection, row.event_id)
    write_decision(connection, low, Wait(now_s, "cancelled", {"order_id": row.id, "why": why}), now_s)
    return row


def call_person(connection: Connection, row: OrderRow, topic: str, reason: str, now_s: int, *, tell: bool) -> None:
    """Mark the order for the operators, and tell them once by topic."""
    if row.reason == _mark(reason):
        return
    connection.execute(update(order).where(order.c.id == row.id).values(reason=_mark(reason)))
    if tell:
        why = reason.removeprefix(PERSON)
        params = {"order_id": row.id, "amount_fen": row.amount_fen, "why": why, "gateway": row.gateway}
        add_notice(connection, f"person:{row.key}:{topic}", "person", "operator", row.account, params, now_s)


def call_overdue(connection: Connection, book: Book, now_s: int, limit: int) -> int:
    """Tell a person of charges whose credit was not applied for `person_after_s`; returns how many there were."""
    paid = order.c.state.in_([State.SUCCEEDED.value, State.SUCCEEDED_LATE.value])
    rows = orders(connection, paid, order.c.next_action_at_s <= now_s, limit=limit)
    for row in rows:
        refused = connection.scalar(
            select(inbox_applied.c.outcome)
            .join(inbox, inbox.c.id == inbox_applied.c.inbox_id)
            .where(inbox.c.key == credit_key(row))
        )
        why = (
            f"charged, and its credit was refused: {refused}" if refused else "charged, and its credit is not applied"
        )
        call_person(connection, row, "credit", PERSON + why, now_s, tell=book.notices)
        connection.execute(update(order).where(order.c.id == row.id).values(next_action_at_s=None))
    return len(rows)


def credit_key(row: OrderRow) -> str:
    """The inbox key of an order's one credit."""
    return f"order:{row.id}:{row.attempt}"


def _mark(reason: str) -> str:
    return reason[:REASON_MAX]


def doubt_of(connection: Connection, row: OrderRow, evidence: Succeeded) -> str | None:
    """Why a success may not be believed as it is, or None."""
    if row.gateway_txn is not None and row.gateway_txn != evidence.txn:
        return f"charged twice: {row.gateway_txn} and {evidence.txn}"
    if evidence.amount_fen != row.amount_fen:
        return f"charged {evidence.amount_fen} fen instead of {row.amount_fen}"
    if connection.scalar(_TAKEN, {"of_gateway": row.gateway, "of_txn": evidence.txn, "one": row.id}):
        return f"transaction {evidence.txn} already stands for another order"
    return None


def _succeed(
    connection: Connection,
    book: Book,
    row: OrderRow,
    new: State,
    evidence: Succeeded,
    told: dict[str, Any],
    now_s: int,
) -> OrderRow:
    late = new is State.SUCCEEDED_LATE
    values = {"gateway_txn": evidence.txn, "next_action_at_s": now_s + book.person_after_s}
    if row.reason.startswith(PERSON):  # no person is needed for it any more; the steps keep what was
        values["reason"] = ""
    row = transition(connection, row, new, told, now_s, **values)
    submit(
        connection,
        kind="credit",
        key=credit_key(row),
        body={
            "account": row.account,
            "amount_fen": row.amount_fen,
            "gateway": row.gateway,
            "order_id": row.id,
            "arm": row.arm,
            "reference": evidence.txn,
        },
        partition=row.partition,
        now_s=now_s,
    )
    if late:
        caps.force(connection, _scopes(book, row), row.amount_fen)
        for next_one in orders(
            connection, order.c.account == row.account, order.c.state == State.CREATED.value, limit=10
        ):
            cancel(connection, book, next_one, f"order {row.id} was charged after all", now_s)
        late_why = PERSON + "charged after it was declined or cancelled"
        call_person(connection, row, "late", late_why, now_s, tell=book.notices)
    if book.notices:
        params = {"amount_fen": row.amount_fen, "order_id": row.id, "payer": row.payer}
        add_notice(connection, f"charged:{row.key}:payer", "charged", row.payer, row.account, params, now_s)
        add_notice(connection, f"charged:{row.key}:holder", "charged", "", row.account, params, now_s)
    return row


def _decline(
    connection: Connection, book: Book, row: OrderRow, evidence: Declined, told: dict[str, Any], now_s: int
) -> OrderRow:
    row = transition(connection, row, State.DECLINED, told, now_s, reason=evidence.code[:120], next_action_at_s=None)
    caps.release(connection, _scopes(book, row), row.amount_fen)
    low = low_balance(connection, row.event_id)
    write_decision(connection, low, Wait(now_s, "declined", {"order_id": row.id, "code": evidence.code}), now_s)
    if book.notices:
        params = {"amount_fen": row.amount_fen, "order_id": row.id, "code": evidence.code}
        add_notice(connection, f"charge_failed:{row.key}", "charge_failed", row.payer, row.account, params, now_s)
        once = f"nothing_came:{row.account}:{row.arm}"  # whoever lives there is told once, however often it is tried
        add_notice(connection, once, "nothing_came", "", row.account, {"payer": row.payer}, now_s)
    return row


def recount(
    connection: Connection, book: Book, row: OrderRow, mandate: Mandate, settings: AutopaySettings, now_s: int
) -> str | None:
    """Count an order on the day and month of now, because it is charged now; the cap that is full, else None."""
    limits = limits_of(mandate, now_s, book.zone, settings)
    full = caps.move(connection, _scopes(book, row), limits, row.amount_fen)
    if full is None:
        connection.execute(update(order).where(order.c.id == row.id).values(caps_at_s=now_s))
    return full


def _scopes(book: Book, row: OrderRow) -> list[str]:
    return [scope for scope, _ in periods_of(row.payer, row.mandate, row.counted_at_s, book.zone)]
