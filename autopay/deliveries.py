"""I/O: the outbox's rows: what is to be fanned out, what is due in which lane, and what became of each delivery.

Every function works on a connection inside the caller's transaction. Work is found by partial indexes: notices
without deliveries by time, lanes by channel and time, the open deliveries of a lane by notice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    bindparam,
    case,
    exists,
    false,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from config.settings import NoticeSettings
from ledger.schema import notice, notice_delivery, notice_lane

FAR_S: Final = 7 * 86_400  # a time beyond it was set by a clock that has been set back since: due
ERROR_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notice on its way to one address."""

    notice_id: int
    lane: str
    attempts: int
    key: str
    template: str
    party: str
    account: str
    params: dict[str, Any]
    created_at_s: int


def _is_due(column: Any) -> Any:
    return or_(column <= bindparam("now"), column > bindparam("far"))


def _times(now_s: int, limit: int) -> dict[str, int]:
    return {"now": now_s, "far": now_s + FAR_S, "most": limit}


# Made once: making a statement takes five times as long as running it.
_D, _N, _L = notice_delivery.c, notice.c, notice_lane.c
_MOST: Final = bindparam("most", type_=Integer)
_LANE: Final[Any] = bindparam("of_lane")
_NOTICE: Final[Any] = bindparam("of_notice")
_WAITS: Final = text("state = 'pending' AND deliveries IS NULL"), _is_due(_N.next_at_s)
_FRESH: Final = select(notice).where(*_WAITS).order_by(_N.id).limit(_MOST)
_FRESH_ONE: Final = exists().where(*_WAITS).select_from(notice)
_DELIVER: Final = insert(notice_delivery)
_FANNED: Final = update(notice).where(_N.id == _NOTICE).values(deliveries=bindparam("count"))
_LANE_KNOWN: Final = select(notice_lane).where(_L.lane == _LANE)
_NEW_LANE: Final = insert(notice_lane)
_LANE_AT: Final = update(notice_lane).where(_L.lane == _LANE).values(next_at_s=bindparam("then_s"))
_FINISH: Final = (
    update(notice)
    .where(_N.id == _NOTICE, _N.state == "pending")
    .values(state=bindparam("new_state"), error=bindparam("why"), sent_at_s=bindparam("then_s"))
)
_OF_CHANNEL: Final = select(_L.lane).where(
    _L.channel == bindparam("of_channel"), _L.lane.not_in(bindparam("busy", expanding=True))
)
_DUE_LANES: Final = _OF_CHANNEL.where(_L.next_at_s <= bindparam("now")).order_by(_L.next_at_s).limit(_MOST)
_FAR_LANES: Final = _OF_CHANNEL.where(_L.next_at_s > bindparam("far")).order_by(_L.next_at_s).limit(_MOST)
_DUE: Final = (
    select(_D.notice_id, _D.lane, _D.attempts, _N.key, _N.template, _N.party, _N.account, _N.params, _N.created_at_s)
    .join_from(notice_delivery, notice, _N.id == _D.notice_id)
    .where(text("notice_delivery.state = 'pending'"), _D.lane == _LANE, _is_due(_D.next_at_s))
    .order_by(_D.notice_id)
    .limit(_MOST)
)
_TRIED: Final = (
    update(notice_delivery)
    .where(_D.notice_id == _NOTICE, _D.lane == _LANE)
    .values({name: bindparam(f"new_{name}") for name in ("state", "attempts", "next_at_s", "sent_at_s", "error")})
)
_ATTEMPTS: Final = bindparam("tries", type_=Integer)
_TOLD: Final = (
    update(notice)
    .where(_N.id == _NOTICE)
    .values(attempts=case((_N.attempts < _ATTEMPTS, _ATTEMPTS), else_=_N.attempts), error=bindparam("why"))
)
_STATES: Final = select(_D.state, _D.error).where(_D.notice_id == _NOTICE)
_FIRST: Final = select(func.min(_D.next_at_s)).where(text("notice_delivery.state = 'pending'"), _D.lane == _LANE)
_FAILURES: Final = select(_L.failures).where(_L.lane == _LANE)
_REST: Final = (
    update(notice_lane).where(_L.lane == _LANE).values(next_at_s=bindparam("then_s"), failures=bindparam("count"))
)


def pause_s(settings: NoticeSettings, failures: int) -> int:
    """How long to wait after so many failures in a row."""
    schedule = settings.retry_after_s or (60,)
    return max(1, schedule[min(failures, len(schedule)) - 1])


@lru_cache
def asked_for(channels: tuple[str, ...]) -> Select[bool, bool]:
    """The question whether a notice waits for its deliveries, and whether a lane of these channels is due."""
    lanes = [
        exists().where(_L.channel == name, when)  # each a range of the index
        for name in channels
        for when in (_L.next_at_s <= bindparam("now"), _L.next_at_s > bindparam("far"))
    ]
    return select(_FRESH_ONE, or_(false(), *lanes))


