"""I/O: the audit of one partition: gather, compute, compare. A job of its own, which holds no more than that."""

from __future__ import annotations

import decimal
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pyarrow as pa

from audit import dump, entries, refused, registry, saved, sources
from audit.accounts import Columns, PartitionAudit
from audit.compare import Difference, Tally, missing
from audit.state import StateAudit
from audit.tariffs import WIDE, is_linear, read_tariffs
from audit.world import World
from config.settings import Paths, RatingSettings
from config.tariff_files import DAYS, KEPT, kept_texts


@dataclass(slots=True)
class Task:
    """`earlier`: the folder of the audit to go on from; `kept`: where this one leaves its state."""

    data_dir: Path
    partition: int
    rating: RatingSettings
    earlier: Path | None
    kept: Path


@dataclass(slots=True)
class Done:
    """What came out; `digest` is that of the state left behind."""

    partition: int
    checkpoint: int
    differences: list[Difference] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    digest: str = ""


class _Worlds:
    """Registry versions of one partition, each derived when it is asked for; only the last one is kept."""

    def __init__(self, paths: Paths, partition: int) -> None:
        self._paths, self._partition = paths, partition
        self._held: World | None = None

    def __call__(self, digest: str) -> World:
        if self._held is None or self._held.digest != digest:
            self._held = None
            self._held = registry.world(self._paths, digest, self._partition)
            self._held.linear = _linear(self._paths.registry / digest)
        return self._held


def _linear(version: Path) -> frozenset[str] | None:
    """Tariffs that are linear as a registry version keeps them."""
    if not (version / KEPT).is_dir():
        return None
    texts = kept_texts(version, None)
    told = [tomllib.loads(text) for name, text in texts.items() if not name.endswith(DAYS)]
    return frozenset(one["id"] for one in told if is_linear(one))


def audit_partition(task: Task) -> Done:
    """One partition, up to its newest checkpoint."""
    decimal.setcontext(WIDE.copy())
    return _Job(task).run()


