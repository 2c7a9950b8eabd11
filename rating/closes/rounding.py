"""Pure: shares of amounts to a multiple of a step, for whole columns, in 64 bits and exactly.

`config.units.round_ratio` says the same of one figure; the tests compare them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


def share_of(amount: Int64s, numerator: int | Int64s, denominator: int, step: int, mode: str) -> Int64s:
    """`amount * numerator / denominator` to a multiple of `step`, by a mode of `config.units.ROUNDING`.

    Holds for |amount| < 9e18, |numerator| and denominator up to 1.1e7, step from 1e7 to 1e11: whole steps and the
    rest of one are multiplied apart, so that no product leaves 64 bits.
    """
    whole, rest = np.divmod(amount, step)
    units, over = np.divmod(whole * numerator, denominator)
    more, left = np.divmod(over * step + rest * numerator, denominator * step)
    return _rounded(units + more, left, denominator * step, mode) * step


def _rounded(floor: Int64s, left: Int64s, of: int, mode: str) -> Int64s:
    """`floor + left / of`, 0 <= left < of, as whole numbers."""
    if mode == "floor":
        return floor
    some, below = left > 0, floor < 0
    if mode == "ceiling":
        up = some
    elif mode == "down":
        up = some & below
    elif mode == "up":
        up = some & ~below
    else:
        tie, more = 2 * left == of, 2 * left > of
        if mode == "half_up":
            up = more | (tie & ~below)
        else:
            assert mode == "half_even", mode
            up = more | (tie & (floor % 2 == 1))
    return np.asarray(floor + up, np.int64)
