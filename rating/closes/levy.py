"""Pure: levy: a price on all energy, whatever its period and tier."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rating.closes.stretch import Share
from rating.tariff.charges import Charge

Int64s = npt.NDArray[np.int64]


def close(charge: Charge, place: int, share: Share, base: Int64s) -> tuple[Int64s, Int64s]:
    """(thousandths of the unit, 1e-11)."""
    del place, base
    assert charge.price_e8 is not None
    wh = np.asarray(share.wh.sum(axis=1), np.int64)
    return wh, wh * charge.price_e8
