"""Pure: which tier a cycle's energy falls into where that is not the order of time: slab, proportional, per period.

The kernel fills tiers as energy comes. These words can only be told when a cycle ends, from what each bin (a period
in a stretch of days) came to:

    slab            all energy has the tier that the cycle's total reaches
    proportional    every bin has its share of each tier
    per_period      each period has a ladder of its own

`wh[point, bin]`, in order of time, becomes `[point, bin, tier]`, whose sums over tiers are `wh`; energy below zero
leaves the tiers from the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
_SAFE: Final = 3_000_000_000  # products of two such numbers fit 64 bits


def slab(wh: Int64s, bounds: Int64s) -> Int64s:
    """`bounds[tier]`: inclusive upper bounds of a cycle, in thousandths."""
    tier = np.searchsorted(bounds[:-1], wh.sum(axis=1), side="left")
    found = np.zeros((*wh.shape, len(bounds)), np.int64)
    np.put_along_axis(found, np.broadcast_to(tier[:, None, None], (*wh.shape, 1)), wh[:, :, None], axis=2)
    return found


def per_period(wh: Int64s, bounds: Int64s, periods: Sequence[str]) -> Int64s:
    """`periods`: of each bin; bins of one period fill its ladder in order."""
    found = np.zeros((*wh.shape, len(bounds)), np.int64)
    for name in dict.fromkeys(periods):
        mine = [place for place, period in enumerate(periods) if period == name]
        found[:, mine] = np.diff(_filled(np.cumsum(wh[:, mine], axis=1), bounds), axis=1, prepend=0)
    return found


def proportional(wh: Int64s, bounds: Int64s) -> Int64s:
    """By cumulative floors in both directions, so that neither a bin nor a tier loses a thousandth."""
    reached = np.cumsum(wh, axis=1)
    total = reached[:, -1:]
    filled = np.cumsum(_filled(total, bounds)[:, 0], axis=1)  # [point, tier]
    if max(int(np.abs(reached).max(initial=0)), int(np.abs(filled).max(initial=0))) > _SAFE:
        reached, filled, total = reached.astype(object), filled.astype(object), total.astype(object)
    of = np.where(total == 0, 1, total)
    corner = np.where((total == 0)[:, :, None], 0, reached[:, :, None] * filled[:, None, :] // of[:, :, None])
    shares = np.diff(np.diff(corner, axis=1, prepend=0), axis=2, prepend=0).astype(np.int64)
    first = np.zeros_like(shares)
    first[:, :, 0] = wh
    return np.where((total == 0)[:, :, None], first, shares)


def _filled(reached: Int64s, bounds: Int64s) -> Int64s:
    """`[..., tier]`: what each tier has of a ladder that has been filled up to `reached`."""
    lower = np.concatenate([[np.iinfo(np.int64).min], bounds[:-1]])
    begin = np.concatenate([[0], bounds[:-1]])
    return np.asarray(np.clip(reached[..., None], lower, bounds) - begin, np.int64)
