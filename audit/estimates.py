"""Pure: where registers will stand at the end of a bill cycle that closes without them [7]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from audit.meter import ENERGY_MAX, Channel
from audit.tariffs import month_start
from config.settings import RatingSettings
from config.units import Quality

_LEAST_S: Final = 86_400  # of a cycle must have been counted before its end can be guessed
_E: Final = int(Quality.E)


def estimates(
    channels: Sequence[Channel], from_s: int, end_s: int, rating: RatingSettings
) -> list[tuple[Channel, int, int]]:
    """[7] Registers of an account (counted `from_s` on) that lag go on to the cycle's end as they went so far.

    (channel, register, time); nothing rests on an estimate.
    """
    guesses: list[tuple[Channel, int, int]] = []
    for channel in channels:
        segment, ladder = channel.segment, channel.ladder
        if segment is None or channel.value < 0 or channel.quality == _E:
            continue
        if channel.at_s >= end_s or channel.at_s >= channel.until_s:
            continue
        cycle = ladder.tariff.tier_cycle(segment.month)
        used = ladder.use(segment)[0]
        since_s = ladder.tariff.day_start_s(max(month_start(cycle), ladder.tariff.first_day))
        counted_s = channel.at_s - max(since_s, from_s)
        to_s = channel.leaves_s(end_s)
        if used <= 0 or counted_s < _LEAST_S or to_s <= channel.at_s:
            continue
        shares = sum(c.ladder is ladder and c.charged and c.value >= 0 and c.at_s < c.until_s for c in channels)
        energy = used * (to_s - channel.at_s) // (counted_s * shares)
        allowed = channel.power * min(to_s - channel.at_s, rating.plausible_window_s)
        if energy > ENERGY_MAX or energy * 3600 > allowed:
            continue
        value = channel.value + energy // channel.multiplier
        value -= value % channel.resolution
        if value > channel.value:
            guesses.append((channel, value, to_s))
    return guesses
