"""I/O: what the reading commands open: the ledger's one snapshot, and the registry version it was rated with.

Works beside a running daemon and without one; nothing is locked, migrated or written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from config.settings import Paths, Settings
from ledger import reads
from ledger.database import reading
from ledger.pages import Damaged
from ledger.recover import newest
from meterd.commands.config import settings_or_stop
from meterd.exits import Exit, Stop
from rating.state import ARRAYS
from registry.image import PartitionImage
from registry.store import RegistryReader


@dataclass
class View:
    """One moment of a data directory."""

    settings: Settings
    paths: Paths
    connection: Connection

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.settings.timezone)

    @cached_property
    def partitions(self) -> int:
        return reads.partitions(self.connection)

    @cached_property
    def registry(self) -> RegistryReader:
        """The newest version that a checkpoint was made with; stops when there is none."""
        rows = [newest(self.connection, partition) for partition in range(self.partitions)]
        made = sorted((row.id, row.registry_digest) for row in rows if row is not None and row.registry_digest)
        if not made:
            raise Stop(Exit.NO, "no registry is active yet: `meterd registry import DIR`, then start the daemon")
        try:
            return RegistryReader(self.paths.registry, made[-1][1])
        except FileNotFoundError as missing:
            raise Stop(Exit.REFUSED, f"{missing}: restore a backup that holds it") from None

    def account(self, account: str) -> Account:
        """An account's place and facts; stops when the registry does not know it."""
        try:
            partition, slot = self.registry.find_account(account)
        except KeyError:
            raise Stop(Exit.NO, f"no account {account}: `meterd balances` lists them") from None
        return Account(self, account, partition, slot)


@dataclass
class Account:
    """One account of a View, with what belongs to it."""

    view: View
    id: str
    partition: int
    slot: int

    @property
    def image(self) -> PartitionImage:
        return self.view.registry.image.partitions[self.partition]

    @cached_property
    def channels(self) -> list[int]:
        """Slots of its channels, as the image lists them."""
        start, end = self.image.account_start[self.slot], self.image.account_start[self.slot + 1]
        return [int(slot) for slot in self.image.account_channels[start:end]]

    @cached_property
    def rows(self) -> Any:
        """State rows of its channels."""
        return reads.state_rows(self.view.connection, self.partition, "channel", self.channels, ARRAYS["channel"])

    def state(self) -> reads.AccountState:
        """Posted, accrued and live balance; stops when nothing was rated yet."""
        try:
            return reads.account_state(
                self.view.connection, self.partition, self.slot, channels=self.channels, dtypes=ARRAYS
            )
        except KeyError:
            raise Stop(Exit.NO, f"account {self.id} is not rated yet: its registry version is still new") from None

    def tables(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Its row of accounts.parquet, and its channels' rows of channels.parquet by slot."""
        folder, mine = self.view.registry.folder, [("account", "=", self.id)]
        (row,) = pq.read_table(folder / "accounts.parquet", filters=mine).to_pylist()
        channels = pq.read_table(folder / "channels.parquet", filters=mine).to_pylist()
        return row, sorted(channels, key=lambda channel: int(channel["slot"]))

    def tariff(self) -> str:
        """Id of its tariff; "" for none."""
        place = int(self.image.accounts["tariff"][self.slot])
        return self.view.registry.image.tariffs[place] if place >= 0 else ""


@contextmanager
def opened(config: Path | None) -> Iterator[View]:
    """The settings' data directory, for reading; damaged or missing data end the command."""
    settings = settings_or_stop(config)
    paths = Paths(settings.data_dir)
    if not paths.ledger.is_file():
        raise Stop(
            Exit.NO, f"{paths.root} holds no ledger: start the daemon with `meterd run`, or name another --config"
        )
    try:
        with reading(paths.ledger) as connection:
            yield View(settings, paths, connection)
    except (Damaged, DatabaseError) as error:
        if not _writable(paths.root):  # SQLite needs a file beside a ledger in WAL mode, also to read it
            told = f"{paths.root} cannot be written to, and reading needs that too: make it writable, or copy it"
            raise Stop(Exit.REFUSED, told) from error
        what = error.orig if isinstance(error, DatabaseError) else error
        raise Stop(Exit.REFUSED, f"{paths.ledger} cannot be read: {what}. Restore a backup") from error


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)
