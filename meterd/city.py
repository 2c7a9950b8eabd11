"""I/O: one registry version made ready for rating: its reader, its image, and the book compiled for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    from rating.tariff.model import Tariff
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


def past_rewritten(running: Path, tariffs: Sequence[Tariff], settings: RatingSettings, now_s: int) -> str:
    """Why tariffs cannot follow those of the registry version in folder `running`; "" when they can.

    The engine asks the same when it comes to it; whoever imports hears it here.
    """
    if not (running / KEPT).is_dir():
        return ""  # staged by a release that kept none
    before = parse_tariffs(tariff_texts(running / KEPT))
    both = {one.id for one in before} & {one.id for one in tariffs}
    order = [name for name in RegistryReader(running.parent, running.name).image.tariffs if name in both]
    if not order:
        return ""
    years = settings.horizon_from_year, settings.horizon_to_year
    was, now = (TariffBook.compile(files, order, (), (), *years) for files in (before, tariffs))
    return rewritten(was, now, now_s)
