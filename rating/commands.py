"""Pure: what inbox rows do to a partition: openings, change-outs, credits, reversals, re-baselines, releases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from config.units import REGISTER_CODE, Quality, Register
from ledger.effects import Entry, InboxRow, Notice
from ledger.postings import clearing, credit_entry, opening_entry, reversal_entry
from rating.names import Names
from rating.partition import Partition
from rating.releases import told
from rating.state import AccountFlag
from rating.verdicts import FIRST_REFUSED, Verdict
from registry.image import PartitionImage

_NEVER = 2**32 - 1


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

    def count(self, name: str, by: int = 1) -> None: ...

    def applied(self, row: InboxRow, outcome: str = "", order_id: int | None = None) -> None: ...


class Commands:
    """The engine's hands for inbox rows; every row ends in `engine.applied`, also when it changes nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def apply(self, row: InboxRow) -> None:
        match row.kind:
            case "credit" | "reversal":
                self._money(row)
            case "rebaseline":
                self._rebaseline(row)
            case "release":
                self._release(row)
            case _:
                self._engine.applied(row, f"unknown kind {row.kind}")

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

    def close_removed(self, image: PartitionImage) -> None:
        """Change-outs: the old final read closes its channel, as a reading at the change's instant."""
        facts, rows = image.channels, self._engine.part.channel
        open_still = (facts["closing_value"] >= 0) & (rows["at_s"] < facts["until_s"])
        slots = np.flatnonzero(open_still).astype(np.int32)
        if len(slots) == 0:
            return
        values = facts["closing_value"][slots].astype(np.int64)
        until = facts["until_s"][slots].astype(np.uint32)
        verdict = self._engine.rate(
            _first_spans(facts["next"], slots),
            values,
            until,
            np.full(len(slots), int(Quality.A), np.uint8),
            np.full(len(slots), _NEVER, np.uint32),
        )
        for code, count in enumerate(np.bincount(verdict)):
            if count:
                self._engine.count(f"change_out.{Verdict(code).name.lower()}", int(count))

    # -- money -----------------------------------------------------------------------------------------------
    def _money(self, row: InboxRow) -> None:
        engine = self._engine
        body = row.body
        slot = self._slot(str(body["account"]))
        if slot is None:
            engine.applied(row, f"no account {body['account']} in partition {engine.partition}")
            return
        amount_fen = int(body["amount_fen"])
        order_id = body.get("order_id")
        account = engine.part.account
        common: dict[str, Any] = {
            "offset": engine.offset,
            "booked_at_s": engine.as_of_s,
            "day": engine.local_day(),
        }
        cash = clearing(str(body.get("gateway", "counter")))
        if row.kind == "credit":
            engine.book(credit_entry(slot, amount_fen, cash, row.key, **common))
            account["balance_fen"][slot] += amount_fen
        else:
            engine.book(reversal_entry(slot, amount_fen, cash, row.key, **common))
            account["balance_fen"][slot] -= amount_fen
        if order_id is not None:  # an account that is still low after it may trigger again
            account["flags"][slot] |= AccountFlag.TRIGGER_ARMED
        engine.part.dirty_account[slot] = 1
        engine.count(f"money.{row.kind}_fen", amount_fen)
        params = {"amount_fen": amount_fen, "kind": row.kind, "reference": str(body.get("reference", row.key))}
        if order_id is None:  # an order tells both itself
            engine.notify(Notice(f"credited:{row.key}", "credited", "", str(body["account"]), params))
        engine.applied(row, order_id=None if order_id is None else int(order_id))

    # -- readings --------------------------------------------------------------------------------------------
    def _rebaseline(self, row: InboxRow) -> None:
        """A person says where the register stands: energy counts on from there, nothing is charged for the step."""
        engine, body = self._engine, row.body
        slot = self._channel(str(body["concentrator"]), int(body["meter"]), str(body["register"]))
        if slot is None:
            engine.applied(row, "no such channel")
            return
        at_s = int(body["at_s"])
        part = engine.part
        channel = part.channel[slot]
        if at_s < channel["at_s"] or at_s > engine.as_of_s:
            engine.applied(row, "time is before the last accepted reading or after now")
            return
        assert part.book is not None
        if at_s > channel["at_s"]:  # nothing flows in the gap, but its days end: walk them with no energy
            verdict = engine.rate(
                np.array([slot], np.int32),
                np.array([channel["value"]], np.int64),
                np.array([at_s], np.uint32),
                np.array([int(Quality.A)], np.uint8),
                np.array([_NEVER], np.uint32),
            )
            assert verdict[0] < FIRST_REFUSED
        channel["value"] = int(body["value"])
        channel["quality"] = int(Quality.A)
        channel["estimate_excess"] = 0
        part.cold["pending_at_s"][slot] = 0
        part.dirty_channel[slot] = 1
        engine.applied(row)

    def _release(self, row: InboxRow) -> None:
        """Readings that a person let go of the exceptions queue are judged again, now."""
        engine, body = self._engine, row.body
        readings = [tuple(int(x) for x in r) for r in body["readings"]]  # meter, register, read_at_s, value, quality
        source = str(body["concentrator"])
        slots = np.array([self._listed(source, r[0], r[1]) for r in readings], np.int32)
        verdict = engine.rate(
            slots,
            np.array([r[3] for r in readings], np.int64),
            np.array([r[2] for r in readings], np.uint32),
            np.array([r[4] for r in readings], np.uint8),
            np.full(len(readings), min(engine.as_of_s + 300, _NEVER), np.uint32),
        )
        for code in verdict:
            engine.count(f"released.{Verdict(code).name.lower()}")
        engine.applied(row, told(verdict.tolist()))

    # -- look-ups --------------------------------------------------------------------------------------------
    def _slot(self, account: str) -> int | None:
        return self._engine.names.account_slot(account) if self._engine.names is not None else None

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

    def _channel(self, concentrator: str, meter: int, register: str) -> int | None:
        """The span of the register that is open now."""
        first = self._listed(concentrator, meter, REGISTER_CODE[Register(register)])
        slot = first if first >= 0 else None
        cold, channel = self._engine.part.cold, self._engine.part.channel
        while slot is not None and channel["at_s"][slot] >= channel["until_s"][slot] and cold["next"][slot] >= 0:
            slot = int(cold["next"][slot])
        return slot


def _first_spans(following: npt.NDArray[np.int32], slots: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """For each slot the first span of its register: the kernel finds the open one from there."""
    before = np.full(len(following), -1, np.int32)
    linked = np.flatnonzero(following >= 0)
    before[following[linked]] = linked
    first = slots.copy()
    while (back := before[first] >= 0).any():
        first[back] = before[first[back]]
    return first
