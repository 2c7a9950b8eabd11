"""I/O: autopay's rows: reading what a decision needs, writing decisions, orders, steps and notices.

Every function works on a connection inside the caller's transaction (`store.write`); nothing here commits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, Select, Update, bindparam, exists, func, insert, or_, select, text, update

from autopay import waits
from autopay.orders import SETTLED, State, key_of, move
from autopay.policy import Decision, Live, LowBalance, Mandate, Order, PastOrder, Wait
from ledger.schema import IN_FLIGHT, decision, event, inbox, mandate, notice, order, order_step, switch

T = TypeVar("T")
PAST_MAX: Final = 500  # orders of one account that a decision looks at
HOLD: Final = "autopay.hold"
# Statements that every pass asks are made once: making one takes five times as long as running it.
_ONE: Final[Any] = bindparam("one")
_ACCOUNT: Final[Any] = bindparam("of_account")
_AFTER: Final[Any] = bindparam("after")
_ORDER: Final = select(order).where(order.c.id == _ONE)
_MANDATES: Final = select(mandate).where(mandate.c.account == _ACCOUNT).limit(PAST_MAX)
_RECOVERED: Final = select(
    exists().where(event.c.account == _ACCOUNT, event.c.kind == "recovered", event.c.id > _AFTER)
)
_EVENT: Final = select(event).where(event.c.id == _ONE)
_NEWER: Final = select(
    exists().where(event.c.account == _ACCOUNT, event.c.kind == "low_balance", event.c.arm > bindparam("arm_before"))
)
_PAID_OTHERWISE: Final = select(
    exists().where(
        order.c.account == _ACCOUNT,
        order.c.arm == bindparam("of_arm"),
        order.c.id != _ONE,
        order.c.state.in_(SETTLED),
    )
)
_CREDIT_WAITS: Final = (
    select(inbox.c.id)
    .where(text("settled = 0"), inbox.c.partition == bindparam("home"), inbox.c.kind == "credit")
    .where(inbox.c.body.like(bindparam("named"), escape="/"))
    .limit(1)
)
_ACCOUNTS: Final = select(event.c.id, event.c.account).where(event.c.id.in_(bindparam("some", expanding=True)))
_NEWEST_STEP: Final = select(func.max(order_step.c.id))
_MOVED: Final = (
    select(order_step.c.id)
    .join(order, order.c.id == order_step.c.order_id)
    .where(order_step.c.id > _AFTER, order.c.account == _ACCOUNT)
    .limit(1)
)
_PAST: Final = (
    select(
        order,
        select(func.max(order_step.c.at_s))
        .where(order_step.c.order_id == order.c.id)
        .scalar_subquery()
        .label("closed_at_s"),
    )
    .where(
        order.c.account == _ACCOUNT,
        or_(order.c.arm >= bindparam("from_arm"), order.c.state.in_([*IN_FLIGHT, *SETTLED])),
    )
    .order_by(order.c.id.desc())
    .limit(PAST_MAX)
)
_LAST_STEP: Final = select(func.max(order_step.c.at_s)).where(order_step.c.order_id == _ONE)
_STEP: Final = insert(order_step)
_NEW_ORDER: Final = insert(order)
_DECIDED: Final = update(event).where(event.c.id == _ONE).values(decided=1)
_DECISION: Final = (
    select(decision.c.id, decision.c.outcome, decision.c.reason, decision.c.detail)
    .where(decision.c.event_id == _ONE)
    .order_by(decision.c.id.desc())
    .limit(1)
)
_WAITS_ON: Final = (
    update(decision).where(decision.c.id == _ONE).values(retry_at_s=bindparam("until_s"), detail=bindparam("figures"))
)
_NEW_DECISION: Final = insert(decision)
_NOTICE_KNOWN: Final = select(exists().where(notice.c.key == bindparam("of_key")))
_NEW_NOTICE: Final = insert(notice)
_SWITCH: Final = select(switch.c.value, switch.c.reason, switch.c.at_s).where(switch.c.name == bindparam("of_name"))


class Store(Protocol):
    """What autopay needs of `ledger.store.LedgerStore`."""

    def write(self, work: Callable[[Connection], T], /) -> T: ...

    def reader(self) -> AbstractContextManager[Connection]: ...

    def take_over(self, role: str, holder: str, /) -> int: ...


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One row of `order_`."""

    id: int
    account: str
    partition: int
    event_id: int
    arm: int
    attempt: int
    mandate: str
    payer: str
    gateway: str
    key: str
    amount_fen: int
    state: State
    created_at_s: int
    submitted_at_s: int | None
    next_action_at_s: int | None
    asks: int
    gateway_txn: str | None
    reason: str
    epoch: int
    caps_at_s: int | None = None

    @property
    def counted_at_s(self) -> int:
        """The moment whose local day and month its caps are counted on."""
        return self.created_at_s if self.caps_at_s is None else self.caps_at_s


