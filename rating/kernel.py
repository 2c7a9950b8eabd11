"""Pure: the kernel: readings against registers, ladders and segments, in one compiled loop (nogil, cached).

One call rates a batch of one partition, in order. The plain reading (forwards, plausible, inside one segment and
one stage) is handled in the loop itself; everything else goes through `_one`, which judges it by the rules
(rating.register_rules), splits it where a span ends, spreads it over segments (rating.spread) and writes a close
row whenever a local day ends. Nothing is allocated; the caller owns every array.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from rating.compiled import Homes, Lines, jit
from rating.history import hand_on
from rating.register_rules import (
    ACCEPTED,
    CONFIRMED,
    ESTIMATE,
    P_MINOR,
    P_WINDOW,
    REPLACED,
    judge_same_time,
    judge_step,
    misses_step,
    note_use,
)
from rating.spread import ENERGY_MAX, charge_difference, walk
from rating.state import ChannelFlag
from rating.verdicts import Verdict, Warn

CLOSE_ROWS_MIN: Final = 16_384  # one reading can end at most 20 years of days
_BILL, _STALLED, _BILL_STALLED = ChannelFlag.BILL, ChannelFlag.STALLED, ChannelFlag.BILL | ChannelFlag.STALLED
_LATE, _FUTURE, _NEGATIVE = int(Verdict.LATE), int(Verdict.FUTURE), int(Verdict.NEGATIVE)
_RESOLUTION, _NOT_INSTALLED = int(Verdict.RESOLUTION), int(Verdict.NOT_INSTALLED)
_UNKNOWN_METER, _UNKNOWN_REGISTER = int(Verdict.UNKNOWN_METER), int(Verdict.UNKNOWN_REGISTER)
_NEAR_MAXIMUM, _WHILE_DISCONNECTED = Warn.NEAR_MAXIMUM, Warn.USE_WHILE_DISCONNECTED
_DISCONNECTED: Final = ChannelFlag.DISCONNECTED
_ONE, _NIL = np.uintp(1), np.uintp(0)  # unsigned places spare the check for negative indexes


@jit
def _replace(homes: Homes, slot: int, value: int, quality: int, lines: Lines) -> None:
    """A better reading at the same time: the difference is charged, and the register is no estimate any more."""
    row = homes.channel[slot]
    if row.segment >= 0 and row.flags & _BILL:
        charge_difference(homes, slot, (value - row.value) * np.int64(row.multiplier), lines)
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
    count = _use(homes, slot, at_s, diff, value, quality, lines, params[P_MINOR], warnings, closes, count)
    return (noted if said == ACCEPTED else said), count


@jit
def rate(
    channel: Any,
    cold: Any,
    ladder: Any,
    dirty_channel: Any,
    dirty_ladder: Any,
    slots: Any,
    value: Any,
    read_at_s: Any,
    quality: Any,
    not_after_s: Any,
    seg_start: Any,
    seg_day: Any,
    seg_cycle: Any,
    seg_price: Any,
    stage_start: Any,
    stage_end: Any,
    stage_cycle: Any,
    stage_bounds: Any,
    bounds: Any,
    params: Any,
    first: int,
    verdict: Any,
    warnings: Any,
    closes: Any,
) -> Any:
    """Rate readings first..n-1 in order; returns (readings done, close rows written).

    Shapes: channel[C], cold[C], ladder[L] as in rating.state; dirty_* uint8 per slot (cold shares the
    channel's); slots int32[n] (first span of the register; -1 unknown meter, -2 unknown register), value
    int64[n], read_at_s uint32[n], quality uint8[n], not_after_s uint32[n] (received_at + tolerance); the
    book's arrays (rating.book); params int64[PARAMS]; verdict uint8[n] and warnings int64[4] are written;
    closes is CLOSE[at least CLOSE_ROWS_MIN]. It stops early when the close rows could run out: drain them and
    call again with `first` = readings done.
    """
    homes = Homes(channel, cold, ladder, dirty_channel, dirty_ladder)
    lines = Lines(seg_start, seg_day, seg_cycle, seg_price, stage_start, stage_end, stage_cycle, stage_bounds, bounds)
    count = 0
    window = params[P_WINDOW]
    # What the book says of the segment and stage of the reading before: neighbours mostly share them.
    held_segment, held_stage = np.int64(-1), np.int64(-1)
    segment_end, stage_fits = np.int64(0), False
    first_price, first_bound = np.int64(0), np.int64(0)
    for j in range(first, slots.shape[0]):
        i = np.uintp(j)
        if slots[i] < 0:
            verdict[i] = _UNKNOWN_METER if slots[i] == -1 else _UNKNOWN_REGISTER
            continue
        slot = np.uintp(slots[i])
        at_s = np.int64(read_at_s[i])
        new = value[i]
        row = channel[slot]
        # The plain reading of a charged register: forwards, plausible, one segment, one stage. Everything that
        # is not plain falls through to the judge below; both ways must give the same result.
        last_s = np.int64(row.at_s)
        dt = at_s - last_s
        diff = new - row.value
        segment = np.uintp(row.segment)
        place = np.uintp(row.ladder)
        scaled = diff * row.multiplier
        power = np.int64(row.power_max_w)
        if (
            diff >= 0
            and diff <= ENERGY_MAX
            and dt > 0
            and dt <= window
            and at_s <= not_after_s[i]
            and at_s < row.until_s
            and row.flags | _STALLED == _BILL_STALLED
            and (diff > 0 or dt < 86_400)  # a frozen register is noticed where a day ends, in `_one`
            and row.ladder >= 0
            and row.segment >= 0
            and quality[i] != ESTIMATE
            and row.estimate_excess == 0
            and scaled * 7200 <= power * dt
            and not misses_step(new, row.resolution)
        ):
            step = ladder[place]
            if row.segment != held_segment or step.stage != held_stage:
                held_segment, held_stage = np.int64(row.segment), np.int64(step.stage)
                start_s = seg_start[segment]
                segment_end = seg_start[segment + _ONE]
                stage_fits = start_s >= stage_start[held_stage] and start_s < stage_end[held_stage]
                first_price = seg_price[segment, _NIL]
                first_bound = bounds[stage_bounds[held_stage], _NIL]
            if stage_fits and at_s < segment_end:
                used = step.used
                after_use = used + scaled
                if after_use > first_bound:
                    bound_row = np.uintp(stage_bounds[held_stage])
                    adder = 0
                    tier = np.uintp(0)
                    while after_use > bounds[bound_row, tier]:
                        bound = bounds[bound_row, tier]
                        tier += _ONE
                        above = after_use - max(used, bound)
                        adder += above * (seg_price[segment, tier] - seg_price[segment, tier - _ONE])
                    row.accrued_adder_e11 += adder
                if diff > 0:
                    row.flags = _BILL
                elif row.flags == _BILL:
                    row.flags = _BILL_STALLED
                    cold[slot].stalled_since_s = last_s
                row.accrued_energy_e11 += scaled * first_price
                row.day_energy += scaled
                step.used = after_use
                row.value = new
                row.at_s = at_s
                row.quality = quality[i]
                dirty_ladder[place] = 1
                dirty_channel[slot] = 1
                verdict[i] = ACCEPTED
                continue
        span, told, limit_s = np.int64(slots[i]), np.int64(quality[i]), np.int64(not_after_s[i])
        said, count = _one(homes, span, new, at_s, told, limit_s, lines, params, warnings, closes, count)
        if said < 0:
            return j, count
        verdict[i] = said
    return slots.shape[0], count
