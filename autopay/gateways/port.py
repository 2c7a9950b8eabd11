"""Pure: the port that every payment gateway stands behind, and what adapters must declare about theirs.

Contract (tests/autopay/test_gateway_contract.py runs it on the fake and on the HTTP adapter):

- `charge` never raises for what the gateway or the network does: that is `Unknown`. It raises `GatewayBroken`
  only when the same key was used with another amount, which is our bug and must stop us.
- the same key within `key_lifetime_s` charges once, whatever happens; after it nobody may call `charge` with it.
- `lookup` says `NotFound` only when the gateway itself says so; it is no decline before `settlement_horizon_s`.
- `verify` returns None for everything that is not authentic, and never raises on bytes from outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from autopay.orders import Answer, Outcome


class GatewayBroken(RuntimeError):
    """One key, two amounts: a broken invariant of ours. The process stops."""


class GatewayDown(RuntimeError):
    """The book could not be read; try again later."""

    retriable = True


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """An authentic webhook: its id at the gateway, the key it speaks of, and what it says."""

    event: str
    key: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of the gateway's own book: money really taken."""

    key: str
    token: str
    amount_fen: int
    txn: str
    at_s: int
    reference: str


class GatewayPort(Protocol):
    """One payment gateway. Implementations are used from several threads at once."""

    key_lifetime_s: int  # business seconds from the first charge; later the same key is a new charge
    replays_errors: bool  # a decline is replayed under the same key; a second try needs a new one
    settlement_horizon_s: int  # a charge that is not found for that long will not come

    def charge(self, key: str, token: str, amount_fen: int, reference: str) -> Outcome: ...

    def lookup(self, key: str) -> Answer: ...

    def book(self) -> Sequence[Charge]:
        """Everything it charged, oldest first; raises GatewayDown."""
        ...

    def verify(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent | None: ...
