"""Pure: where a register will stand at the end of a bill cycle that closes without it (rule 7 of
docs/ARCHITECTURE.md), compiled.

    tier cycle  |======|================x . . . . . . .|
           brought in  |          last register        end of the bill cycle
                       opening
                       `--- counted ----'`-- the same per second, cumulative floor, down to the register's step

What the import says of the time before the opening fills tiers and is no use to go by: nobody knows over how long it
was used. What was counted here is divided by the time over which it was: of each register on the ladder its own.

The guess is rated as a reading of quality E by the kernel that rates all others, so the rule for estimates takes it
back when an actual register comes, and no charge of a payer rests on it. No guess without use to go by, none upon
an estimate, none that would be implausible as a reading.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from rating.compiled import Lines, jit
from rating.partition import Partition, Rows
from rating.register_rules import ESTIMATE
from rating.spread import ENERGY_MAX
from rating.state import FED_IN, ChannelFlag

GUESS: Final = np.dtype([("value", np.int64), ("channel", np.int32), ("at_s", np.uint32)])
LEAST_S: Final = 86_400  # must have been counted
_BILL: Final = ChannelFlag.BILL
_FED_IN: Final = FED_IN  # what is fed in is not guessed, and no guess goes by it


class Opened(NamedTuple):
    """What the image says of openings, by slot: when each channel opens; what each ladder brings in, and when."""

    channel_s: Any
    ladder_s: Any
    ladder_wh: Any


@jit
def _not_first(stage: int, lines: Lines) -> bool:
    """Is there a stage before this one in its run?"""
    return bool(stage > 0 and lines.stage_start[stage - 1] < lines.stage_start[stage])


@jit
def _so_far(step: Any, start_s: int, lines: Lines) -> Any:
    """(tier cycle that holds `start_s`, energy in it as far as the ladder keeps it); the ladder does not move."""
    stage = np.int64(step.stage)
    while start_s >= lines.stage_end[stage]:
        stage += 1
    while start_s < lines.stage_start[stage]:
        stage -= 1
    cycle, before = lines.stage_cycle[stage], np.int64(step.stage)
    used = np.int64(0)
    if cycle == lines.stage_cycle[step.stage]:
        used = step.used
    elif cycle < lines.stage_cycle[step.stage]:
        while lines.stage_cycle[before] == lines.stage_cycle[step.stage]:
            before -= 1
        if lines.stage_cycle[before] == cycle:
            used = step.used_before
    return cycle, used


@jit
def _cycle_s(step: Any, cycle: int, lines: Lines) -> Any:
    """(start, end) of a tier cycle as this ladder's tariff has it; (0, 0): it begins later."""
    first = np.int64(step.stage)
    while lines.stage_cycle[first] < cycle:
        first += 1
    while lines.stage_cycle[first] > cycle and _not_first(first, lines):
        first -= 1
    if lines.stage_cycle[first] != cycle:
        return np.int64(0), np.int64(0)
    last = first
    while lines.stage_cycle[last + 1] == cycle:
        last += 1
    while _not_first(first, lines) and lines.stage_cycle[first - 1] == cycle:
        first -= 1
    return lines.stage_start[first], lines.stage_end[last]


@jit
def _counted(slot: int, slots: Any, channel: Any, ladder: Any, opened: Opened, lines: Lines) -> Any:
    """What was counted in the tier cycle where the register `slot` stands, on the ladders that are one with its own.

    (energy, seconds over all registers, since when). What an account brought in is not of it.
    """
    row = channel[slot]
    start_s, place = lines.seg_start[row.segment], np.int64(row.ladder)
    cycle, energy = _so_far(ladder[place], start_s, lines)
    shared = ladder[place].ring > 0 and start_s < ladder[place].ring_until_s
    known_s, since_s = np.int64(0), np.int64(row.at_s)
    while True:
        low_s, high_s = np.int64(0), np.int64(0)
        if ladder[place].stage >= 0:
            low_s, high_s = _cycle_s(ladder[place], cycle, lines)
        if low_s <= opened.ladder_s[place] < high_s:
            energy -= opened.ladder_wh[place]
        for other in slots:
            one = channel[other]
            if one.ladder != place or not one.flags & _BILL or one.segment < 0 or one.counts & _FED_IN:
                continue
            from_s = max(low_s, np.int64(opened.channel_s[other]))
            to_s = min(high_s, np.int64(one.at_s), np.int64(one.until_s))
            if to_s > from_s:
                known_s += to_s - from_s
                since_s = min(since_s, from_s)
        place = np.int64(ladder[place].ring) - 1
        if not shared or place == row.ladder:
            return energy, known_s, since_s