def _order(row: Mapping[Any, Any]) -> OrderRow:
    return OrderRow(**{str(name): value for name, value in row.items()} | {"state": State(row["state"])})


def orders(connection: Connection, *where: Any, limit: int, by: Sequence[Any] = (order.c.id,)) -> list[OrderRow]:
    """Orders that meet the conditions, by id or as `by` says, at most `limit`."""
    return orders_of(connection, select(order).where(*where).order_by(*by).limit(limit))


def orders_of(connection: Connection, asked: Select[Any], values: Mapping[str, Any] | None = None) -> list[OrderRow]:
    """The orders that a statement selects whole."""
    return [_order(row) for row in connection.execute(asked, values or {}).mappings()]


def order_by_id(connection: Connection, order_id: int) -> OrderRow:
    """KeyError when there is none."""
    row = connection.execute(_ORDER, {"one": order_id}).mappings().first()
    if row is None:
        raise KeyError(order_id)
    return _order(row)


def mandates_of(connection: Connection, account: str) -> list[Mandate]:
    rows = connection.execute(_MANDATES, {"of_account": account})
    return [Mandate(**{str(name): value for name, value in row.items()}) for row in rows.mappings()]


def recovered_since(connection: Connection, account: str, event_id: int) -> bool:
    """Whether a `recovered` event of the account came after that event."""
    return bool(connection.scalar(_RECOVERED, {"of_account": account, "after": event_id}))


def paid_otherwise(connection: Connection, row: OrderRow) -> bool:
    """Whether another attempt of the same low balance was charged: a restored ledger may learn so before this one."""
    asked = {"of_account": row.account, "of_arm": row.arm, _ONE.key: row.id}
    return bool(connection.scalar(_PAID_OTHERWISE, asked))


def low_balance(connection: Connection, event_id: int, live: Live | None = None) -> LowBalance:
    """The event as the policy sees it; `live`: its account now."""
    row = connection.execute(_EVENT, {"one": event_id}).mappings().one()
    newer = {"of_account": row["account"], "arm_before": row["arm"]}
    return LowBalance(
        row["id"],
        row["account"],
        row["partition"],
        row["arm"],
        row["balance_fen"],
        recovered=recovered_since(connection, row["account"], event_id),
        superseded=bool(connection.scalar(_NEWER, newer)),
        live=live,
        credit_pending=credit_pending(connection, row["partition"], row["account"]),
    )


def credit_pending(connection: Connection, partition: int, account: str) -> bool:
    """Whether a credit of the account waits to be applied: a top-up that races the mandate."""
    named = f'"account":{json.dumps(account, ensure_ascii=False)}'  # as `ledger.inbox.submit` writes it
    for sign in "/%_":
        named = named.replace(sign, f"/{sign}")
    asked = {"home": partition, "named": f"%{named}%"}
    return connection.execute(_CREDIT_WAITS, asked).first() is not None


def accounts_of(connection: Connection, event_ids: Sequence[int]) -> dict[int, str]:
    """Event id -> account."""
    rows = connection.execute(_ACCOUNTS, {"some": list(event_ids)}) if event_ids else ()
    return {int(event_id): str(account) for event_id, account in rows}


def newest_step(connection: Connection) -> int:
    """The number of the last transition of any order; `moved_since` compares with it."""
    return int(connection.scalar(_NEWEST_STEP) or 0)


def moved_since(connection: Connection, account: str, step_id: int) -> bool:
    """Whether an order of the account took a step after that one: a balance read before may lack its credit."""
    return connection.execute(_MOVED, {"after": step_id, "of_account": account}).first() is not None


def past_orders(connection: Connection, account: str, arm: int) -> list[PastOrder]:
    """The account's orders from `arm` on, and older ones that are in flight or were paid."""
    rows = connection.execute(_PAST, {"of_account": account, "from_arm": arm}).mappings()
    return [
        PastOrder(
            row["arm"],
            row["attempt"],
            row["mandate"],
            row["payer"],
            row["state"],
            row["caps_at_s"] or row["created_at_s"],
            row["closed_at_s"] or row["created_at_s"],
            row["reason"],
        )
        for row in rows
    ]


def last_step_at(connection: Connection, order_id: int) -> int:
    """When the order last moved: for an unknown one, when its last charge ended in doubt."""
    return int(connection.scalar(_LAST_STEP, {"one": order_id}) or 0)


