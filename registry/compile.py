"""Pure: validated tables of one registry version -> slots and the arrays of its image.

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
from registry.address import partition_of
from registry.arrays import ImageArrays
from registry.columns import Ints
from registry.devices import Meters, Points, Registers
from registry.faults import Faults
from registry.image import ACCOUNT_FACTS, CHANNEL_FACTS, FOREVER, LADDER_FACTS, NONE, AttributeChange
from registry.people import Accounts, Attributes, TariffSpans, in_force
from registry.previous import Previous
from registry.spans import Channels

Slots = npt.NDArray[np.int32]


@dataclass(slots=True)
class Tables:
    """The validated tables, names resolved to rows."""

    points: Points
    concentrators: Any
    meters: Meters
    registers: Registers
    accounts: Accounts
    tariffs: TariffSpans
    attributes: Attributes
    channels: Channels


@dataclass(slots=True)
class Compiled:
    """Where everything went. Per row of the tables: partition and slot; then the arrays of the image."""

    point_partition: npt.NDArray[np.int16]
    account_partition: npt.NDArray[np.int16]
    account_slot: Slots
    channel_partition: npt.NDArray[np.int16]
    channel_slot: Slots
    ladder_account: Slots  # row of accounts
    ladder_tariff: Slots  # index into arrays.tariffs
    ladder_partition: npt.NDArray[np.int16]
    ladder_slot: Slots
    arrays: ImageArrays


def point_partitions(
    points: Points, meters: Meters, concentrators: Any, partitions: int, previous: Previous | None
) -> npt.NDArray[np.int16]:
    """A point's partition: the one it has; else that of its first meter's concentrator; else by its own id."""
    by_concentrator = np.array([partition_of(name, partitions) for name in concentrators.to_pylist()], np.int16)
    found = np.full(len(points.ids), -1, np.int16)
    good = (meters.row_concentrator >= 0) & (meters.point[meters.row_meter] >= 0)
    rows = np.flatnonzero(good)[::-1]  # the first row is written last
    found[meters.point[meters.row_meter[rows]]] = by_concentrator[meters.row_concentrator[rows]]
    if previous is not None:
        before = columns.places(points.ids, previous.point_ids)
        found[before >= 0] = previous.point_partition[before[before >= 0]]
    for row in np.flatnonzero(found < 0).tolist():
        found[row] = partition_of(points.ids[row].as_py(), partitions)
    return found


def compile_tables(
    tables: Tables, partitions: int, now_s: int, alert_fen: int, previous: Previous | None, faults: Faults
) -> Compiled:
    """Give out slots and fill the arrays. What the version before had and this one lacks is a fault."""
    places = _places(tables, partitions, previous, faults)
    faults.check()  # what has disappeared has left holes in the slots
    accounts, channels = tables.accounts, tables.channels
    histories, history = _histories(tables.attributes, len(accounts.lines))
    starts = {
        "channels": _starts(places.channel_partition, partitions),
        "ladders": _starts(places.ladder_partition, partitions),
        "accounts": _starts(places.account_partition, partitions),
    }
    account_start, account_channels = _by_account(starts, places, channels)
    listed = _lists(tables, places.channel_partition, places.channel_slot, partitions)
    ladder_into = starts["ladders"][places.ladder_partition] + places.ladder_slot
    account_into = starts["accounts"][places.account_partition] + places.account_slot
    arrays = ImageArrays(
        channels=_channel_facts(tables, places, starts["channels"][places.channel_partition] + places.channel_slot),
        ladders=_ladder_facts(channels, places, accounts, history, ladder_into),
        accounts=_account_facts(accounts, tables.tariffs, places.tariff_of, now_s, alert_fen, account_into),
        list_meter=listed[0],
        list_register=listed[1],
        list_channel=listed[2],
        account_start=account_start,
        account_channels=account_channels,
        starts={name: start.tolist() for name, start in (*starts.items(), ("lists", listed[4]))},
        lists=listed[3],
        tariffs=places.tariffs,
        histories=histories,
    )
    return Compiled(
        places.point_partition,
        places.account_partition,
        places.account_slot,
        places.channel_partition,
        places.channel_slot,
        places.ladder_account,
        places.ladder_tariff,
        places.ladder_partition,
        places.ladder_slot,
        arrays,
    )


@dataclass(slots=True)
class _Places:
    """Partition and slot of everything; `channel_ladder` is a row of the ladders."""

    tariffs: tuple[str, ...]
    tariff_of: Slots
    channel_tariff: Slots
    point_partition: npt.NDArray[np.int16]
    channel_partition: npt.NDArray[np.int16]
    channel_slot: Slots
    account_partition: npt.NDArray[np.int16]
    account_slot: Slots
    ladder_partition: npt.NDArray[np.int16]
    ladder_slot: Slots
    ladder_account: Slots
    ladder_tariff: Slots
    channel_ladder: npt.NDArray[np.int64]


def _places(tables: Tables, partitions: int, previous: Previous | None, faults: Faults) -> _Places:
    """Slots of channels by reading order; of accounts and ladders by their first channel."""
    channels, meters, accounts = tables.channels, tables.meters, tables.accounts
    names, tariff_of = _tariff_names(tables.tariffs, previous)
    channel_tariff = tariff_of[channels.tariff] if len(channels) else np.zeros(0, np.int32)
    point_partition = point_partitions(tables.points, meters, tables.concentrators, partitions, previous)
    account_partition = point_partition[accounts.point]
    channel_partition = account_partition[channels.account]
    known, counts = _no_slots(len(channels), partitions)
    if previous is not None:
        known, counts = previous.channel_slots(
            channels, meters, tables.registers, accounts, names, channel_tariff, faults
        )
    place = (
        channel_partition.astype(np.int64) << 44
        | meters.row_concentrator[channels.row].astype(np.int64) << 20
        | meters.row_position[channels.row]
    )
    channel_slot = _give_slots(channel_partition, known, counts, place)
    order = channel_partition.astype(np.int64) << 32 | channel_slot

    count = len(accounts.lines)
    known, counts = _no_slots(count, partitions)
    if previous is not None:
        known, counts = previous.account_slots(accounts.ids, faults)
    first = _first(channels.account, order, count)
    unmetered = account_partition.astype(np.int64) << 32 | (1 << 31) | np.arange(count)  # behind all slots
    account_slot = _give_slots(account_partition, known, counts, np.where(first == columns.BAD, unmetered, first))

    key, ladder = np.unique(channels.account.astype(np.int64) << 20 | channel_tariff, return_inverse=True)
    ladder_account, ladder_tariff = (key >> 20).astype(np.int32), (key & 0xFFFFF).astype(np.int32)
    ladder_partition = account_partition[ladder_account]
    known, counts = _no_slots(len(key), partitions)
    if previous is not None:
        known, counts = previous.ladder_slots(accounts.ids, ladder_account, ladder_tariff, names)
    ladder_slot = _give_slots(ladder_partition, known, counts, _first(ladder, order, len(key)))
    return _Places(
        names, tariff_of, channel_tariff, point_partition, channel_partition, channel_slot,
        account_partition, account_slot, ladder_partition, ladder_slot, ladder_account, ladder_tariff, ladder,
    )  # fmt: skip


def _channel_facts(tables: Tables, places: _Places, into: Ints) -> npt.NDArray[np.void]:
    channels, meters, registers = tables.channels, tables.meters, tables.registers
    facts = np.zeros(len(channels), CHANNEL_FACTS)
    bill = registers.bill[channels.register]
    _fill(
        facts,
        into,
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


def _fill(facts: npt.NDArray[np.void], into: Ints, **values: npt.NDArray[Any]) -> None:
    """Write columns into the rows `into` of a structured array."""
    for name, column in values.items():
        facts[name][into] = column


def _no_slots(count: int, partitions: int) -> tuple[Slots, Ints]:
    return np.full(count, NONE, np.int32), np.zeros(partitions, np.int64)


def _starts(partition: npt.NDArray[np.int16], partitions: int) -> Ints:
    start = np.zeros(partitions + 1, np.int64)
    np.cumsum(np.bincount(partition, minlength=partitions), out=start[1:])
    return start


def _give_slots(partition: npt.NDArray[np.int16], known: Slots, counts: Ints, place: Ints) -> Slots:
    """Slots for those that have none, behind the `counts` of their partition, in order of `place`.

    `place` holds the partition in its highest bits.
    """
    slots = known.copy()
    rows = np.flatnonzero(known < 0)
    keys = place[rows]
    if len(keys) > 1 and not bool(np.all(keys[:-1] <= keys[1:])):
        rows = rows[np.argsort(keys, kind="stable")]
    order = partition[rows]
    start = _starts(order, len(counts))
    slots[rows] = np.arange(len(rows)) - start[order] + counts[order]
    return slots


def _first(group: npt.NDArray[Any], order: Ints, groups: int) -> Ints:
    """Smallest `order` of each group; BAD for a group without members."""
    first = np.full(groups, np.iinfo(np.int64).max, np.int64)
    np.minimum.at(first, group, order)
    first[first == np.iinfo(np.int64).max] = columns.BAD
    return first


def _tariff_names(spans: TariffSpans, previous: Previous | None) -> tuple[tuple[str, ...], Slots]:
    """(tariffs, those of the version before first; index of each of the spans' names)."""
    names = list(previous.tariffs) if previous is not None else []
    names += sorted(set(spans.names) - set(names))
    return tuple(names), np.array([names.index(name) for name in spans.names] or [NONE], np.int32)


def _histories(attributes: Attributes, accounts: int) -> tuple[tuple[tuple[AttributeChange, ...], ...], Slots]:
    """Distinct histories (0 is the empty one) and each account's.

    Accounts' rows are folded one round at a time: (history so far, next change) -> a new history. There are as
    many rounds as one account has changes.
    """
    history = np.zeros(accounts, np.int32)
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
                attributes.from_s[turn],
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
    channels: Channels, places: _Places, accounts: Accounts, history: Slots, into: Ints
) -> npt.NDArray[np.void]:
    """The energy so far goes to the ladder in which the account's first counted energy falls."""
    ladder_account = places.ladder_account
    opened = _first(places.channel_ladder, channels.opening_at_s.astype(np.int64), len(ladder_account))
    earliest = _first(ladder_account, opened, len(accounts.lines))
    takes = opened == earliest[ladder_account]
    facts = np.zeros(len(ladder_account), LADDER_FACTS)
    _fill(
        facts,
        into,
        opening_used=np.where(takes, accounts.cycle_energy_wh[ladder_account], 0),
        account=places.account_slot[ladder_account],
        tariff=places.ladder_tariff,
        history=history[ladder_account],
        opening_at_s=opened,
    )
    return facts


