"""Pure: the registry as columns, per partition: what engine and ingest look things up in.

An image is compiled from the validated tables of one registry version and is immutable. Slots are stable: the
image of a later version repeats every channel, ladder and account of the one before at the same slot and
appends. Times are UTC seconds; `FOREVER` means open-ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FOREVER: Final = 2**32 - 1
NONE: Final = -1
NO_TRIGGER: Final = -(2**63)

CHANNEL_FACTS: Final = np.dtype(
    [
        ("meter", np.uint64),  # address on the wire
        ("opening_value", np.int64),  # register at opening_at_s, thousandths
        ("opening_at_s", np.uint32),  # the first energy counted is after this
        ("until_s", np.uint32),
        ("power_max_w", np.uint32),
        ("account", np.int32),
        ("ladder", np.int32),
        ("tariff", np.int32),  # index into RegistryImage.tariffs; NONE: not charged
        ("next", np.int32),
        ("closing_value", np.int64),  # old final read of a change-out, thousandths; -1: none
        ("multiplier", np.uint16),
        ("resolution", np.uint16),
        ("register", np.uint8),
        ("digits", np.uint8),
        ("bill", np.uint8),  # role: 1 bill, 0 check
        ("opening_quality", np.uint8),
        ("pad", np.uint32),
    ]
)
LADDER_FACTS: Final = np.dtype(
    [
        ("opening_used", np.int64),  # energy so far in the cycle that holds opening_at_s, Wh
        ("account", np.int32),
        ("tariff", np.int32),
        ("history", np.int32),  # index into RegistryImage.histories: the account's dated attributes
        ("opening_at_s", np.uint32),
    ]
)
ACCOUNT_FACTS: Final = np.dtype(
    [
        ("opening_balance_fen", np.int64),
        ("opening_arrears_fen", np.int64),
        ("alert_fen", np.int64),
        ("trigger_fen", np.int64),  # highest trigger of its mandates; NO_TRIGGER: none
        ("from_s", np.uint32),
        ("until_s", np.uint32),
        ("tariff", np.int32),
        ("pad", np.int32),
    ]
)


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """One dated numeric attribute of an account, e.g. household_size = 5 from an instant on."""

    name: str
    from_s: int
    value: int


@dataclass(frozen=True, slots=True)
class PartitionImage:
    """One partition's facts. Arrays are indexed by slot, the list arrays by place in a concentrator's list."""

    channels: npt.NDArray[np.void]  # CHANNEL_FACTS
    ladders: npt.NDArray[np.void]  # LADDER_FACTS
    accounts: npt.NDArray[np.void]  # ACCOUNT_FACTS
    # Concentrator lists, back to back in reading order; one row per (meter, register) installed now or before.
    list_meter: npt.NDArray[np.uint64]
    list_register: npt.NDArray[np.uint8]
    list_channel: npt.NDArray[np.int32]  # slot of the FIRST span of that register; follow `next`
    lists: dict[str, tuple[int, int]]  # concentrator -> [start, end) in the list arrays
    # The channels of account slot a: account_channels[account_start[a]:account_start[a + 1]].
    account_start: npt.NDArray[np.int64]
    account_channels: npt.NDArray[np.int32]
    account_ids: npt.NDArray[np.object_] | None = None  # loaded on demand through RegistryImage.account_id


NOTHING: Final = PartitionImage(  # before the first version
    channels=np.zeros(0, CHANNEL_FACTS),
    ladders=np.zeros(0, LADDER_FACTS),
    accounts=np.zeros(0, ACCOUNT_FACTS),
    list_meter=np.zeros(0, np.uint64),
    list_register=np.zeros(0, np.uint8),
    list_channel=np.zeros(0, np.int32),
    lists={},
    account_start=np.zeros(1, np.int64),
    account_channels=np.zeros(0, np.int32),
)


@dataclass(frozen=True, slots=True)
class RegistryImage:
    """One registry version. `digest` names it and its folder under <data>/registry/."""

    digest: str
    partitions: tuple[PartitionImage, ...]
    tariffs: tuple[str, ...]  # tariff ids, indexed by `tariff`
    histories: tuple[tuple[AttributeChange, ...], ...]  # 0 is the empty history
