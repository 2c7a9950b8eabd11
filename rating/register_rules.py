"""Pure: what one reading is against its register (rule 3 of docs/ARCHITECTURE.md), compiled; off the common path."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from rating.compiled import Homes, inlined, jit
from rating.spread import DEAR_ENERGY_MAX, ENERGY_MAX
from rating.state import ChannelFlag
from rating.verdicts import Verdict, Warn

# Settings of a call, by place in an int64 array.
P_MINOR: Final = 0  # accrual units in one minor unit of money: 1e9 for fen
P_WINDOW: Final = 1  # plausible_window_s
P_FROZEN: Final = 2  # frozen_after_s
P_ESTIMATES: Final = 3  # prolonged_estimates
PARAMS: Final = 4

ACCEPTED, ROLLOVER, CONFIRMED = int(Verdict.ACCEPTED), int(Verdict.ROLLOVER), int(Verdict.CONFIRMED)
REPLACED, FROZEN, DUPLICATE = int(Verdict.REPLACED), int(Verdict.FROZEN), int(Verdict.DUPLICATE)
_CONFLICT, _NEGATIVE, _RESET = int(Verdict.CONFLICT), int(Verdict.NEGATIVE), int(Verdict.RESET)
_IMPLAUSIBLE, _JUMP, _OVERFLOW = int(Verdict.IMPLAUSIBLE), int(Verdict.UNCONFIRMED_JUMP), int(Verdict.OVERFLOW)
_STALLED, _SAID_FROZEN, _DEAR = ChannelFlag.STALLED, ChannelFlag.FROZEN, ChannelFlag.DEAR
_ZERO, _PROLONGED, _BACK = Warn.ZERO, Warn.PROLONGED_ESTIMATION, Warn.ESTIMATE_TAKEN_BACK
ESTIMATE: Final = 1  # Quality.E
_EXCESS_MAX: Final = 2**31 - 1


@inlined
def misses_step(value: int, resolution: int) -> bool:
    """Is `value` no multiple of the register's step? By constants: a division by a variable costs 20 cycles."""
    if resolution == 1:
        return False
    if resolution == 10:
        return value % 10 != 0
    if resolution == 100:
        return value % 100 != 0
    if resolution == 1000:
        return value % 1000 != 0
    return value % resolution != 0


@inlined
def most_of(row: Any) -> int:
    """The most energy that one reading may bring."""
    return DEAR_ENERGY_MAX if row.flags & _DEAR else ENERGY_MAX


@jit
def judge_step(homes: Homes, slot: int, value: int, at_s: int, quality: int, mult: int, params: Any) -> Any:
    """A later reading that is no plain forward step: (verdict, register difference). May note a pending jump.

    `mult`: the largest multiplier of the spans that it covers. A pending jump stands until a later reading is
    accepted, whichever way that one came.
    """
    row = homes.channel[slot]
    dt = at_s - row.at_s
    power = np.int64(row.power_max_w)
    window = min(dt, params[P_WINDOW])
    most = most_of(row)
    if value < row.value - row.estimate_excess:
        if row.digits > 0:
            wrapped = value + 10 ** np.int64(row.digits) * 1000 - row.value
            fits = 0 <= wrapped <= most and wrapped * mult <= most
            if fits and power > 0 and wrapped * mult * 3600 <= power * window:
                return ROLLOVER, wrapped
        if row.value > 1_000_000 and value < row.value // 1000:
            return _RESET, 0
        return _NEGATIVE, 0
    diff = value - row.value
    if diff > most or diff < -most or abs(diff * mult) > most:
        return _OVERFLOW, 0
    need = diff * mult * 3600
    if power == 0 or need <= power * window:
        return ACCEPTED, diff
    if need > power * dt:
        return _IMPLAUSIBLE, 0
    wait = homes.cold[slot]
    if quality != ESTIMATE and row.at_s < wait.pending_at_s < at_s and value >= wait.pending_value:
        since = (value - wait.pending_value) * mult * 3600
        if since <= power * min(at_s - wait.pending_at_s, params[P_WINDOW]):
            return CONFIRMED, diff
    wait.pending_value = value
    wait.pending_at_s = at_s
    homes.dirty_channel[slot] = 1
    return _JUMP, 0


@jit
def judge_same_time(homes: Homes, slot: int, value: int, quality: int, params: Any) -> int:
    """A reading at the very time of the last accepted one; the same value of a better quality confirms it."""
    row = homes.channel[slot]
    if value == row.value:
        return REPLACED if quality > row.quality else DUPLICATE
    if quality <= row.quality:
        return _CONFLICT
    if value < row.value - row.estimate_excess:
        return _NEGATIVE
    diff = abs(value - row.value) * np.int64(row.multiplier)
    if diff > most_of(row):
        return _OVERFLOW
    limit = np.int64(row.power_max_w) * params[P_WINDOW]
    if limit > 0 and diff * 3600 > limit:
        return _IMPLAUSIBLE
    return REPLACED


@jit
def note_use(homes: Homes, slot: int, diff: int, quality: int, dt: int, params: Any, warnings: Any) -> int:
    """Estimates, stalls and warnings of an accepted reading, before its register moves: accepted or frozen."""
    row = homes.channel[slot]
    cold = homes.cold[slot]
    verdict = ACCEPTED
    if quality == ESTIMATE:
        row.estimate_excess = min(_EXCESS_MAX, max(-_EXCESS_MAX, row.estimate_excess + diff))
        cold.estimates = min(60_000, cold.estimates + 1)
        if cold.estimates == params[P_ESTIMATES]:
            warnings[_PROLONGED] += 1
    else:
        row.estimate_excess = 0
        cold.estimates = 0
    if diff < 0:
        warnings[_BACK] += 1
    if diff != 0:
        row.flags &= ~(_STALLED | _SAID_FROZEN)
        return verdict
    if dt >= 86_400:
        warnings[_ZERO] += 1
    if not row.flags & _STALLED:
        row.flags |= _STALLED
        cold.stalled_since_s = row.at_s
    since = row.at_s + dt - cold.stalled_since_s
    if since >= params[P_FROZEN] and not row.flags & _SAID_FROZEN:
        row.flags |= _SAID_FROZEN
        verdict = FROZEN
    return verdict
