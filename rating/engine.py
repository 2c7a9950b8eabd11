"""Pure: the engine of one partition: records and inbox rows in, one checkpoint's effects out.

Single-threaded, no clock and no I/O: `received_at_s` of the records and `as_of` of the ticks are the only now.
The shell gives it records in offset order (`apply`), inbox rows between records (`apply_inbox`, `activate`), and
asks for a checkpoint. The same records, rows and checkpoint offsets give the same bytes, whatever the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from config.settings import AutopaySettings, RatingSettings
from config.units import CURRENCIES
from ledger.effects import (
    LATE,
    Applied,
    Entry,
    Event,
    ExceptionRow,
    InboxRow,
    Notice,
    PartitionCheckpoint,
    Recovered,
    StateChange,
)
from rating import refusals
from rating.addresses import gather, search
from rating.book import TariffBook
from rating.booking import Bookings
from rating.closing import ripe_accounts, settle_bills
from rating.commands import Commands
from rating.compiled import Batch
from rating.days import LAST_TICK, Days, days_over, post_days
from rating.estimates import guesses
from rating.judging import ALERT, KIND_NAME, judge
from rating.kernel import CLOSE_ROWS_MIN, rate
from rating.names import Names
from rating.partition import Partition, empty_arrays
from rating.readings import Frames, RecordKind, StoredRecord
from rating.register_rules import P_ESTIMATES, P_FROZEN, P_MINOR, P_WINDOW, PARAMS
from rating.settling import refresh_pending
from rating.sheets import CYCLES
from rating.spread import CLOSE
from rating.takeover import misfit, rewritten
from rating.touched import Seen, Slots, accounts_of, clear, marked
from rating.verdicts import EXCEPTION_REASON, Verdict, Warn
from registry.image import NOTHING, PartitionImage

Decode = Callable[[Sequence[bytes]], Frames]
_EXCEPTIONAL: Final = np.isin(np.arange(len(Verdict)), [int(v) for v in EXCEPTION_REASON])
_DAY_S: Final = 86_400


class PartitionEngine:
    """Rates one partition. `part` is its state; `counters` are cumulative and part of each checkpoint."""

    def __init__(
        self,
        partition: int,
        *,
        rating: RatingSettings,
        autopay: AutopaySettings,
        currency: str,
        decode: Decode,
        recovered: Recovered | None = None,
        sheet_cycles: int = CYCLES,
    ) -> None:
        self.partition = partition
        self.offset = recovered.offset if recovered else 0
        self.as_of_s = recovered.as_of_s if recovered else 0
        self.registry_digest = recovered.registry_digest if recovered else ""
        self.counters: dict[str, int] = dict(recovered.counters) if recovered else {}
        arrays = recovered.arrays if recovered and recovered.arrays else empty_arrays()
        self.part = Partition(arrays, sheet_cycles)
        self.names: Names | None = None
        self._rating, self._autopay, self._decode = rating, autopay, decode
        self._minor = CURRENCIES[currency].accrual_per_minor
        self._params = np.zeros(PARAMS, np.int64)
        self._params[P_MINOR] = self._minor
        self._params[P_WINDOW] = rating.plausible_window_s
        self._params[P_FROZEN] = rating.frozen_after_s
        self._params[P_ESTIMATES] = rating.prolonged_estimates
        self._closes = np.zeros(CLOSE_ROWS_MIN * 2, CLOSE)
        self._warnings = np.zeros(len(Warn.NAMES), np.int64)
        self.bookings = Bookings(self._minor)
        self._exceptions: list[ExceptionRow] = []
        self._late: list[npt.NDArray[Any]] = []
        self._notices: list[Notice] = []
        self._applied: list[Applied] = []
        self._commands = Commands(self)
        self._days = Days(rating.settlement_window_s)
        self._changed = False
        self._all_pending = False  # a local day is over, or a registry version began: of every account
        self._hints: dict[str, int] = {}  # concentrator -> place in its list that its next reading is guessed at
        self._cold = Seen()  # what was handed over of `cold`

    # -- the registry ----------------------------------------------------------------------------------------
    def attach(self, image: PartitionImage, book: TariffBook, names: Names) -> None:
        """After a recovery: the image and book that the state was made with."""
        self.part.attach(image, book)
        self.names = names

    def activate(self, row: InboxRow, image: PartitionImage, book: TariffBook, names: Names) -> None:
        """Apply an inbox row of kind `registry`: the shell has loaded and compiled what it names."""
        assert row.kind == "registry"
        self.as_of_s = max(self.as_of_s, row.created_at_s)
        why = misfit(image, self.part.image)
        if not why and self.part.book is not None and self.part.book is not book:
            why = rewritten(self.part.book, book, row.created_at_s)  # the same instant in every partition
        if why:
            self._commands.refuse(row, why)
            return
        found = self.part.activate(image, book)
        self._all_pending = True
        self._hints.clear()
        self.names = names
        self.registry_digest = str(row.body["digest"])
        self._commands.opened(found.accounts, row)
        self._commands.tell_backdated(found, image)
        self._commands.close_removed(image)
        self.applied(row)

    # -- records ---------------------------------------------------------------------------------------------
    def apply(self, records: Sequence[StoredRecord]) -> None:
        """Apply records in offset order; runs of READINGS are rated together."""
        i = 0
        while i < len(records):
            stored = records[i]
            assert stored.offset == self.offset + 1, (stored.offset, self.offset)
            if stored.record.kind is RecordKind.READINGS:
                j = i + 1
                while j < len(records) and records[j].record.kind is RecordKind.READINGS:
                    j += 1
                self._rate_records(records[i:j])
                i = j
                continue
            if stored.record.kind is RecordKind.REJECT:
                self.set_aside(refusals.rejected(stored))
                self.count("records.reject")
            else:
                self._tick(stored.record.received_at_s)
            self._at(stored)
            i += 1

    def _at(self, stored: StoredRecord) -> None:
        self.offset = stored.offset
        self.as_of_s = max(self.as_of_s, stored.record.received_at_s)
        self._changed = True

    def _rate_records(self, records: Sequence[StoredRecord]) -> None:
        frames = self._decode([stored.record.body for stored in records])
        ends = np.cumsum(frames.rows)
        tolerance_s = self._rating.future_tolerance_s
        limits_s = np.array([s.record.received_at_s + tolerance_s for s in records], np.int64)
        batch = self._gathered(frames, [s.record.source for s in records], ends, limits_s)
        verdict = self.rate_batch(batch)
        self._count_verdicts(verdict)
        self._set_aside(records, frames, batch, verdict)
        self.count("records.readings", len(records))
        self._at(records[-1])
        self.as_of_s = max(self.as_of_s, *(s.record.received_at_s for s in records))

    def _gathered(self, frames: Frames, sources: list[str], ends: Any, limits_s: Any) -> Batch:
        """The records' readings in columns, each with the first span of its register."""
        total = int(ends[-1])
        slots, value = np.empty(total, np.int32), np.empty(total, np.int64)
        read_at_s, quality = np.empty(total, np.uint32), np.empty(total, np.uint8)
        image = self.part.image
        if image is None:
            image = NOTHING
        numbers: dict[str, int] = {}
        which = np.array([numbers.setdefault(source, len(numbers)) for source in sources], np.int64)
        lists = np.array([image.lists.get(source, (0, 0)) for source in numbers], np.int64)
        hints = np.array([self._hints.get(source, 0) for source in numbers], np.int64)
        np.maximum(hints, lists[:, 0], out=hints)
        missed = np.zeros(len(frames), np.int64)
        columns = (image.list_meter, image.list_register, image.list_channel)
        given = (frames.data, frames.rows, frames.starts, lists, which, hints)
        gather(*given, *columns, slots, value, read_at_s, quality, missed)
        found = zip(numbers, hints.tolist(), strict=True)
        self._hints.update((source, hint) for source, hint in found if source in image.lists)
        for number in np.flatnonzero(missed).tolist():
            if sources[number] in image.lists:
                frame = frames[number]
                order = self.part.sorted_list(sources[number])
                search(order, *columns, frame.meter, frame.register, slots[ends[number] - len(frame) : ends[number]])
        return Batch(slots, value, read_at_s, quality, ends, limits_s)

    def rate(self, slots: Any, value: Any, read_at_s: Any, quality: Any, not_after_s: Any) -> npt.NDArray[np.uint8]:
        """The kernel over columns that came in no record: each reading has a limit of its own."""
        ends = np.arange(1, len(slots) + 1)
        return self.rate_batch(Batch(slots, value, read_at_s, quality, ends, not_after_s.astype(np.int64)))

    def rate_batch(self, batch: Batch) -> npt.NDArray[np.uint8]:
        """The kernel over a batch, with the close rows booked; returns the verdicts."""
        count = len(batch.slots)
        verdict = np.zeros(count, np.uint8)
        part, book = self.part, self.part.book
        if book is None:
            verdict[:] = Verdict.UNKNOWN_METER
            return verdict
        done = 0
        part.cover(batch)
        while done < count:
            homes = part.homes()
            done, closed = rate(homes, batch, book.lines, self._params, done, verdict, self._warnings, self._closes)
            self.bookings.close(part, self._closes[:closed])
        self._count_warnings()
        return verdict

    def _count_verdicts(self, verdict: npt.NDArray[np.uint8]) -> None:
        # `bincount` makes 64-bit numbers of them first: where all are accepted, as nearly always, that is spared.
        for code, count in enumerate(np.bincount(verdict) if verdict.any() else [len(verdict)]):
            if count:
                self.count(f"verdict.{Verdict(code).name.lower()}", int(count))
        self.count("readings", len(verdict))

    def _count_warnings(self) -> None:
        for place, name in enumerate(Warn.NAMES):
            if self._warnings[place]:
                self.count(f"warning.{name}", int(self._warnings[place]))
        self._warnings[:] = 0

    def _set_aside(
        self, records: Sequence[StoredRecord], frames: Frames, batch: Batch, verdict: npt.NDArray[np.uint8]
    ) -> None:
        """Exceptional readings become rows, late ones are listed by channel and UTC day."""
        if not (verdict >= Verdict.REPLACED).any():
            return
        for i in np.flatnonzero(_EXCEPTIONAL[verdict]):
            which = int(np.searchsorted(batch.run_end, i, side="right"))
            place = int(i - batch.run_end[which] + frames.rows[which])
            row = refusals.refused(records[which], frames[which], place, Verdict(verdict[i]))
            self._exceptions.append(row)
            self.count(f"exception.{row.reason}")
        late = np.flatnonzero(verdict == Verdict.LATE)
        if len(late):
            pair = batch.slots[late].astype(np.int64) << 32 | batch.read_at_s[late] // _DAY_S
            distinct, counts = np.unique(pair, return_counts=True)
            rows = np.zeros(len(distinct), LATE)
            rows["channel"], rows["day"], rows["count"] = distinct >> 32, distinct & 0xFFFFFFFF, counts
            self._late.append(rows)

    # -- ticks -----------------------------------------------------------------------------------------------
    def _tick(self, as_of_s: int) -> None:
        self.count("ticks")
        part = self.part
        if part.image is None or part.book is None:
            return
        before_s = self.counters.get(LAST_TICK, 0)
        self.counters[LAST_TICK] = max(before_s, as_of_s)
        self._all_pending |= days_over(part.book, before_s, as_of_s)
        last_day = self._days.ended(part.book, before_s, as_of_s)
        if last_day is not None:
            for closes in post_days(part, last_day, self._minor, self._closes):
                self.bookings.close(part, closes)
        for _ in range(1200):  # months in a century: a bound, not an expectation
            closed = 0
            for slots, ripe, closes in ripe_accounts(
                part, as_of_s, self._rating.settlement_window_s, self._minor, self._closes
            ):
                self.bookings.close(part, closes)
                self._estimate(slots[ripe == 2])
                self.bookings.bill(*settle_bills(part, slots, ripe, as_of_s, self._minor))
                self.count("bills.complete", int((ripe == 1).sum()))
                self.count("bills.by_window", int((ripe == 2).sum()))
                closed += len(slots)
            if closed == 0:
                return
        raise AssertionError("bill cycles do not come to an end")

    def _estimate(self, slots: npt.NDArray[np.int32]) -> None:
        """Take the lagging registers of accounts that close by the window to the cycle's end, by estimates."""
        if len(slots) == 0:
            return
        readings = guesses(self.part, slots, self._rating.plausible_window_s)
        with self.bookings.estimating():
            verdict = self.rate(*readings)
        for code in verdict:
            self.count(f"estimate.{Verdict(code).name.lower()}")

    # -- the inbox -------------------------------------------------------------------------------------------
    def apply_inbox(self, row: InboxRow) -> None:
        """Apply any inbox row but `registry` after the record at `self.offset`."""
        self.as_of_s = max(self.as_of_s, row.created_at_s)
        self._commands.apply(row)

    def applied(self, row: InboxRow, outcome: str = "", order_id: int | None = None) -> None:
        """Say in the next checkpoint that `row` was applied here."""
        self._applied.append(Applied(row.id, self.offset, outcome, order_id))
        self.count(f"inbox.{row.kind}" if not outcome else f"inbox.{row.kind}.refused")
        self._changed = True

    def local_day(self) -> int:
        """The local day that money is booked on now."""
        book = self.part.book
        return book.calendars[0].day_of(self.as_of_s) if book is not None and book.calendars else 0

    def book(self, entry: Entry) -> None:
        self.bookings.entries.append(entry)

    def set_aside(self, row: ExceptionRow) -> None:
        self._exceptions.append(row)
        self.count(f"exception.{row.reason}")

    def notify(self, notice: Notice) -> None:
        self._notices.append(notice)

    def count(self, name: str, by: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + by

    # -- checkpoint ------------------------------------------------------------------------------------------
    @property
    def changed(self) -> bool:
        """Has anything happened since the last checkpoint?"""
        return self._changed

    def checkpoint(self, *, epoch: int, log_id: str) -> PartitionCheckpoint:
        """Judge the touched accounts and hand over everything since the last checkpoint; the engine goes on clean."""
        part = self.part
        channels = marked(part.dirty_channel)
        self._reckon_pending(channels)
        events = self._judge(channels)
        ladders, accounts = marked(part.dirty_ladder), marked(part.dirty_account)
        sheets, cells = marked(part.dirty_sheet), marked(part.dirty_cell)
        out = PartitionCheckpoint(
            partition=self.partition,
            epoch=epoch,
            log_id=log_id,
            offset=self.offset,
            as_of_s=self.as_of_s,
            registry_digest=self.registry_digest,
            timeline_digest=part.book.digest if part.book else "",
            counters=dict(self.counters),
            state={
                "channel": StateChange(part.channel, channels),
                # An accepted reading marks its channel and leaves `cold` alone; written along, it would be a quarter
                # of every checkpoint.
                "cold": StateChange(part.cold, self._cold.moved(part.cold, channels)),
                "ladder": StateChange(part.ladder, ladders),
                "account": StateChange(part.account, accounts),
                "sheet": StateChange(part.sheet, sheets),
                "cell": StateChange(part.cell, cells),
            },
            entries=self.bookings.drain(self.offset, self.as_of_s),
            events=events,
            exceptions=self._exceptions,
            notices=self._notices,
            applied=self._applied,
            late=np.concatenate(self._late) if self._late else None,
        )
        clear(part.dirty_channel, channels)
        clear(part.dirty_ladder, ladders)
        clear(part.dirty_account, accounts)
        clear(part.dirty_sheet, sheets)
        clear(part.dirty_cell, cells)
        self._exceptions, self._notices, self._applied, self._late = [], [], [], []
        self._changed = False
        return out

    def _reckon_pending(self, channels: Slots) -> None:
        """What open bills cost beside their energy, of the accounts that moved; each day once of all."""
        part = self.part
        if len(part.sheet) == 0:
            return
        if self._all_pending:
            accounts = np.unique(part.served.account)
        else:
            accounts = accounts_of(channels, part.cold, part.dirty_account)
        refresh_pending(part, accounts, self.counters.get(LAST_TICK, 0))
        self._all_pending = False

    def _judge(self, channels: Slots) -> list[Event]:
        events: list[Event] = []
        judged = judge(self.part, channels, self._autopay.hysteresis_fen, self._minor, self.as_of_s)
        if len(judged) == 0:
            return events
        assert self.names is not None
        for row in judged:
            account = self.names.account_id(int(row["slot"]))
            balance_fen, arm = int(row["balance_fen"]), int(row["arm"])
            kind = KIND_NAME[int(row["kind"])]
            events.append(Event(kind, account, arm, self.as_of_s, balance_fen))
            self.count(f"event.{kind}")
            if row["kind"] == ALERT:
                params = {"balance_fen": balance_fen, "as_of_s": self.as_of_s}
                key = f"low_balance:{account}:{arm}:{self.as_of_s}"
                self.notify(Notice(key, "low_balance", "", account, params))
        return events
