"""Pure: what is paid for energy that was fed in and not netted: a price off, whatever its period."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rating.closes.stretch import Share
from rating.tariff.charges import Charge

Int64s = npt.NDArray[np.int64]


def close(charge: Charge, place: int, share: Share, base: Int64s) -> tuple[Int64s, Int64s]:
    """(thousandths of the unit, 1e-11, which is below zero)."""
    del place, base
    assert charge.price_e8 is not None
    wh = np.asarray(share.fed_in.sum(axis=1), np.int64)
    return wh, -wh * charge.price_e8
