"""I/O: the outbox's rows: what is to be fanned out, what is due in which lane, and what became of each delivery.

Every function works on a connection inside the caller's transaction. Work is found by partial indexes: notices
without deliveries by rank and age, lanes by channel, rank and time, what is open in a lane by rank, tries and notice.

Two ranks: what is about money or for a person (MONEY) goes before alerts of a low balance (BULK), oldest first in
each: at the fan-out, in a lane, and among lanes (a lane has the lowest rank of what is open in it). A quarter of the
places of a batch, and of a channel's lanes at a time, is kept for BULK. An alert that stands when a later notice
about its account is fanned out takes that one's rank: nobody is told "topped up", and then that it is low.

What failed goes behind what was not tried yet: a lane that wakes tries another message, and learns whether the
address is down or one message is bad. Its rest grows with each message that fails for the first
time since one got through; the same one failing again says nothing new.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

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
MONEY, BULK = 0, 1  # ranks
BULK_PART: Final = 4  # one place in so many is kept for bulk
T = TypeVar("T")
Row = Mapping[str, Any]  # of a notice


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notice on its way to one address."""

    notice_id: int
    lane: str
    rank: int
    attempts: int
    key: str
    template: str
    party: str
    account: str
    params: dict[str, Any]
    created_at_s: int


Tried = tuple[Delivery, str | None]  # None: it is out; else why not


@dataclass(frozen=True, slots=True)
class Fresh:
    """Notices to be fanned out, each with its rank; and older ones, whose open deliveries go ahead from now on."""

    ranked: list[tuple[Row, int]]
    ahead: list[int]


@dataclass(frozen=True, slots=True)
class Fanned:
    """A notice and where it goes: lane -> channel."""

    notice_id: int
    rank: int
    lanes: Mapping[str, str]


def _is_due(column: Any) -> Any:
    return or_(column <= bindparam("now"), column > bindparam("far"))


def _times(now_s: int, limit: int) -> dict[str, int]:
    return {"now": now_s, "far": now_s + FAR_S, "most": limit}


