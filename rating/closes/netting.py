"""Pure: energy that was fed in against what was taken, by bins of a cycle: `wh[ladder, bin]`, in order of time.

    cycle_total        all that was fed in against all that was taken, whenever it was
    cycle_by_period    within each period

Each bin gives its share, by cumulative floors, so that nothing is lost; what was fed in beyond all that was taken is
left, and is what a charge of the kind `export` pays for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


def netted(word: str, taken: Int64s, fed_in: Int64s, periods: Sequence[str]) -> tuple[Int64s, Int64s]:
    """(what is left of each bin's energy taken, and of its energy fed in); negative energy is left as it is."""
    left, surplus = taken.copy(), fed_in.copy()
    groups = [""] * len(periods) if word == "cycle_total" else list(periods)
    for name in dict.fromkeys(groups):
        mine = [place for place, group in enumerate(groups) if group == name]
        both = np.minimum(np.maximum(taken[:, mine].sum(axis=1), 0), np.maximum(fed_in[:, mine].sum(axis=1), 0))
        left[:, mine] -= _shared(both, taken[:, mine])
        surplus[:, mine] -= _shared(both, fed_in[:, mine])
    return left, surplus


def _shared(amount: Int64s, of: Int64s) -> Int64s:
    """`amount` by the shares of `of`'s columns, whose sum is not less."""
    total = np.maximum(of.sum(axis=1), 1).astype(object)[:, None]
    corner = np.cumsum(of, axis=1).astype(object) * amount.astype(object)[:, None] // total
    return np.asarray(np.diff(corner, axis=1, prepend=0).astype(np.int64))
