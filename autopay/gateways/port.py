"""Pure: the port that every payment gateway stands behind, and what adapters must declare about theirs.

Contract (tests/autopay/test_gateway_contract.py runs it on the fake and on the HTTP adapter):

- every call ends within the adapter's deadline and a moment, whatever the other side does.
- `charge` never raises for what the gateway or the network does: that is `Unknown`. It raises `GatewayBroken`
  only when the same key was used with another amount, which is our bug and must stop us.
- the same key within `key_lifetime_s` charges once, whatever happens; after it nobody may call `charge` with it.
- `lookup` says `NotFound` only when the gateway itself says so; it is no decline before `settlement_horizon_s`.
- `verify` returns None for everything that is not authentic, and never raises on bytes from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from autopay.orders import Answer, Outcome

PAGE_LINES: Final = 1000  # of a gateway's book, asked for at a time


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


@dataclass(frozen=True, slots=True)
class BookPage:
    """Some lines of a gateway's book, oldest first; `next` is what to ask after for more, "" at the end."""

    charges: Sequence[Charge]
    next: str


class GatewayPort(Protocol):
    """One payment gateway. Implementations are used from several threads at once."""

    key_lifetime_s: int  # business seconds from the first charge; later the same key is a new charge
    replays_errors: bool  # a decline is replayed under the same key; a second try needs a new one
    settlement_horizon_s: int  # a charge that is not found for that long will not come

    def charge(self, key: str, token: str, amount_fen: int, reference: str) -> Outcome: ...

    def lookup(self, key: str) -> Answer: ...

    def book(self, after: str = "", limit: int = PAGE_LINES) -> BookPage:
        """At most `limit` lines of its book after that place, "" from the start; raises GatewayDown."""
        ...

    def verify(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent | None: ...


def pages_of(gateway: GatewayPort) -> Iterator[Sequence[Charge]]:
    """A gateway's whole book, a page at a time; GatewayDown when one cannot be read or leads nowhere."""
    after = ""
    while True:
        page = gateway.book(after)
        yield page.charges
        if not page.next:
            return
        if page.next == after:
            raise GatewayDown(f"the book does not go on after {after!r}")
        after = page.next
