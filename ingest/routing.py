"""Pure: which partitions a message's readings belong to, and the body for each.

The common message belongs whole to one partition and keeps its bytes. A meter that no list knows is routed by
its address, for ever to the same partition, and judged there by rating.
"""

from __future__ import annotations

import zlib
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ingest.wire import decode_meters, decode_readings, encode_readings
from rating.readings import Readings
from registry.address import route_unknown_many


class Routes(Protocol):
    """Where the registry says that meters belong (`registry.routes` is the real one)."""

    def home_of(self, concentrator: str) -> int | None:
        """The one partition of all of a concentrator's meters; None when `partitions_of` must be asked."""
        ...

    def partitions_of(self, concentrator: str, meters: npt.NDArray[np.uint64]) -> npt.NDArray[np.int16]:
        """One for each of `meters`; -1 for a meter that is not known."""
        ...

    def shard_of(self, concentrator: str) -> str | None:
        """The shard a concentrator publishes under; None when it is not known."""
        ...


class HashRoutes:
    """Nothing is known: every meter by its address. For tests, and before a registry is there."""

    def home_of(self, concentrator: str) -> int | None:
        del concentrator
        return None

    def partitions_of(self, concentrator: str, meters: npt.NDArray[np.uint64]) -> npt.NDArray[np.int16]:
        del concentrator
        return np.full(len(meters), -1, np.int16)

    def shard_of(self, concentrator: str) -> str | None:
        del concentrator
        return None


def reject_partition(concentrator: str, partitions: int) -> int:
    """Where a message goes that has no readings."""
    return zlib.crc32(concentrator.encode()) % partitions


def route(body: bytes, concentrator: str, routes: Routes, partitions: int) -> list[tuple[int, bytes]]:
    """(partition, body) for each partition touched, ascending; `body` itself when there is one."""
    home = routes.home_of(concentrator)
    if home is not None:
        return [(home, body)]
    meters = decode_meters(body)
    found = routes.partitions_of(concentrator, meters)
    unknown = found < 0
    if unknown.any():
        found = np.where(unknown, route_unknown_many(meters, partitions), found)
    first = int(found[0])
    if (found == first).all():
        return [(first, body)]
    readings = decode_readings(body)
    return [(int(p), encode_readings(_rows(readings, found == p))) for p in np.unique(found)]


def _rows(readings: Readings, mask: npt.NDArray[np.bool_]) -> Readings:
    return Readings(
        readings.meter[mask],
        readings.value[mask],
        readings.read_at_s[mask],
        readings.register[mask],
        readings.quality[mask],
    )
