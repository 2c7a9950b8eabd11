"""Pure: what one checkpoint of one partition asks the ledger to make true, and the packed row formats.

The engine returns a `PartitionCheckpoint`; `ledger.store` commits it in one transaction with those of the other
partitions. Nothing here knows SQL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

ENGINE_VERSION: Final = 3
STATE_FORMAT: Final = 3
PAGE_SLOTS: Final = 1024


class Component:
    """What a subledger row is for; the number is stored, `COMPONENT_NAME` says it."""

    ENERGY: Final = 1
    TIER_ADDER: Final = 2
    ROUNDING: Final = 3
    CREDIT: Final = 4
    OPENING: Final = 5
    ADJUSTMENT: Final = 6
    REVERSAL: Final = 7
    STANDING: Final = 8  # from here on: charges of a tariff, posted when a bill cycle closes
    LEVY: Final = 9
    ALLOWANCE: Final = 10
    PERCENT: Final = 11
    MINIMUM: Final = 12
    TIERS: Final = 13  # what the tariff's own tiers make of a cycle's energy, less what was posted as it was used
    CONTAINED: Final = 14  # no money: `quantity` in 1e-11 is in the other rows already
    EXPORT: Final = 15  # for energy that was fed in


COMPONENT_NAME: Final[dict[int, str]] = {
    Component.ENERGY: "energy",
    Component.TIER_ADDER: "tier_adder",
    Component.ROUNDING: "rounding",
    Component.CREDIT: "credit",
    Component.OPENING: "opening",
    Component.ADJUSTMENT: "adjustment",
    Component.REVERSAL: "reversal",
    Component.STANDING: "standing",
    Component.LEVY: "levy",
    Component.ALLOWANCE: "allowance",
    Component.PERCENT: "percent",
    Component.MINIMUM: "minimum",
    Component.TIERS: "tiers",
    Component.CONTAINED: "contained",
    Component.EXPORT: "export",
}
CHARGES: Final = range(Component.STANDING, Component.EXPORT + 1)

SUBLEDGER: Final = np.dtype(
    [
        ("amount_fen", np.int64),  # credit positive
        ("quantity", np.int64),  # Wh behind it; of a charge days, Wh or 1e-11 of its base; 0 for money alone
        ("slot", np.int32),  # account slot
        ("channel", np.int32),  # channel slot; of a charge its ladder; -1: none
        ("day", np.int32),  # local day number since 1970-01-01; of booking for credits
        ("component", np.uint8),
        ("version", np.uint8),  # of the ladder's tariff, and the charge's place in it
        ("place", np.uint8),
        ("pad", np.uint8),
    ]
)
BILL: Final = np.dtype(  # one bill cycle closed
    [
        ("exact_e11", np.int64),  # remainder that rounding settled
        ("rounding_fen", np.int64),
        ("slot", np.int32),
        ("cycle", np.int32),
        ("closed_at_s", np.uint32),
        ("complete", np.uint8),  # 1: the boundary register was there; 0: the settlement window ran out
        ("pad", np.uint8, (3,)),
    ]
)
LATE: Final = np.dtype([("channel", np.int32), ("day", np.int32), ("count", np.uint32)])


def exact_sum(amounts: npt.NDArray[np.int64]) -> int:
    """Sum of int64 amounts that cannot wrap: high and low halves apart."""
    return (int((amounts >> 32).sum()) << 32) + int((amounts & 0xFFFFFFFF).sum())


@dataclass(slots=True)
class Entry:
    """A double entry: its postings (name, fen) sum to zero, its subledger rows sum to the `customer` posting."""

    kind: str
    offset: int
    booked_at_s: int
    postings: list[tuple[str, int]]
    rows: npt.NDArray[np.void]  # SUBLEDGER
    reference: str | None = None
    bills: npt.NDArray[np.void] | None = None  # BILL

    def check(self) -> None:
        """Raise AssertionError unless it balances; the store calls this before it writes."""
        where = f"entry {self.kind} at {self.offset}"
        amounts = [int(amount) for _, amount in self.postings]
        if any(abs(amount) > 2**63 - 1 for amount in amounts):
            raise AssertionError(f"{where}: a posting does not fit 64 bits")
        customer = sum(int(amount) for name, amount in self.postings if name == "customer")
        rows = exact_sum(self.rows["amount_fen"])
        if sum(amounts) != 0:
            raise AssertionError(f"{where}: postings sum to {sum(amounts)}")
        if customer != rows:
            raise AssertionError(f"{where}: customer {customer} != rows {rows}")


@dataclass(frozen=True, slots=True)
class Event:
    """low_balance, recovered or alert of an account (text id) at its `arm` number."""

    kind: str
    account: str
    arm: int
    as_of_s: int
    balance_fen: int


@dataclass(frozen=True, slots=True)
class ExceptionRow:
    """One row for the exceptions queue; `key` makes it once per distinct event."""

    key: str
    reason: str
    offset: int
    received_at_s: int
    source: str
    stream: str
    sequence: int
    body: bytes
    note: str = ""
    meter: str | None = None
    register: str | None = None
    read_at_s: int | None = None
    value: int | None = None
    quality: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to one party; `party` "" is the account's holder. Written to the outbox in the same transaction."""

    key: str
    template: str
    party: str
    account: str
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Applied:
    """An inbox row that was applied after record `offset`; `outcome` is "" or why it changed nothing."""

    inbox_id: int
    offset: int
    outcome: str = ""
    order_id: int | None = None  # a credit of an order: the same transaction sets `credited`


@dataclass(slots=True)
class StateChange:
    """The whole array as it is now (copied by the store before the engine goes on) and the slots that changed."""

    rows: npt.NDArray[np.void]
    dirty: npt.NDArray[np.int32]  # sorted, distinct slots


@dataclass(slots=True)
class PartitionCheckpoint:
    """Everything one partition's checkpoint makes true at once."""

    partition: int
    epoch: int
    log_id: str
    offset: int
    as_of_s: int
    registry_digest: str
    timeline_digest: str
    counters: dict[str, int]
    state: dict[str, StateChange]
    entries: list[Entry] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    exceptions: list[ExceptionRow] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)
    late: npt.NDArray[np.void] | None = None  # LATE


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A command for the engine, as stored; applying it moves the engine's now on to `created_at_s`."""

    id: int
    partition: int | None
    kind: str
    key: str
    body: dict[str, Any]
    created_at_s: int = 0


@dataclass(slots=True)
class Recovered:
    """A partition as the ledger knows it: arrays by name, and where to go on in the log."""

    partition: int
    log_id: str | None  # None: never checkpointed
    offset: int
    as_of_s: int
    registry_digest: str
    timeline_digest: str
    counters: dict[str, int]
    arrays: dict[str, npt.NDArray[np.void]]