# Made once: making a statement takes five times as long as running it.
_D, _N, _L = notice_delivery.c, notice.c, notice_lane.c
_MOST: Final = bindparam("most", type_=Integer)
_LANE: Final[Any] = bindparam("of_lane")
_NOTICE: Final[Any] = bindparam("of_notice")
_WAITS: Final = [  # by rank
    (text(f"state = 'pending' AND deliveries IS NULL AND template {what}"), _is_due(_N.next_at_s))
    for what in ("<> 'low_balance'", "= 'low_balance'")
]
_FRESH: Final = [select(notice).where(*waits).order_by(_N.id).limit(_MOST) for waits in _WAITS]
_FRESH_ONE: Final = or_(*(exists().where(*waits).select_from(notice) for waits in _WAITS))
_ALERTS: Final = (
    select(notice)
    .where(text("state = 'pending' AND template = 'low_balance'"), _N.account.in_(bindparam("of", expanding=True)))
    .order_by(_N.id)
)
_AHEAD: Final = update(notice_delivery).where(text("state = 'pending'"), _D.notice_id == _NOTICE).values(rank=MONEY)
_LANES_AHEAD: Final = (
    update(notice_lane)
    .where(_L.lane.in_(select(_D.lane).where(text("state = 'pending'"), _D.notice_id == _NOTICE)))
    .values(rank=MONEY)
)
_DELIVER: Final = insert(notice_delivery)
_FANNED: Final = update(notice).where(_N.id == _NOTICE).values(deliveries=bindparam("count"))
_LANES_KNOWN: Final = select(notice_lane).where(_L.lane.in_(bindparam("of", expanding=True)))
_NEW_LANE: Final = insert(notice_lane)
_LANE_AT: Final = (
    update(notice_lane).where(_L.lane == _LANE).values(next_at_s=bindparam("then_s"), rank=bindparam("to_rank"))
)
_FINISH: Final = (
    update(notice)
    .where(_N.id == _NOTICE, _N.state == "pending")
    .values(state=bindparam("new_state"), error=bindparam("why"), sent_at_s=bindparam("then_s"))
)
_OF_CHANNEL: Final = select(_L.lane).where(
    _L.channel == bindparam("of_channel"),
    _L.rank == bindparam("of_rank"),
    _L.lane.not_in(bindparam("busy", expanding=True)),
)
_DUE_LANES: Final = _OF_CHANNEL.where(_L.next_at_s <= bindparam("now")).order_by(_L.next_at_s).limit(_MOST)
_FAR_LANES: Final = _OF_CHANNEL.where(_L.next_at_s > bindparam("far")).order_by(_L.next_at_s).limit(_MOST)
_OPEN: Final = (
    select(_D.notice_id, _D.lane, _D.rank, _D.attempts)
    .add_columns(_N.key, _N.template, _N.party, _N.account, _N.params, _N.created_at_s)
    .join_from(notice_delivery, notice, _N.id == _D.notice_id)
    .where(text("notice_delivery.state = 'pending'"), _D.lane == _LANE)
)
_IN_RANK: Final = _OPEN.where(_D.rank == bindparam("of_rank"), _is_due(_D.next_at_s))
_DUE: Final = _IN_RANK.order_by(_D.attempts, _D.notice_id).limit(_MOST)
_OF_KEYS: Final = _OPEN.where(_N.key.in_(bindparam("of", expanding=True))).order_by(_D.notice_id)
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
_STATES: Final = (
    select(_D.notice_id, _D.state, _D.error)
    .where(_D.notice_id.in_(bindparam("of", expanding=True)))
    .order_by(_D.notice_id, _D.lane)
)
_FIRST, _RANK = (
    select(func.min(column)).where(text("notice_delivery.state = 'pending'"), _D.lane == _LANE)
    for column in (_D.next_at_s, _D.rank)
)
_FAILURES: Final = select(_L.failures).where(_L.lane == _LANE)
_REST: Final = (
    update(notice_lane)
    .where(_L.lane == _LANE)
    .values({name: bindparam(f"new_{name}") for name in ("next_at_s", "rank", "failures", "rests_until_s")})
)


def pause_s(settings: NoticeSettings, failures: int) -> int:
    """How long to wait after so many failures in a row."""
    schedule = settings.retry_after_s or (60,)
    return max(1, schedule[min(failures, len(schedule)) - 1])


@lru_cache
def asked_for(channels: tuple[str, ...]) -> Select[bool, bool]:
    """The question whether a notice waits for its deliveries, and whether a lane of these channels is due."""
    lanes = [
        exists().where(_L.channel == name, _L.rank == rank, when)  # each a range of the index
        for name in channels
        for rank in (MONEY, BULK)
        for when in (_L.next_at_s <= bindparam("now"), _L.next_at_s > bindparam("far"))
    ]
    return select(_FRESH_ONE, or_(false(), *lanes))


def due(connection: Connection, question: Select[bool, bool], now_s: int) -> tuple[bool, bool]:
    """Its answer."""
    some, lanes = connection.execute(question, {"now": now_s, "far": now_s + FAR_S}).one()
    return bool(some), bool(lanes)


def _shared(limit: int, part: int, ask: Callable[[int, int], list[T]]) -> list[T]:
    """`ask(rank, limit)` of both ranks: money first, and no less than its part of the places for bulk."""
    money = ask(MONEY, limit)
    bulk = ask(BULK, max(limit - len(money), part))
    return money[: limit - len(bulk)] + bulk


