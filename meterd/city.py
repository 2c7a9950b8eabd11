"""I/O: one registry version made ready for rating: its reader, its image, and the book compiled for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from config.settings import RatingSettings
from config.tariff_files import KEPT, kept_texts, tariff_texts
from rating.book import TariffBook
from rating.names import Names
from rating.takeover import rewritten
from rating.tariff.reading import parse_tariffs
from registry.store import RegistryReader

if TYPE_CHECKING:
    from registry.image import RegistryImage


class City:
    """What every partition's engine is attached to. Made once for a version; immutable."""

    def __init__(self, registry_root: Path, digest: str, settings: RatingSettings) -> None:
        self.digest = digest
        self.reader = RegistryReader(registry_root, digest)
        self.image: RegistryImage = self.reader.image
        self.book = _book(self.image, kept_texts(self.reader.folder, settings.tariffs_dir), settings)

    def names(self, partition: int) -> Names:
        """Account ids of one partition's slots, both ways."""

        def slot_of(account: str) -> int | None:
            try:
                home, slot = self.reader.find_account(account)
            except KeyError:
                return None
            return slot if home == partition else None

        return Names(lambda slot: self.reader.account_id(partition, slot), slot_of)

    def partition_of(self, account: str) -> int | None:
        """The partition an account lives in, for ever; None when it is not known."""
        try:
            return self.reader.find_account(account)[0]
        except KeyError:
            return None


def _book(image: RegistryImage, texts: Mapping[str, str], settings: RatingSettings) -> TariffBook:
    """The timelines of the tariffs in use and the schedules of the (tariff, history) pairs in use."""
    pairs: set[tuple[int, int]] = set()
    for partition in image.partitions:
        ladders = partition.ladders
        both = ladders["tariff"].astype(np.int64) << 32 | ladders["history"].astype(np.int64)
        pairs |= {(int(p >> 32), int(p & 0xFFFFFFFF)) for p in np.unique(both)}
    tariffs = parse_tariffs(texts)
    return TariffBook.compile(
        tariffs,
        image.tariffs,
        image.histories,
        pairs,
        settings.horizon_from_year,
        settings.horizon_to_year,
    )


def past_rewritten(registry_root: Path, running: str, staged: str, settings: RatingSettings, now_s: int) -> str:
    """Why a staged version's tariff files cannot follow those of the version that runs; "" when they can.

    The engine asks the same when it comes to it; whoever imports hears it here.
    """
    kept = [registry_root / digest / KEPT for digest in (running, staged)]
    if running == staged or not all(folder.is_dir() for folder in kept):
        return ""
    order = RegistryReader(registry_root, running).image.tariffs
    years = settings.horizon_from_year, settings.horizon_to_year
    books = []
    for folder in kept:
        tariffs = parse_tariffs(tariff_texts(folder))
        there = {tariff.id for tariff in tariffs}
        books.append(TariffBook.compile(tariffs, [name for name in order if name in there], ((),), (), *years))
    before, after = books
    return rewritten(before, after, now_s)
