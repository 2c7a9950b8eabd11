"""I/O: decisions and submissions inside the owner's transaction: gather rows, let the policy decide, write rows.

Live balances are read before the transaction, in a snapshot of their own, because reading state takes longer than
the one writer may be held up. A credit that was applied in between shows as a step of its order, and whoever has
such a step is looked at again by the next pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, update

from autopay import caps, waits
from autopay.orders import State
from autopay.policy import (
    Decision,
    Live,
    Mandate,
    Order,
    Switches,
    Wait,
    decide,
    ended,
    limits_of,
    window_opens,
)
from autopay.records import (
    HOLD,
    OrderRow,
    create_order,
    credit_pending,
    low_balance,
    mandates_of,
    moved_since,
    newest_step,
    order_by_id,
    paid_otherwise,
    past_orders,
    recovered_since,
    set_switch,
    switch_row,
    transition,
    write_decision,
)
from autopay.settle import Book, cancel, recount
from config.settings import AutopaySettings
from ledger.schema import LEDGER_RESTORED, event

Lives = Callable[[Connection, Sequence[str]], Mapping[str, Live]]  # accounts' newest committed balances
CAP_TAKEN_S: Final = 60  # a cap that was free when the policy looked


@dataclass(frozen=True, slots=True)
class Desk:
    """What an owner decides with."""

    book: Book
    settings: AutopaySettings
    gateways: frozenset[str]
    epoch: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read before the transaction: live balances by account, and the newest order step of that moment."""

    lives: Mapping[str, Live]
    step_id: int


def look(connection: Connection, lives: Lives | None, accounts: Iterable[str]) -> Seen:
    """Read what deciding on these accounts needs of their state."""
    names = sorted(set(accounts))
    return Seen(lives(connection, names) if lives is not None and names else {}, newest_step(connection))


def decide_all(
    connection: Connection,
    desk: Desk,
    seen: Seen,
    ids: Mapping[int, str],
    others: Mapping[int, tuple[str, str]],
    charges: int,
    now_s: int,
) -> list[Decision]:
    """Decide on low balances (event id -> account); `others` (event id -> kind, account) are only taken note of.

    `charges`: how many orders were created within the last hour.
    """
    if others:
        connection.execute(update(event).where(event.c.id.in_(list(others))).values(decided=1))
    waits.wake_accounts(connection, now_s, [account for kind, account in others.values() if kind == "recovered"])
    made: list[Decision] = []
    for event_id, account in ids.items():
        if moved_since(connection, account, seen.step_id):
            continue
        count = charges + sum(isinstance(decision, Order) for decision in made)
        made.append(_decide_one(connection, desk, event_id, seen.lives.get(account), count, now_s))
    return made


def _decide_one(
    connection: Connection, desk: Desk, event_id: int, live: Live | None, charges: int, now_s: int
) -> Decision:
    low = low_balance(connection, event_id, live)
    zone, settings = desk.book.zone, desk.settings
    mandates = mandates_of(connection, low.account)
    scopes = [x.scope for m in mandates for x in limits_of(m, now_s, zone, settings)]
    held = switch_row(connection, HOLD)[0]
    made = decide(
        low,
        mandates,
        caps.used(connection, scopes),
        past_orders(connection, low.account, low.arm),
        now_s,
        zone,
        Switches(held, charges, desk.gateways),
        settings,
    )
    order_id = None
    if isinstance(made, Order):
        full = caps.reserve(connection, made.limits, made.amount_fen)
        if full is not None:  # the database is the judge of caps
            made = Wait(now_s + CAP_TAKEN_S, f"cap {full}"[:60], made.detail)
        else:
            order_id = create_order(connection, low, made, desk.epoch, now_s)
    if isinstance(made, Wait) and made.reason == "breaker" and not held:
        set_switch(connection, HOLD, f"breaker: {charges} charges within an hour", now_s, on=True)
    write_decision(connection, low, made, now_s, order_id)
    return made


def submit_one(
    connection: Connection, desk: Desk, order_id: int, live: Live | None, now_s: int
) -> tuple[OrderRow, str | None] | None:
    """Move a created order to submitted and return it with its token, or cancel it (no token); None: not now.

    After a restore it becomes unknown (no token): the orders that were lost had keys, too. The gateway is asked, and
    what it does not know is charged then (docs/adr/0010).
    """
    row = order_by_id(connection, order_id)
    if row.state is not State.CREATED or switch_row(connection, HOLD)[0]:
        return None
    if credit_pending(connection, row.partition, row.account):
        return None  # it may be enough
    mandate = mandate_of(connection, row)
    why = obstacle(connection, desk, row, mandate, live, now_s)
    if why is None and mandate is not None:
        full = recount(connection, desk.book, row, mandate, desk.settings, now_s)  # today, not when it was created
        why = None if full is None else f"cap {full}"
    if why is not None or mandate is None:
        return cancel(connection, desk.book, row, why or "mandate_ended", now_s), None
    told: dict[str, int | str] = {"epoch": desk.epoch}
    row = order_by_id(connection, row.id)
    if switch_row(connection, LEDGER_RESTORED)[0]:
        told["why"] = "restored"
        return transition(connection, row, State.UNKNOWN, told, now_s, next_action_at_s=now_s, epoch=desk.epoch), None
    row = transition(connection, row, State.SUBMITTED, told, now_s, submitted_at_s=now_s, epoch=desk.epoch)
    return row, mandate.token


def mandate_of(connection: Connection, row: OrderRow) -> Mandate | None:
    """The order's mandate as it is now."""
    return next((m for m in mandates_of(connection, row.account) if m.id == row.mandate), None)


def obstacle(
    connection: Connection, desk: Desk, row: OrderRow, mandate: Mandate | None, live: Live | None, now_s: int
) -> str | None:
    """Why an order may not be charged now, be it for the first time or again with the same key; None: it may."""
    if recovered_since(connection, row.account, row.event_id):
        return "recovered"
    if paid_otherwise(connection, row):
        return "paid_otherwise"
    if mandate is None or ended(mandate, now_s) is not None:
        return "mandate_ended"
    if (mandate.payer, mandate.gateway) != (row.payer, row.gateway):
        return "mandate_changed"
    if low_balance(connection, row.event_id, live).now_fen > mandate.trigger_fen:
        return "above_its_trigger"
    if row.gateway not in desk.gateways:
        return "gateway_unknown"
    if window_opens(mandate, now_s, desk.book.zone) is not None:
        return "window"  # it was created in the window and held up past its end
    return None
