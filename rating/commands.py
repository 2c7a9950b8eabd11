"""Pure: what inbox rows do to a partition: openings, change-outs, money, re-baselines, releases, supply.

Every row ends in `engine.applied`. One that cannot be carried out (its body is wrong, its account or register is
not here, its time has passed) changes nothing, says why in its outcome, and is a row of the exceptions queue: the
money or the word of a person behind it must not vanish, and it must not stop the engine now or at every start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from config.units import Quality
from ledger.effects import Entry, ExceptionRow, InboxRow, Notice
from ledger.postings import clearing, credit_entry, opening_entry, reversal_entry
from rating import bodies, refusals
from rating.bodies import NEVER, Refused
from rating.kernel import open_span
from rating.names import Names
from rating.partition import Partition
from rating.releases import told
from rating.state import AccountFlag, ChannelFlag
from rating.takeover import Activated
from rating.verdicts import EXCEPTION_REASON, FIRST_REFUSED, Verdict
from registry.image import PartitionImage

BALANCE_MAX_FEN: Final = 2**61  # of either sign


class Engine(Protocol):
    """What the commands need of the engine whose hands they are (rating.engine.PartitionEngine)."""

    partition: int
    offset: int
    as_of_s: int
    part: Partition
    names: Names | None

    def rate(
        self, slots: Any, value: Any, read_at_s: Any, quality: Any, not_after_s: Any
    ) -> npt.NDArray[np.uint8]: ...

    def local_day(self) -> int: ...

    def book(self, entry: Entry) -> None: ...

    def notify(self, notice: Notice) -> None: ...

    def set_aside(self, row: ExceptionRow) -> None: ...

    def count(self, name: str, by: int = 1) -> None: ...

    def applied(self, row: InboxRow, outcome: str = "", order_id: int | None = None) -> None: ...


class Commands:
    """The engine's hands for inbox rows; every row ends in `engine.applied`, also when it changes nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def apply(self, row: InboxRow) -> None:
        try:
            if not isinstance(row.body, dict):
                raise Refused("the body is no object")
            match row.kind:
                case "credit" | "reversal":
                    self._money(row)
                case "rebaseline":
                    self._rebaseline(row)
                case "release":
                    self._release(row)
                case "supply":
                    self._supply(row)
                case _:
                    raise Refused(f"unknown kind {row.kind}")
        except Refused as why:
            self.refuse(row, str(why))

    def refuse(self, row: InboxRow, why: str) -> None:
        """End a row that changes nothing."""
        self._engine.set_aside(
            refusals.command(row, why, self._engine.partition, self._engine.offset, self._engine.as_of_s)
        )
        self._engine.applied(row, why)

    # -- the registry ----------------------------------------------------------------------------------------
    def opened(self, slots: Sequence[int], row: InboxRow) -> None:
        """Book the opening balances and arrears of accounts that a registry version brought."""
        if len(slots) == 0:
            return
        engine = self._engine
        image = engine.part.image
        assert image is not None
        at = np.asarray(slots, np.int32)
        facts = image.accounts[at]
        entry = opening_entry(
            facts["opening_balance_fen"],
            facts["opening_arrears_fen"],
            offset=engine.offset,
            booked_at_s=engine.as_of_s,
            days=engine.local_day(),
            reference=f"opening:{engine.partition}:{row.key}"[:120],
            slots=at,
        )
        if entry is not None:
            engine.book(entry)

    def tell_backdated(self, found: Activated, image: PartitionImage) -> None:
        """What was charged under facts that have changed meanwhile stays; the operator hears of each register."""
        engine = self._engine
        part, facts = engine.part, image.channels
        said = [
            (int(slot), int(part.channel["until_s"][slot]), "ends here, behind its last accepted reading")
            for slot in found.spans
        ]
        on = np.flatnonzero((facts["ladder"] >= 0) & (part.channel["value"] >= 0))
        latest = np.full(len(part.ladder), -1, np.int64)  # of each ladder the channel with the latest register
        on = on[np.lexsort((facts["register"][on], facts["meter"][on], part.channel["at_s"][on]))]
        latest[facts["ladder"][on]] = on
        for ladder, since_s in zip(found.ladders.tolist(), found.ladders_since_s, strict=True):
            said.append((int(latest[ladder]), since_s, "has other tier bounds from here on"))
        for slot, since_s, what in said:
            row = part.channel[slot]
            account = engine.names.account_id(int(facts["account"][slot])) if engine.names is not None else ""
            note = f"the span of account {account} {what}; what it charged up to read_at stays: a correction is due"
            reading = (int(facts["meter"][slot]), int(facts["register"][slot]), int(row["at_s"]), int(row["value"]))
            engine.set_aside(
                refusals.backdated(*reading, int(row["quality"]), since_s, note, engine.offset, engine.as_of_s)
            )

    def close_removed(self, image: PartitionImage) -> None:
        """Change-outs: the old final read closes its channel, as a reading at the change's instant.

        One that the rules refuse closes nothing; it is a row of the exceptions queue, and may be released.
        """
        facts, rows, engine = image.channels, self._engine.part.channel, self._engine
        open_still = (facts["closing_value"] >= 0) & (rows["at_s"] <= facts["until_s"])
        slots = np.flatnonzero(open_still).astype(np.int32)
        if len(slots) == 0:
            return
        firsts = _first_spans(facts["next"], slots)
        values = facts["closing_value"][slots].astype(np.int64)
        until = facts["until_s"][slots].astype(np.uint32)
        verdict = engine.rate(
            firsts,
            values,
            until,
            np.full(len(slots), int(Quality.A), np.uint8),
            np.full(len(slots), NEVER, np.uint32),
        )
        for i in np.flatnonzero(verdict != Verdict.DUPLICATE):  # the same final read again is no news
            said = Verdict(verdict[i])
            engine.count(f"change_out.{said.name.lower()}")
            if said in EXCEPTION_REASON and said >= FIRST_REFUSED:
                slot = int(slots[i])
                reading = (int(facts["meter"][slot]), int(facts["register"][slot]), int(until[i]), int(values[i]))
                source = _source(image, int(firsts[i]))
                engine.set_aside(refusals.final_read(*reading, said, source, engine.offset, engine.as_of_s))

    # -- money -----------------------------------------------------------------------------------------------
    def _money(self, row: InboxRow) -> None:
        engine, told = self._engine, bodies.money(row.body, row.key)
        slot = engine.names.account_slot(told.account) if engine.names is not None else None
        if slot is None:
            raise Refused(f"no account {told.account} in partition {engine.partition}")
        signed_fen = told.amount_fen if row.kind == "credit" else -told.amount_fen
        account = engine.part.account
        if abs(int(account["balance_fen"][slot]) + signed_fen) > BALANCE_MAX_FEN:
            raise Refused("the balance would leave what 64 bits hold safely")
        entry = credit_entry if row.kind == "credit" else reversal_entry
        where: dict[str, Any] = {
            "offset": engine.offset,
            "booked_at_s": engine.as_of_s,
            "day": engine.local_day(),
        }
        engine.book(entry(slot, told.amount_fen, clearing(told.gateway), row.key, **where))
        account["balance_fen"][slot] += signed_fen
        if told.order_id is not None:  # an account that is still low after it may trigger again
            account["flags"][slot] |= AccountFlag.TRIGGER_ARMED
            account["arm"][slot] = max(int(account["arm"][slot]), told.arm)  # after a restore
        engine.part.dirty_account[slot] = 1
        engine.count(f"money.{row.kind}_fen", told.amount_fen)
        params = {"amount_fen": told.amount_fen, "kind": row.kind, "reference": told.reference}
        if told.order_id is None:  # an order tells both itself
            engine.notify(Notice(f"credited:{row.key}", "credited", "", told.account, params))
        engine.applied(row, order_id=told.order_id)

    # -- readings --------------------------------------------------------------------------------------------
    def _rebaseline(self, row: InboxRow) -> None:
        """A person says where the register stands: energy counts on from there, nothing is charged for the step.

        Nothing flows up to then, but days and spans end: the register is walked there with no energy, and the
        span in which it arrives takes the new value.
        """
        engine, where, (value, at_s) = self._engine, bodies.register_at(row.body), bodies.value_at(row.body)
        part = engine.part
        first = self._first_span(where.concentrator, where.meter, where.register)
        if first is None or part.book is None:
            raise Refused("no such channel")
        before = part.channel[self._open_span(first, at_s)]
        if at_s < before["at_s"] or at_s > engine.as_of_s:
            raise Refused("time is before the last accepted reading or after now")
        if value % int(before["resolution"]):
            raise Refused("the value is finer than the register's resolution")
        if at_s > before["at_s"]:
            verdict = engine.rate(
                np.array([first], np.int32),
                np.array([before["value"]], np.int64),
                np.array([at_s], np.uint32),
                np.array([int(Quality.A)], np.uint8),
                np.array([NEVER], np.uint32),
            )
            if verdict[0] >= FIRST_REFUSED:
                raise Refused(f"the register cannot be taken to that time: {Verdict(verdict[0]).name.lower()}")
        slot = self._open_span(first, at_s)
        channel = part.channel[slot]
        channel["value"] = value
        channel["quality"] = int(Quality.A)
        channel["estimate_excess"] = 0
        part.cold["pending_at_s"][slot] = 0
        part.dirty_channel[slot] = 1
        engine.applied(row)

    def _release(self, row: InboxRow) -> None:
        """Readings that a person let go of the exceptions queue are judged again, now."""
        engine = self._engine
        concentrator, readings = bodies.readings(row.body)
        slots = np.array([self._listed(concentrator, meter, register) for meter, register, *_ in readings], np.int32)
        verdict = engine.rate(
            slots,
            np.array([r[3] for r in readings], np.int64),
            np.array([r[2] for r in readings], np.uint32),
            np.array([r[4] for r in readings], np.uint8),
            np.full(len(readings), min(engine.as_of_s + 300, NEVER), np.uint32),
        )
        for code in verdict:
            engine.count(f"released.{Verdict(code).name.lower()}")
        engine.applied(row, told(verdict.tolist()))

    def _supply(self, row: InboxRow) -> None:
        """A person says that a register's supply is disconnected, or connected again: use meanwhile is warned of."""
        engine, where, off = self._engine, bodies.register_at(row.body), bodies.disconnected(row.body)
        first = self._first_span(where.concentrator, where.meter, where.register)
        if first is None:
            raise Refused("no such channel")
        slot = self._open_span(first, engine.as_of_s)
        part = engine.part
        if part.channel["at_s"][slot] >= part.channel["until_s"][slot]:
            raise Refused("the meter is not installed any more")
        flags = part.channel["flags"][slot] & ~np.uint8(ChannelFlag.DISCONNECTED)
        part.channel["flags"][slot] = flags | ChannelFlag.DISCONNECTED if off else flags
        part.dirty_channel[slot] = 1
        engine.applied(row)

    # -- look-ups --------------------------------------------------------------------------------------------
    def _first_span(self, concentrator: str, meter: int, register_code: int) -> int | None:
        first = self._listed(concentrator, meter, register_code)
        return first if first >= 0 else None

    def _listed(self, concentrator: str, meter: int, register_code: int) -> int:
        """First span of a register in a concentrator's list; -1: no such meter there, -2: it has no such register."""
        image = self._engine.part.image
        if image is None or concentrator not in image.lists:
            return -1
        start, end = image.lists[concentrator]
        places = start + np.flatnonzero(image.list_meter[start:end] == np.uint64(meter))
        here = places[image.list_register[places] == register_code]
        if len(here):
            return int(image.list_channel[here[0]])
        return -2 if len(places) else -1

    def _open_span(self, first: int, at_s: int) -> int:
        """The span of the register that a reading at `at_s` is judged in."""
        part = self._engine.part
        homes = part.homes()
        return int(open_span(homes, first, at_s))


def _source(image: PartitionImage, first: int) -> str:
    """The concentrator in whose list a register stands, the first by name; "" when in none."""
    places = np.flatnonzero(image.list_channel == first)
    return min((name for name, (a, b) in image.lists.items() if any(a <= p < b for p in places)), default="")


def _first_spans(following: npt.NDArray[np.int32], slots: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """For each slot the first span of its register: the kernel finds the open one from there."""
    before = np.full(len(following), -1, np.int32)
    linked = np.flatnonzero(following >= 0)
    before[following[linked]] = linked
    first = slots.copy()
    while (back := before[first] >= 0).any():
        first[back] = before[first[back]]
    return first
