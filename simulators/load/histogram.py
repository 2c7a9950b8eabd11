"""Pure: a histogram of latencies after HdrHistogram: every value to within a thousandth of itself, in bounded room.

Buckets are linear within a power of two: 1,024 of them from each power to the next, from a microsecond to a day.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

_BITS: Final = 10  # linear buckets within a power of two: 2**10
_UNIT_S: Final = 1e-6
_MOST: Final = 86_400_000_000  # microseconds; what is longer counts as that
_ROOM: Final = (_MOST.bit_length() - _BITS + 1) << _BITS
PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0, 99.9)


class Histogram:
    """Counts of latencies in seconds."""

    def __init__(self) -> None:
        self._counts = np.zeros(_ROOM, np.int64)
        self.most_s = 0.0
        self.total_s = 0.0

    def __len__(self) -> int:
        return int(self._counts.sum())

    def add(self, seconds: npt.ArrayLike) -> None:
        """Count these; nothing is below 0, and NaN is no latency."""
        values = np.atleast_1d(np.asarray(seconds, np.float64))
        values = np.maximum(values[~np.isnan(values)], 0.0)
        if not len(values):
            return
        self.most_s = max(self.most_s, float(values.max()))
        self.total_s += float(values.sum())
        units = np.minimum(np.round(values / _UNIT_S), _MOST).astype(np.int64)
        np.add.at(self._counts, _bucket(units), 1)

    def merge(self, other: Histogram) -> None:
        """Count what another one has counted, too."""
        self._counts += other._counts
        self.most_s = max(self.most_s, other.most_s)
        self.total_s += other.total_s

    def array(self) -> npt.NDArray[np.float64]:
        """Everything that it knows; `of_array` makes the same of it. (Counts are whole and below 2**53.)"""
        return np.concatenate([[self.most_s, self.total_s], self._counts])

    @classmethod
    def of_array(cls, array: npt.NDArray[np.float64]) -> Histogram:
        made = cls()
        made.most_s, made.total_s = float(array[0]), float(array[1])
        made._counts = array[2:].astype(np.int64)
        return made

    def percentile(self, percent: float) -> float:
        """The latency that so many percent do not exceed, in seconds; NaN when there is none."""
        count = len(self)
        if not count:
            return float("nan")
        rank = max(1, int(np.ceil(count * percent / 100.0)))
        place = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(_highest(place) * _UNIT_S, self.most_s)

    def curve(self) -> list[tuple[float, float]]:
        """(percent, seconds) of every bucket that holds something: for a plot."""
        held = np.flatnonzero(self._counts)
        share = np.cumsum(self._counts[held]) * (100.0 / max(1, len(self)))
        return [(float(p), min(_highest(int(b)) * _UNIT_S, self.most_s)) for p, b in zip(share, held, strict=True)]

    def as_json(self) -> dict[str, Any]:
        """Count, mean, percentiles and the most, in milliseconds; None where nothing was counted."""
        count = len(self)
        if not count:
            return {"count": 0}
        named = {f"p{percent:g}": round(self.percentile(percent) * 1000, 3) for percent in PERCENTILES}
        mean_ms = round(self.total_s / count * 1000, 3)
        return {"count": count, "mean": mean_ms, **named, "max": round(self.most_s * 1000, 3)}


def _bucket(units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Below 2**(_BITS+1) a bucket a unit; above, the power of two and the bits that follow it."""
    _, exponent = np.frexp(np.maximum(units, 1).astype(np.float64))
    shift = np.maximum(exponent.astype(np.int64) - 1 - _BITS, 0)
    return (shift << _BITS) + (units >> shift)


def _highest(bucket: int) -> int:
    """The largest number of units that falls into a bucket."""
    shift = max(0, (bucket >> _BITS) - 1)
    return (((bucket - (shift << _BITS)) + 1) << shift) - 1
