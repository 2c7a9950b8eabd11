"""Pure: low balance in, decision out: which mandate is charged how much, or until when to wait, or why not at all.

Mandates are tried by priority. A *lasting* obstacle (ended, caps used up, too many declines) passes to the next
payer; a *passing* one (window closed, backing off, cooling down) keeps the place, because a payer further down
agreed to pay when the first cannot, not when it is night. If nobody can pay, it waits for the earliest moment at
which one of them might; a refusal is only for what another event, or nobody, will ever pay for. It is decided on
the balance of the moment, not on that of the event. Settings bound every payer over all accounts; a mandate may
be stricter, never looser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from autopay.orders import DOUBT, SETTLED, State
from config.settings import AutopaySettings
from ledger.schema import IN_FLIGHT

PERMANENT_DECLINES: Final = frozenset({"card_closed", "mandate_revoked", "token_unknown"})  # trying again is no use
RETRY_HELD_S: Final = 300  # hold, breaker: look again
RETRY_IN_FLIGHT_S: Final = 60
RETRY_PENDING_S: Final = 5  # rating applies a credit within a second
DAY_S: Final = 86_400  # what only a person can change wakes us; looked at once a day all the same


@dataclass(frozen=True, slots=True)
class Mandate:
    """Who agreed to pay for which account, and within what. Caps of 0 or less mean the settings' own."""

    id: str
    payer: str
    account: str
    gateway: str
    token: str
    priority: int
    trigger_fen: int
    amount_fen: int
    target_fen: int
    cap_charge_fen: int
    cap_day_fen: int
    cap_month_fen: int
    cap_day_count: int
    cooldown_s: int
    window_from: str
    window_to: str
    valid_from_s: int
    valid_until_s: int
    cancelled_at_s: int | None
    changed_at_s: int = 0  # declines before its terms or token were changed do not count


@dataclass(frozen=True, slots=True)
class Live:
    """An account as the newest committed state has it. `estimated`: the balance rests on an estimate."""

    balance_fen: int
    estimated: bool = False
    open: bool = True


@dataclass(frozen=True, slots=True)
class LowBalance:
    """The event to decide on; `recovered` and `superseded` say what came after it.

    `balance_fen` is the event's own; `live` is of now, where it is known.
    """

    id: int
    account: str
    partition: int
    arm: int
    balance_fen: int
    recovered: bool = False
    superseded: bool = False
    live: Live | None = None
    credit_pending: bool = False  # somebody paid in; it is not in the balance yet

    @property
    def now_fen(self) -> int:
        """The balance to decide on: the live one, but an estimate alone never makes it lower than the event's."""
        if self.live is None:
            return self.balance_fen
        return max(self.live.balance_fen, self.balance_fen) if self.live.estimated else self.live.balance_fen


@dataclass(frozen=True, slots=True)
class PastOrder:
    """What the policy must know of an earlier order of the account."""

    arm: int
    attempt: int
    mandate: str
    payer: str
    state: str
    charged_at_s: int  # when its charge was (last) made; its creation before that
    closed_at_s: int  # of its last transition
    reason: str


@dataclass(frozen=True, slots=True)
class Limit:
    """One counter of `cap_use` and its bounds; a bound of None does not bind."""

    scope: str
    amount_max_fen: int | None
    count_max: int | None
    free_at_s: int  # when the period ends


@dataclass(frozen=True, slots=True)
class Switches:
    """What stops everybody."""

    hold: bool = False
    charges_last_hour: int = 0
    gateways: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Order:
    """Charge this mandate."""

    mandate: Mandate
    amount_fen: int
    attempt: int
    limits: tuple[Limit, ...]
    reason: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now: decide again at `until_s`."""

    until_s: int
    reason: str
    detail: dict[str, Any] = field(default_factory=dict)
    mandate: str | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Never, for this event."""

    reason: str
    detail: dict[str, Any] = field(default_factory=dict)


Decision = Order | Wait | Refuse
Used = Mapping[str, tuple[int, int]]  # scope -> (fen, count)