class _Job:
    def __init__(self, task: Task) -> None:
        self.task, self.paths = task, Paths(task.data_dir)
        rating = task.rating
        newest = sources.newest_registry(self.paths, task.partition)  # what it says of the past, it always said
        texts = kept_texts(self.paths.registry / newest, rating.tariffs_dir)
        tariffs = read_tariffs(texts, rating.horizon_from_year, rating.horizon_to_year)
        self.book = PartitionAudit(task.partition, tariffs, rating)
        self.world_of = _Worlds(self.paths, task.partition)
        lines = saved.read_part(task.earlier, task.partition) if task.earlier is not None else ()
        self.begin = dump.restore(self.book, lines, self.world_of)
        self.snap = sources.snapshot(self.paths, task.partition, self.begin.checkpoint)
        if self.snap.offset < self.begin.offset:
            where = f"partition {task.partition}: the ledger ends before what was audited"
            raise saved.StateMissing(f"{where}: audit without --since")
        self.tally = Tally(self.book.expected, self.book.money)
        self.pages = entries.pages(self.paths, self.snap, self.begin.entry_last)
        self.page = next(self.pages, None)

    def run(self) -> Done:
        snap, book, tally = self.snap, self.book, self.tally
        done = Done(snap.partition, snap.checkpoint)
        try:
            records = self._replay()
            self._post(None)
            done.differences += self._compared()
        except sources.RecordsMissing as hole:  # what comes after it cannot be derived, so it is not compared
            records = 0
            done.differences += missing("records", [str(hole)])
            self._post(None)
        told = entries.postings(self.paths, snap, self.begin.entry_last)
        for entry, lines in groupby(told, key=itemgetter(0)):
            tally.entry(entry, ((name, amount) for _, name, amount in lines))
        done.differences += tally.control()
        if tally.arrears_fen != -book.arrears_fen:
            note = f"posted, partition {snap.partition}"
            done.differences.append(Difference("", "", "arrears", -book.arrears_fen, tally.arrears_fen, note))
        packed = entries.verify_rest(self.paths, snap, self.begin.entry_last, self.begin.offset)
        for fault in dict.fromkeys(snap.faults):
            done.differences += missing(fault.kind, [fault.note])
        done.counts = {f"verdict.{name}": count for name, count in sorted(book.verdicts.items())}
        done.counts |= {
            "records": records,
            "readings": sum(book.verdicts.values()),
            "accounts": len(book.bills),
            "amounts": tally.settled + len(tally.posted),
            "entries": tally.entries,
            "channels": len(book.channels),
            "packed": packed,
        }
        if not done.differences:
            done.digest = saved.write_part(self.task.kept, snap.partition, self._lines())
        return done

    def _lines(self) -> Iterator[dump.Line]:
        snap, book = self.snap, self.book
        pairs = zip(snap.applied[0::2], snap.applied[1::2], strict=True)
        last = tuple(number for offset, number in pairs if offset == snap.offset)
        at = dump.Position(
            *(snap.offset, snap.checkpoint, snap.entry_last, book.as_of_s, book.ticked_s, book.digest, last)
        )
        return dump.dump(book, at)

    # -- records, inbox rows and entries, in order ---------------------------------------------------------------
    def _replay(self) -> int:
        """Records and inbox rows in order, each row after the record that the ledger names; returns records read."""
        book, snap = self.book, self.snap
        waiting = sources.commands(self.paths, snap, book.offset, set(self.begin.applied))
        command = next(waiting, None)
        count = 0

        def apply_until(offset: int) -> None:
            nonlocal command
            while command is not None and command.offset <= offset:
                book.as_of_s = max(book.as_of_s, command.created_at_s)  # of every row, also one that changed nothing
                if not command.outcome or command.kind == "release":  # a release may take some and not others
                    book.command(command.id, command.kind, command.key, command.body, self.world_of)
                else:
                    book.refused.command(command.id, command.stream, command.body, book.offset)
                command = next(waiting, None)

        apply_until(book.offset)
        for record in sources.records(self.paths, snap, book.offset):
            offset, kind, received_at_s, source, stream, sequence, detail, body = record
            apply_until(offset - 1)
            self._post(offset - 1)
            if kind == sources.READINGS:
                book.readings(source, received_at_s, _columns(offset, snap.partition, body))
            elif kind == sources.TICK:
                book.tick(received_at_s)
            elif kind == sources.REJECT:
                book.refused.message(detail, source, stream, sequence, body, offset)
            book.as_of_s = max(book.as_of_s, received_at_s)
            book.offset = offset
            count += 1
        apply_until(book.offset)
        return count

    def _post(self, offset: int | None) -> None:
        """Pages of entries that were booked up to this record (None: all of them) against what was derived."""
        if self.page is None or (offset is not None and self.page.offset > offset):
            return
        accounts = self.book.world.accounts.values() if self.book.world is not None else ()
        names = {a.slot: a.id for a in accounts}
        while self.page is not None and (offset is None or self.page.offset <= offset):
            page = self.page
            for slot, day, component, amount in page.amounts:
                account = names.get(slot) or f"slot {self.snap.partition}/{slot}"
                self.tally.amount(account, day, component, amount)
                if page.kind in ("credit", "reversal") and component != "quantity_wh":
                    self.tally.single(page.reference, page.kind, account, amount)
            self.tally.rows(page.entry, page.total)
            self.page = next(self.pages, None)
        self.tally.settle()

    def _compared(self) -> list[Difference]:
        """Money posted, then the state."""
        snap, book = self.snap, self.book
        out = self.tally.differences()
        out += refused.compared(book.refused, snap.exceptions, self.begin.offset)
        out += refused.verdicts(book.verdicts, snap.counters)
        if snap.registry_digest != book.digest:
            note = f"partition {book.partition} is rated under {snap.registry_digest or 'none'}, not {book.digest}"
            out += missing("registry", [note])
        if book.digest:
            state = StateAudit(book, {name: assembly.rows for name, assembly in snap.state.items()})
            state.compare(
                registry.channel_slots(self.paths, book.digest, book.partition),
                registry.ladder_slots(self.paths, book.digest, book.partition),
            )
            out += state.differences
        return out


def _columns(offset: int, partition: int, body: bytes) -> Columns:
    try:
        return sources.columns_of(body)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise sources.RecordsMissing(
            f"partition {partition}: record {offset} cannot be read: {str(error)[:100]}"
        ) from error
