"""Pure: where registers will stand at the end of a bill cycle that closes without them [7]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from audit.ladders import opened_s
from audit.meter import ENERGY_MAX, Channel
from audit.tariffs import month_start
from config.settings import RatingSettings
from config.units import Quality

_LEAST_S: Final = 86_400  # must have been counted before anything can be guessed
_E: Final = int(Quality.E)


def estimates(channels: Sequence[Channel], end_s: int, rating: RatingSettings) -> list[tuple[Channel, int, int]]:
    """[7] Charged registers of an account that lag go on to the cycle's end as they went so far.

    (channel, register, time); nothing rests on an estimate.
    """
    guesses: list[tuple[Channel, int, int]] = []
    for channel in channels:
        if channel.segment is None or channel.value < 0 or channel.quality == _E or channel.fed_in:
            continue
        if channel.at_s >= end_s or channel.at_s >= channel.until_s:
            continue
        used, stretches = _counted(channel, channels)
        known_s = sum(to_s - from_s for from_s, to_s in stretches)
        since_s = min((from_s for from_s, _ in stretches), default=channel.at_s)
        to_s = channel.leaves_s(end_s)
        if used <= 0 or known_s < _LEAST_S or channel.at_s - since_s < _LEAST_S or to_s <= channel.at_s:
            continue
        energy = used * (to_s - channel.at_s) // known_s
        allowed = channel.power * min(to_s - channel.at_s, rating.plausible_window_s)
        if energy > ENERGY_MAX or energy * 3600 > allowed:
            continue
        value = channel.value + energy // channel.multiplier
        value -= value % channel.resolution
        if value > channel.value:
            guesses.append((channel, value, to_s))
    return guesses


def _counted(channel: Channel, channels: Sequence[Channel]) -> tuple[int, list[tuple[int, int]]]:
    """Use in the tier cycle where a register stands, without what was brought in, and when each register counted."""
    segment, ladder = channel.segment, channel.ladder
    assert segment is not None
    cycle = ladder.tariff.tier_cycle(segment.month)
    if ladder.kept(cycle) != cycle:
        return 0, []  # the use of so old a cycle is not known any more
    members = ladder.ring if ladder.shares(segment) else [ladder]
    used = ladder.use(segment)[0] - sum(member.brought.get(cycle, 0) for member in members)
    stretches = []
    for one in channels:
        if one.charged and not one.fed_in and any(one.ladder is member for member in members):
            tariff = one.ladder.tariff
            start_s = tariff.day_start_s(max(month_start(cycle), tariff.first_day))
            end_s = tariff.day_start_s(month_start(cycle + tariff.cycle_months))
            from_s, to_s = max(start_s, opened_s(one.span)), min(end_s, one.at_s, one.until_s)
            if from_s < to_s:
                stretches.append((from_s, to_s))
    return used, stretches
