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
    channels, meters, registers, accounts = tables.channels, tables.meters, tables.registers, tables.accounts
    tariff_names, tariff_of = _tariff_names(tables.tariffs, previous)
    point_partition = point_partitions(tables.points, meters, tables.concentrators, partitions, previous)
    account_partition = point_partition[accounts.point]
    channel_tariff = tariff_of[channels.tariff] if len(channels) else np.zeros(0, np.int32)

    channel_partition = account_partition[channels.account]
    place = (
        channel_partition.astype(np.int64) << 44
        | meters.row_concentrator[channels.row].astype(np.int64) << 20
        | meters.row_position[channels.row]
    )
    known, counts = _no_slots(len(channels), partitions)
    if previous is not None:
        known, counts = previous.channel_slots(
            tables.channels, meters, registers, accounts, tariff_names, channel_tariff, faults
        )
    channel_slot = _give_slots(channel_partition, known, counts, place)

    reading_order = channel_partition.astype(np.int64) << 32 | channel_slot
    account_first = _first(channels.account, reading_order, len(accounts.lines))
    unmetered = account_partition.astype(np.int64) << 32 | (1 << 31) | np.arange(len(accounts.lines)) % (1 << 31)
    account_first = np.where(account_first == columns.BAD, unmetered, account_first)
    known, counts = _no_slots(len(accounts.lines), partitions)
    if previous is not None:
        known, counts = previous.account_slots(accounts.ids, faults)
    account_slot = _give_slots(account_partition, known, counts, account_first)

    ladder_key, channel_ladder = np.unique(
        channels.account.astype(np.int64) << 20 | channel_tariff, return_inverse=True
    )
    ladder_account, ladder_tariff = (ladder_key >> 20).astype(np.int32), (ladder_key & 0xFFFFF).astype(np.int32)
    ladder_partition = account_partition[ladder_account]
    known, counts = _no_slots(len(ladder_key), partitions)
    if previous is not None:
        known, counts = previous.ladder_slots(accounts.ids, ladder_account, ladder_tariff, tariff_names)
    ladder_first = _first(channel_ladder, reading_order, len(ladder_key))
    ladder_slot = _give_slots(ladder_partition, known, counts, ladder_first)

    faults.check()  # what has disappeared has left holes in the slots
    histories, history = _histories(tables.attributes, len(accounts.lines))
    starts = {
        "channels": _starts(channel_partition, partitions),
        "ladders": _starts(ladder_partition, partitions),
        "accounts": _starts(account_partition, partitions),
    }
    into = starts["channels"][channel_partition] + channel_slot
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
        account=account_slot[channels.account],
        ladder=ladder_slot[channel_ladder],
        tariff=np.where(bill, channel_tariff, NONE),
        next=np.where(channels.next == NONE, NONE, channel_slot[channels.next]),
        closing_value=channels.closing_value,
        multiplier=meters.row_multiplier[channels.row],
        resolution=registers.resolution[channels.register],
        register=registers.code[channels.register],
        digits=meters.row_digits[channels.row],
        bill=bill,
        opening_quality=channels.opening_quality,
    )
    account_start, account_channels = _by_account(
        starts, account_partition, channels, account_slot, channel_partition, channel_slot
    )
    listed = _lists(tables, channel_partition, channel_slot, partitions)
    arrays = ImageArrays(
        channels=facts,
        ladders=_ladder_facts(
            channels, channel_ladder, ladder_account, ladder_tariff, accounts, account_slot, history,
            starts["ladders"][ladder_partition] + ladder_slot,
        ),
        accounts=_account_facts(
            accounts, tables.tariffs, tariff_of, now_s, alert_fen,
            starts["accounts"][account_partition] + account_slot,
        ),
        list_meter=listed[0],
        list_register=listed[1],
        list_channel=listed[2],
        account_start=account_start,
        account_channels=account_channels,
        starts={name: start.tolist() for name, start in (*starts.items(), ("lists", listed[4]))},
        lists=listed[3],
        tariffs=tariff_names,
        histories=histories,
    )  # fmt: skip
    return Compiled(
        point_partition, account_partition, account_slot, channel_partition, channel_slot,
        ladder_account, ladder_tariff, ladder_partition, ladder_slot, arrays,
    )  # fmt: skip


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
    channels: Channels,
    channel_ladder: npt.NDArray[Any],
    ladder_account: Slots,
    ladder_tariff: Slots,
    accounts: Accounts,
    account_slot: Slots,
    history: Slots,
    into: Ints,
) -> npt.NDArray[np.void]:
    """The energy so far goes to the ladder in which the account's first counted energy falls."""
    opened = _first(channel_ladder, channels.opening_at_s.astype(np.int64), len(ladder_account))
    earliest = _first(ladder_account, opened, len(accounts.lines))
    takes = opened == earliest[ladder_account]
    facts = np.zeros(len(ladder_account), LADDER_FACTS)
    _fill(
        facts,
        into,
        opening_used=np.where(takes, accounts.cycle_energy_wh[ladder_account], 0),
        account=account_slot[ladder_account],
        tariff=ladder_tariff,
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


def _by_account(
    starts: dict[str, Ints],
    account_partition: npt.NDArray[np.int16],
    channels: Channels,
    account_slot: Slots,
    channel_partition: npt.NDArray[np.int16],
    channel_slot: Slots,
) -> tuple[Ints, Slots]:
    """Channels of each account: per partition a list of starts (one more than accounts) and the slots."""
    owner = starts["accounts"][channel_partition] + account_slot[channels.account]
    slots = np.zeros(len(channels), np.int32)
    into = starts["channels"][channel_partition] + channel_slot
    by_slot = np.zeros(len(channels), np.int64)
    by_slot[into] = owner
    order = np.argsort(by_slot, kind="stable")
    at_slot = np.zeros(len(channels), np.int32)
    at_slot[into] = channel_slot
    slots = at_slot[order]
    ends = np.zeros(len(account_partition) + 1, np.int64)
    np.cumsum(np.bincount(owner, minlength=len(account_partition)), out=ends[1:])
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