@jit
def _target_s(channel: Any, cold: Any, slot: int, end_s: int) -> int:
    """The end of the cycle, or where the register leaves the account before it."""
    place, account = np.int64(slot), cold[slot].account
    while channel[place].until_s < end_s:
        after = np.int64(cold[place].next)
        if after < 0 or channel[after].value >= 0 or cold[after].account != account:
            break
        place = after
    return int(min(np.int64(end_s), np.int64(channel[place].until_s)))


@jit
def _guess(
    accounts: Any,
    ends: Any,
    account_start: Any,
    account_channels: Any,
    channel: Any,
    cold: Any,
    ladder: Any,
    opened: Opened,
    lines: Lines,
    window_s: int,
    out: Any,
) -> int:
    count = 0
    for i in range(accounts.shape[0]):
        a, end_s = accounts[i], ends[i]
        mine = account_channels[account_start[a] : account_start[a + 1]]
        for slot in mine:
            row = channel[slot]
            if not row.flags & _BILL or row.segment < 0 or row.ladder < 0 or row.value < 0 or row.counts & _FED_IN:
                continue
            if row.at_s >= end_s or row.at_s >= row.until_s or row.quality == ESTIMATE:
                continue
            if lines.seg_start[row.segment] > row.at_s:  # behind the horizon
                continue
            used, known_s, since_s = _counted(slot, mine, channel, ladder, opened, lines)
            at_s = np.int64(row.at_s)
            to_s = _target_s(channel, cold, slot, end_s)
            if used <= 0 or min(known_s, at_s - since_s) < LEAST_S or to_s <= at_s:
                continue
            whole = used // known_s
            energy = whole * (to_s - at_s) + (used - whole * known_s) * (to_s - at_s) // known_s
            if energy > ENERGY_MAX or (
                row.power_max_w > 0 and energy * 3600 > row.power_max_w * min(to_s - at_s, window_s)
            ):
                continue
            value = row.value + energy // np.int64(row.multiplier)
            value -= value % row.resolution
            if value > row.value:
                out[count].value, out[count].channel, out[count].at_s = value, slot, to_s
                count += 1
    return count


def guesses(part: Partition, slots: Rows, window_s: int) -> tuple[Rows, Rows, Rows, Rows, Rows]:
    """Readings for registers of the accounts `slots` that have not reached the ends of their open cycles.

    Columns: channel slot, value, time, quality, and until when it may be dated.
    """
    assert part.image is not None
    assert part.book is not None
    image, book = part.image, part.book
    most = int((image.account_start[slots + 1] - image.account_start[slots]).sum())
    out = np.zeros(most, GUESS)
    opened = Opened(image.channels["opening_at_s"], image.ladders["opening_at_s"], image.ladders["opening_used"])
    homes = (part.channel, part.cold, part.ladder)
    lists = (image.account_start, image.account_channels)
    count = _guess(slots, part.bill_end_s()[slots], *lists, *homes, opened, book.lines, window_s, out)
    slot, value, at_s = (np.ascontiguousarray(out[name][:count]) for name in ("channel", "value", "at_s"))
    return slot, value, at_s, np.full(count, ESTIMATE, np.uint8), np.full(count, 2**32 - 1, np.uint32)
