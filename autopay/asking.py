"""Pure: what to do about an order of unknown outcome after the gateway was asked.

    asked    -> succeeded, declined      that is it
             -> not found                within the key's lifetime the same key may be charged again, once more
                                         harmless; after the settlement horizon it is a decline. What was never
                                         sent (asked about first, after a restore) is charged, or given up
             -> unknown                  ask again by the schedule, for ever; after `person_after_s` tell a person

A new key is never used here: that would be a second charge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from autopay.gateways.port import GatewayPort
from autopay.orders import DOUBT, Answer, Declined, NotFound, Succeeded
from autopay.records import OrderRow
from config.settings import AutopaySettings


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Look up again at `at_s`; `person` says what a person must be told, if anything."""

    at_s: int
    person: str | None


@dataclass(frozen=True, slots=True)
class ChargeAgain:
    """Charge with the same key and amount; should that be lost too, ask at `next_at_s`."""

    next_at_s: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Cancel it: the gateway never heard of it, and `why` stands against charging it."""

    why: str


STOPPING: Final = "stopping"  # stands against every charge, and says nothing about the order
Todo = AskAgain | ChargeAgain | GiveUp | Succeeded | Declined


def ask_at_s(row: OrderRow, now_s: int, settings: AutopaySettings) -> int:
    """When to ask about it next: by the schedule, whose last pause repeats."""
    schedule = settings.ask_after_s or (60,)
    return now_s + max(1, schedule[min(row.asks, len(schedule) - 1)])


def after_lookup(
    row: OrderRow,
    answer: Answer,
    last_step_s: int,
    now_s: int,
    gateway: GatewayPort,
    settings: AutopaySettings,
    *,
    against: str | None,
) -> Todo:
    """The one next thing. `last_step_s` is when its last charge ended in doubt; the horizon runs from there.

    `against`: what stands against charging it, should the gateway not know it; None: nothing.
    """
    if isinstance(answer, Succeeded | Declined):
        return answer
    submitted_s = row.submitted_at_s if row.submitted_at_s is not None else row.created_at_s
    next_s = ask_at_s(row, now_s, settings)
    # Once somebody said that money was taken, "not found" neither declines it nor is it charged again.
    if isinstance(answer, NotFound) and not row.reason.startswith(DOUBT):
        if row.submitted_at_s is None:
            if against == STOPPING:
                return AskAgain(next_s, None)
            return ChargeAgain(next_s) if against is None else GiveUp(against)
        if now_s >= last_step_s + gateway.settlement_horizon_s:
            return Declined("not_found")
        margin_s = gateway.key_lifetime_s // 10  # the call itself takes time, and clocks differ
        # A clock that was set back to before the submission does not tell how old the key is.
        if against is None and submitted_s <= now_s < submitted_s + gateway.key_lifetime_s - margin_s:
            return ChargeAgain(next_s)
        next_s = min(next_s, last_step_s + gateway.settlement_horizon_s)
    person = f"unknown for {now_s - submitted_s} s" if now_s >= submitted_s + settings.person_after_s else None
    return AskAgain(next_s, person)
