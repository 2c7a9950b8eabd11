"""I/O (simulated): how often what goes wrong in a history: rates drawn from its seed, some calm, some storms."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final

STRENGTHS: Final = (0.0, 0.15, 0.5, 1.0, 1.0, 2.5)  # of a whole history; each rate is then drawn below it


@dataclass(frozen=True, slots=True)
class Weather:
    """Rates. What each is of stands behind it; `NORMAL` is strength 1."""

    # the line, of messages
    lose: float  # gone before anybody acknowledged it, with the connection
    duplicate: float  # published twice
    reorder: float  # overtaken
    delay: float  # minutes to days
    # the broker and the connections, of rounds
    cut_fleet: float
    cut_daemon: float
    stale_ack: float  # of groups that are durable: the connection is another one before they are acknowledged
    broker_restart: float
    broker_forgets: float  # of its restarts: sessions and acknowledged messages are gone
    # the daemon, of passed steps
    crash: float
    # its disk, of writes
    log_full: float  # refused for a while
    log_sync: float  # its commit fails, and is undone
    log_broken: float  # its commit fails, and from then on everything: nobody knows whether it was durable
    log_torn: float  # dies in the middle: it was durable, or it was not
    ledger_full: float
    ledger_broken: float  # the outcome of a transaction is not known
    late_id: float  # a row of the inbox is seen before one with a lower id
    slow_commit: float  # rating goes on while a checkpoint is on its way
    # of rounds
    cancel: float  # of passes of autopay with an order of a certain mandate in flight: it is cancelled just then
    clock_step: float  # the wall clock is wrong by hours, for a while
    restore: float  # back to yesterday's backup
    # people, of rounds
    top_up: float
    reversal: float
    hold: float
    # the gateway, of calls
    decline: float
    timeout_before: float
    timeout_after: float
    error: float
    slow: float
    change_of_mind: float  # of declines: charged after all, a day later
    # its webhooks, of results
    webhook_lost: float
    webhook_early: float
    webhook_late: float
    webhook_twice: float
    webhook_forged: float
    # of rounds
    bank_outage: float  # hours to days
    decline_storm: float
    # notices, of deliveries
    notice_fails: float
    # the fleet's own faults (simulators.faults), of frames
    frames: float


NORMAL: Final = Weather(
    lose=0.02, duplicate=0.03, reorder=0.05, delay=0.02,
    cut_fleet=0.05, cut_daemon=0.05, stale_ack=0.05, broker_restart=0.03, broker_forgets=0.5,
    crash=0.003,
    log_full=0.02, log_sync=0.01, log_broken=0.004, log_torn=0.01,
    ledger_full=0.01, ledger_broken=0.004, late_id=0.2, slow_commit=0.3,
    cancel=0.8, clock_step=0.02, restore=0.01,
    top_up=0.1, reversal=0.3, hold=0.01,
    decline=0.15, timeout_before=0.1, timeout_after=0.1, error=0.08, slow=0.15, change_of_mind=0.2,
    webhook_lost=0.2, webhook_early=0.2, webhook_late=0.2, webhook_twice=0.2, webhook_forged=0.1,
    bank_outage=0.01, decline_storm=0.01,
    notice_fails=0.1,
    frames=1.0,
)  # fmt: skip
RATES: Final = tuple(field.name for field in fields(Weather))
LIMIT: Final = 0.9  # whatever the strength, a thing goes well now and then


@dataclass(frozen=True, slots=True)
class Cut:
    """What is left out of a history, so that a broken rule is easier to read: rates by name, days at its end."""

    without: frozenset[str] = frozenset()
    days: int | None = None


WHOLE: Final = Cut()


def draw(dice: random.Random, without: Iterable[str] = ()) -> Weather:
    """The weather of a history: one strength for all, and each rate on its own between nothing and twice of it."""
    strength = dice.choice(STRENGTHS)
    rates = {name: min(LIMIT, getattr(NORMAL, name) * strength * dice.choice((0.0, 0.5, 1.0, 2.0))) for name in RATES}
    return Weather(**rates | dict.fromkeys(without, 0.0))


def calm() -> Weather:
    """Nothing goes wrong."""
    return Weather(**dict.fromkeys(RATES, 0.0))