def due(connection: Connection, question: Select[bool, bool], now_s: int) -> tuple[bool, bool]:
    """Its answer."""
    some, lanes = connection.execute(question, {"now": now_s, "far": now_s + FAR_S}).one()
    return bool(some), bool(lanes)


def fresh(connection: Connection, now_s: int, limit: int) -> list[Mapping[str, Any]]:
    """Notices that have no deliveries yet, oldest first."""
    return [dict(row) for row in connection.execute(_FRESH, _times(now_s, limit)).mappings()]


def fan_out(connection: Connection, notice_id: int, lanes: Mapping[str, str], now_s: int) -> None:
    """One delivery for each lane (lane -> channel); a lane that rests goes on resting."""
    rows = [{"notice_id": notice_id, "lane": lane, "next_at_s": now_s} for lane in sorted(lanes)]
    connection.execute(_DELIVER, rows)
    connection.execute(_FANNED, {"of_notice": notice_id, "count": len(rows)})
    for lane, channel in lanes.items():
        known = connection.execute(_LANE_KNOWN, {"of_lane": lane}).mappings().first()
        if known is None:
            connection.execute(_NEW_LANE, {"lane": lane, "channel": channel, "next_at_s": now_s})
        elif known["next_at_s"] is None or not known["failures"]:
            connection.execute(_LANE_AT, {"of_lane": lane, "then_s": now_s})


def later(connection: Connection, row: Mapping[str, Any], why: str, now_s: int, settings: NoticeSettings) -> str:
    """A notice that cannot be fanned out yet: again by the schedule, or failed for good; the word for the counts."""
    attempts = int(row["attempts"]) + 1
    connection.execute(update(notice).where(notice.c.id == row["id"]).values(attempts=attempts))
    if attempts >= settings.attempts_max:
        return finish(connection, int(row["id"]), "failed", why, now_s)
    at_s = now_s + pause_s(settings, attempts)
    connection.execute(update(notice).where(notice.c.id == row["id"]).values(next_at_s=at_s, error=why[:ERROR_MAX]))
    return "retried"


def finish(connection: Connection, notice_id: int, state: str, why: str, now_s: int) -> str:
    """A notice is sent or failed; returns that."""
    sent_at_s = now_s if state == "sent" else None
    values = {"of_notice": notice_id, "new_state": state, "why": why[:ERROR_MAX], "then_s": sent_at_s}
    connection.execute(_FINISH, values)
    return state


def due_lanes(connection: Connection, channel: str, busy: Sequence[str], now_s: int, limit: int) -> list[str]:
    """Lanes of a channel whose time has come, the longest waiting first."""
    if limit <= 0:
        return []
    asked = {"of_channel": channel, "busy": list(busy)}
    found = list(connection.scalars(_DUE_LANES, asked | {"now": now_s, "most": limit}))
    if len(found) < limit:  # a range of its own, so that each is found by the index
        found += connection.scalars(_FAR_LANES, asked | {"far": now_s + FAR_S, "most": limit - len(found)})
    return found


def due_of_lane(connection: Connection, lane: str, now_s: int, limit: int) -> list[Delivery]:
    """Its open deliveries whose time has come, oldest first."""
    found = connection.execute(_DUE, {"of_lane": lane} | _times(now_s, limit)).mappings()
    return [Delivery(**(dict(row) | {"params": json.loads(row["params"])})) for row in found]


def record(
    connection: Connection, row: Delivery, error: str | None, now_s: int, settings: NoticeSettings
) -> list[str]:
    """What became of one try; the notice is finished with its last delivery. Words for the counts."""
    attempts = row.attempts + 1
    state = "sent" if error is None else "failed" if attempts >= settings.attempts_max else "pending"
    mine, why = {"of_notice": row.notice_id}, (error or "")[:ERROR_MAX]
    values = {
        "new_state": state,
        "new_attempts": attempts,
        "new_next_at_s": now_s + pause_s(settings, attempts),
        "new_sent_at_s": now_s if error is None else None,
        "new_error": why,
    }
    connection.execute(_TRIED, mine | {"of_lane": row.lane} | values)
    connection.execute(_TOLD, mine | {"tries": attempts, "why": why})
    left = connection.execute(_STATES, mine).all()
    if any(other == "pending" for other, _ in left):
        return ["retried" if error is not None else "delivered"]
    failed = [why for other, why in left if other == "failed"]
    return [finish(connection, row.notice_id, "failed" if failed else "sent", "; ".join(failed), now_s)]


def rest(connection: Connection, lane: str, now_s: int, settings: NoticeSettings, *, failed: bool) -> None:
    """When a lane is looked at next: when a delivery is due, but after a failure not before its rest is over."""
    mine = {"of_lane": lane}
    at_s = connection.scalar(_FIRST, mine)
    failures = 0
    if failed:
        failures = 1 + int(connection.scalar(_FAILURES, mine) or 0)
        at_s = None if at_s is None else max(int(at_s), now_s + pause_s(settings, failures))
    connection.execute(_REST, mine | {"then_s": at_s, "count": failures})
