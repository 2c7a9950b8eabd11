"""I/O: calls to gateways that are under way: so many at a time for each gateway, in threads of its own.

A gateway that is slow or dead holds its own threads and nobody else's, and each call only as long as its adapter's
deadline. Charges leave room for asking: a storm of charges never keeps an unknown order from being asked about.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final

ASKING: Final = 2  # of a gateway's places, kept free of charges
PoolMaker = Callable[[int, str], Executor]  # of so many threads under that name; a simulated world has none


@dataclass(frozen=True, slots=True)
class Call:
    """One call for one order: `kind` is "charge" or "lookup", the future's value is its Answer."""

    order_id: int
    gateway: str
    kind: str
    future: Future[Any]


class Calls:
    """Used from the owner's one thread."""

    def __init__(self, per_gateway: int, pool: PoolMaker = ThreadPoolExecutor) -> None:
        assert per_gateway > ASKING
        self._per_gateway, self._pool = per_gateway, pool
        self._pools: dict[str, Executor] = {}
        self._open: dict[int, Call] = {}

    def __len__(self) -> int:
        return len(self._open)

    def orders(self, gateway: str) -> list[int]:
        """Orders with a call under way at this gateway."""
        return [call.order_id for call in self._open.values() if call.gateway == gateway]

    def free(self, gateway: str, kind: str) -> int:
        """How many more calls of this kind may start now."""
        left = self._per_gateway - len(self.orders(gateway))
        return max(0, left - ASKING if kind == "charge" else left)

    def start(self, order_id: int, gateway: str, kind: str, ask: Callable[..., Any], *arguments: Any) -> None:
        assert order_id not in self._open
        if gateway not in self._pools:
            self._pools[gateway] = self._pool(self._per_gateway, f"autopay-{gateway}")
        self._open[order_id] = Call(order_id, gateway, kind, self._pools[gateway].submit(ask, *arguments))

    def done(self, real_s: float) -> list[Call]:
        """Calls that have ended; waits up to `real_s` for the first one. They stay until `close`."""
        ended, _ = wait([call.future for call in self._open.values()], max(0.0, real_s), FIRST_COMPLETED)
        return [call for call in list(self._open.values()) if call.future in ended]

    def close(self, call: Call) -> None:
        """Its answer is written."""
        del self._open[call.order_id]

    def stop(self) -> None:
        """End the threads as soon as their calls end; waits for none."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
