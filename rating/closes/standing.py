"""Pure: standing charge: an amount per day of service, or per month, whose part is rounded to the tariff's step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from config.units import ENERGY_SCALE
from rating.closes.rounding import share_of
from rating.closes.stretch import Share
from rating.tariff.charges import Charge

Int64s = npt.NDArray[np.int64]


def close(charge: Charge, place: int, share: Share, base: Int64s) -> tuple[Int64s, Int64s]:
    """(days, 1e-11)."""
    del place, base
    days = share.served
    return days, of_days(charge, days, share.month_days)


def of_days(charge: Charge, days: Int64s, month_days: int) -> Int64s:
    """The charge's amount for some days of a month."""
    assert charge.amount_e8 is not None
    amount = np.full(len(days), charge.amount_e8 * ENERGY_SCALE, np.int64)
    if charge.per == "day":
        return amount * days
    assert charge.step_e8 is not None
    assert charge.mode is not None
    return share_of(amount, days, month_days, charge.step_e8 * ENERGY_SCALE, charge.mode)
