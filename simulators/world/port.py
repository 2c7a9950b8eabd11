"""I/O (types): the system under test, as the world drives it: passes of one thread, and what people ask of it.

Whatever a pass raises is the death of the process: the world drops it and makes another one on the same files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from autopay.channels import Channel
from autopay.gateways.port import GatewayPort
from config.clock import Clock
from config.settings import Settings
from ingest.link import LinkMaker
from ingest.port import IngestLog
from ledger.writer import WriterMaker


@dataclass(frozen=True, slots=True)
class Around:
    """What the world puts around a daemon's parts."""

    log: Callable[[Path], IngestLog]
    writer: WriterMaker
    calls: Callable[[int, str], Executor]  # to gateways: answered when the world says so
    lanes: Callable[[int, str], Executor]  # of notices: run at once
    gateways: Mapping[str, GatewayPort]
    channels: Sequence[Channel]
    registry: Path  # the scene's versions, which every history has a copy of
    link: LinkMaker
    pause: Callable[[float], bool]
    told: Callable[[], None]  # a checkpoint has something for autopay or for people


class NodePort(Protocol):
    """One life of the daemon."""

    def start(self, *, accept_clock: bool = False) -> None:
        """Recover, take over, connect; `StartRefused`."""
        ...

    def ingest(self) -> bool:
        """One group, durable and acknowledged; whether the log has new records, which is what wakes rating."""
        ...

    def rate(self) -> bool: ...

    def pay(self) -> int: ...

    def tell(self) -> int: ...

    def keep(self, *, force: bool = False) -> int: ...

    def submit(self, kind: str, key: str, body: dict[str, Any], partition: int | None) -> int: ...

    def activate_registry(self, digest: str) -> int: ...

    def webhook(self, gateway: str, headers: Mapping[str, str], body: bytes) -> int: ...

    def hold(self, value: bool, reason: str) -> list[str]: ...

    def reconcile(self, gateway: str) -> dict[str, Any]: ...

    def settle_order(self, order_id: int, charged: str | None, why: str, who: str) -> dict[str, Any]: ...

    def release(self, exception_ids: Sequence[int]) -> list[int]:
        """Have readings of the exceptions queue judged again; those of which the outcome is known."""
        ...

    def home_of(self, account: str) -> int | None:
        """The partition of an account."""
        ...

    def registry_digest(self) -> str:
        """The version in force; "" before the first."""
        ...

    def waits(self) -> bool:
        """Records or inbox rows are not rated, or rated and not durable."""
        ...

    def drop(self) -> None:
        """The process is gone; files stay as they are."""
        ...


class NodeMaker(Protocol):
    """Makes a daemon on the files of `settings.data_dir`; and says what a replay of them from empty finds."""

    def __call__(self, settings: Settings, clock: Clock, around: Around) -> NodePort: ...

    def forget(self) -> None:
        """Keep nothing that was made of registry versions and tariffs for earlier lives."""
        ...

    def differences(self, settings: Settings, registry: Path, batch: int) -> list[str]:
        """`registry`: the scene's versions."""
        ...
