"""Pure: tax, levy or rebate in per cent of what its base came to: added, or said to be contained in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from config.units import ENERGY_SCALE
from rating.closes.rounding import share_of
from rating.closes.stretch import Share
from rating.tariff.charges import RATE_E6, Charge

Int64s = npt.NDArray[np.int64]


def close(charge: Charge, place: int, share: Share, base: Int64s) -> tuple[Int64s, Int64s]:
    """(the base in 1e-11, 1e-11)."""
    del place, share
    assert charge.rate_e6 is not None
    assert charge.step_e8 is not None
    assert charge.mode is not None
    of = RATE_E6 + (charge.rate_e6 if charge.included else 0)
    return base, share_of(base, charge.rate_e6, of, charge.step_e8 * ENERGY_SCALE, charge.mode)
