"""I/O: caps as conditional updates of `cap_use`, inside the caller's transaction.

A reservation is made where the order is created and given back where it is definitely declined or cancelled, in
the same transactions. The database judges the condition, so no reader's older view can pass a cap.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from sqlalchemy import BigInteger, Connection, Update, bindparam, select, text

from autopay.policy import Limit
from ledger.schema import cap_use

_USED = select(cap_use.c.scope, cap_use.c.amount_fen, cap_use.c.count).where(
    cap_use.c.scope.in_(bindparam("scopes", expanding=True))
)
_AMOUNT = bindparam("fen", type_=BigInteger)
_RELEASE = (
    cap_use.update()
    .where(cap_use.c.scope == bindparam("of_scope"), cap_use.c.amount_fen >= _AMOUNT, cap_use.c.count >= 1)
    .values(amount_fen=cap_use.c.amount_fen - _AMOUNT, count=cap_use.c.count - 1)
)
_TOUCH = text("INSERT INTO cap_use (scope, amount_fen, count) VALUES (:scope, 0, 0) ON CONFLICT (scope) DO NOTHING")


def used(connection: Connection, scopes: Iterable[str]) -> dict[str, tuple[int, int]]:
    """scope -> (fen, count) reserved so far; scopes never used are left out."""
    rows = connection.execute(_USED, {"scopes": sorted(set(scopes))})
    return {scope: (amount_fen, count) for scope, amount_fen, count in rows}


def reserve(connection: Connection, limits: Iterable[Limit], amount_fen: int) -> str | None:
    """Reserve one charge under every limit, or none of them; returns the scope that was full, else None."""
    assert amount_fen > 0
    done: list[Limit] = []
    for limit in limits:
        connection.execute(_TOUCH, {"scope": limit.scope})
        change = _reserving(limit.amount_max_fen is not None, limit.count_max is not None)
        asked = {"of_scope": limit.scope, "fen": amount_fen}
        bounds = {"fen_max": limit.amount_max_fen, "count_max": limit.count_max}
        asked |= {name: bound for name, bound in bounds.items() if bound is not None}
        if connection.execute(change, asked).rowcount != 1:
            release(connection, [limit.scope for limit in done], amount_fen)
            return limit.scope
        done.append(limit)
    return None


@lru_cache
def _reserving(by_amount: bool, by_count: bool) -> Update:
    """The conditional update under a limit that has these bounds."""
    change = (
        cap_use.update()
        .where(cap_use.c.scope == bindparam("of_scope"))
        .values(amount_fen=cap_use.c.amount_fen + _AMOUNT, count=cap_use.c.count + 1)
    )
    if by_amount:
        change = change.where(cap_use.c.amount_fen + _AMOUNT <= bindparam("fen_max"))
    if by_count:
        change = change.where(cap_use.c.count + 1 <= bindparam("count_max"))
    return change


def release(connection: Connection, scopes: Iterable[str], amount_fen: int) -> None:
    """Give one reservation back."""
    for scope in scopes:
        changed = connection.execute(_RELEASE, {"of_scope": scope, "fen": amount_fen}).rowcount
        assert changed == 1, f"cap {scope}: releasing {amount_fen} that was never reserved"


def move(connection: Connection, scopes: Iterable[str], limits: Iterable[Limit], amount_fen: int) -> str | None:
    """Count a reservation under `limits` instead of `scopes`; the scope that was full, else None.

    A counter that is in both stays as it is, so an order never stands in its own way.
    """
    before, after = list(scopes), list(limits)
    kept = {limit.scope for limit in after}.intersection(before)
    full = reserve(connection, [limit for limit in after if limit.scope not in kept], amount_fen)
    if full is None:
        release(connection, [scope for scope in before if scope not in kept], amount_fen)
    return full


def force(connection: Connection, scopes: Iterable[str], amount_fen: int) -> None:
    """Count a charge that happened whatever the caps say (a late success, a line of the gateway's book)."""
    full = reserve(connection, [Limit(scope, None, None, 0) for scope in scopes], amount_fen)
    assert full is None
