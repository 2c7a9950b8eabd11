"""I/O: the work list of low balances that wait: one row each, written with the decision, found by time.

Nothing is forgotten: an event leaves the list only with an order, which puts it back when it is declined or
cancelled, or with a refusal that ends it. Nothing is read that is not due. However far off its time, an event is
looked at once in `WAIT_MAX_S`, so that what nobody told us of (a clock that was set) is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, Integer, bindparam, delete, insert, select, update

from ledger.schema import wait

WAIT_MAX_S: Final = 86_400
ON_TERMS: Final = ("nobody_can_pay", "no_mandate", "caps", "disabled")  # may end by a new mandate or new settings
ON_HOLD: Final = ("hold", "breaker")
_PUT: Final = (
    update(wait).where(wait.c.event_id == bindparam("one")).values(at_s=bindparam("then_s"), reason=bindparam("why"))
)
_NEW: Final = insert(wait)
_DROP: Final = delete(wait).where(wait.c.event_id == bindparam("one"))
_MOST: Final = bindparam("most", type_=Integer)
_DUE: Final = select(wait.c.event_id).where(wait.c.at_s <= bindparam("now")).order_by(wait.c.at_s).limit(_MOST)
_FAR: Final = select(wait.c.event_id).where(wait.c.at_s > bindparam("far")).order_by(wait.c.at_s).limit(_MOST)


def put(connection: Connection, event_id: int, account: str, at_s: int, reason: str, now_s: int) -> None:
    """Look at the event again at `at_s`."""
    then_s, why = min(at_s, now_s + WAIT_MAX_S), reason[:60]
    if not connection.execute(_PUT, {"one": event_id, "then_s": then_s, "why": why}).rowcount:
        connection.execute(_NEW, {"event_id": event_id, "account": account, "at_s": then_s, "reason": why})


def drop(connection: Connection, event_id: int) -> None:
    """It has an order, or is refused."""
    connection.execute(_DROP, {"one": event_id})


def due(connection: Connection, now_s: int, limit: int) -> list[int]:
    """Event ids whose time has come, the longest waiting first; then those that a clock set back left behind."""
    found = list(connection.scalars(_DUE, {"now": now_s, "most": limit}))
    if len(found) < limit:
        found += connection.scalars(_FAR, {"far": now_s + WAIT_MAX_S, "most": limit - len(found)})
    return found


def wake(connection: Connection, now_s: int, reasons: Iterable[str]) -> None:
    """What waits for one of these reasons is due now: something that it waited for may have changed."""
    connection.execute(update(wait).where(wait.c.reason.in_(list(reasons)), wait.c.at_s > now_s).values(at_s=now_s))


def wake_accounts(connection: Connection, now_s: int, accounts: Iterable[str]) -> None:
    """What waits for these accounts is due now."""
    names = sorted(set(accounts))
    if names:
        connection.execute(update(wait).where(wait.c.account.in_(names), wait.c.at_s > now_s).values(at_s=now_s))
