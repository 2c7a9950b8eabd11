"""Pure: from an address to its partition, for ingest. Most concentrators' lists live in one partition whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from registry.address import route_unknown_many
from registry.image import RegistryImage


@dataclass(frozen=True, slots=True)
class Mixed:
    """A concentrator whose meters are in several partitions: sorted addresses and their partitions."""

    address: npt.NDArray[np.uint64]
    partition: npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Routes:
    """Of one registry version. `whole` and `mixed` are disjoint; `shard` knows every concentrator."""

    partitions: int
    whole: dict[str, int]
    mixed: dict[str, Mixed]
    shard: dict[str, str]

    def home_of(self, concentrator: str) -> int | None:
        """The one partition of its list: an address that the list lacks goes there, too, to be judged unknown."""
        return self.whole.get(concentrator)

    def partitions_of(self, concentrator: str, meters: npt.NDArray[np.uint64]) -> npt.NDArray[np.int16]:
        """One each, by lists that lie in several partitions; what they lack, and an unknown one's, by hash."""
        found = route_unknown_many(meters, self.partitions)
        mixed = self.mixed.get(concentrator)
        if mixed is not None:
            place = np.minimum(np.searchsorted(mixed.address, meters), len(mixed.address) - 1)
            known = mixed.address[place] == meters
            found[known] = mixed.partition[place[known]]
        return found

    def shard_of(self, concentrator: str) -> str | None:
        """The shard a concentrator publishes under; None when it is not known."""
        return self.shard.get(concentrator)


def routes(image: RegistryImage, shard: dict[str, str]) -> Routes:
    """Routes of an image; `shard` from concentrators.csv."""
    homes: dict[str, list[int]] = {}
    for number, partition in enumerate(image.partitions):
        for concentrator in partition.lists:
            homes.setdefault(concentrator, []).append(number)
    whole = {name: numbers[0] for name, numbers in homes.items() if len(numbers) == 1}
    mixed = {name: _mixed(image, name, numbers) for name, numbers in homes.items() if len(numbers) > 1}
    return Routes(len(image.partitions), whole, mixed, shard)


def _mixed(image: RegistryImage, concentrator: str, homes: list[int]) -> Mixed:
    address, partition = [], []
    for number in homes:
        low, high = image.partitions[number].lists[concentrator]
        found = np.unique(image.partitions[number].list_meter[low:high])
        address.append(found)
        partition.append(np.full(len(found), number, np.int16))
    joined = np.concatenate(address)
    order = np.argsort(joined, kind="stable")
    return Mixed(joined[order], np.concatenate(partition)[order])
