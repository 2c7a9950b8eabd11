"""I/O (a connection that is passed in): live balances for autopay, from the newest committed state of each account.

The registry version says where an account and its channels are; the ledger says what is in them. An account that
is not rated yet is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sqlalchemy import Connection

from autopay.policy import Live
from ledger.reads import account_rows, live_fen_of
from ledger.recover import newest
from meterd.city import City
from rating.register_rules import ESTIMATE
from rating.state import ARRAYS, AccountFlag, ChannelFlag
from registry.image import NONE, PartitionImage, RegistryImage


class LiveBalances:
    """An `autopay.deciding.Lives`; `city` gives the registry version of now, None before the first."""

    def __init__(self, city: Callable[[], City | None]) -> None:
        self._city = city

    def __call__(self, connection: Connection, accounts: Sequence[str]) -> dict[str, Live]:
        city = self._city()
        if city is None:
            return {}
        homes: dict[int, dict[int, str]] = {}
        for account in accounts:
            try:
                partition, slot = city.reader.find_account(account)
            except KeyError:
                continue
            homes.setdefault(partition, {})[slot] = account
        found: dict[str, Live] = {}
        for partition, names in homes.items():
            checkpoint = newest(connection, partition)
            as_of_s = checkpoint.as_of_s if checkpoint is not None else 0
            part = city.image.partitions[partition]
            wanted = {slot: _channels(city.image, partition, slot) for slot in names}
            for slot, (row, channels, places) in account_rows(connection, partition, wanted, ARRAYS).items():
                pairs = zip(places, channels, strict=True)
                estimated = any(_rests_on_estimate(part, place, of, as_of_s) for place, of in pairs)
                is_open = bool(int(row["flags"]) & AccountFlag.OPEN)
                found[names[slot]] = Live(live_fen_of(row, channels)[0], estimated, is_open)
        return found


def _rests_on_estimate(part: PartitionImage, place: int, row: np.void, as_of_s: int) -> bool:
    """As `rating.judging` has it: the register of a charged span that is open now is an estimate."""
    if not int(row["flags"]) & ChannelFlag.BILL or int(row["quality"]) != ESTIMATE:
        return False
    if int(row["value"]) < 0 or int(row["at_s"]) >= int(row["until_s"]):
        return False
    after = int(part.channels["next"][place])
    goes_on = after != NONE and int(part.channels["opening_value"][after]) < 0
    return int(row["until_s"]) > as_of_s or goes_on


def _channels(image: RegistryImage, partition: int, slot: int) -> list[int]:
    part = image.partitions[partition]
    start, end = int(part.account_start[slot]), int(part.account_start[slot + 1])
    return [int(channel) for channel in part.account_channels[start:end]]
