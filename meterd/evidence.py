"""I/O: what stands behind one account's day: its readings from archive and log, and what the ledger posted.

Archive files are chosen by the day of their readings, with some days before, so that the last register before the
bill cycle and re-reads of earlier days are among them; where that is not enough, all of the partition is read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Final

import numpy as np
from sqlalchemy import select

from config.units import REGISTER_CODE, Register
from ingest.archive import ArchiveDamaged, read_archive
from ingest.wire import decode_readings
from ledger.reads import StatementRow, bills, statement_rows
from ledger.schema import archive_file, exception, inbox, inbox_applied
from ledger.statements import month_of
from meterd.city import City
from meterd.exits import Exit, Stop
from meterd.guesses import Closed, chain, closes, figures
from meterd.lookup import Account
from meterd.views.explaining import MINOR, ChannelDay, Guess, Point, Seen, Span, accepted, cut, explain
from rating.book import TariffBook
from rating.calendar import first_day_of
from rating.readings import RecordKind
from rating.refusals import READING_BYTES
from rating.releases import refused
from rating.rings import groups
from registry.image import FOREVER

DAY_S: Final = 86_400
_SHORT: Final = (("energy", "energy"), ("tier_adder", "adder"))  # component, in the state's field names
MARGIN_DAYS: Final = 5  # concentrators re-read three days every night
_AT_THAT_TIME: Final = ("future", "unknown_meter", "unknown_register", "not_installed")  # accepted when sent again
_LOG: Final = "SELECT id, kind, received_at_s, source, body FROM record WHERE id > ? AND id < ? ORDER BY id"


class Evidence:
    """The readings of one account's partition; made for one command."""

    def __init__(self, account: Account) -> None:
        view = account.view
        self._account, self._view = account, view
        self._city = City(view.paths.registry, view.registry.digest, view.settings.rating)
        self._image = self._city.image.partitions[account.partition]
        self._rows = statement_rows(view.connection, account.partition, account.slot)
        self._bills = bills(view.connection, account.partition, account.slot)

    @property
    def book(self) -> TariffBook:
        return self._city.book

    def days(self, day: int) -> list[tuple[int, ChannelDay]]:
        """(channel slot, its day) of every charged channel that lived on that local day."""
        found = []
        for slot in self._account.channels:
            facts = self._image.channels[slot]
            if not facts["bill"] or facts["tariff"] < 0:
                continue
            span = self._span(slot)
            calendar = self.book.calendars[span.tariff]
            if calendar.day_start_s(day + 1) > span.from_s and calendar.day_start_s(day) < span.until_s:
                found.append((slot, self._channel_day(slot, span, day)))
        return found

    # -- one channel -----------------------------------------------------------------------------------------
    def _span(self, slot: int) -> Span:
        facts = self._image.channels[slot]
        ladder = self._image.ladders[int(facts["ladder"])]
        return Span(
            from_s=int(facts["opening_at_s"]),
            until_s=int(facts["until_s"]),
            tariff=int(facts["tariff"]),
            history=int(ladder["history"]),
            multiplier=int(facts["multiplier"]),
        )

    def _channel_day(self, slot: int, span: Span, day: int) -> ChannelDay:
        calendar = self.book.calendars[span.tariff]
        from_s = calendar.day_start_s(first_day_of(month_of(day)))
        points, guesses = self._points(slot, span, from_s, calendar.day_start_s(day + 1))
        mine = [row for row in self._rows if row.channel == slot and row.day == day]
        state = self._account.rows[self._account.channels.index(slot)]
        # A day that a tick has closed may go on: what was posted and what has accrued since are one.
        goes_on = not mine or int(state["day_energy"]) != 0
        open_day = goes_on and int(state["at_s"]) < calendar.day_start_s(day + 1)
        told = {name: -_sum(mine, name) for name in ("energy", "tier_adder")}
        accrued = None
        if open_day and int(state["at_s"]) >= calendar.day_start_s(day):
            accrued = {name: int(state[f"accrued_{short}_e11"]) + told[name] * MINOR for name, short in _SHORT}
        posted = None if open_day else told
        ledger_wh = sum(row.quantity for row in mine) if posted is not None else None
        if accrued is not None:
            ledger_wh = sum(row.quantity for row in mine) + int(state["day_energy"])
        first = min(first_day_of(month_of(day)), day) - 1
        used = {one: self._used_at(slot, span, one, points, guesses) for one in range(first, day + 1)}
        return explain(self.book, span, points, used, day, posted, accrued, ledger_wh, guesses)

    def _used_at(self, slot: int, span: Span, day: int, points: Sequence[Point], guesses: Sequence[Guess]) -> int:
        """The ladder's energy at the start of a day, in the tier cycle that holds it, from what was posted."""
        start_s = self.book.day_start_s(span.tariff, day)
        cycle_s = self._cycle_start_s(span, max(start_s, span.from_s))
        for guess in guesses:  # what a guess covers came behind all that the ladder had by then
            if guess.from_s < start_s < guess.to_s and self._cycle_start_s(span, guess.from_s) == cycle_s:
                made = [r for r in self._rows if r.channel == slot and r.kind == "estimate"]
                first_day = self.book.calendars[span.tariff].day_of(guess.from_s)
                return guess.begins_wh + sum(r.quantity for r in made if first_day <= r.day < day)
        cycle_day = self.book.calendars[span.tariff].day_of(cycle_s)
        mine = [r.entry_id for r in self._rows if r.channel == slot and r.day == day]
        posted = [
            row
            for row in self._on_ladder(slot)
            if cycle_day <= row.day < day
            # another register's guess that was made after this day was posted
            and not (row.kind == "estimate" and row.channel != slot and mine and row.entry_id > min(mine))
        ]
        used = self._opening_used(slot, cycle_s) + sum(row.quantity for row in posted)
        return used - self._of_older_cycles(span, points, cycle_s, start_s)

    def _of_older_cycles(self, span: Span, points: Sequence[Point], cycle_s: int, to_s: int) -> int:
        """What better readings changed of an older tier cycle, and is posted in the one that begins at `cycle_s`."""
        return sum(p.late * span.multiplier for p in points if p.at_s == cycle_s < to_s and p.at_s > span.from_s)

    def _opening_used(self, slot: int, cycle_s: int) -> int:
        opening = self._image.ladders[int(self._image.channels["ladder"][slot])]
        return int(opening["opening_used"]) if int(opening["opening_at_s"]) >= cycle_s else 0

    def _on_ladder(self, slot: int) -> list[StatementRow]:
        """What was posted on the ladder of a channel, and on those that count as one with it."""
        facts = self._image.channels
        group = groups(self.book)[self._image.ladders["tariff"]]
        mine = group[int(facts["ladder"][slot])]
        siblings = {
            s for s in self._account.channels if facts["ladder"][s] >= 0 and group[facts["ladder"][s]] == mine
        }
        return [row for row in self._rows if row.channel in siblings]

    # -- guesses ---------------------------------------------------------------------------------------------
    def _guesses(self, spans: Sequence[int], closed: Sequence[Closed], points: Sequence[Point]) -> list[Guess]:
        """The figures of each guess that is among the points."""
        found = []
        for one in closed:
            if not one.energy_wh:
                continue
            begun = [point for point in points if point.closed and point.at_s < one.to_s]
            slot = next((s for s in spans if any(r.channel == s for r in one.rows)), spans[0])
            if begun:
                span, at_s = self._span(slot), begun[-1].at_s
                cycle_s = self._cycle_start_s(span, at_s)
                cycle_day = self.book.calendars[span.tariff].day_of(cycle_s)
                last_day, made = first_day_of(one.cycle + 1), one.rows[0].entry_id
                before = [r for r in self._on_ladder(slot) if cycle_day <= r.day < last_day and r.entry_id <= made]
                used = self._opening_used(slot, cycle_s) + sum(r.quantity for r in before if r.entry_id < made)
                begins = used + sum(r.quantity for r in before if r.entry_id == made and r.channel < slot)
                since_s = max(cycle_s, int(self._image.accounts["from_s"][self._account.slot]))
                found.append(figures(self._image, slot, one, begun[-1], used, begins, since_s))
        return found

    def _cycle_start_s(self, span: Span, at_s: int) -> int:
        """Start of the tier cycle that holds the instant: the first of its stages."""
        book = self.book
        stage = book.stage_of(span.tariff, span.history, at_s)
        run_first = int(book.stage_first[int(book.schedule_of[span.tariff, span.history])])
        while stage > run_first and book.stage_cycle[stage - 1] == book.stage_cycle[stage]:
            stage -= 1
        return int(book.stage_start[stage])

    # -- readings --------------------------------------------------------------------------------------------
    def _points(self, slot: int, span: Span, from_s: int, to_s: int) -> tuple[list[Point], list[Guess]]:
        """Accepted registers of the channel around [from_s, to_s], and the guesses among them."""
        first = self._first_of(slot)
        spans = chain(self._image, first)
        facts = self._image.channels[first]
        opening = Point(
            int(facts["opening_at_s"]), int(facts["opening_value"]), int(facts["opening_quality"]) or 4,
            int(facts["opening_value"]), "opening",
        )  # fmt: skip
        low_day, high_day = from_s // DAY_S - MARGIN_DAYS, to_s // DAY_S + MARGIN_DAYS
        closed = closes(self._image, self.book, spans, self._bills, self._rows)
        # A guess rests on registers before, and was made when others had come: all of them are read then.
        guessed = any(one.energy_wh and one.end_s >= from_s and _begun_s(one) < to_s for one in closed)
        points = [] if guessed else self._accepted(opening, first, closed, low_day, high_day)
        starts = len(points) > 1 and points[1].at_s <= max(from_s, opening.at_s)
        if guessed or not (starts or opening.at_s >= from_s) or points[-1].at_s < to_s:
            points = self._accepted(opening, first, closed, None, None)
        final = int(self._image.channels[slot]["closing_value"])
        if span.until_s != FOREVER and final >= 0 and points[-1].at_s < span.until_s:
            points.append(Point(span.until_s, final, 4, final, "closing register of the change-out"))
        return cut(points, span.from_s, span.until_s), self._guesses(spans, closed, points)

    def _accepted(
        self, opening: Point, first: int, closed: Sequence[Closed], low_day: int | None, high_day: int | None
    ) -> list[Point]:
        return accepted(
            opening, self._seen(first, closed, low_day, high_day), int(self._image.channels[first]["digits"])
        )

    def _first_of(self, slot: int) -> int:
        """The first span of the register that `slot` is a span of."""
        before = {int(then): place for place, then in enumerate(self._image.channels["next"]) if then >= 0}
        while slot in before:
            slot = before[slot]
        return slot

    def _seen(self, first: int, closed: Sequence[Closed], low_day: int | None, high_day: int | None) -> list[Seen]:
        """Readings of the register in the order of the log, without the refused; re-baselines where they came.

        So do closes by the window, with their guesses: each at the first tick of its time.
        """
        ticks = {one.closed_at_s: one for one in closed}
        image = self._image
        places = np.flatnonzero(image.list_channel == first)
        sources = {name for name, (a, b) in image.lists.items() if any(a <= p < b for p in places)}
        meter, code = int(image.channels["meter"][first]), int(image.channels["register"][first])
        refused = self._refused()
        tolerance_s = self._view.settings.rating.future_tolerance_s
        found: list[tuple[int, int, Seen]] = []
        for offset, kind, received_at_s, source, body in self._records(low_day, high_day):
            if kind is RecordKind.TICK:
                found += [(offset, 0, seen) for seen in _closing(ticks.pop(received_at_s, None))]
            if kind is not RecordKind.READINGS or source not in sources:
                continue
            frame = decode_readings(body)
            for i in np.flatnonzero((frame.meter == np.uint64(meter)) & (frame.register == code)).tolist():
                row = np.zeros(1, READING_BYTES)
                for name in READING_BYTES.names or ():
                    row[name] = getattr(frame, name)[i]
                at_s = int(frame.read_at_s[i])
                if (row.tobytes(), None) in refused or (row.tobytes(), offset) in refused:
                    continue
                if at_s <= received_at_s + tolerance_s:
                    found.append((offset, 0, Seen(at_s, int(frame.value[i]), int(frame.quality[i]))))
        found += self._by_hand(sources, meter, code)
        return [seen for _, _, seen in sorted(found, key=lambda item: item[:2])]

    def _records(
        self, low_day: int | None, high_day: int | None
    ) -> Iterator[tuple[int, RecordKind, int, str, bytes]]:
        """Records of the partition: (offset, kind, received_at_s, source, body), archive first, then the log."""
        view, partition, f = self._view, self._account.partition, archive_file.c
        last = 0
        for row in view.connection.execute(
            select(archive_file).where(f.partition == partition).order_by(f.first_offset)
        ):
            last = max(last, row.last_offset)
            if low_day is not None and high_day is not None and (row.day_last < low_day or row.day_first > high_day):
                continue
            try:
                stored = read_archive(view.paths.archive / row.path, digest=row.digest)
            except ArchiveDamaged as damaged:
                raise Stop(Exit.REFUSED, f"{damaged}. Restore it from a backup") from damaged
            for one in stored:
                record = one.record
                yield one.offset, record.kind, record.received_at_s, record.source, record.body
        if not view.paths.log.is_file():
            return
        with closing(sqlite3.connect(f"file:{view.paths.log}?mode=ro", uri=True, timeout=10.0)) as log:
            base = partition << 48
            for key, kind, received_at_s, source, body in log.execute(_LOG, (base + last, base + (1 << 48))):
                yield key - base, RecordKind(kind), received_at_s, source, body

    def _refused(self) -> set[tuple[bytes, int | None]]:
        """Readings of the exceptions queue that moved no register: their bytes, with an offset where that matters."""
        e = exception.c
        asked = select(e.bytes, e.reason, e.offset).where(
            e.partition == self._account.partition, e.meter.is_not(None)
        )
        return {
            (row.bytes, row.offset if row.reason in _AT_THAT_TIME else None)
            for row in self._view.connection.execute(asked)
            if row.reason != "frozen"
        }

    def _by_hand(self, sources: set[str], meter: int, code: int) -> list[tuple[int, int, Seen]]:
        """Releases and re-baselines of this register that took effect, after the record they came behind."""
        asked = (
            select(inbox.c.kind, inbox.c.body, inbox.c.id, inbox_applied.c.offset, inbox_applied.c.outcome)
            .join(inbox_applied, inbox_applied.c.inbox_id == inbox.c.id)
            .where(inbox_applied.c.partition == self._account.partition)
            .where(inbox.c.kind.in_(("release", "rebaseline")))
        )
        found: list[tuple[int, int, Seen]] = []
        for kind, text, row_id, offset, outcome in self._view.connection.execute(asked):
            body = json.loads(text)
            if body["concentrator"] not in sources:
                continue
            if kind == "release":  # of many readings some may have been refused again
                not_these = refused(outcome, len(body["readings"]))
                for place, (number, register, at_s, value, quality) in enumerate(body["readings"]):
                    if (number, register) == (meter, code) and place not in not_these:
                        found.append((offset, row_id, Seen(at_s, value, quality)))
            elif outcome:
                continue
            elif (int(body["meter"]), REGISTER_CODE[Register(body["register"])]) == (meter, code):
                found.append((offset, row_id, Seen(int(body["at_s"]), int(body["value"]), 4, "rebaseline")))
        return found


def _closing(closed: Closed | None) -> list[Seen]:
    if closed is None:
        return []
    close = Seen(closed.end_s, 0, 0, "close")
    return [close, Seen(closed.to_s, closed.value, 1, "estimate")] if closed.energy_wh else [close]


def _begun_s(closed: Closed) -> int:
    """Not after the guess begins: the start of the first UTC day that it may have energy on."""
    return (min(row.day for row in closed.rows) - 1) * DAY_S


def _sum(rows: Sequence[StatementRow], component: str) -> int:
    return sum(row.amount_fen for row in rows if row.component == component)