def fresh(connection: Connection, now_s: int, limit: int) -> Fresh:
    """What has no deliveries yet: at most `limit` notices, and the alerts that must not come after one of them."""

    def ask(rank: int, most: int) -> list[tuple[Row, int]]:
        return [(dict(row), rank) for row in connection.execute(_FRESH[rank], _times(now_s, most)).mappings()]

    ranked = _shared(limit, limit // BULK_PART, ask)
    newest = {str(row["account"]): int(row["id"]) for row, rank in ranked if rank == MONEY}
    if not newest:
        return Fresh(ranked, [])
    alerts = connection.execute(_ALERTS, {"of": sorted(newest)}).mappings()
    older = {int(row["id"]): dict(row) for row in alerts if row["id"] < newest[row["account"]]}
    for number in [number for number, row in older.items() if row["deliveries"] is None]:
        alert = older.pop(number)
        if alert["next_at_s"] <= now_s or alert["next_at_s"] > now_s + FAR_S:
            ranked = [one for one in ranked if one[0]["id"] != number] + [(alert, MONEY)]
    return Fresh(ranked, list(older))


def fan_out(connection: Connection, fanned: Sequence[Fanned], now_s: int) -> None:
    """One delivery for each lane of each notice; a lane that is due keeps its place, one that rests its rest."""
    rows = [
        {"notice_id": one.notice_id, "lane": lane, "next_at_s": now_s, "rank": one.rank}
        for one in fanned
        for lane in sorted(one.lanes)
    ]
    if not rows:
        return
    connection.execute(_DELIVER, rows)
    connection.execute(_FANNED, [{"of_notice": one.notice_id, "count": len(one.lanes)} for one in fanned])
    lanes = {lane: channel for one in fanned for lane, channel in one.lanes.items()}
    money = {lane for one in fanned if one.rank == MONEY for lane in one.lanes}
    ranks = {lane: MONEY if lane in money else BULK for lane in lanes}
    known = {row["lane"]: row for row in connection.execute(_LANES_KNOWN, {"of": sorted(lanes)}).mappings()}
    new = [
        {"lane": lane, "channel": channel, "next_at_s": now_s, "rank": ranks[lane]}
        for lane, channel in lanes.items()
        if lane not in known
    ]
    if new:
        connection.execute(_NEW_LANE, new)
    moved = []
    for lane, row in known.items():
        until_s, old_s = row["rests_until_s"], row["next_at_s"]
        at_s = until_s if now_s < until_s <= now_s + FAR_S else now_s
        at_s = at_s if old_s is None else min(old_s, at_s)
        if (at_s, rank := min(ranks[lane], row["rank"])) != (old_s, row["rank"]):
            moved.append({"of_lane": lane, "then_s": at_s, "to_rank": rank})
    if moved:
        connection.execute(_LANE_AT, moved)


def go_ahead(connection: Connection, notices: Sequence[int]) -> None:
    """What is open of these goes with the notices about money, and so do their lanes."""
    if notices:
        ahead = [{"of_notice": one} for one in notices]
        connection.execute(_AHEAD, ahead)
        connection.execute(_LANES_AHEAD, ahead)


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
    connection.execute(_FINISH, _finished(notice_id, state, why, now_s))
    return state


def _finished(notice_id: int, state: str, why: str, now_s: int) -> dict[str, Any]:
    sent_at_s = now_s if state == "sent" else None
    return {"of_notice": notice_id, "new_state": state, "why": why[:ERROR_MAX], "then_s": sent_at_s}


def due_lanes(
    connection: Connection, channel: str, busy: Mapping[str, int], now_s: int, places: int
) -> list[tuple[str, int]]:
    """Lanes of a channel whose time has come and their ranks, for the places that the `busy` (lane -> rank) leave.

    Those with money first, the longest waiting first in each rank; of all places a part is for bulk.
    """
    free = places - len(busy)
    if free <= 0:
        return []

    def ask(rank: int, most: int) -> list[tuple[str, int]]:
        asked = {"of_channel": channel, "of_rank": rank, "busy": list(busy)}
        found = list(connection.scalars(_DUE_LANES, asked | {"now": now_s, "most": most}))
        if len(found) < most:  # a range of its own, so that each is found by the index
            found += connection.scalars(_FAR_LANES, asked | {"far": now_s + FAR_S, "most": most - len(found)})
        return [(lane, rank) for lane in found]

    part = places // BULK_PART - list(busy.values()).count(BULK)
    return _shared(free, min(free, part), ask)


def due_of_lane(connection: Connection, lane: str, now_s: int, limit: int) -> list[Delivery]:
    """Its open deliveries whose time has come, at most `limit`: money first, oldest first in each rank.

    Those that failed before come last, whatever they are about, because a failure ends the batch. When two in a row
    failed, alerts begin: else money of which each fails would keep them from ever being tried.
    """

    def ask(rank: int, most: int) -> list[Delivery]:
        return _deliveries(connection, _DUE, {"of_lane": lane, "of_rank": rank} | _times(now_s, most))

    failures = int(connection.scalar(_FAILURES, {"of_lane": lane}) or 0)
    first = BULK if failures and failures % 2 == 0 else MONEY
    return sorted(_shared(limit, limit // BULK_PART, ask), key=lambda one: (one.attempts > 0, one.rank != first))


def open_of_keys(connection: Connection, lane: str, keys: Sequence[str]) -> list[Delivery]:
    """The lane's open deliveries of these notices, due or not."""
    return _deliveries(connection, _OF_KEYS, {"of_lane": lane, "of": list(keys)})


def _deliveries(connection: Connection, query: Select[Any], asked: Mapping[str, Any]) -> list[Delivery]:
    found = connection.execute(query, asked).mappings()
    return [Delivery(**(dict(row) | {"params": json.loads(row["params"])})) for row in found]


def record(connection: Connection, tried: Sequence[Tried], now_s: int, settings: NoticeSettings) -> list[str]:
    """What became of one try each; a notice is finished with its last delivery. Words for the counts."""
    deliveries, notices = [], []
    for row, error in tried:
        attempts, why = row.attempts + 1, (error or "")[:ERROR_MAX]
        mine = {"of_notice": row.notice_id}
        state = "sent" if error is None else "failed" if attempts >= settings.attempts_max else "pending"
        values = {
            "new_state": state,
            "new_attempts": attempts,
            "new_next_at_s": now_s + pause_s(settings, attempts),
            "new_sent_at_s": now_s if error is None else None,
            "new_error": why,
        }
        deliveries.append(mine | {"of_lane": row.lane} | values)
        notices.append(mine | {"tries": attempts, "why": why})
    connection.execute(_TRIED, deliveries)
    connection.execute(_TOLD, notices)
    others = defaultdict(list)
    for number, state, why in connection.execute(_STATES, {"of": [row.notice_id for row, _ in tried]}):
        others[number].append((state, why))
    words, ended = [], []
    for row, error in tried:
        left = others[row.notice_id]
        if any(state == "pending" for state, _ in left):
            words.append("retried" if error is not None else "delivered")
            continue
        failed = [why for state, why in left if state == "failed"]
        words.append("failed" if failed else "sent")
        ended.append(_finished(row.notice_id, words[-1], "; ".join(failed), now_s))
    if ended:
        connection.execute(_FINISH, ended)
    return words


def rest(
    connection: Connection,
    lane: str,
    now_s: int,
    settings: NoticeSettings,
    *,
    failed: Delivery | None,  # at which the channel failed
    alive: bool,  # something got through before that
    more: bool,  # some are due already: a queue of a hundred thousand is not looked through
) -> None:
    """When a lane is looked at next: when a delivery is due, but after a failure not before its rest is over."""
    mine = {"of_lane": lane}
    at_s = now_s if more else connection.scalar(_FIRST, mine)
    failures, until_s = 0 if alive else int(connection.scalar(_FAILURES, mine) or 0), 0
    if failed is not None:
        failures = max(1, failures + (failed.attempts == 0))
        until_s = now_s + pause_s(settings, failures)
    rank = connection.scalar(_RANK, mine)
    values = {
        "new_next_at_s": None if at_s is None else max(int(at_s), until_s),
        "new_rank": BULK if rank is None else rank,
        "new_failures": failures,
        "new_rests_until_s": until_s,
    }
    connection.execute(_REST, mine | values)
