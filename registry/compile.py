"""Pure: the validated tables of one partition -> slots and the arrays of its image.

Slots are for ever: what the version before had keeps partition and slot, what is new goes behind. New
channels go in the order in which concentrators read them, and ladders and accounts in the order of their first
channel, so that a frame touches neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from registry import columns
from registry.columns import Ints, Times
from registry.cut import Tables
from registry.faults import Faults
from registry.image import (
    ACCOUNT_FACTS,
    CHANNEL_FACTS,
    FOREVER,
    LADDER_FACTS,
    NONE,
    AttributeChange,
    PartitionImage,
)
from registry.people import Accounts, Attributes, TariffSpans, in_force
from registry.previous import Previous
from registry.spans import Channels

Slots = npt.NDArray[np.int32]


@dataclass(slots=True)
class Compiled:
    """Where everything of a partition went: per row of its tables the slot; then the image."""

    account_slot: Slots
    channel_slot: Slots
    ladder_account: Slots  # row of accounts
    ladder_tariff: Slots  # index into the version's tariffs
    ladder_slot: Slots
    image: PartitionImage


def compile_partition(
    tables: Tables,
    channels: Channels,
    tariffs: tuple[str, ...],
    now_s: int,
    alert_fen: int,
    previous: Previous | None,
    faults: Faults,
) -> Compiled | None:
    """Give out slots and fill the arrays; None when something the version before had is gone: that is a fault."""
    places = _places(tables, channels, tariffs, previous, faults)
    if places is None:
        return None
    account_start, account_channels = _by_account(places, channels)
    listed = _lists(tables, channels, places.channel_slot)
    image = PartitionImage(
        channels=_channel_facts(tables, channels, places),
        ladders=_ladder_facts(channels, places, tables.accounts, tables.history, previous),
        accounts=_account_facts(tables.accounts, tables.tariffs, places.tariff_of, now_s, alert_fen, places),
        list_meter=listed[0],
        list_register=listed[1],
        list_channel=listed[2],
        lists=listed[3],
        account_start=account_start,
        account_channels=account_channels,
    )
    return Compiled(
        places.account_slot,
        places.channel_slot,
        places.ladder_account,
        places.ladder_tariff,
        places.ladder_slot,
        image,
    )


@dataclass(slots=True)
class _Places:
    """Slots of everything; `channel_ladder` is a row of the ladders. `opened`: accounts that had ladders before."""

    tariff_of: Slots
    channel_tariff: Slots
    channel_slot: Slots
    account_slot: Slots
    ladder_slot: Slots
    ladder_account: Slots
    ladder_tariff: Slots
    channel_ladder: npt.NDArray[np.int64]
    opened: npt.NDArray[np.bool_]


def _places(
    tables: Tables, channels: Channels, tariffs: tuple[str, ...], previous: Previous | None, faults: Faults
) -> _Places | None:
    """Slots of channels by reading order; of accounts and ladders by their first channel."""
    meters, accounts = tables.meters, tables.accounts
    told = faults.count
    tariff_of = np.array([tariffs.index(name) for name in tables.tariffs.names] or [NONE], np.int32)
    channel_tariff = tariff_of[channels.tariff]
    key, ladder = np.unique(channels.account.astype(np.int64) << 20 | channel_tariff, return_inverse=True)
    ladder_account, ladder_tariff = (key >> 20).astype(np.int32), (key & 0xFFFFF).astype(np.int32)
    known = [np.full(count, NONE, np.int32) for count in (len(channels), len(accounts.lines), len(key))]
    before, opened = (0, 0, 0), np.zeros(len(accounts.lines), bool)
    if previous is not None:
        known = [
            previous.channel_slots(channels, meters, tables.registers, accounts, tariffs, channel_tariff, faults),
            previous.account_slots(accounts.ids, faults),
            previous.ladder_slots(accounts.ids, ladder_account, ladder_tariff, tariffs),
        ]
        before = (len(previous.channel_facts), len(previous.account_ids), len(previous.ladder_account))
        opened = previous.check_openings(accounts, faults)
        if faults.count > told:
            return None
    place = meters.row_concentrator[channels.row].astype(np.int64) << 20 | meters.row_position[channels.row]
    channel_slot = _give_slots(known[0], before[0], place)
    count = len(accounts.lines)
    first = _first(channels.account, channel_slot, count)
    unmetered = (1 << 32) | np.arange(count)  # behind all slots
    account_slot = _give_slots(known[1], before[1], np.where(first == columns.BAD, unmetered, first))
    ladder_slot = _give_slots(known[2], before[2], _first(ladder, channel_slot, len(key)))
    slots = (channel_slot, account_slot, ladder_slot)
    return _Places(tariff_of, channel_tariff, *slots, ladder_account, ladder_tariff, ladder, opened)


def _channel_facts(tables: Tables, channels: Channels, places: _Places) -> npt.NDArray[np.void]:
    meters, registers = tables.meters, tables.registers
    facts = np.zeros(len(channels), CHANNEL_FACTS)
    bill = registers.bill[channels.register]
    _fill(
        facts,
        places.channel_slot,
        meter=meters.address[registers.meter[channels.register]],
        opening_value=channels.opening_value,
        opening_at_s=channels.opening_at_s,
        until_s=channels.until_s,
        power_max_w=meters.row_power_max_w[channels.row],
        account=places.account_slot[channels.account],
        ladder=places.ladder_slot[places.channel_ladder],
        tariff=np.where(bill, places.channel_tariff, NONE),
        next=np.where(channels.next == NONE, NONE, places.channel_slot[channels.next]),
        closing_value=channels.closing_value,
        multiplier=meters.row_multiplier[channels.row],
        resolution=registers.resolution[channels.register],
        register=registers.code[channels.register],
        digits=meters.row_digits[channels.row],
        bill=bill,
        opening_quality=channels.opening_quality,
    )
    return facts


def _fill(facts: npt.NDArray[np.void], into: Slots, **values: npt.NDArray[Any]) -> None:
    """Write columns into the rows `into` of a structured array."""
    for name, column in values.items():
        facts[name][into] = column


def _give_slots(known: Slots, count: int, place: npt.NDArray[Any]) -> Slots:
    """Slots for those that have none, behind the `count` that are given, in order of `place`."""
    slots = known.copy()
    rows = np.flatnonzero(known < 0)
    rows = rows[np.argsort(place[rows], kind="stable")]
    slots[rows] = np.arange(count, count + len(rows))
    return slots


def _first(group: npt.NDArray[Any], order: npt.NDArray[Any], groups: int) -> Ints:
    """Smallest `order` of each group; BAD for a group without members."""
    first = np.full(groups, np.iinfo(np.int64).max, np.int64)
    np.minimum.at(first, group, order)
    first[first == np.iinfo(np.int64).max] = columns.BAD
    return first


def tariff_names(spans: TariffSpans, before: tuple[str, ...]) -> tuple[str, ...]:
    """All tariffs of a version, those of the version before first."""
    return (*before, *sorted(set(spans.names) - set(before)))


def histories(attributes: Attributes, opened_s: Times) -> tuple[tuple[tuple[AttributeChange, ...], ...], Slots]:
    """Distinct histories (0 is the empty one) and each account's; `opened_s`: when each account begins.

    What an account brings to its first day is no change inside a cycle: it holds since ever (from_s 0).
    Accounts' rows are folded one round at a time: (history so far, next change) -> a new history. There are as
    many rounds as one account has changes.
    """
    history = np.zeros(len(opened_s), np.int32)
    since_s = np.where(attributes.from_s <= opened_s[attributes.account], 0, attributes.from_s)
    found: list[tuple[AttributeChange, ...]] = [()]
    rows = np.lexsort((attributes.name, attributes.from_s, attributes.account))
    while len(rows):
        owner = attributes.account[rows]
        head = np.ones(len(rows), bool)
        head[1:] = owner[1:] != owner[:-1]
        turn = rows[head]
        facts = np.stack(
            [
                history[attributes.account[turn]],
                attributes.name[turn],
                since_s[turn],
                attributes.value[turn],
            ]
        )
        distinct, which = np.unique(facts, axis=1, return_inverse=True)
        history[attributes.account[turn]] = len(found) + which.reshape(-1)
        for before, name, from_s, value in distinct.T.tolist():
            found.append((*found[before], AttributeChange(attributes.names[name], from_s, value)))
        rows = rows[~head]
    return tuple(found), history


def _ladder_facts(
    channels: Channels, places: _Places, accounts: Accounts, history: Slots, previous: Previous | None
) -> npt.NDArray[np.void]:
    """The energy so far goes to the ladder in which the account's first counted energy falls, once: what the version
    before has of a ladder stays, and a further ladder of an account that is open brings nothing."""
    ladder_account = places.ladder_account
    opened = _first(places.channel_ladder, channels.opening_at_s, len(ladder_account))
    earliest = _first(ladder_account, opened, len(accounts.lines))
    takes = (opened == earliest[ladder_account]) & ~places.opened[ladder_account]
    facts = np.zeros(len(ladder_account), LADDER_FACTS)
    _fill(
        facts,
        places.ladder_slot,
        opening_used=np.where(takes, np.maximum(accounts.cycle_energy_wh[ladder_account], 0), 0),
        account=places.account_slot[ladder_account],
        tariff=places.ladder_tariff,
        history=history[ladder_account],
        opening_at_s=opened,
    )
    if previous is not None:
        for name in ("opening_used", "opening_at_s"):
            facts[name][: len(previous.ladder_facts)] = previous.ladder_facts[name]
    return facts


def _account_facts(
    accounts: Accounts, spans: TariffSpans, tariff_of: Slots, now_s: int, alert_fen: int, places: _Places
) -> npt.NDArray[np.void]:
    current = in_force(spans, accounts, now_s)
    facts = np.zeros(len(accounts.lines), ACCOUNT_FACTS)
    _fill(
        facts,
        places.account_slot,
        opening_balance_fen=accounts.balance_fen,
        opening_arrears_fen=accounts.arrears_fen,
        alert_fen=np.full(len(accounts.lines), alert_fen),
        trigger_fen=accounts.trigger_fen,
        from_s=accounts.from_s,
        until_s=accounts.to_s,
        tariff=np.where(current == NONE, NONE, tariff_of[current]),
    )
    return facts


def _by_account(places: _Places, channels: Channels) -> tuple[Ints, Slots]:
    """Channels of each account: a list of starts (one more than accounts) and the slots."""
    owner = places.account_slot[channels.account]
    by_slot = np.zeros(len(channels), np.int32)
    by_slot[places.channel_slot] = owner
    start = np.zeros(len(places.account_slot) + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=len(places.account_slot)), out=start[1:])
    return start, np.argsort(by_slot, kind="stable").astype(np.int32)


def _lists(
    tables: Tables, channels: Channels, channel_slot: Slots
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8], Slots, dict[str, tuple[int, int]]]:
    """Concentrators' lists in reading order; what is gone stands behind what is there."""
    meters, registers = tables.meters, tables.registers
    first = np.full(len(registers.meter), NONE, np.int32)
    first[channels.register[::-1]] = np.arange(len(channels), dtype=np.int32)[::-1]
    register, row = columns.joined(registers.meter, *columns.grouped(meters.row_meter, len(meters.ids)))
    counted = first[register] != NONE
    register, row = register[counted], row[counted]
    # a meter may have several rows at one concentrator: the latest stands
    unique_key = meters.row_concentrator[row].astype(np.int64) << 32 | register
    latest = np.lexsort((meters.row_from_s[row], unique_key))
    is_last = np.ones(len(latest), bool)
    is_last[:-1] = unique_key[latest][1:] != unique_key[latest][:-1]
    chosen = np.sort(latest[is_last])
    register, row = register[chosen], row[chosen]
    concentrator = meters.row_concentrator[row].astype(np.int64)
    gone = (meters.row_to_s[row] != FOREVER).astype(np.int64)
    place = concentrator << 21 | gone << 20 | meters.row_position[row]
    order = np.argsort(place, kind="stable")
    register, head = register[order], place[order] >> 21
    edges = np.flatnonzero(np.concatenate([[True], head[1:] != head[:-1]])) if len(head) else np.zeros(0, np.int64)
    ends = np.append(edges[1:], len(head))[: len(edges)]
    lists = {
        tables.concentrators[int(head[begin])].as_py(): (begin, end)
        for begin, end in zip(edges.tolist(), ends.tolist(), strict=True)
    }
    return (
        meters.address[registers.meter[register]],
        registers.code[register],
        channel_slot[first[register]],
        lists,
    )