def local(now_s: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(now_s, UTC).astimezone(zone)


def periods_of(payer: str, mandate_id: str, at_s: int, zone: ZoneInfo) -> tuple[tuple[str, int], ...]:
    """(scope, end of its period) of the four counters that a charge made at `at_s` uses up: payer's and mandate's
    day and month, in local time. A function of what an order row holds, so a release finds them again."""
    here = local(at_s, zone)
    midnight = datetime.combine(here.date() + timedelta(days=1), time(), zone)
    month = datetime.combine((here.date().replace(day=1) + timedelta(days=32)).replace(day=1), time(), zone)
    ends = (f"day:{here:%Y-%m-%d}", int(midnight.timestamp())), (f"month:{here:%Y-%m}", int(month.timestamp()))
    return tuple(
        (f"{who}:{period}", end_s) for who in (f"payer:{payer}", f"mandate:{mandate_id}") for period, end_s in ends
    )


def limits_of(mandate: Mandate, at_s: int, zone: ZoneInfo, settings: AutopaySettings) -> tuple[Limit, ...]:
    """The counters of `periods_of` with their bounds: the settings bind the payer, the mandate binds itself."""
    bounds = (
        (settings.cap_day_fen, settings.cap_day_count),
        (settings.cap_month_fen, 0),
        (mandate.cap_day_fen, mandate.cap_day_count),
        (mandate.cap_month_fen, 0),
    )
    periods = periods_of(mandate.payer, mandate.id, at_s, zone)
    return tuple(
        Limit(scope, _bound(fen), _bound(count), end_s)
        for (scope, end_s), (fen, count) in zip(periods, bounds, strict=True)
    )


def _bound(value: int) -> int | None:
    return value if value > 0 else None


def window_opens(mandate: Mandate, now_s: int, zone: ZoneInfo) -> int | None:
    """None when the execution window is open at `now_s`, else the UTC second of its next opening.

    ::

        07:00-22:00   ....[==========)..        22:00-06:00   =====)..........[====
    """
    start, end = time.fromisoformat(mandate.window_from), time.fromisoformat(mandate.window_to)
    if start == end:
        return None
    here = local(now_s, zone)
    clock = here.time().replace(tzinfo=None)
    if (start <= clock < end) if start < end else (clock >= start or clock < end):
        return None
    day = here.date() if clock < start else here.date() + timedelta(days=1)
    opens = datetime.combine(day, start, zone)
    at_s = int(opens.timestamp())  # of an hour that comes twice, the first; of one that never comes, the next
    return at_s if at_s > now_s else int(opens.replace(fold=1).timestamp())


def amount_of(mandate: Mandate, balance_fen: int, settings: AutopaySettings) -> tuple[int, int]:
    """(amount, cap per charge) in fen. Up to a target it is cut to the cap; a fixed amount is not."""
    cap = min([settings.cap_charge_fen, *([mandate.cap_charge_fen] if mandate.cap_charge_fen > 0 else [])])
    if mandate.target_fen > 0:
        return max(0, min(mandate.target_fen - balance_fen, cap)), cap
    return (mandate.amount_fen if mandate.amount_fen > 0 else settings.amount_fen), cap


def next_attempt(declined: Sequence[PastOrder], settings: AutopaySettings) -> tuple[str, int | None]:
    """After definite declines of one mandate under one arm: ("again", not before), or (why it rests, until when).

    None: for ever, that is until its terms are changed.
    """
    if not declined:
        return "again", 0
    last = max(declined, key=lambda order: order.attempt)
    if last.reason in PERMANENT_DECLINES:
        return last.reason, None
    if len(declined) >= settings.failures_max:
        return "failures", last.closed_at_s + settings.failures_rest_s
    schedule = settings.retry_after_s or (0,)
    return "again", last.closed_at_s + schedule[min(len(declined), len(schedule)) - 1]


def decide(
    event: LowBalance,
    mandates: Sequence[Mandate],
    used: Used,
    past: Sequence[PastOrder],
    now_s: int,
    zone: ZoneInfo,
    switches: Switches,
    settings: AutopaySettings,
) -> Decision:
    """One decision on one event. `past` holds the account's orders of this arm and its latest settled ones.

    `used` holds the counters of `limits_of` for every mandate. Total: always returns, never raises on data.
    """
    stopped = _stopped(event, past, now_s, switches, settings)
    if stopped is not None:
        return stopped
    mine = [order for order in past if order.arm == event.arm]
    attempt = 1 + max((order.attempt for order in mine), default=0)
    why_not: dict[str, str] = {}
    figures = _figures(event) | {"skipped": why_not}
    again_at: list[int] = []
    for mandate in sorted(mandates, key=lambda m: (m.priority, m.id)):
        declined = [
            o
            for o in mine
            if o.mandate == mandate.id and o.state == State.DECLINED and o.closed_at_s >= mandate.changed_at_s
        ]
        amount, cap = amount_of(mandate, event.now_fen, settings)
        limits = limits_of(mandate, now_s, zone, settings)
        lasting = _lasting(event.now_fen, mandate, declined, now_s, switches, settings)
        lasting = lasting or _amount(amount, cap, now_s, settings) or _full(limits, amount, used)
        if lasting is not None:
            why_not[mandate.id] = lasting[0]
            again_at.append(lasting[1])
            continue
        passing = _passing(mandate, declined, past, now_s, zone, settings)
        if passing is not None:
            return Wait(passing[1], passing[0], figures, mandate.id)
        chosen = {
            "amount_fen": amount,
            "used": {limit.scope: list(used.get(limit.scope, (0, 0))) for limit in limits},
        }
        return Order(mandate, amount, attempt, limits, "low_balance", figures | chosen)
    if not mandates:
        return Wait(now_s + DAY_S, "no_mandate", figures)
    capped = any(why.startswith("cap ") for why in why_not.values())
    return Wait(min(again_at), "caps" if capped else "nobody_can_pay", figures)


def _figures(event: LowBalance) -> dict[str, Any]:
    return {"balance_fen": event.now_fen, "at_event_fen": event.balance_fen, "arm": event.arm}


def fits(limit: Limit, amount_fen: int, used: tuple[int, int]) -> bool:
    """Whether one more charge stays within the limit."""
    over = limit.amount_max_fen is not None and used[0] + amount_fen > limit.amount_max_fen
    return not over and (limit.count_max is None or used[1] + 1 <= limit.count_max)


def _stopped(
    event: LowBalance, past: Sequence[PastOrder], now_s: int, switches: Switches, settings: AutopaySettings
) -> Wait | Refuse | None:
    """What ends or delays the matter before any mandate is looked at."""
    figures = _figures(event)
    if any(order.arm >= event.arm and order.state in SETTLED for order in past):
        return Refuse("already_charged", figures)
    mine = (order for order in past if order.arm >= event.arm and order.state not in IN_FLIGHT)
    if any(order.reason.startswith(DOUBT) for order in mine):
        return Wait(now_s + RETRY_HELD_S, "doubt", figures)
    if event.recovered or event.superseded:
        return Refuse("recovered" if event.recovered else "superseded", figures)
    if event.live is not None and not event.live.open:
        return Refuse("account_closed", figures)
    if not settings.enabled:
        return Wait(now_s + DAY_S, "disabled", figures)
    if any(order.state in IN_FLIGHT for order in past):
        return Wait(now_s + RETRY_IN_FLIGHT_S, "in_flight", figures)
    if event.credit_pending:
        return Wait(now_s + RETRY_PENDING_S, "credit_pending", figures)
    if switches.hold:
        return Wait(now_s + RETRY_HELD_S, "hold", figures)
    if switches.charges_last_hour >= settings.breaker_charges_per_hour:
        return Wait(now_s + RETRY_HELD_S, "breaker", figures | {"charges_last_hour": switches.charges_last_hour})
    return None


Obstacle = tuple[str, int]  # why this payer's turn is over or has not come, and when to look again


def ended(mandate: Mandate, now_s: int) -> str | None:
    """Why a mandate is not in force at `now_s`, or None."""
    if mandate.cancelled_at_s is not None and mandate.cancelled_at_s <= now_s:
        return "cancelled"
    if now_s < mandate.valid_from_s:
        return "not_valid_yet"
    return "ended" if now_s >= mandate.valid_until_s else None


def _lasting(
    balance_fen: int,
    mandate: Mandate,
    declined: Sequence[PastOrder],
    now_s: int,
    switches: Switches,
    settings: AutopaySettings,
) -> Obstacle | None:
    """Why this payer's turn is over, or None."""
    over = ended(mandate, now_s)
    if over is not None:
        return over, mandate.valid_from_s if over == "not_valid_yet" else now_s + DAY_S
    if balance_fen > mandate.trigger_fen:
        return "above_its_trigger", now_s + settings.recheck_s
    if mandate.gateway not in switches.gateways:
        return "gateway_unknown", now_s + DAY_S
    verdict, until_s = next_attempt(declined, settings)
    if until_s is None:
        return verdict, now_s + DAY_S
    return (verdict, until_s) if verdict != "again" and now_s < until_s else None


def _amount(amount_fen: int, cap_fen: int, now_s: int, settings: AutopaySettings) -> Obstacle | None:
    if amount_fen <= 0:
        return "target_reached", now_s + settings.recheck_s
    return ("cap_charge", now_s + DAY_S) if amount_fen > cap_fen else None


def _full(limits: Sequence[Limit], amount_fen: int, used: Used) -> Obstacle | None:
    full = [limit for limit in limits if not fits(limit, amount_fen, used.get(limit.scope, (0, 0)))]
    return (f"cap {full[0].scope}", max(limit.free_at_s for limit in full)) if full else None


def _passing(
    mandate: Mandate,
    declined: Sequence[PastOrder],
    past: Sequence[PastOrder],
    now_s: int,
    zone: ZoneInfo,
    settings: AutopaySettings,
) -> Obstacle | None:
    """(why, until) when this payer's turn has not come yet, or None."""
    verdict, backoff_s = next_attempt(declined, settings)
    if verdict == "again" and backoff_s is not None and now_s < backoff_s:
        return "declined_backoff", backoff_s
    settled = [order.charged_at_s for order in past if order.state in SETTLED]
    cool_s = max(settled) + max(settings.cooldown_s, mandate.cooldown_s) if settled else 0
    if now_s < cool_s:
        return "cooldown", cool_s
    opens_s = window_opens(mandate, now_s, zone)
    return ("window", opens_s) if opens_s is not None else None
