"""Pure: the kernel: readings against registers, ladders and segments, in one compiled loop (nogil, cached).

One call rates a batch of one partition, in order. Runs of plain readings go through rating.plain; every other
one through `_one`, which judges it by the rules (rating.register_rules), splits it where a span ends, spreads it
over segments (rating.spread) and writes a close row whenever a local day ends. Nothing is allocated; the caller
owns every array.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from rating.compiled import Batch, Homes, Lines, jit
from rating.history import hand_on
from rating.plain import rate_plain
from rating.register_rules import (
    ACCEPTED,
    CONFIRMED,
    P_MINOR,
    P_WINDOW,
    REPLACED,
    judge_same_time,
    judge_step,
    misses_step,
    note_use,
)
from rating.spread import charge_difference, walk
from rating.state import STEP, ChannelFlag
from rating.verdicts import Verdict, Warn

CLOSE_ROWS_MIN: Final = 16_384  # one reading can end at most 20 years of days
_BILL: Final = ChannelFlag.BILL
_LATE, _FUTURE, _NEGATIVE = int(Verdict.LATE), int(Verdict.FUTURE), int(Verdict.NEGATIVE)
_RESOLUTION, _NOT_INSTALLED = int(Verdict.RESOLUTION), int(Verdict.NOT_INSTALLED)
_UNKNOWN_METER, _UNKNOWN_REGISTER = int(Verdict.UNKNOWN_METER), int(Verdict.UNKNOWN_REGISTER)
_NEAR_MAXIMUM, _WHILE_DISCONNECTED = Warn.NEAR_MAXIMUM, Warn.USE_WHILE_DISCONNECTED
_DISCONNECTED: Final = ChannelFlag.DISCONNECTED


@jit
def _counted(row: Any, diff: int) -> int:
    """What a register that moves by `diff` counts: its whole steps, the rest stays in it."""
    if row.counts & STEP == 0:
        return diff
    step = 10 ** np.int64(row.counts & STEP)
    return int((row.value + diff) // step * step - row.value // step * step)


@jit
def _replace(homes: Homes, slot: int, value: int, quality: int, lines: Lines) -> None:
    """A better reading at the same time: the difference is charged, and the register is no estimate any more."""
    row = homes.channel[slot]
    if row.segment >= 0 and row.flags & _BILL:
        energy = _counted(row, value - row.value) * np.int64(row.multiplier)
        charge_difference(homes, slot, energy, lines)
    row.value = value
    row.quality = quality
    row.estimate_excess = 0
    homes.cold[slot].estimates = 0
    homes.dirty_channel[slot] = 1


@jit
def _advance(
    homes: Homes,
    slot: int,
    from_s: int,
    to_s: int,
    energy: int,
    value: int,
    quality: int,
    lines: Lines,
    minor: int,
    warnings: Any,
    closes: Any,
    count: int,
) -> int:
    """Move one span's register to (value, to_s) and charge `energy` on the way."""
    row = homes.channel[slot]
    if row.segment >= 0 and row.flags & _BILL:
        count = walk(homes, slot, from_s, to_s, energy, lines, minor, warnings, closes, count)
    row.value = value
    row.at_s = to_s
    row.quality = quality
    homes.dirty_channel[slot] = 1
    return int(count)


@jit
def _use(
    homes: Homes,
    slot: int,
    at_s: int,
    diff: int,
    value: int,
    quality: int,
    lines: Lines,
    minor: int,
    warnings: Any,
    closes: Any,
    count: int,
) -> int:
    """Charge an accepted reading: its register difference is split at the ends of spans by cumulative floors, and
    each part times its span's multiplier is energy."""
    row = homes.channel[slot]
    start_s = int(row.at_s)
    from_s, done = start_s, 0
    whole = diff // (at_s - start_s)
    rest = diff - whole * (at_s - start_s)
    while at_s >= row.until_s and homes.cold[slot].next >= 0 and homes.channel[homes.cold[slot].next].value < 0:
        end_s = int(row.until_s)
        upto = whole * (end_s - start_s) + rest * (end_s - start_s) // (at_s - start_s)
        part = (upto - done) * np.int64(row.multiplier)
        count = _advance(homes, slot, from_s, end_s, part, value, quality, lines, minor, warnings, closes, count)
        done, from_s = upto, end_s
        excess = row.estimate_excess
        hand_on(homes, slot, int(homes.cold[slot].next))
        slot = int(homes.cold[slot].next)
        row = homes.channel[slot]
        row.value = value
        row.quality = quality
        row.estimate_excess = excess
        homes.dirty_channel[slot] = 1
    if at_s > from_s:
        part = (diff - done) * np.int64(row.multiplier)
        count = _advance(homes, slot, from_s, at_s, part, value, quality, lines, minor, warnings, closes, count)
    return int(count)


