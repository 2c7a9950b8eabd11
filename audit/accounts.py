"""Pure: one partition's records and inbox rows in order -> what must have been posted, by account, day, component.

The common reading (forwards, plausible, inside one segment) is counted in `readings` itself; every other one
goes to `audit.meter`. Ticks close bills [7]. Amounts are signed as in the subledger: credit positive.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any, Final

from audit.estimates import estimates
from audit.ladders import opened_s as _opened_s
from audit.ladders import share_ladders
from audit.meter import ENERGY_MAX, Channel, Ladder
from audit.tariffs import Tariff, month_start
from audit.world import FOREVER, Account, Span, World
from config.settings import RatingSettings
from config.units import REGISTER_CODE, Quality, Register

NO_DAY: Final = -1  # of components that are compared whatever the day
_RELEASE_TOLERANCE_S: Final = 300
_RELEASED_MAX: Final = 10_000  # readings of one release
_A: Final = int(Quality.A)
_PRECISE: Final = Context(prec=60)
Columns = tuple[list[int], list[int], list[int], list[int], list[int]]  # meter, value, read_at_s, register, quality


@dataclass(slots=True)
class Bill:
    """The open bill cycle of an account."""

    account: Account
    cycle: int
    end_s: int
    carry: Decimal = Decimal(0)
    open: bool = True
    channels: list[Channel] = field(default_factory=list)


class PartitionAudit:
    """Everything the auditor knows of one partition; `expected` is what has to stand in the subledger."""

    def __init__(self, partition: int, tariffs: Mapping[str, Tariff], rating: RatingSettings) -> None:
        self.partition, self.tariffs, self.rating = partition, tariffs, rating
        self.offset = 0
        self.as_of_s = 0
        self.ticked_s = 0  # the tick before
        self.digest = ""
        self.world: World | None = None
        self.expected: dict[tuple[str, int, str], int] = defaultdict(int)
        self.money: dict[str, tuple[str, str, int]] = {}  # inbox key -> (kind, account, amount)
        self.arrears_fen = 0
        self.verdicts: Counter[str] = Counter()
        self.channels: dict[tuple[str, int, int], Channel] = {}
        self.ladders: dict[tuple[str, str], Ladder] = {}
        self.bills: dict[str, Bill] = {}
        self._lookup: dict[str, dict[tuple[int, int], Channel]] = defaultdict(dict)
        self._first: dict[tuple[str, int, int], Channel] = {}
        self._next_end_s = 0

    # -- where channels put money ------------------------------------------------------------------------------
    def posted(self, account: str, day: int, component: str, amount: int) -> None:
        if amount:
            self.expected[account, day, component] += amount if component == "quantity_wh" else -amount

    def carried(self, account: str, amount: Decimal) -> None:
        self.bills[account].carry += amount

    # -- the registry ------------------------------------------------------------------------------------------
    def activate(self, world: World, *, opening: bool = True) -> None:
        """A registry version takes effect: new accounts bring their opening, change-outs close old registers."""
        self.world, self.digest = world, world.digest
        here = [a for a in world.accounts.values() if a.partition == self.partition]
        fresh = [a for a in here if a.id not in self.bills]
        mine = {
            place: chain
            for place, chain in enumerate(world.chains)
            if world.accounts[chain[0].account].partition == self.partition
        }
        furthest_s: dict[tuple[str, str], int] = {}
        for channel in self.channels.values():
            if channel.value >= 0:
                ladder_key = (channel.span.account, channel.span.tariff)
                furthest_s[ladder_key] = max(channel.at_s, furthest_s.get(ladder_key, 0))
        known = set(self.channels)
        closing = [last for chain in mine.values() if (last := self._chain(chain)) is not None]
        self._lookup.clear()
        self._first.clear()
        for (concentrator, meter, register), place in world.addresses.items():
            if place in mine:
                channel = self.channels[mine[place][0].key]
                self._lookup[concentrator][meter, register] = channel
                self._first[concentrator, meter, register] = channel
        self._open_ladders(world, list(mine.values()))
        share_ladders(self.ladders, self.channels, furthest_s, known)
        for channel in self.channels.values():
            channel.settle()
        for account in here:
            if account.id in self.bills:
                self.bills[account.id].account = account
        opened_s: dict[str, int] = {}
        for channel in self.channels.values():
            if channel.span.bill:
                name = channel.span.account
                opened_s[name] = min(_opened_s(channel.span), opened_s.get(name, FOREVER))
        for account in fresh:
            self._open_bill(account, opened_s.get(account.id, account.from_s))
            if opening:
                if account.balance_fen:
                    self.expected[account.id, NO_DAY, "opening"] += account.balance_fen
                self.arrears_fen += account.arrears_fen
        for bill in self.bills.values():
            bill.channels = []
        for channel in self.channels.values():
            if channel.span.bill:
                self.bills[channel.span.account].channels.append(channel)
        self._ends()
        if opening:
            for channel in closing:
                assert channel.span.closing is not None
                self._read(channel, channel.span.closing, channel.until_s, _A, FOREVER)

    def _chain(self, chain: list[Span]) -> Channel | None:
        """Channels of one register, new or renewed; returns the last one when a change-out closes it."""
        assert self.world is not None
        before: Channel | None = None
        for span in chain:
            ladder = self.ladders.get((span.account, span.tariff))
            if ladder is None:
                ladder = self.ladders[span.account, span.tariff] = Ladder(self.tariffs[span.tariff], ())
            ladder.history = self.world.accounts[span.account].history
            channel = self.channels.get(span.key)
            if channel is None:
                channel = self.channels[span.key] = Channel(span, ladder)
            else:
                channel.renew(span, ladder)
                channel.place()
            channel.next = None
            if before is not None:
                before.next = channel
                if channel.value < 0 <= before.value and before.at_s >= before.until_s:
                    channel.take_over(before)
            before = channel
        closes = before is not None and before.span.closing is not None and before.at_s <= before.until_s
        return before if closes else None

    def _open_ladders(self, world: World, chains: list[list[Span]]) -> None:
        """Energy so far goes to the ladder in which the account's first counted energy falls."""
        opened: dict[tuple[str, str], int] = {}
        first: dict[str, int] = {}
        for chain in chains:
            for span in chain:
                at_s, key = _opened_s(span), (span.account, span.tariff)
                opened[key] = min(at_s, opened.get(key, FOREVER))
                first[span.account] = min(at_s, first.get(span.account, FOREVER))
        for key, ladder in self.ladders.items():
            if ladder.opened_s != FOREVER:
                continue
            ladder.opened_s = opened[key]
            segment = ladder.tariff.segment_at(ladder.opened_s)
            if opened[key] == first[key[0]] and segment is not None:
                ladder.use(segment)[0] += world.accounts[key[0]].cycle_energy_wh

    def _open_bill(self, account: Account, opened_s: int) -> None:
        tariff = self.tariffs[account.tariff]
        segment = tariff.segment_at(opened_s)
        cycle = segment.month if segment else 0
        self.bills[account.id] = Bill(account, cycle, tariff.cycle_end_s(cycle), open=segment is not None)

    def _ends(self) -> None:
        self._next_end_s = min((b.end_s for b in self.bills.values() if b.open), default=FOREVER)

    # -- readings ----------------------------------------------------------------------------------------------
    def readings(self, source: str, received_at_s: int, columns: Columns) -> None:
        """One record of readings. This loop sees every reading: the plain ones end here."""
        find = self._lookup.get(source, {}).get
        limit_s = received_at_s + self.rating.future_tolerance_s
        window_s = self.rating.plausible_window_s
        plain = 0
        for meter, value, at_s, register, quality in zip(*columns, strict=True):
            channel = find((meter, register))
            if channel is None:
                self._unknown(source, meter)
                continue
            last_s = channel.at_s
            if last_s < at_s < channel.fast_end_s and at_s <= limit_s and quality > 1:
                energy = (value - channel.value) * channel.multiplier
                lasted_s = at_s - last_s
                use = channel.use
                if (
                    0 <= energy <= ENERGY_MAX
                    and use[0] + energy <= channel.bound
                    and not channel.excess
                    and not value % channel.resolution
                    and energy * 3600 <= channel.power * (lasted_s if lasted_s < window_s else window_s)
                ):
                    channel.value, channel.at_s, channel.quality = value, at_s, quality
                    if energy:
                        use[0] += energy
                        channel.day_wh += energy
                        channel.open[channel.key] = channel.open.get(channel.key, 0) + energy
                    plain += 1
                    continue
            self.verdicts[self._read(channel, value, at_s, quality, limit_s)] += 1
            if channel.at_s >= channel.until_s and channel.next is not None:
                self._lookup[source][meter, register] = channel.next
        self.verdicts["accepted"] += plain
        self.as_of_s = max(self.as_of_s, received_at_s)

    def _read(self, channel: Channel, value: int, at_s: int, quality: int, limit_s: int) -> str:
        return channel.read(value, at_s, quality, limit_s, self.rating.plausible_window_s, self)

    def _unknown(self, source: str, meter: int) -> None:
        known = self.world is not None and (source, meter) in self.world.meters
        self.verdicts["unknown_register" if known else "unknown_meter"] += 1

    # -- ticks -------------------------------------------------------------------------------------------------
    def tick(self, as_of_s: int) -> None:
        """[7] Close every bill cycle that is complete, or whose settlement window is over."""
        self.as_of_s = max(self.as_of_s, as_of_s)
        if self.world is not None and as_of_s > self.ticked_s:
            self._post_days(self.ticked_s, as_of_s)
            self.ticked_s = as_of_s
        if as_of_s < self._next_end_s:
            return
        for bill in self.bills.values():
            while bill.open and bill.end_s <= as_of_s and self._ripe(bill, as_of_s):
                self._close(bill)
        self._ends()

    def _post_days(self, before_s: int, as_of_s: int) -> None:
        """[6] Days whose window ended between two ticks: registers that stand there post what they have."""
        window_s = self.rating.settlement_window_s
        last_day: dict[str, int] = {}
        for name, tariff in self.tariffs.items():
            day = tariff.day_of(as_of_s - window_s)
            if day > tariff.day_of(before_s - window_s):
                last_day[name] = day - 1
        if not last_day:
            return
        for channel in self.channels.values():
            segment = channel.segment
            if segment is None or not channel.charged or channel.value < 0:
                continue
            if segment.day <= last_day.get(segment.tariff.id, -1):
                channel.post_day(self, last=False, segment=segment)

    def _ripe(self, bill: Bill, as_of_s: int) -> bool:
        return bill.end_s + self.rating.settlement_window_s <= as_of_s or self._complete(bill)

    def _complete(self, bill: Bill) -> bool:
        for channel in bill.channels:
            segment = channel.segment
            if segment is None or channel.value < 0 or channel.at_s >= channel.until_s:
                continue
            if segment.month <= bill.cycle:
                return False
        return True

    def _close(self, bill: Bill) -> None:
        """Whoever lags, or has ended inside the cycle, gives what it has accrued; then the carry is rounded."""
        complete = self._complete(bill)
        for channel in bill.channels:
            segment = channel.segment
            if segment is not None and segment.month <= bill.cycle:
                channel.post_day(self, last=True, segment=segment)
        if not complete:
            for channel, value, at_s in estimates(bill.channels, bill.account.from_s, bill.end_s, self.rating):
                self._read(channel, value, at_s, int(Quality.E), FOREVER)
        tariff = self.tariffs[bill.account.tariff]
        steps = _PRECISE.divide(bill.carry, tariff.minor).to_integral_value(tariff.rounding)
        self.posted(bill.account.id, month_start(bill.cycle + 1) - 1, "rounding", int(steps))
        bill.carry = Decimal(0)
        if bill.account.until_s <= bill.end_s:
            bill.open = False
        bill.cycle += 1
        bill.end_s = tariff.cycle_end_s(bill.cycle)

    # -- the inbox ---------------------------------------------------------------------------------------------
    def command(self, kind: str, key: str, body: Mapping[str, Any], worlds: Mapping[str, World]) -> None:
        """One inbox row, where the ledger says that it was applied."""
        match kind:
            case "registry":
                self.activate(worlds[str(body["digest"])])
            case "credit" | "reversal":
                account = str(body["account"])
                sign = 1 if kind == "credit" else -1
                if account in self.bills:
                    self.money[key] = kind, account, sign * int(body["amount_fen"])
                    self.expected[account, NO_DAY, kind] += sign * int(body["amount_fen"])
            case "rebaseline":
                self._rebaseline(body)
            case "release":
                for meter, register, at_s, value, quality in _released(body):
                    channel = self._first.get((body["concentrator"], meter, register))
                    if channel is not None:
                        limit_s = self.as_of_s + _RELEASE_TOLERANCE_S
                        self._read(channel, value, at_s, quality, limit_s)
            case _:
                pass

    def _rebaseline(self, body: Mapping[str, Any]) -> None:
        code = REGISTER_CODE[Register(str(body["register"]))]
        first = self._first.get((str(body["concentrator"]), int(body["meter"]), code))
        at_s = int(body["at_s"])
        if first is None:
            return
        channel = first.open_at(at_s)
        if at_s < channel.at_s:
            return
        if at_s > channel.at_s:  # nothing flows in the gap, but its days and spans end
            self._read(channel, channel.value, at_s, _A, FOREVER)
            channel = first.open_at(at_s)
        channel.value, channel.quality, channel.excess, channel.pending = int(body["value"]), _A, 0, None

    # -- going on later ----------------------------------------------------------------------------------------
    def dump(self) -> dict[str, Any]:
        """What `restore` needs to go on from here, as plain values for JSON."""
        return {
            "partition": self.partition,
            "offset": self.offset,
            "as_of_s": self.as_of_s,
            "ticked_s": self.ticked_s,
            "digest": self.digest,
            "channels": [
                [
                    list(key), c.value, c.at_s, c.quality, c.excess, c.pending, list(c.open.items()), c.day_wh,
                    str(c.rest_energy), str(c.rest_adder),
                ]
                for key, c in self.channels.items()
            ],
            "ladders": [
                [list(key), ladder.opened_s, [[cycle, used[0]] for cycle, used in ladder.used.items()]]
                for key, ladder in self.ladders.items()
            ],
            "bills": [[name, b.cycle, b.end_s, str(b.carry), b.open] for name, b in self.bills.items()],
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any], world: World | None) -> None:
        """Go on from a `dump`; `world` is the registry version that was active then."""
        self.offset, self.as_of_s = int(state["offset"]), int(state["as_of_s"])
        self.ticked_s = int(state["ticked_s"])
        if world is None:
            return
        self.activate(world, opening=False)
        for key, opened_s, used in state["ladders"]:
            ladder = self.ladders[tuple(key)]
            ladder.opened_s = opened_s
            ladder.used.clear()
            for cycle, wh in used:
                if ladder.shared is not None and int(cycle) <= ladder.shared_until:
                    ladder.used[int(cycle)] = ladder.shared.setdefault(int(cycle), [0])
                ladder.used[int(cycle)][0] = int(wh)
        for key, value, at_s, quality, excess, pending, opened, day_wh, energy, adder in state["channels"]:
            c = self.channels[tuple(key)]
            c.value, c.at_s, c.quality, c.excess, c.day_wh = value, at_s, quality, excess, day_wh
            c.pending = tuple(pending) if pending else None
            c.open = {int(k): int(wh) for k, wh in opened}
            c.rest_energy, c.rest_adder = Decimal(energy), Decimal(adder)
            c.place()
        for name, cycle, end_s, carry, is_open in state["bills"]:
            bill = self.bills[name]
            bill.cycle, bill.end_s, bill.carry, bill.open = cycle, end_s, Decimal(carry), is_open
        self._ends()


def _released(body: Mapping[str, Any]) -> list[tuple[int, int, int, int, int]]:
    """Readings of a release: meter, register, at_s, value, quality. A body that is not whole releases nothing."""
    limits = ((0, 2**64), (0, 256), (0, FOREVER), (-(2**63), 2**63), (int(Quality.E), int(Quality.A) + 1))
    rows = body.get("readings")
    if not isinstance(rows, list) or not isinstance(body.get("concentrator"), str) or len(rows) > _RELEASED_MAX:
        return []
    whole = all(
        isinstance(row, list)
        and len(row) == len(limits)
        and all(type(x) is int and low <= x < end for x, (low, end) in zip(row, limits, strict=True))
        for row in rows
    )
    return [tuple(row) for row in rows] if whole else []
