"""Pure: standing charge: an amount per day, month or season of service; a part of one is rounded to a step."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from config.units import ENERGY_SCALE, round_ratio
from rating.closes.rounding import share_of
from rating.closes.stretch import Share
from rating.tariff.charges import Charge

Int64s = npt.NDArray[np.int64]
_SHARES_MAX: Final = 10**7  # what `share_of` takes
_FITS: Final = 9 * 10**18


def close(charge: Charge, place: int, share: Share, base: Int64s) -> tuple[Int64s, Int64s]:
    """(days, or days times the attribute; 1e-11)."""
    del base
    days = share.times[charge.times] if charge.times is not None else share.days
    lengths = np.array([stretch.allowance[place] for stretch in share.stretches], np.int64)
    if charge.limited:
        days = np.where(lengths >= 0, days, 0)
    counted = np.asarray(days.sum(axis=1), np.int64)
    if charge.per != "season":
        return counted, of_days(charge, counted, share.month_days)
    amount = np.zeros(len(counted), np.int64)
    for length in np.unique(lengths[lengths > 0]).tolist():
        amount += of_days(charge, np.asarray(days[:, lengths == length].sum(axis=1), np.int64), length)
    return counted, amount


def of_days(charge: Charge, days: Int64s, of: int) -> Int64s:
    """The charge's amount for some days of so many that share it."""
    assert charge.amount_e8 is not None
    e11 = charge.amount_e8 * ENERGY_SCALE
    most = _FITS * (1 if charge.per == "day" else of) // max(e11, 1)
    days = np.minimum(days, min(most, _FITS))  # it stops at what 64 bits hold, and does not wrap
    if charge.per == "day":
        return np.asarray(days * e11, np.int64)
    assert charge.step_e8 is not None
    assert charge.mode is not None
    step = charge.step_e8 * ENERGY_SCALE
    if len(days) and max(int(days.max()), of) > _SHARES_MAX:
        return np.array([round_ratio(e11 * n, of * step, charge.mode) * step for n in days.tolist()], np.int64)
    return share_of(np.full(len(days), e11, np.int64), days, of, step, charge.mode)
