"""I/O (the daemon's mapped registry): which partition and whose list a register is in."""

from __future__ import annotations

import numpy as np

from meterd.port import PartsPort
from meterd.rejected import Rejected
from registry.image import PartitionImage
from registry.store import RegistryReader

Place = tuple[int, str]  # partition, concentrator


def active_registry(parts: PartsPort) -> RegistryReader:
    """The registry in force; without one nothing can be judged."""
    reader = parts.registry()
    if reader is None:
        raise Rejected(409, "no registry is active", "Import one: `meterd registry import DIR`")
    return reader


def place_of(reader: RegistryReader, meter: int, code: int) -> Place | None:
    """Where a register is; the newest of several. It looks at every list: some 10 ms at 6 million registers."""
    found: list[tuple[int, Place]] = []
    for number, partition in enumerate(reader.image.partitions):
        for place in _here(partition, meter, code, 0, len(partition.list_meter)):
            name = next(name for name, (start, end) in partition.lists.items() if start <= place < end)
            found.append((_opened(partition, place), (number, name)))
    return _newest(found)


def place_in_list(reader: RegistryReader, meter: int, code: int, concentrator: str) -> Place | None:
    """The same in one concentrator's lists, which are short: as cheap for a city as for a village."""
    found: list[tuple[int, Place]] = []
    for number, partition in enumerate(reader.image.partitions):
        start, end = partition.lists.get(concentrator, (0, 0))
        here = _here(partition, meter, code, start, end)
        found += [(_opened(partition, place), (number, concentrator)) for place in here]
    return _newest(found)


def _here(partition: PartitionImage, meter: int, code: int, start: int, end: int) -> list[int]:
    here = (partition.list_meter[start:end] == np.uint64(meter)) & (partition.list_register[start:end] == code)
    return [start + int(place) for place in np.flatnonzero(here)]


def _opened(partition: PartitionImage, place: int) -> int:
    return int(partition.channels["opening_at_s"][int(partition.list_channel[place])])


def _newest(found: list[tuple[int, Place]]) -> Place | None:
    """The first of those that opened last."""
    return max(found, key=lambda one: one[0])[1] if found else None
