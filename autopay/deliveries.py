"""I/O: the outbox's rows: what is to be fanned out, what is due in which lane, and what became of each delivery.

Every function works on a connection inside the caller's transaction. Work is found by partial indexes: notices
without deliveries by time, lanes by channel and time, the open deliveries of a lane by notice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, case, func, insert, or_, select, text, update

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


def _is_due(column: Any, now_s: int) -> Any:
    return or_(column <= now_s, column > now_s + FAR_S)


def pause_s(settings: NoticeSettings, failures: int) -> int:
    """How long to wait after so many failures in a row."""
    schedule = settings.retry_after_s or (60,)
    return max(1, schedule[min(failures, len(schedule)) - 1])


def fresh(connection: Connection, now_s: int, limit: int) -> list[Mapping[str, Any]]:
    """Notices that have no deliveries yet, oldest first."""
    waiting = select(notice).where(text("state = 'pending' AND deliveries IS NULL"))
    asked = waiting.where(_is_due(notice.c.next_at_s, now_s)).order_by(notice.c.id).limit(limit)
    return [dict(row) for row in connection.execute(asked).mappings()]


def fan_out(connection: Connection, notice_id: int, lanes: Mapping[str, str], now_s: int) -> None:
    """One delivery for each lane (lane -> channel); a lane that rests goes on resting."""
    rows = [{"notice_id": notice_id, "lane": lane, "next_at_s": now_s} for lane in sorted(lanes)]
    connection.execute(insert(notice_delivery), rows)
    connection.execute(update(notice).where(notice.c.id == notice_id).values(deliveries=len(rows)))
    for lane, channel in lanes.items():
        known = connection.execute(select(notice_lane).where(notice_lane.c.lane == lane)).mappings().first()
        if known is None:
            connection.execute(insert(notice_lane).values(lane=lane, channel=channel, next_at_s=now_s))
        elif known["next_at_s"] is None or not known["failures"]:
            connection.execute(update(notice_lane).where(notice_lane.c.lane == lane).values(next_at_s=now_s))


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
    values = {"state": state, "error": why[:ERROR_MAX], "sent_at_s": sent_at_s}
    open_row = (notice.c.id == notice_id, notice.c.state == "pending")
    connection.execute(update(notice).where(*open_row).values(values))
    return state


def due_lanes(connection: Connection, channel: str, busy: Sequence[str], now_s: int, limit: int) -> list[str]:
    """Lanes of a channel whose time has come, the longest waiting first."""
    if limit <= 0:
        return []
    at = notice_lane.c.next_at_s
    asked = select(notice_lane.c.lane).where(notice_lane.c.channel == channel, notice_lane.c.lane.not_in(busy))
    found = list(connection.scalars(asked.where(at <= now_s).order_by(at).limit(limit)))
    if len(found) < limit:  # a range of its own, so that each is found by the index
        found += connection.scalars(asked.where(at > now_s + FAR_S).order_by(at).limit(limit - len(found)))
    return found


def due_of_lane(connection: Connection, lane: str, now_s: int, limit: int) -> list[Delivery]:
    """Its open deliveries whose time has come, oldest first."""
    d, n = notice_delivery.c, notice.c
    asked = (
        select(d.notice_id, d.lane, d.attempts, n.key, n.template, n.party, n.account, n.params, n.created_at_s)
        .join_from(notice_delivery, notice, n.id == d.notice_id)
        .where(text("notice_delivery.state = 'pending'"), d.lane == lane, _is_due(d.next_at_s, now_s))
        .order_by(d.notice_id)
        .limit(limit)
    )
    found = connection.execute(asked).mappings()
    return [Delivery(**(dict(row) | {"params": json.loads(row["params"])})) for row in found]


def record(
    connection: Connection, row: Delivery, error: str | None, now_s: int, settings: NoticeSettings
) -> list[str]:
    """What became of one try; the notice is finished with its last delivery. Words for the counts."""
    attempts = row.attempts + 1
    state = "sent" if error is None else "failed" if attempts >= settings.attempts_max else "pending"
    values = {
        "state": state,
        "attempts": attempts,
        "next_at_s": now_s + pause_s(settings, attempts),
        "sent_at_s": now_s if error is None else None,
        "error": (error or "")[:ERROR_MAX],
    }
    mine = (notice_delivery.c.notice_id == row.notice_id, notice_delivery.c.lane == row.lane)
    connection.execute(update(notice_delivery).where(*mine).values(values))
    of_notice = notice.c.id == row.notice_id
    most = case((notice.c.attempts < attempts, attempts), else_=notice.c.attempts)
    tried = {"attempts": most, "error": values["error"]}
    connection.execute(update(notice).where(of_notice).values(tried))
    states = select(notice_delivery.c.state, notice_delivery.c.error)
    left = connection.execute(states.where(notice_delivery.c.notice_id == row.notice_id)).all()
    if any(other == "pending" for other, _ in left):
        return ["retried" if error is not None else "delivered"]
    failed = [why for other, why in left if other == "failed"]
    return [finish(connection, row.notice_id, "failed" if failed else "sent", "; ".join(failed), now_s)]


def rest(connection: Connection, lane: str, now_s: int, settings: NoticeSettings, *, failed: bool) -> None:
    """When a lane is looked at next: when a delivery is due, but after a failure not before its rest is over."""
    first = select(func.min(notice_delivery.c.next_at_s)).where(
        text("notice_delivery.state = 'pending'"), notice_delivery.c.lane == lane
    )
    at_s = connection.scalar(first)
    failures = 0
    if failed:
        failures = 1 + int(connection.scalar(select(notice_lane.c.failures).where(notice_lane.c.lane == lane)) or 0)
        at_s = None if at_s is None else max(int(at_s), now_s + pause_s(settings, failures))
    connection.execute(
        update(notice_lane).where(notice_lane.c.lane == lane).values(next_at_s=at_s, failures=failures)
    )
