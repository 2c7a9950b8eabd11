"""Pure: the order machine: its states, the one table of transitions, what evidence does, and the key of a charge.

Evidence (an answer, a lookup, a webhook, a line of the gateway's book) never credits: it only moves an order, and
the move to `succeeded` or `succeeded_late` is what inserts the one credit. `credited` is set by the ledger's
transaction that applies it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Final


class State(StrEnum):
    """Where an order is. Text, because the database holds these."""

    CREATED = "created"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    SUCCEEDED_LATE = "succeeded_late"
    CREDITED = "credited"
    CANCELLED = "cancelled"


S = State
TRANSITIONS: Final[dict[State, dict[State, str]]] = {
    S.CREATED: {
        S.SUBMITTED: "compare-and-swap under the owner's epoch, before the gateway hears",
        S.CANCELLED: "the balance recovered, or the mandate ended, before submission",
        S.UNKNOWN: "after a restore: the gateway may have heard of its key, so it is asked first",
    },
    S.SUBMITTED: {
        S.SUCCEEDED: "the gateway says so: the credit is inserted",
        S.DECLINED: "the gateway says so: the caps are released",
        S.UNKNOWN: "time-out, error, an answer that contradicts the order, or a restart in between",
    },
    S.UNKNOWN: {
        S.SUCCEEDED: "asked, told by webhook or by hand: the credit is inserted",
        S.DECLINED: "asked, not found after the settlement horizon, or by hand",
        S.UNKNOWN: "asked in vain, contradicted, or charged with the same key",
        S.CANCELLED: "after a restore, never sent: nobody may be charged now, or it was charged another amount",
    },
    S.SUCCEEDED: {S.CREDITED: "the credit was applied, in that transaction"},
    S.DECLINED: {
        S.SUCCEEDED_LATE: "charged after all: credit it, stop the next attempt, tell a person",
        S.DECLINED: "by hand: not charged, whatever contradicted it",
    },
    S.SUCCEEDED_LATE: {S.CREDITED: "the credit was applied, in that transaction"},
    S.CANCELLED: {
        S.SUCCEEDED_LATE: "only after a restore: the gateway's book knows better",
        S.CANCELLED: "by hand: not charged, whatever contradicted it",
    },
    S.CREDITED: {},
}
SETTLED: Final = frozenset({S.SUCCEEDED, S.SUCCEEDED_LATE, S.CREDITED})  # the payer has been charged
WAITING: Final = frozenset({S.SUBMITTED, S.UNKNOWN})  # the gateway may have heard
PERSON: Final = "person: "  # how the reason of an order begins that a person must look at
DOUBT: Final = PERSON + "doubt: "  # and of one that evidence contradicts: only a person, or better evidence, ends it


class NotATransition(AssertionError):
    """A move that the table does not have: our bug, never bad input."""


def move(old: State, new: State) -> State:
    """The one gate of every change of state: `new`, or NotATransition."""
    if new not in TRANSITIONS[old]:
        raise NotATransition(f"order: {old} -> {new}")
    return new


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The gateway charged `amount_fen` under transaction `txn`."""

    txn: str
    amount_fen: int


@dataclass(frozen=True, slots=True)
class Declined:
    """The gateway says definitely: not charged, and why."""

    code: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can say yet: time-out, 5xx, connection lost."""

    why: str


@dataclass(frozen=True, slots=True)
class NotFound:
    """A lookup's answer: the gateway does not know the key (yet)."""


Outcome = Succeeded | Declined | Unknown
Answer = Outcome | NotFound


def judge(state: State, evidence: Answer) -> tuple[State, ...]:
    """The moves that evidence makes from `state`, in order; () when it says nothing new.

    Total: any evidence may meet any state (duplicates, early and late webhooks, a restored database).
    """
    match evidence:
        case Succeeded():
            return _ON_SUCCESS[state]
        case Declined():
            return (S.DECLINED,) if state in WAITING else ()
        case Unknown():
            return (S.UNKNOWN,) if state is S.SUBMITTED else ()
        case NotFound():
            return ()


_ON_SUCCESS: Final[dict[State, tuple[State, ...]]] = {
    S.CREATED: (S.SUBMITTED, S.SUCCEEDED),  # after a restore: it had been submitted
    S.SUBMITTED: (S.SUCCEEDED,),
    S.UNKNOWN: (S.SUCCEEDED,),
    S.DECLINED: (S.SUCCEEDED_LATE,),
    S.CANCELLED: (S.SUCCEEDED_LATE,),
    S.SUCCEEDED: (),
    S.SUCCEEDED_LATE: (),
    S.CREDITED: (),
}


def key_of(account: str, arm: int, attempt: int) -> str:
    """The gateway's idempotency key: a function of what it is for, unchanged by replay, restart or restore."""
    text = f"{account}\x00{arm}\x00{attempt}".encode()
    return "mtd-" + blake2b(text, digest_size=20, person=b"meterd-order").hexdigest()


def reference_of(account: str, arm: int, attempt: int) -> str:
    """What the gateway's book shows beside the key, so that a book alone can be reconciled."""
    return f"{account}/{arm}/{attempt}"


def parse_reference(text: str) -> tuple[str, int, int] | None:
    """(account, arm, attempt) of a reference, or None when it is not one of ours."""
    parts = text.rsplit("/", 2)
    if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        return None
    return parts[0], int(parts[1]), int(parts[2])


def diagram() -> str:
    """The table as text, for docs/autopay.md."""
    lines = []
    for old, moves in TRANSITIONS.items():
        if not moves:
            lines.append(f"{old.value} (end)")
        for new, why in moves.items():
            lines.append(f"{old.value:<14} -> {new.value:<14}  {why}")
    return "\n".join(lines) + "\n"