def _account_facts(
    accounts: Accounts, spans: TariffSpans, tariff_of: Slots, now_s: int, alert_fen: int, into: Ints
) -> npt.NDArray[np.void]:
    current = in_force(spans, accounts, now_s)
    facts = np.zeros(len(accounts.lines), ACCOUNT_FACTS)
    _fill(
        facts,
        into,
        opening_balance_fen=accounts.balance_fen,
        opening_arrears_fen=accounts.arrears_fen,
        alert_fen=np.full(len(accounts.lines), alert_fen),
        trigger_fen=accounts.trigger_fen,
        from_s=accounts.from_s,
        until_s=accounts.to_s,
        tariff=np.where(current == NONE, NONE, tariff_of[current]),
    )
    return facts


def _by_account(starts: dict[str, Ints], places: _Places, channels: Channels) -> tuple[Ints, Slots]:
    """Channels of each account: per partition a list of starts (one more than accounts) and the slots."""
    owner = starts["accounts"][places.channel_partition] + places.account_slot[channels.account]
    into = starts["channels"][places.channel_partition] + places.channel_slot
    by_slot = np.zeros(len(channels), np.int64)
    by_slot[into] = owner
    order = np.argsort(by_slot, kind="stable")
    at_slot = np.zeros(len(channels), np.int32)
    at_slot[into] = places.channel_slot
    slots = at_slot[order]
    ends = np.zeros(len(places.account_partition) + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=len(places.account_partition)), out=ends[1:])
    pieces = []
    low = starts["accounts"]
    for partition in range(len(low) - 1):
        piece = ends[low[partition] : low[partition + 1] + 1]
        pieces.append(piece - piece[0])
    return np.concatenate(pieces), slots


