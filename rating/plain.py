"""Pure: the plain reading, compiled: forwards, plausible, of a charged register, inside one segment and one stage.

Nearly all readings are plain, so this loop is what a city costs. It knows no rule of its own: whatever is not plain
ends the run and goes to the judge (rating.kernel), and both ways must give the same result. For a lone reading it
calls nothing, so that the few arrays it touches stay in registers, and it looks up its segment and stage afresh for
each: that costs less than a branch which neighbours under different tariffs would make the processor guess.

Readings of one register that come in a row, a load curve, have a loop of their own: they move it in locals and are
written back together, as each would else wait for the store of the one before it, twice as long as the rest takes.
One loop for both costs a city's sweep a fifth (`make bench ONLY=kernel.neighbours`), so the rules stand here twice;
tests hold both, and the judge, to the same bits.

Registers that are no neighbours in memory are fetched ahead of their turn: in random order that doubles the speed.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from rating.compiled import Batch, Homes, Lines, inlined, jit, prefetch
from rating.register_rules import ACCEPTED, ESTIMATE, misses_step
from rating.spread import ENERGY_MAX
from rating.state import ChannelFlag

_STALLED: Final = ChannelFlag.STALLED
_BILL: Final = ChannelFlag.BILL
_BILL_STALLED: Final = _BILL | _STALLED
_DAY_S: Final = 86_400
_ONE, _NIL = np.uintp(1), np.uintp(0)  # unsigned places spare the check for negative indexes
_FAR: Final = 32  # readings ahead: the register is asked for; at NEAR it is there and names its ladder
_NEAR: Final = 12
assert ACCEPTED == 0


@inlined
def _fetch_ahead(channel: Any, ladder: Any, slots: Any, i: Any, last: Any) -> None:
    """Ask for the register of a reading to come, and for the ladder of a nearer one."""
    far = slots[min(i + np.uintp(_FAR), last)]
    if far != slots[i] + _FAR and far >= 0:
        prefetch(channel, int(far))
        near = slots[min(i + np.uintp(_NEAR), last)]
        if near >= 0:
            prefetch(ladder, max(channel[np.uintp(near)].ladder, 0))


@inlined
def _adder(used: Any, use: Any, stage: Any, segment: Any, lines: Lines) -> Any:
    """What the tiers add from `used` to `use`, which is above the first bound; as spread.adder_of, upwards."""
    rule, adder, tier = np.uintp(lines.stage_bounds[stage]), 0, _NIL
    while use > lines.bounds[rule, tier]:
        above = use - max(used, lines.bounds[rule, tier])
        tier += _ONE
        adder += above * (lines.seg_price[segment, tier] - lines.seg_price[segment, tier - _ONE])
    return adder


@jit
def _curve(homes: Homes, batch: Batch, lines: Lines, window_s: int, first: int, end: int, limit_s: int) -> int:
    """Rate the readings of one register in a row from `first` on while they are plain, as `rate_plain` does.

    They move the register in locals and are written back together.
    """
    slots = batch.slots
    i, stop = np.uintp(first), np.uintp(end)
    number = slots[i]
    slot = np.uintp(number)
    row = homes.channel[slot]
    flags: Any = np.int64(row.flags)
    if (flags | _STALLED) != _BILL_STALLED or row.quality == ESTIMATE:
        return int(i)
    if (row.ladder | row.segment) < 0 or row.estimate_excess != 0:
        return int(i)
    segment, place = np.uintp(row.segment), np.uintp(row.ladder)
    step, here = homes.ladder[place], lines.seg_plain[segment]
    stage = lines.stage_plain[np.uintp(step.stage)]
    if here.start_s < stage.start_s or here.start_s >= stage.end_s:
        return int(i)
    ends_s, used = min(here.end_s, np.int64(row.until_s)), step.used
    before, before_s, quality = row.value, np.int64(row.at_s), row.quality
    while True:
        at_s, value, told = np.int64(batch.read_at_s[i]), batch.value[i], batch.quality[i]
        dt, diff = at_s - before_s, value - before
        if np.uint64(diff) > np.uint64(ENERGY_MAX) or np.uint64(dt - 1) >= np.uint64(window_s):
            break
        if at_s > limit_s or at_s >= ends_s or told == ESTIMATE:
            break
        energy = diff * np.int64(row.multiplier)
        if energy * 7200 > np.int64(row.power_max_w) * dt or misses_step(value, row.resolution):
            break
        if diff > 0:
            flags = _BILL
        elif dt >= _DAY_S:
            break
        elif flags == _BILL:
            flags = _BILL_STALLED
            homes.cold[slot].stalled_since_s = before_s
        use = used + energy
        if use > stage.first_bound:
            row.accrued_adder_e11 += _adder(used, use, np.uintp(step.stage), segment, lines)
        before, before_s, quality, used = value, at_s, told, use
        i += _ONE
        if i >= stop or slots[i] != number:
            break
    if i > np.uintp(first):
        energy = used - step.used
        row.accrued_energy_e11 += energy * here.first_price_e8
        row.day_energy += energy
        row.value, row.at_s, row.quality, row.flags = before, before_s, quality, flags
        step.used = used
        homes.dirty_channel[slot] = 1
        homes.dirty_ladder[place] = 1
    return int(i)


@jit
def rate_plain(homes: Homes, batch: Batch, lines: Lines, window_s: int, first: int, end: int, limit_s: int) -> int:
    """Rate readings first, first + 1 ... of one run while they are plain; returns the first that is not, or `end`.

    Each moves its register and ladder and accrues on its channel; `limit_s` is the run's. Their verdict is ACCEPTED,
    which is 0, and verdicts come as zeros: one store less in a loop that is bound by them.
    """
    channel, ladder, slots, seg, stages = homes.channel, homes.ladder, batch.slots, lines.seg_plain, lines.stage_plain
    i, stop, last = np.uintp(first), np.uintp(end), np.uintp(slots.shape[0] - 1)
    while i < stop:
        number = slots[i]
        if number < 0:
            break
        _fetch_ahead(channel, ladder, slots, i, last)
        if slots[min(i + _ONE, last)] == number and i + _ONE < stop:
            reached = np.uintp(_curve(homes, batch, lines, window_s, int(i), int(stop), limit_s))
            if reached < stop and slots[reached] == number:
                return int(reached)
            i = reached
            continue
        slot = np.uintp(number)
        row = channel[slot]
        at_s, value, told = np.int64(batch.read_at_s[i]), batch.value[i], batch.quality[i]
        before_s, flags = np.int64(row.at_s), row.flags
        dt, diff = at_s - before_s, value - row.value
        if np.uint64(diff) > np.uint64(ENERGY_MAX) or np.uint64(dt - 1) >= np.uint64(window_s):
            break  # as unsigned numbers: below 0 is beyond either, too
        if at_s > limit_s or at_s >= row.until_s or (flags | _STALLED) != _BILL_STALLED or row.quality == ESTIMATE:
            break
        if (row.ladder | row.segment) < 0 or row.estimate_excess != 0 or told == ESTIMATE:
            break
        energy = diff * np.int64(row.multiplier)
        if energy * 7200 > np.int64(row.power_max_w) * dt or misses_step(value, row.resolution):
            break  # above half of what is plausible there is a warning to count
        segment, place = np.uintp(row.segment), np.uintp(row.ladder)
        step, here = ladder[place], seg[segment]
        stage = stages[np.uintp(step.stage)]
        if at_s >= here.end_s or here.start_s < stage.start_s or here.start_s >= stage.end_s:
            break
        used = step.used
        use = used + energy
        if diff > 0:
            row.flags = _BILL
        elif dt >= _DAY_S:
            break  # a frozen register is noticed where a day ends, by the judge
        elif flags == _BILL:
            row.flags = _BILL_STALLED
            homes.cold[slot].stalled_since_s = before_s
        if use > stage.first_bound:
            row.accrued_adder_e11 += _adder(used, use, np.uintp(step.stage), segment, lines)
        row.accrued_energy_e11 += energy * here.first_price_e8
        row.day_energy += energy
        row.value = value
        row.at_s = at_s
        row.quality = told
        step.used = use
        homes.dirty_channel[slot] = 1
        homes.dirty_ladder[place] = 1
        i += _ONE
    return int(i)
