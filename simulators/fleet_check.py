"""Pure: compares the truth books with bills and credits, so that what was dropped before the log cannot hide.

    energy billed of a meter  =  what it used up to its last reading inside a held message
    money taken by the gateway, charge by charge  =  credits of orders

It shares nothing with the engine: the truth is the simulator's own, in unwrapped registers. The command is
`python -m simulators.checker` (reads the files, prints the result).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from simulators.truth import Book, ChannelRow

DETAILS_MAX: Final = 50  # of a kind: ten thousand lost messages must not hide one lost payment


@dataclass(frozen=True, slots=True)
class Charge:
    """One row of the gateway's book: the payer's money moved."""

    key: str
    transaction: str
    token: str
    amount_fen: int


@dataclass(frozen=True, slots=True)
class Credit:
    """An order, and how many credits it has made."""

    key: str
    account: str
    arm: int  # which low balance of the account it answers
    amount_fen: int
    credits: int


@dataclass(frozen=True, slots=True)
class Use:
    """What a meter used and was confirmed: Wh up to interval `last` (-1: nothing of it is held)."""

    meter: str
    wh: int
    last: int


@dataclass(slots=True)
class Result:
    """The checker's answer; `clean` when there is nothing to explain."""

    checker_difference_wh: int = 0  # sum of |billed - used| over meters
    readings_lost: int = 0  # held readings that the bill does not cover, or messages that no log has
    double_charges: int = 0  # money taken beyond one charge, and credits beyond one, per order
    uncredited_charges: int = 0  # money taken and not credited
    outbox_left: int = 0
    meters: int = 0
    used_wh: int = 0
    billed_wh: int = 0
    details: list[dict[str, Any]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        faults = self.checker_difference_wh, self.readings_lost, self.double_charges, self.uncredited_charges
        return not any(faults) and not self.outbox_left

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "clean": self.clean}

    def tell(self, **detail: Any) -> None:
        """Keep the first few details of each kind."""
        if sum(known["what"] == detail["what"] for known in self.details) < DETAILS_MAX:
            self.details.append(detail)


def last_held(book: Book) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each channel the last interval whose reading is in a held message; -1 for none."""
    last = np.full(len(book.channels), -1, np.int64)
    for message in book.messages:
        if message.kind != "frame" or message.sequence > book.held.get(message.stream, 0):
            continue
        rows = np.arange(message.first, message.end)
        if message.absent:
            rows = np.setdiff1d(rows, message.absent)
        np.maximum.at(last, rows, message.interval)
    return last


def shown_use(channel: ChannelRow, interval: int) -> int:
    """Wh between the first register and the one shown at `interval`, unwrapped, times the multiplier."""
    if interval < 0:
        return 0
    shown = int(channel.registers[interval]) // channel.resolution * channel.resolution
    return (shown - channel.opening) * channel.multiplier


def uses(book: Book) -> dict[int, Use]:
    """What each meter (by address) must be billed for: its `bill` registers up to their last held reading.

    A replaced meter is billed to its final register once its successor has a held reading.
    """
    last = last_held(book)
    follows = {c.meter for row, c in enumerate(book.channels) if last[row] >= 0}
    found: dict[int, Use] = {}
    for row, channel in enumerate(book.channels):
        if not channel.billed:
            continue
        used = shown_use(channel, int(last[row]))
        if channel.replaced_by in follows and channel.final is not None:
            used = (channel.final - channel.opening) * channel.multiplier
        before = found.get(channel.address, Use(channel.meter, 0, -1))
        found[channel.address] = Use(channel.meter, before.wh + used, max(before.last, int(last[row])))
    return found


def check_energy(book: Book, billed: Mapping[int, int], result: Result) -> None:
    """Energy billed per meter address against the truth."""
    truth = uses(book)
    readings_of = {c.address: c for c in book.channels if c.billed}
    result.meters = len(truth)
    for address, use in truth.items():
        energy = billed.get(address, 0)
        result.used_wh += use.wh
        result.billed_wh += energy
        if energy == use.wh:
            continue
        result.checker_difference_wh += abs(energy - use.wh)
        missing = _uncovered(readings_of[address], use.last, energy) if energy < use.wh else 0
        result.readings_lost += missing
        result.tell(what="energy", meter=use.meter, used_wh=use.wh, billed_wh=energy, readings=missing)
    for address in sorted(set(billed) - set(truth)):
        if billed[address]:
            result.checker_difference_wh += abs(billed[address])
            result.tell(what="energy of a meter that is not in the truth", address=address, billed_wh=billed[address])


def _uncovered(channel: ChannelRow, last: int, billed: int) -> int:
    """How many intervals up to the last held one show more than was billed."""
    shown = channel.registers[: last + 1] // channel.resolution * channel.resolution
    return int(((shown - channel.opening) * channel.multiplier > billed).sum())


def check_messages(book: Book, logged: Collection[tuple[str, int]], result: Result) -> None:
    """Every message must be held, and every held one must be in the log or the archive."""
    kept = logged if isinstance(logged, set | frozenset) else set(logged)
    for message in book.messages:
        if message.kind == "lost":
            continue
        held = message.sequence <= book.held.get(message.stream, 0)
        if held and (message.stream, message.sequence) in kept:
            continue
        result.readings_lost += message.readings
        what = "held but in no log" if held else "never held"
        result.tell(what=what, stream=message.stream, sequence=message.sequence, kind=message.kind)


def check_money(charges: Sequence[Charge], credits_: Sequence[Credit], result: Result) -> None:
    """One charge for one low balance at most, one credit for one charge exactly, of the same amount."""
    taken = Counter(charge.key for charge in charges)
    amount_of = {charge.key: charge.amount_fen for charge in charges}
    orders = {credit.key: credit for credit in credits_}
    by_arm = Counter((order.account, order.arm) for key, order in orders.items() for _ in range(taken[key]))
    for (account, arm), count in by_arm.items():
        if count > 1:
            result.double_charges += count - 1
            result.tell(what="charged more than once", account=account, arm=arm, times=count)
    for key, count in taken.items():
        order = orders.get(key)
        if order is None and count > 1:
            result.double_charges += count - 1
            result.tell(what="charged more than once", key=key, times=count)
        if order is None or order.credits == 0:
            result.uncredited_charges += 1
            result.tell(what="charged and not credited", key=key, amount_fen=amount_of[key])
        elif order.amount_fen != amount_of[key]:
            result.uncredited_charges += 1
            result.tell(what="another amount", key=key, taken_fen=amount_of[key], credited_fen=order.amount_fen)
    for order in credits_:
        if order.credits > 1:
            result.double_charges += order.credits - 1
            result.tell(what="credited more than once", key=order.key, times=order.credits)
        if order.credits and not taken[order.key]:
            result.uncredited_charges += 1
            result.tell(what="credited and never charged", key=order.key, account=order.account)


def check(
    book: Book,
    billed: Mapping[int, int],
    logged: Collection[tuple[str, int]] | None = None,
    charges: Sequence[Charge] = (),
    credits_: Sequence[Credit] = (),
    outbox_left: int = 0,
) -> Result:
    """Everything at once; `billed` is Wh by meter address."""
    result = Result(outbox_left=outbox_left)
    check_energy(book, billed, result)
    if logged is not None:
        check_messages(book, logged, result)
    check_money(charges, credits_, result)
    return result
