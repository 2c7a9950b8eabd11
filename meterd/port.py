"""Pure: what the HTTP interface asks of the running daemon; `meterd.daemon.Daemon` is one, tests have a small one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from config.clock import Clock
from config.settings import Settings
from ledger.port import LedgerPort
from registry.store import RegistryReader


class PartsPort(Protocol):
    """What looks at the ledger and the registry in force, and submits; `meterd.parts.Parts` is one."""

    @property
    def store(self) -> LedgerPort: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def settings(self) -> Settings: ...

    def registry(self) -> RegistryReader | None:
        """The active version; None before the first."""
        ...

    def submit(self, kind: str, key: str, body: dict[str, Any], partition: int | None) -> int:
        """An inbox row through the writer; rating is woken. `KeyConflict`: the same key with other contents."""
        ...


class DaemonPort(PartsPort, Protocol):
    """Every method may be called from any thread, and none of them waits longer than its deadline."""

    @property
    def token(self) -> str:
        """What commands must bear, as endpoint.json holds it."""
        ...

    def activate_registry(self, digest: str) -> int:
        """Register a staged version and put its inbox row; FileNotFoundError when nothing of that name is staged."""
        ...

    def wait_applied(self, inbox_id: int, deadline_s: float) -> str | None:
        """Outcome ("" is good) once every partition has committed the row; None when the deadline passed first."""
        ...

    def webhook(self, gateway: str, headers: Mapping[str, str], body: bytes) -> int:
        """The HTTP status to answer a gateway with."""
        ...

    def hold(self, value: bool, reason: str) -> list[str]:
        """Stop or resume submitting payments; what stands against resuming."""
        ...

    def settle_order(self, order_id: int, charged: str | None, why: str, who: str) -> dict[str, Any]:
        """A person's word about an order; KeyError, `autopay.by_hand.NotSettled`, `ledger.port.Fenced`."""
        ...

    def reconcile(self, gateway: str) -> dict[str, Any]:
        """Compare a gateway's book with our orders; KeyError for a gateway that is not configured."""
        ...

    def health(self) -> dict[str, Any]:
        """`ok` (no part has ended), `ready` (readings are taken in and rated), `failed`, `parts` by name."""
        ...

    def metrics(self) -> bytes:
        """Prometheus' text format."""
        ...
