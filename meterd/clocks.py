"""Pure: the clock that the settings ask for."""

from __future__ import annotations

from config.clock import Clock, RealClock, ScaledClock
from config.settings import ClockSettings


def clock_of(settings: ClockSettings) -> Clock:
    if settings.kind == "scaled":
        return ScaledClock(settings.origin_unix, settings.start_s, settings.factor)
    return RealClock()