@jit
def _reached(homes: Homes, slot: int, at_s: int) -> Any:
    """How far a reading at `at_s` goes from span to span without a new register: (span, largest multiplier)."""
    place = np.int64(slot)
    most = np.int64(homes.channel[place].multiplier)
    after = np.int64(homes.cold[place].next)
    while at_s > homes.channel[place].until_s and after >= 0 and homes.channel[after].value < 0:
        place = after
        most = max(most, np.int64(homes.channel[place].multiplier))
        after = np.int64(homes.cold[place].next)
    return place, most


@jit
def open_span(homes: Homes, slot: int, at_s: int) -> int:
    """The span that a reading at `at_s` is judged in: past spans that are finished, and past a vacancy.

    A span with a register of its own (after a vacancy) takes nothing over: what flowed between the last reading
    before and that register is nobody's, and a reading of that time is judged against that register.
    """
    place = np.int64(slot)
    while True:
        row = homes.channel[place]
        after = np.int64(homes.cold[place].next)
        if row.at_s < row.until_s:
            last, _ = _reached(homes, place, at_s)
            if at_s <= homes.channel[last].until_s:
                return int(place)
            after = np.int64(homes.cold[last].next)
        if after < 0:
            return int(place)
        place = after


@jit
def _one(
    homes: Homes,
    slot: int,
    value: int,
    at_s: int,
    quality: int,
    not_after_s: int,
    lines: Lines,
    params: Any,
    warnings: Any,
    closes: Any,
    count: int,
) -> Any:
    """Any reading, by the rules in their order: (verdict, close rows). Verdict -1: no room for its close rows."""
    row = homes.channel[slot]
    if at_s > not_after_s:
        return _FUTURE, count
    slot = open_span(homes, slot, at_s)
    row = homes.channel[slot]
    assert row.value >= 0, "a span without a register: its predecessor did not hand it over"
    if misses_step(value, row.resolution):
        return _RESOLUTION, count
    if value < 0:
        return _NEGATIVE, count
    dt = at_s - np.int64(row.at_s)
    if dt < 0:
        return _LATE, count
    if dt == 0:
        said = judge_same_time(homes, slot, value, quality, params)
        if said == REPLACED:
            _replace(homes, slot, value, quality, lines)
        return said, count
    last, mult = _reached(homes, slot, at_s)
    if at_s > homes.channel[last].until_s:
        return _NOT_INSTALLED, count
    if count + dt // 80_000 + 16 > closes.shape[0]:
        return -1, count
    said, diff = judge_step(homes, slot, value, at_s, quality, mult, params)
    if said > CONFIRMED:
        return said, count
    if row.power_max_w > 0 and diff * mult * 7200 > np.int64(row.power_max_w) * dt:
        warnings[_NEAR_MAXIMUM] += 1
    if row.flags & _DISCONNECTED and diff > 0:
        warnings[_WHILE_DISCONNECTED] += 1
    noted = note_use(homes, slot, diff, quality, dt, params, warnings)
    counted = _counted(row, diff)
    count = _use(homes, slot, at_s, counted, value, quality, lines, params[P_MINOR], warnings, closes, count)
    return (noted if said == ACCEPTED else said), count


@jit
def rate(
    homes: Homes, batch: Batch, lines: Lines, params: Any, first: int, verdict: Any, warnings: Any, closes: Any
) -> Any:
    """Rate readings first..n-1 of `batch` in order; returns (readings done, close rows written).

    params int64[PARAMS]; verdict uint8[n] comes as zeros; it and warnings int64[len(Warn.NAMES)] are written; closes
    is CLOSE[at least CLOSE_ROWS_MIN]. It stops early when the close rows could run out: drain them and call again
    with `first` = readings done.
    """
    slots = batch.slots
    count, run, window_s = 0, 0, params[P_WINDOW]
    i = np.int64(first)
    while i < slots.shape[0]:
        while batch.run_end[run] <= i:
            run += 1
        limit_s = batch.run_limit_s[run]
        i = rate_plain(homes, batch, lines, window_s, i, batch.run_end[run], limit_s)
        if i == batch.run_end[run]:
            continue
        slot = np.int64(slots[i])
        if slot < 0:
            verdict[i] = _UNKNOWN_METER if slot == -1 else _UNKNOWN_REGISTER
            i += 1
            continue
        at_s, told = np.int64(batch.read_at_s[i]), np.int64(batch.quality[i])
        said, count = _one(homes, slot, batch.value[i], at_s, told, limit_s, lines, params, warnings, closes, count)
        if said < 0:
            return i, count
        verdict[i] = said
        i += 1
    return i, count
