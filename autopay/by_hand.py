"""I/O: a person's word about an order, inside one transaction: charged or not charged, by whom and why.

It is evidence like any other and goes through `settle`, so it credits only by the order's own transition, once,
and only under a transaction id that stands for no other order. What it may do that no answer may: end a doubt.
"""

from __future__ import annotations

from sqlalchemy import Connection, update

from autopay.orders import DOUBT, SETTLED, Declined, State, Succeeded
from autopay.records import OrderRow, order_by_id, transition
from autopay.settle import REASON_MAX, Book, doubt_of, settle
from ledger.schema import order

NOT_CHARGED = "not_charged"  # the reason of an order that a person declined


class NotSettled(Exception):
    """The word of a person that does not fit the order; nothing was changed. Says what to do instead."""

    def __init__(self, why: str, what_to_do: str) -> None:
        super().__init__(why)
        self.why, self.what_to_do = why, what_to_do


def settle_by_hand(
    connection: Connection, book: Book, order_id: int, charged: str | None, why: str, who: str, now_s: int
) -> tuple[OrderRow, str]:
    """`charged`: the gateway's transaction id, None: not charged. The order as it is now, and what happened.

    The same word again changes nothing; KeyError for an order that there is not.
    """
    row = order_by_id(connection, order_id)
    said = {"who": who, "why": why}
    if charged is None:
        return _not_charged(connection, book, row, said, now_s)
    evidence = Succeeded(charged, row.amount_fen)
    if row.state in SETTLED and row.gateway_txn == charged:
        return row, "nothing new"
    doubt = doubt_of(connection, row, evidence)
    if doubt is not None:
        raise NotSettled(f"order {row.id}: {doubt}", "Look at that transaction in the gateway's own console")
    row, word = settle(connection, book, row, evidence, "person", now_s, said)
    reason = f"by hand: {who}: {why}"[:REASON_MAX]
    connection.execute(update(order).where(order.c.id == row.id).values(reason=reason))
    return order_by_id(connection, row.id), word


def _not_charged(
    connection: Connection, book: Book, row: OrderRow, said: dict[str, str], now_s: int
) -> tuple[OrderRow, str]:
    if row.state in SETTLED:
        todo = "Refund it at the gateway, then `meterd reverse` the credit"
        raise NotSettled(f"order {row.id} is {row.state.value}: it was charged as {row.gateway_txn}", todo)
    if row.state in (State.CREATED, State.SUBMITTED):
        todo = "Wait until it is unknown; `meterd autopay hold` stops what is not submitted yet"
        raise NotSettled(f"order {row.id} is {row.state.value}: its answer is still to come", todo)
    if row.state is State.UNKNOWN:
        return settle(connection, book, row, Declined(NOT_CHARGED), "person", now_s, said)
    if not row.reason.startswith(DOUBT):
        return row, "nothing new"
    told = {"source": "person", "kind": NOT_CHARGED} | said
    return transition(connection, row, row.state, told, now_s, reason=NOT_CHARGED), "the doubt is settled"
