"""I/O: what moved some registers of one partition, in the order of the log: from archive, log, inbox and bills.

Archive files are chosen by the day of their readings; nothing that the ledger has not rated yet is among it.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from sqlalchemy import Row, select

from config.units import REGISTER_CODE, Quality, Register
from ingest.archive import ArchiveDamaged, read_archive
from ingest.wire import decode_readings
from ledger.recover import newest
from ledger.schema import archive_file, exception, inbox, inbox_applied
from meterd.exits import Exit, Stop
from meterd.guesses import Closed
from meterd.lookup import View
from meterd.views.registers import Order, Seen
from rating.readings import RecordKind
from rating.refusals import READING_BYTES
from rating.releases import refused
from registry.image import PartitionImage
from registry.store import RegistryReader

DAY_S: Final = 86_400
Windows = Sequence[tuple[int, int]] | None  # UTC days from and to, both included; None: everything
Name = tuple[int, int]  # address of the meter, code of the register
_AT_THAT_TIME: Final = ("future", "unknown_meter", "unknown_register", "not_installed")  # accepted when sent again
_LOG: Final = "SELECT id, kind, received_at_s, source, body FROM record WHERE id > ? AND id <= ? ORDER BY id"


@dataclass(frozen=True, slots=True)
class Look:
    """By first span of a register, what moved it; and the first offsets of the archive files that were left out."""

    seen: Mapping[int, Sequence[Seen]]
    skipped: Sequence[int]


class RegisterLog:
    """One partition, as far as the newest checkpoint has it."""

    def __init__(self, view: View, partition: int, image: PartitionImage) -> None:
        self._view, self._partition, self._image = view, partition, image
        row = newest(view.connection, partition)
        self._last = int(row.offset) if row is not None else 0

    def look(self, closed: Mapping[int, Sequence[Closed]], windows: Windows) -> Look:
        """What moved the registers whose first spans `closed` names, each with its closes by the window, oldest
        first; each close counts at the first tick of its time."""
        image, names = self._image, {}
        for first in closed:
            names[int(image.channels["meter"][first]), int(image.channels["register"][first])] = first
        places = np.flatnonzero(np.isin(image.list_channel, list(closed)))
        sources = {name for name, (a, b) in image.lists.items() if ((a <= places) & (places < b)).any()}
        ticks: dict[int, list[tuple[int, Closed]]] = defaultdict(list)
        for first, some in closed.items():
            for one in some:
                ticks[one.closed_at_s].append((first, one))
        found: dict[int, list[Seen]] = {first: [] for first in closed}
        skipped: list[int] = []
        for offset, kind, received_at_s, source, body in self._records(windows, skipped):
            if kind is RecordKind.TICK:
                for first, one in ticks.pop(received_at_s, ()):
                    found[first] += _closing(one, offset)
            elif kind is RecordKind.READINGS and source in sources:
                self._readings(body, offset, received_at_s, names, found)
        self._by_hand(sources, names, found)
        self._finals(closed, found)
        return Look({first: sorted(seen, key=lambda one: one.order) for first, seen in found.items()}, skipped)

    def _readings(
        self,
        body: bytes,
        offset: int,
        received_at_s: int,
        names: Mapping[Name, int],
        found: Mapping[int, list[Seen]],
    ) -> None:
        frame = decode_readings(body)
        not_after_s = received_at_s + self._view.settings.rating.future_tolerance_s
        mine = np.isin(frame.meter, np.array([meter for meter, _ in names], np.uint64))
        for i in np.flatnonzero(mine).tolist():
            first = names.get((int(frame.meter[i]), int(frame.register[i])))
            row = np.zeros(1, READING_BYTES)
            for name in READING_BYTES.names or ():
                row[name] = getattr(frame, name)[i]
            refused_here = {(row.tobytes(), None), (row.tobytes(), offset)} & self._refused
            at_s = int(frame.read_at_s[i])
            if first is not None and not refused_here and at_s <= not_after_s:
                order = (offset, 0, i)
                found[first].append(Seen(at_s, int(frame.value[i]), int(frame.quality[i]), order=order))

    def _records(self, windows: Windows, skipped: list[int]) -> Iterator[tuple[int, RecordKind, int, str, bytes]]:
        """Records of the partition: (offset, kind, received_at_s, source, body), archive first, then the log."""
        view, partition, f = self._view, self._partition, archive_file.c
        last = 0
        for row in view.connection.execute(
            select(archive_file).where(f.partition == partition).order_by(f.first_offset)
        ):
            last = max(last, row.last_offset)
            if windows is not None and all(row.day_last < low or row.day_first > high for low, high in windows):
                skipped.append(row.first_offset)
                continue
            try:
                stored = read_archive(view.paths.archive / row.path, digest=row.digest)
            except ArchiveDamaged as damaged:
                raise Stop(Exit.REFUSED, f"{damaged}. Restore it from a backup") from damaged
            for one in stored:
                record = one.record
                if one.offset <= self._last:
                    yield one.offset, record.kind, record.received_at_s, record.source, record.body
        if not view.paths.log.is_file():
            return
        with closing(sqlite3.connect(f"file:{view.paths.log}?mode=ro", uri=True, timeout=10.0)) as log:
            base = partition << 48
            for key, kind, received_at_s, source, body in log.execute(_LOG, (base + last, base + self._last)):
                yield key - base, RecordKind(kind), received_at_s, source, body

    @cached_property
    def _refused(self) -> set[tuple[bytes, int | None]]:
        """Readings of the exceptions queue that moved no register: their bytes, with an offset where that matters."""
        e = exception.c
        asked = select(e.bytes, e.reason, e.offset).where(e.partition == self._partition, e.meter.is_not(None))
        return {
            (row.bytes, row.offset if row.reason in _AT_THAT_TIME else None)
            for row in self._view.connection.execute(asked)
            if row.reason != "frozen"
        }

    def _by_hand(self, sources: set[str], names: Mapping[Name, int], found: Mapping[int, list[Seen]]) -> None:
        """Releases and re-baselines of these registers that took effect, after the record they came behind."""
        for row in self._applied("release", "rebaseline"):
            body, order = json.loads(row.body), (row.offset, row.id, 0)
            if body["concentrator"] not in sources:
                continue
            if row.kind == "release":  # of many readings some may have been refused again
                not_these = refused(row.outcome, len(body["readings"]))
                for place, (number, register, at_s, value, quality) in enumerate(body["readings"]):
                    first = names.get((number, register))
                    if first is not None and place not in not_these:
                        found[first].append(Seen(at_s, value, quality, order=(row.offset, row.id, place)))
            elif not row.outcome:
                first = names.get((int(body["meter"]), REGISTER_CODE[Register(body["register"])]))
                if first is not None:
                    told = Seen(int(body["at_s"]), int(body["value"]), int(Quality.A), "rebaseline", order)
                    found[first].append(told)

    def _finals(self, firsts: Mapping[int, object], found: Mapping[int, list[Seen]]) -> None:
        """Closing registers of change-outs, each where the first registry version that has it became active."""
        facts = self._image.channels
        ends = {}
        for first in firsts:
            slot = first
            while slot >= 0:
                if int(facts["closing_value"][slot]) >= 0:
                    ends[slot] = first
                slot = int(facts["next"][slot])
        if not ends:
            return
        for row in self._applied("registry"):
            for slot in [one for one in ends if row.outcome == "" and self._told(json.loads(row.body), one)]:
                first, bytes_ = ends.pop(slot), np.zeros(1, READING_BYTES)
                at_s, value = int(facts["until_s"][slot]), int(facts["closing_value"][slot])
                told = (facts["meter"][slot], value, at_s, facts["register"][slot], int(Quality.A))
                for name, one in zip(READING_BYTES.names or (), told, strict=True):
                    bytes_[name] = one
                if (bytes_.tobytes(), None) not in self._refused:
                    order = (row.offset, row.id, slot)
                    found[first].append(Seen(at_s, value, int(Quality.A), "final", order))

    def _told(self, body: dict[str, str], slot: int) -> bool:
        """Does that registry version have the slot's closing register?"""
        try:
            image = RegistryReader(self._view.paths.registry, body["digest"]).image
        except FileNotFoundError:  # taken away by hand: the version that is active has it
            return True
        facts = image.partitions[self._partition].channels
        return slot < len(facts) and int(facts["closing_value"][slot]) >= 0

    def _applied(self, *kinds: str) -> list[Row[Any]]:
        """Inbox rows of these kinds that the partition applied, in that order."""
        asked = (
            select(inbox.c.kind, inbox.c.body, inbox.c.id, inbox_applied.c.offset, inbox_applied.c.outcome)
            .join(inbox_applied, inbox_applied.c.inbox_id == inbox.c.id)
            .where(inbox_applied.c.partition == self._partition)
            .where(inbox.c.kind.in_(kinds))
            .order_by(inbox_applied.c.offset, inbox_applied.c.checkpoint_id, inbox.c.id)
        )
        return list(self._view.connection.execute(asked))


def _closing(closed: Closed, offset: int) -> list[Seen]:
    close = Seen(closed.end_s, 0, 0, "close", (offset, 0, closed.close_place))
    if not closed.energy_wh:
        return [close]
    order: Order = (offset, 0, closed.place)
    return [close, Seen(closed.to_s, closed.value, int(Quality.E), "estimate", order)]