def transition(
    connection: Connection, row: OrderRow, new: State, evidence: Mapping[str, Any], now_s: int, **values: Any
) -> OrderRow:
    """Move an order by compare-and-swap on its state and write the step; returns it as it is now."""
    move(row.state, new)
    changes = {"state": new.value, **values}
    change = _moving(tuple(changes))
    told = {f"new_{name}": value for name, value in changes.items()}
    changed = connection.execute(change, {"one": row.id, "was": row.state.value} | told).rowcount
    assert changed == 1, f"order {row.id} was not {row.state.value} any more"
    connection.execute(_STEP, _step(row.id, row.state.value, new, evidence, now_s))
    return order_by_id(connection, row.id)


@lru_cache
def _moving(names: tuple[str, ...]) -> Update:
    """The compare-and-swap that sets these columns."""
    swap = update(order).where(order.c.id == _ONE, order.c.state == bindparam("was"))
    return swap.values({name: bindparam(f"new_{name}") for name in names})


def create_order(
    connection: Connection, low: LowBalance, chosen: Order, epoch: int, now_s: int, state: State = State.CREATED
) -> int:
    """Insert an order; its caps were reserved by the caller in this transaction."""
    payer = chosen.mandate
    row = {
        "account": low.account,
        "partition": low.partition,
        "event_id": low.id,
        "arm": low.arm,
        "attempt": chosen.attempt,
        "mandate": payer.id,
        "payer": payer.payer,
        "gateway": payer.gateway,
        "key": key_of(low.account, low.arm, chosen.attempt),
        "amount_fen": chosen.amount_fen,
        "state": state.value,
        "created_at_s": now_s,
        "epoch": epoch,
    }
    result = connection.execute(_NEW_ORDER, row)
    assert result.inserted_primary_key is not None
    order_id = int(result.inserted_primary_key[0])
    evidence = {"event": low.id, "mandate": payer.id}
    connection.execute(_STEP, _step(order_id, "", state, evidence, now_s))  # where it began among all orders' steps
    return order_id


def _step(order_id: int, old: str, new: State, evidence: Mapping[str, Any], now_s: int) -> dict[str, Any]:
    kept = json.dumps(dict(evidence), sort_keys=True)
    return {"order_id": order_id, "at_s": now_s, "from_state": old, "to_state": new.value, "evidence": kept}


def write_decision(
    connection: Connection, low: LowBalance, made: Decision, now_s: int, order_id: int | None = None
) -> None:
    """Store a decision, and put its event on the work list or take it off.

    Waiting on for the same reason moves the last row's time and figures instead of adding rows.
    """
    outcome = "order" if isinstance(made, Order) else "wait" if isinstance(made, Wait) else "refuse"
    until_s = made.until_s if isinstance(made, Wait) else None
    if until_s is None:
        waits.drop(connection, low.id)
    else:
        waits.put(connection, low.id, low.account, until_s, made.reason, now_s)
    connection.execute(_DECIDED, {"one": low.id})
    last = connection.execute(_DECISION, {"one": low.id}).first()
    detail = json.dumps(made.detail, sort_keys=True)
    waiting_on = last is not None and outcome == "wait" and (last[1], last[2]) == (outcome, made.reason[:60])
    if last is not None and waiting_on and json.loads(last[3]).get("skipped") == made.detail.get("skipped"):
        connection.execute(_WAITS_ON, {"one": last[0], "until_s": until_s, "figures": detail})
        return
    row = {
        "event_id": low.id,
        "account": low.account,
        "at_s": now_s,
        "outcome": outcome,
        "reason": made.reason[:60],
        "mandate": made.mandate.id if isinstance(made, Order) else made.mandate if isinstance(made, Wait) else None,
        "order_id": order_id,
        "retry_at_s": until_s,
        "detail": detail,
    }
    connection.execute(_NEW_DECISION, row)


def add_notice(
    connection: Connection, key: str, template: str, party: str, account: str, params: Mapping[str, Any], now_s: int
) -> None:
    """Put one message into the outbox, once by key. Party "" is the account's holder."""
    if connection.scalar(_NOTICE_KNOWN, {"of_key": key}):
        return
    row = {
        "key": key,
        "template": template,
        "party": party,
        "account": account,
        "params": json.dumps(dict(params), sort_keys=True),
        "created_at_s": now_s,
        "next_at_s": now_s,
    }
    connection.execute(_NEW_NOTICE, row)


def switch_row(connection: Connection, name: str) -> tuple[bool, str, int]:
    """(on, reason, since) of a switch; off when it was never set."""
    row = connection.execute(_SWITCH, {"of_name": name}).first()
    return (bool(row[0]), row[1], row[2]) if row is not None else (False, "", 0)


def set_switch(connection: Connection, name: str, reason: str, now_s: int, *, on: bool) -> None:
    changed = connection.execute(
        update(switch).where(switch.c.name == name).values(value=int(on), reason=reason, at_s=now_s)
    ).rowcount
    if not changed:
        connection.execute(insert(switch).values(name=name, value=int(on), reason=reason, at_s=now_s))