def _lists(
    tables: Tables, channel_partition: npt.NDArray[np.int16], channel_slot: Slots, partitions: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8], Slots, list[dict[str, tuple[int, int]]], Ints]:
    """Concentrators' lists in reading order; what is gone stands behind what is there."""
    meters, registers, channels = tables.meters, tables.registers, tables.channels
    first = np.full(len(registers.meter), NONE, np.int32)
    first[channels.register[::-1]] = np.arange(len(channels), dtype=np.int32)[::-1]
    register, row = columns.joined(registers.meter, *columns.grouped(meters.row_meter, len(meters.ids)))
    counted = first[register] != NONE
    if not counted.all():
        register, row = register[counted], row[counted]
    # a meter may have several rows at one concentrator: the latest stands
    unique_key = meters.row_concentrator[row].astype(np.int64) << 32 | register
    latest = np.lexsort((meters.row_from_s[row], unique_key))
    is_last = np.ones(len(latest), bool)
    is_last[:-1] = unique_key[latest][1:] != unique_key[latest][:-1]
    chosen = np.sort(latest[is_last])
    register, row = register[chosen], row[chosen]
    channel = first[register]
    partition = channel_partition[channel].astype(np.int64)
    concentrator = meters.row_concentrator[row].astype(np.int64)
    gone = (meters.row_to_s[row] != FOREVER).astype(np.int64)
    place = partition << 45 | concentrator << 21 | gone << 20 | meters.row_position[row]
    order = np.argsort(place, kind="stable")
    register, channel, head = register[order], channel[order], place[order] >> 21
    edges = np.flatnonzero(np.concatenate([[True], head[1:] != head[:-1]])) if len(head) else np.zeros(0, np.int64)
    ends = np.append(edges[1:], len(head))
    first_of = np.searchsorted(partition[order], np.arange(partitions + 1))
    lists: list[dict[str, tuple[int, int]]] = [{} for _ in range(partitions)]
    for begin, end in zip(edges.tolist(), ends.tolist(), strict=True):
        home = int(head[begin] >> 24)
        name = tables.concentrators[int(head[begin] & 0xFFFFFF)].as_py()
        lists[home][name] = (begin - int(first_of[home]), end - int(first_of[home]))
    return (
        meters.address[registers.meter[register]],
        registers.code[register],
        channel_slot[channel].astype(np.int32),
        lists,
        first_of,
    )
