"""Pure: minimum charge: what the base falls short of an amount per day or month."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rating.closes import standing
from rating.closes.stretch import Share
from rating.tariff.charges import Charge

Int64s = npt.NDArray[np.int64]


def close(charge: Charge, place: int, share: Share, base: Int64s) -> tuple[Int64s, Int64s]:
    """(days, 1e-11)."""
    del place
    days = share.served
    return days, np.asarray(np.maximum(standing.of_days(charge, days, share.month_days) - base, 0), np.int64)
