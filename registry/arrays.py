"""Pure: the image of all partitions as one array per kind, back to back: how it is kept in files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from registry.image import AttributeChange, PartitionImage, RegistryImage

# array -> what it is cut into partitions by
CUT_BY: Final[dict[str, str]] = {
    "channels": "channels",
    "ladders": "ladders",
    "accounts": "accounts",
    "list_meter": "lists",
    "list_register": "lists",
    "list_channel": "lists",
    "account_start": "accounts",  # one more entry a partition
    "account_channels": "channels",
}


@dataclass(slots=True)
class ImageArrays:
    """`starts[kind][p]` is where partition p begins in the arrays that are cut by that kind."""

    channels: npt.NDArray[np.void]
    ladders: npt.NDArray[np.void]
    accounts: npt.NDArray[np.void]
    list_meter: npt.NDArray[np.uint64]
    list_register: npt.NDArray[np.uint8]
    list_channel: npt.NDArray[np.int32]
    account_start: npt.NDArray[np.int64]
    account_channels: npt.NDArray[np.int32]
    starts: dict[str, list[int]]
    lists: list[dict[str, tuple[int, int]]]
    tariffs: tuple[str, ...]
    histories: tuple[tuple[AttributeChange, ...], ...]

    def image(self, digest: str) -> RegistryImage:
        """The same as one object per partition; its arrays are views."""
        count = len(self.lists)
        return RegistryImage(
            digest, tuple(self._partition(number) for number in range(count)), self.tariffs, self.histories
        )

    def _partition(self, number: int) -> PartitionImage:
        cut = {kind: slice(start[number], start[number + 1]) for kind, start in self.starts.items()}
        accounts = cut["accounts"]
        return PartitionImage(
            channels=self.channels[cut["channels"]],
            ladders=self.ladders[cut["ladders"]],
            accounts=self.accounts[accounts],
            list_meter=self.list_meter[cut["lists"]],
            list_register=self.list_register[cut["lists"]],
            list_channel=self.list_channel[cut["lists"]],
            lists=self.lists[number],
            account_start=self.account_start[accounts.start + number : accounts.stop + number + 1],
            account_channels=self.account_channels[cut["channels"]],
        )
