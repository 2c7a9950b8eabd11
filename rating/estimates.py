"""Pure: where a register will stand at the end of a bill cycle that closes without it (rule 7 of
docs/ARCHITECTURE.md), compiled.

    tier cycle  |=========================x . . . . . . .|
              since                    last register    end of the bill cycle
                `--- use so far -------'`-- the same per second, cumulative floor, down to the register's step

The guess is rated as a reading of quality E by the kernel that rates all others, so the rule for estimates takes it
back when an actual register comes, and no charge of a payer rests on it. No guess without use to go by, none upon
an estimate, none that would be implausible as a reading.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from rating.compiled import Lines, jit
from rating.partition import Partition, Rows
from rating.register_rules import ESTIMATE
from rating.spread import ENERGY_MAX
from rating.state import ChannelFlag

GUESS: Final = np.dtype([("value", np.int64), ("channel", np.int32), ("at_s", np.uint32)])
LEAST_S: Final = 86_400  # of the cycle must have been counted
_BILL: Final = ChannelFlag.BILL


@jit
def _so_far(step: Any, start_s: int, lines: Lines) -> Any:
    """(energy, start) of the tier cycle that holds `start_s`; the ladder does not move."""
    stage = np.int64(step.stage)
    while start_s >= lines.stage_end[stage]:
        stage += 1
    while start_s < lines.stage_start[stage]:
        stage -= 1
    cycle, open_cycle = lines.stage_cycle[stage], lines.stage_cycle[step.stage]
    first = stage
    while (
        first > 0
        and lines.stage_cycle[first - 1] == cycle
        and lines.stage_start[first - 1] < lines.stage_start[first]
    ):
        first -= 1
    used = np.int64(0)
    if cycle == open_cycle:
        used = step.used
    elif cycle < open_cycle:
        used = step.used_before
    return used, lines.stage_start[first]


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
def _shares(channel: Any, slots: Any, ladder: int) -> int:
    """How many charged registers count on the ladder now."""
    count = 0
    for slot in slots:
        row = channel[slot]
        if row.flags & _BILL and row.ladder == ladder and row.value >= 0 and row.at_s < row.until_s:
            count += 1
    return count


@jit
def _guess(
    accounts: Any,
    ends: Any,
    from_s: Any,
    account_start: Any,
    account_channels: Any,
    channel: Any,
    cold: Any,
    ladder: Any,
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
            if not row.flags & _BILL or row.segment < 0 or row.ladder < 0 or row.value < 0:
                continue
            if row.at_s >= end_s or row.at_s >= row.until_s or row.quality == ESTIMATE:
                continue
            if lines.seg_start[row.segment] > row.at_s:  # behind the horizon
                continue
            used, since_s = _so_far(ladder[row.ladder], lines.seg_start[row.segment], lines)
            at_s = np.int64(row.at_s)
            counted_s = at_s - max(since_s, np.int64(from_s[a]))
            to_s = _target_s(channel, cold, slot, end_s)
            if used <= 0 or counted_s < LEAST_S or to_s <= at_s:
                continue
            basis = counted_s * _shares(channel, mine, row.ladder)
            whole = used // basis
            energy = whole * (to_s - at_s) + (used - whole * basis) * (to_s - at_s) // basis
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
    from_s = np.ascontiguousarray(image.accounts["from_s"])
    homes = (part.channel, part.cold, part.ladder)
    lists = (image.account_start, image.account_channels)
    count = _guess(slots, part.bill_end_s()[slots], from_s, *lists, *homes, book.lines, window_s, out)
    slot, value, at_s = (np.ascontiguousarray(out[name][:count]) for name in ("channel", "value", "at_s"))
    return slot, value, at_s, np.full(count, ESTIMATE, np.uint8), np.full(count, 2**32 - 1, np.uint32)
