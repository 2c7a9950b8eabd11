"""I/O (the only place that reads the machine's time): one clock, passed in. Real, scaled, manual.

Business time (`now_s`, UTC seconds) decides what is late, due or in a window; it may run fast in a demo or
stand still in a test. `monotonic_s` is real seconds for deadlines on sockets. Whoever waits asks the clock
how many real seconds a stretch of business time is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """What every role is given instead of the time of day."""

    def now_s(self) -> int:
        """Business time, UTC seconds since 1970."""
        ...

    def monotonic_s(self) -> float:
        """Real seconds since some start, for deadlines."""
        ...

    def real_seconds(self, business_seconds: float) -> float:
        """How long to really wait for that much business time to pass."""
        ...


class ClockLeapt(Exception):
    """Business time left the monotonic clock; not retriable."""


class RealClock:
    """The machine's own clock."""

    def now_s(self) -> int:
        return int(time.time())  # noqa: TID251 - the one place

    def monotonic_s(self) -> float:
        return time.monotonic()

    def real_seconds(self, business_seconds: float) -> float:
        return business_seconds


@dataclass(frozen=True, slots=True)
class ScaledClock:
    """Business time that starts at `start_s` at machine time `origin_unix` and runs `factor` times as fast.

    Every process given the same three numbers reads the same time. Before the origin it stands at the start.
    """

    origin_unix: float
    start_s: int
    factor: float

    @classmethod
    def starting_in(cls, real_s: float, start_s: int, factor: float) -> ScaledClock:
        """A clock that stands at `start_s` for `real_s` more seconds of the machine's time."""
        return cls(time.time() + real_s, start_s, factor)  # noqa: TID251 - the one place

    def now_s(self) -> int:
        elapsed = time.time() - self.origin_unix  # noqa: TID251 - the one place
        return self.start_s + int(max(0.0, elapsed) * self.factor)

    def monotonic_s(self) -> float:
        return time.monotonic()

    def real_seconds(self, business_seconds: float) -> float:
        return business_seconds / self.factor


class ManualClock:
    """Stands still until told: for tests and for the simulated world."""

    def __init__(self, start_s: int = 0) -> None:
        self._now_s = start_s

    def now_s(self) -> int:
        return self._now_s

    def monotonic_s(self) -> float:
        return float(self._now_s)

    def real_seconds(self, business_seconds: float) -> float:
        return business_seconds

    def set(self, now_s: int) -> None:
        """Jump to `now_s`, forwards or backwards (a wrong clock is a fault to test)."""
        self._now_s = now_s

    def advance(self, seconds: int) -> None:
        self._now_s += seconds
