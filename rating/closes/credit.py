"""Pure: baseline credit: a price off the energy within an allowance per day, over all periods together.

Pooled: the allowances of the cycle's days are one, and so is their energy. Each: a season's energy has its own days'
allowance; what it leaves helps no other (domain 9 has the two side by side).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rating.closes.stretch import Share
from rating.tariff.charges import Charge

Int64s = npt.NDArray[np.int64]


def close(charge: Charge, place: int, share: Share, base: Int64s) -> tuple[Int64s, Int64s]:
    """(thousandths of the unit, 1e-11, which is below zero)."""
    del base
    assert charge.price_e8 is not None
    season = np.array([stretch.allowance[place] for stretch in share.stretches], np.int64)
    daily = np.array([allowance.upto_wh for allowance in charge.allowance], np.int64)[season]
    allowed, used = share.days * daily, share.wh  # below zero: an estimate was taken back
    if charge.parts == "pooled":
        wh = np.minimum(allowed.sum(axis=1), np.maximum(used.sum(axis=1), 0))
    else:
        wh = np.zeros(len(used), np.int64)
        for one in range(len(charge.allowance)):
            mine = season == one
            wh += np.minimum(allowed[:, mine].sum(axis=1), np.maximum(used[:, mine].sum(axis=1), 0))
    return np.asarray(wh, np.int64), np.asarray(-wh * charge.price_e8, np.int64)
