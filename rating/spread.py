"""Pure: energy over time into money, compiled: cumulative floors, the ladder, and the close of a day.

Bounds that keep int64 safe: |energy of one reading| <= ENERGY_MAX (4e9) and |price| < CHEAP (2e9), so a product stays
below 8e18; a register under a tariff with dearer prices (rating.tariff holds |price| < 2e10) has the flag DEAR and a
tenth of that energy. What a day accrues beyond FOLD_AT is folded into a close row at once.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from rating.compiled import Homes, Lines, jit
from rating.history import note_day
from rating.state import FED_IN, ChannelFlag

ENERGY_MAX: Final = 4_000_000_000
DEAR_ENERGY_MAX: Final = ENERGY_MAX // 10
CHEAP_E8: Final = 2_000_000_000
FOLD_AT: Final = 500_000_000_000_000_000
_INT64_MAX: Final = 2**63 - 1
_SHARED: Final = ChannelFlag.SHARED
_PART: Final = ChannelFlag.PART
_TALLY: Final = ChannelFlag.TALLY
_FED_IN: Final = FED_IN
_INT64_MIN: Final = -(2**63)

CLOSE: Final = np.dtype(  # what a channel posts when a local day ends under it
    [
        ("channel", np.int32),
        ("day", np.int32),
        ("cycle", np.int32),
        ("last", np.int32),  # 1: the bill cycle ends here and the remainders leave the channel
        ("quantity", np.int64),
        ("energy_minor", np.int64),
        ("adder_minor", np.int64),
        ("energy_rest", np.int64),
        ("adder_rest", np.int64),
    ]
)


@jit
def adder_of(used: int, piece: int, bounds: Any, price: Any) -> int:
    """What the tiers above the first add for `piece` after `used`; also for a piece that is taken back."""
    total = 0
    for tier in range(bounds.shape[0] - 1):
        bound = bounds[tier]
        if bound == _INT64_MAX:
            break
        above = max(0, used + piece - bound) - max(0, used - bound)
        total += above * (price[tier + 1] - price[tier])
    return total


@jit
def tally(cell: Any, dirty: Any, first: int, used: int, piece: int, bounds: Any, price: Any) -> None:
    """Count a piece of energy after `used` by tier; one that is taken back counts negative. The sum is `piece`."""
    below = _INT64_MIN
    for tier in range(bounds.shape[0]):
        bound = bounds[tier]
        part = min(max(used + piece, below), bound) - min(max(used, below), bound)
        if part != 0:
            cell[first + tier].wh += part
            cell[first + tier].energy_e11 += part * price[tier]
            dirty[first + tier] = 1
        if bound == _INT64_MAX:
            break
        below = bound


@jit
def _first_cell(cycle: int, segment: int, lines: Lines, cells: Any) -> int:
    """The cell of the first segment of a bill cycle that comes after `segment`, or of the last one of the horizon."""
    while lines.seg_cycle[segment] < cycle and lines.seg_start[segment + 1] != _INT64_MAX:
        segment += 1
    return int(cells[segment])


@jit
def cell_of(homes: Homes, place: int, segment: int, now: int, lines: Lines, cells: Any) -> int:
    """The cell (of `cells`, by segment) for energy of `segment` of a channel that stands in segment `now`.

    It is booked where the channel stands: energy of a bill cycle before counts as that of `now`, and energy of one
    that is closed already as the first of the open one.
    """
    sheet = homes.sheet[homes.sheet_of[place]]
    cycle = np.int64(lines.seg_cycle[now])
    cell = np.int64(cells[segment if lines.seg_cycle[segment] == cycle else now])
    if cycle < sheet.cycle:
        cycle, cell = np.int64(sheet.cycle), np.int64(_first_cell(sheet.cycle, now, lines, cells))
    return int(sheet.first + (cycle % sheet.cycles) * sheet.width + cell)


@jit
def ladder_place(row: Any, start_s: int, lines: Lines) -> int:
    """The stage that holds `start_s`; moves the ladder on when that is ahead (a new cycle starts from 0)."""
    stage = row.stage
    while start_s >= lines.stage_end[stage]:
        if lines.stage_cycle[stage + 1] != lines.stage_cycle[stage]:
            row.used_before = row.used
            row.used = 0
        stage += 1
        row.stage = stage
    while start_s < lines.stage_start[stage]:
        stage -= 1
    return int(stage)


@jit
def share(homes: Homes, place: int, cycle: int, piece: int, lines: Lines) -> None:
    """A piece of energy of the tier cycle `cycle`, counted on ladder `place`, moves its ring."""
    other = homes.ladder[place].ring - 1
    while other != place:
        row = homes.ladder[other]
        while row.stage >= 0 and lines.stage_cycle[row.stage] < cycle:
            if lines.stage_cycle[row.stage + 1] != lines.stage_cycle[row.stage]:
                row.used_before = row.used
                row.used = 0
            row.stage += 1
        if row.stage >= 0:
            if lines.stage_cycle[row.stage] == cycle:
                row.used += piece
            else:
                row.used_before += piece
            homes.dirty_ladder[other] = 1
        other = row.ring - 1


@jit
def count_fed_in(homes: Homes, place: int, segment: int, now: int, piece: int, lines: Lines) -> None:
    """A piece of energy that is fed in has no price as it comes; it is counted where it would be tallied."""
    cell = cell_of(homes, place, segment, now, lines, lines.seg_fed_in)
    homes.cell[cell].wh += piece
    homes.dirty_cell[cell] = 1


@jit
def charge(homes: Homes, slot: int, segment: int, piece: int, lines: Lines) -> None:
    """Price one piece of energy of one segment: the first tier into `energy`, the rest into `tier_adder`."""
    row = homes.channel[slot]
    if row.counts & _FED_IN:
        if row.flags & _TALLY:
            count_fed_in(homes, row.ladder, segment, row.segment, piece, lines)
        return
    price = lines.seg_price[segment]
    row.accrued_energy_e11 += piece * price[0]
    row.day_energy += piece
    place = row.ladder
    if place < 0:
        return
    step = homes.ladder[place]
    stage = step.stage
    start_s = lines.seg_start[segment]
    if start_s >= lines.stage_end[stage] or start_s < lines.stage_start[stage]:
        stage = ladder_place(step, start_s, lines)
    tiers = lines.bounds[lines.stage_bounds[stage]]
    current = lines.stage_cycle[stage] == lines.stage_cycle[step.stage]
    used = step.used if current else step.used_before
    if used > tiers[0] or used + piece > tiers[0]:
        row.accrued_adder_e11 += adder_of(used, piece, tiers, price)
    if row.flags & _TALLY:
        cell = cell_of(homes, place, segment, row.segment, lines, lines.seg_cell)
        tally(homes.cell, homes.dirty_cell, cell, used, piece, tiers, price)
    if current:
        step.used = used + piece
    else:
        step.used_before = used + piece
    homes.dirty_ladder[place] = 1
    if step.ring > 0 and start_s < step.ring_until_s:
        share(homes, place, lines.stage_cycle[stage], piece, lines)


@jit
def close_day(channel: Any, slot: int, day: int, cycle: int, last: int, minor: int, closes: Any, count: int) -> int:
    """Fold the open day into whole minor units; the rest stays, or leaves with the end of the bill cycle."""
    row = channel[slot]
    energy, adder = row.accrued_energy_e11, row.accrued_adder_e11
    if energy == 0 and adder == 0 and row.day_energy == 0:
        return count
    out = closes[count]
    out.channel = slot
    out.day = day
    out.cycle = cycle
    out.last = last
    out.quantity = row.day_energy
    out.energy_minor = energy // minor
    out.adder_minor = adder // minor
    energy -= out.energy_minor * minor
    adder -= out.adder_minor * minor
    row.day_energy = 0
    row.flags |= _PART
    out.energy_rest = energy if last == 1 else 0
    out.adder_rest = adder if last == 1 else 0
    row.accrued_energy_e11 = 0 if last == 1 else energy
    row.accrued_adder_e11 = 0 if last == 1 else adder
    return count + 1


@jit
def walk(
    homes: Homes,
    slot: int,
    from_s: int,
    to_s: int,
    energy: int,
    lines: Lines,
    minor: int,
    warnings: Any,
    closes: Any,
    count: int,
) -> int:
    """Spread `energy` over (from_s, to_s] by cumulative floors, price the pieces, close the days that end.

    floor(E*k/T) is computed as whole*k + rest*k // T with E = whole*T + rest, which cannot overflow.
    """
    row = homes.channel[slot]
    segment = row.segment
    whole = energy // (to_s - from_s)
    rest = energy - whole * (to_s - from_s)
    done = 0
    while True:
        end = lines.seg_start[segment + 1]
        if end >= to_s:
            piece = energy - done
        else:
            part_s = end - from_s
            upto = whole * part_s + rest * part_s // (to_s - from_s)
            piece = upto - done
            done = upto
        if piece != 0:
            charge(homes, slot, segment, piece, lines)
        if end > to_s:
            break
        segment += 1
        row.segment = segment
        if lines.seg_day[segment] != lines.seg_day[segment - 1]:
            last = 1 if lines.seg_cycle[segment] != lines.seg_cycle[segment - 1] else 0
            day, cycle = lines.seg_day[segment - 1], lines.seg_cycle[segment - 1]
            note_day(homes, slot, warnings)
            count = close_day(homes.channel, slot, day, cycle, last, minor, closes, count)
            row.flags &= ~_PART
            if row.flags & _SHARED and lines.seg_start[segment] >= homes.ladder[row.ladder].ring_until_s:
                row.flags &= ~_SHARED
        if end == to_s:
            break
    if abs(row.accrued_energy_e11) > FOLD_AT or abs(row.accrued_adder_e11) > FOLD_AT:
        day, cycle = lines.seg_day[segment], lines.seg_cycle[segment]
        count = close_day(homes.channel, slot, day, cycle, 0, minor, closes, count)
    return count


@jit
def charge_difference(homes: Homes, slot: int, energy: int, lines: Lines) -> None:
    """A replaced reading's difference, in the segment that ends at the register's time, or else holds it."""
    row = homes.channel[slot]
    segment = row.segment
    if lines.seg_start[segment] == row.at_s and segment > 0 and lines.seg_start[segment - 1] < row.at_s:
        segment -= 1
    charge(homes, slot, segment, energy, lines)
