"""I/O: what one answer or one webhook changes, each inside one transaction of the owner.

Calls and threads are `autopay.service`; what evidence means is `autopay.settle` and `autopay.asking`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, insert, select, update

from autopay.asking import AskAgain, ChargeAgain, after_lookup, ask_at_s
from autopay.gateways.port import GatewayPort, WebhookEvent
from autopay.orders import PERSON, Answer, State, Unknown
from autopay.records import (
    HOLD,
    OrderRow,
    last_step_at,
    mandates_of,
    order_by_id,
    orders,
    recovered_since,
    switch_row,
    transition,
)
from autopay.settle import Book, call_person, settle
from config.settings import AutopaySettings
from ledger.schema import order, webhook


def apply_answer(
    connection: Connection,
    book: Book,
    gateways: Mapping[str, GatewayPort],
    settings: AutopaySettings,
    order_id: int,
    kind: str,
    answer: Answer,
    epoch: int,
    now_s: int,
) -> tuple[OrderRow, str | None]:
    """One answer of kind "charge" or "lookup" onto one order, which may have moved since the call was made.

    The second value is the token when it must be charged again with the same key.
    """
    row = order_by_id(connection, order_id)
    if row.state is State.UNKNOWN and isinstance(answer, Unknown) and kind == "charge":
        row = transition(connection, row, State.UNKNOWN, {"kind": "unknown", "why": answer.why}, now_s)
    if row.state is State.UNKNOWN:
        return _of_unknown(connection, book, gateways[row.gateway], settings, row, kind, answer, epoch, now_s)
    row, _ = settle(connection, book, row, answer, kind, now_s)
    if row.state is State.UNKNOWN:
        _ask_later(connection, row, ask_at_s(row, now_s, settings), asks=row.asks)
    return row, None


def _ask_later(connection: Connection, row: OrderRow, at_s: int, *, asks: int) -> None:
    connection.execute(update(order).where(order.c.id == row.id).values(asks=asks, next_action_at_s=at_s))


def _of_unknown(
    connection: Connection,
    book: Book,
    gateway: GatewayPort,
    settings: AutopaySettings,
    row: OrderRow,
    kind: str,
    answer: Answer,
    epoch: int,
    now_s: int,
) -> tuple[OrderRow, str | None]:
    held = switch_row(connection, HOLD)[0] or recovered_since(connection, row.account, row.event_id)
    last_s = last_step_at(connection, row.id)
    todo = after_lookup(row, answer, last_s, now_s, gateway, settings, may_charge=not held)
    if isinstance(todo, AskAgain):
        _ask_later(connection, row, todo.at_s, asks=row.asks + 1)
        if todo.person is not None and not row.reason.startswith(PERSON):
            call_person(connection, row, "unknown", PERSON + todo.person, now_s, tell=book.notices)
        return row, None
    if isinstance(todo, ChargeAgain):
        token = next((m.token for m in mandates_of(connection, row.account) if m.id == row.mandate), None)
        told = {"kind": "charge_again" if token is not None else "mandate_gone", "epoch": epoch}
        return transition(connection, row, State.UNKNOWN, told, now_s, next_action_at_s=todo.next_at_s), token
    settled, _ = settle(connection, book, row, todo, kind, now_s)
    if settled.state is State.UNKNOWN:  # contradicted: no answer either, so it is asked about by the schedule
        _ask_later(connection, settled, ask_at_s(row, now_s, settings), asks=row.asks + 1)
    return settled, None


def take_webhook(
    connection: Connection, book: Book, gateway: str, told: WebhookEvent, body: bytes, now_s: int
) -> OrderRow | None:
    """Keep an authentic webhook, once, and let it move its order; the order when it moved."""
    known = select(webhook.c.event).where(webhook.c.gateway == gateway, webhook.c.event == told.event)
    if connection.execute(known).first() is not None:
        return None
    found = orders(connection, order.c.key == told.key, order.c.gateway == gateway, limit=1)
    row, word = (None, "no such order")
    if found:
        row, word = settle(connection, book, found[0], told.outcome, "webhook", now_s)
    text = body.decode("utf-8", "replace")
    kept = {"gateway": gateway, "event": told.event, "received_at_s": now_s, "body": text, "outcome": word}
    connection.execute(insert(webhook).values(kept))
    return row if row is not None and row.state is not found[0].state else None
