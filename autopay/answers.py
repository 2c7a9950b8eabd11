"""I/O: what one answer or one webhook changes, each inside one transaction of the owner.

Calls and threads are `autopay.service`; what evidence means is `autopay.settle` and `autopay.asking`.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from autopay.asking import STOPPING, AskAgain, ChargeAgain, GiveUp, after_lookup, ask_at_s
from autopay.deciding import Desk, mandate_of, obstacle
from autopay.gateways.port import GatewayPort, WebhookEvent
from autopay.orders import PERSON, Answer, NotFound, State, Unknown
from autopay.policy import Live
from autopay.records import (
    HOLD,
    OrderRow,
    last_step_at,
    order_by_id,
    orders,
    switch_row,
    transition,
)
from autopay.settle import Book, call_person, cancel, recount, settle
from ledger.schema import order, webhook


def apply_answer(
    connection: Connection,
    desk: Desk,
    gateway: GatewayPort,
    order_id: int,
    kind: str,
    answer: Answer,
    live: Live | None,
    now_s: int,
    *,
    may_charge: bool = True,
) -> tuple[OrderRow, str | None]:
    """One answer of kind "charge" or "lookup" onto one order, which may have moved since the call was made.

    The second value is the token when it must be charged again with the same key.
    """
    row = order_by_id(connection, order_id)
    if row.state is State.UNKNOWN and isinstance(answer, Unknown) and kind == "charge":
        row = transition(connection, row, State.UNKNOWN, {"kind": "unknown", "why": answer.why}, now_s)
    if row.state is State.UNKNOWN:
        against: str | None = STOPPING
        if may_charge and isinstance(answer, NotFound):
            against = _against(connection, desk, row, live, now_s)
        return _of_unknown(connection, desk, gateway, row, kind, answer, against, now_s)
    row, _ = settle(connection, desk.book, row, answer, kind, now_s)
    if row.state is State.UNKNOWN:
        _ask_later(connection, row, ask_at_s(row, now_s, desk.settings), asks=row.asks)
    return row, None


def _ask_later(connection: Connection, row: OrderRow, at_s: int, *, asks: int) -> None:
    connection.execute(update(order).where(order.c.id == row.id).values(asks=asks, next_action_at_s=at_s))


def _of_unknown(
    connection: Connection,
    desk: Desk,
    gateway: GatewayPort,
    row: OrderRow,
    kind: str,
    answer: Answer,
    against: str | None,
    now_s: int,
) -> tuple[OrderRow, str | None]:
    """`against`: what stands against charging it with the same key, should the gateway not know it."""
    book, settings = desk.book, desk.settings
    last_s = last_step_at(connection, row.id)
    todo = after_lookup(row, answer, last_s, now_s, gateway, settings, against=against)
    if isinstance(todo, ChargeAgain):
        mandate = mandate_of(connection, row)
        assert mandate is not None
        full = recount(connection, book, row, mandate, settings, now_s)  # it would be charged today
        if full is None:
            told = {"kind": "charge_again", "epoch": desk.epoch}
            row = order_by_id(connection, row.id)
            sent = {"next_action_at_s": todo.next_at_s, "submitted_at_s": row.submitted_at_s or now_s}
            return transition(connection, row, State.UNKNOWN, told, now_s, **sent), mandate.token
        todo = after_lookup(row, answer, last_s, now_s, gateway, settings, against=f"cap {full}")
    if isinstance(todo, AskAgain):
        _ask_later(connection, row, todo.at_s, asks=row.asks + 1)
        if todo.person is not None and not row.reason.startswith(PERSON):
            call_person(connection, row, "unknown", PERSON + todo.person, now_s, tell=book.notices)
        return row, None
    if isinstance(todo, GiveUp):
        return cancel(connection, book, row, todo.why, now_s), None
    assert not isinstance(todo, ChargeAgain)
    settled, _ = settle(connection, book, row, todo, kind, now_s)
    if settled.state is State.UNKNOWN:  # contradicted: no answer either, so it is asked about by the schedule
        _ask_later(connection, settled, ask_at_s(row, now_s, settings), asks=row.asks + 1)
    return settled, None


def _against(connection: Connection, desk: Desk, row: OrderRow, live: Live | None, now_s: int) -> str | None:
    """What stands against charging an order that the gateway does not know; None: nothing.

    Whatever stands against a first charge stands against this one: nothing was taken yet.
    """
    mandate = mandate_of(connection, row)
    if mandate is not None and mandate.changed_at_s >= (row.submitted_at_s or now_s):
        return "mandate_changed"  # one key, two tokens: a first call that is still on its way would meet the second
    if switch_row(connection, HOLD)[0]:
        return "hold"
    return obstacle(connection, desk, row, mandate, live, now_s)


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
