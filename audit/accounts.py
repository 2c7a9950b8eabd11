"""Pure: one partition's records and inbox rows in order -> what must have been posted, by account, day, component.

The common reading (forwards, plausible, inside one segment) is counted in `readings` itself; every other one
goes to `audit.meter`. Ticks close bills [7]. Amounts are signed as in the subledger: credit positive.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from audit.backdated import before, overtaken
from audit.bills import Used, fen
from audit.closing import Bill, charge, pending_e11
from audit.estimates import estimates
from audit.ladders import opened_s as _opened_s
from audit.ladders import share_ladders
from audit.meter import ENERGY_MAX, Channel, Ladder
from audit.refused import QUIET, Refused
from audit.tariffs import Tariff, month_start
from audit.world import FOREVER, Account, Span, World, address
from config.settings import RatingSettings
from config.units import REGISTER_CODE, Quality, Register

NO_DAY: Final = -1  # of components that are compared whatever the day
_RELEASE_TOLERANCE_S: Final = 300
_RELEASED_MAX: Final = 10_000  # readings of one release
_A: Final = int(Quality.A)
Columns = tuple[list[int], list[int], list[int], list[int], list[int]]  # meter, value, read_at_s, register, quality


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
        self.refused = Refused()
        self.channels: dict[tuple[str, int, int], Channel] = {}
        self.ladders: dict[tuple[str, str], Ladder] = {}
        self.bills: dict[str, Bill] = {}
        self._lookup: dict[str, dict[tuple[int, int], Channel]] = defaultdict(dict)
        self._first: dict[tuple[str, int, int], Channel] = {}
        self._next_end_s = 0

    # -- where channels put money ------------------------------------------------------------------------------
    def posted(self, account: str, day: int, component: str, amount: int) -> None:
        if component == "quantity_wh":
            if amount:
                self.expected[account, day, component] += amount
        elif amount:
            self.credited(account, day, component, -amount)

    def credited(self, account: str, day: int, component: str, amount: int) -> None:
        """Fen in the customer's favour."""
        self.expected[account, day, component] += amount
        self.bills[account].balance_fen += amount

    def carried(self, account: str, energy: Decimal, adder: Decimal) -> None:
        bill = self.bills[account]
        bill.carry_energy += energy
        bill.carry_adder += adder

    # -- the registry ------------------------------------------------------------------------------------------
    def activate(self, world: World, *, opening: bool = True) -> None:
        """A registry version takes effect: new accounts bring their opening, change-outs close old registers.

        `world` holds this partition and nothing else.
        """
        self.world, self.digest = world, world.digest
        here = world.accounts.values()
        fresh = [a for a in here if a.id not in self.bills]
        was = before(self.channels, self.ladders)
        closing = [(place, last) for place, chain in enumerate(world.chains) if (last := self._chain(chain))]
        self._lookup.clear()
        self._first.clear()
        source: dict[int, str] = {}  # of each chain
        for (concentrator, meter, register), place in world.addresses.items():
            channel = self.channels[world.chains[place][0].key]
            self._lookup[concentrator][meter, register] = channel
            self._first[concentrator, meter, register] = channel
            source[place] = min(concentrator, source.get(place, concentrator))
        self._open_ladders(world, world.chains)
        if opening:
            share_ladders(self.ladders, self.channels, was.furthest_s, was.until_s.keys())
        for ladder in self.ladders.values():
            ladder.channels = []
            if ladder.sheet is None and not self._linear(ladder.tariff):
                ladder.sheet = Used(ladder.tariff)
        for channel in self.channels.values():
            channel.ladder.channels.append(channel)
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
                    self.credited(account.id, NO_DAY, "opening", account.balance_fen)
                self.bills[account.id].arrears_fen = account.arrears_fen
                self.arrears_fen += account.arrears_fen
        for bill in self.bills.values():
            bill.channels = []
        for channel in self.channels.values():
            if channel.span.bill:
                self.bills[channel.span.account].channels.append(channel)
        for bill in self.bills.values():
            for _, sheet in bill.sheets():
                sheet.open_month = bill.cycle
        self._ends()
        if opening:
            for channel, since_s in overtaken(was, self.channels, self.ladders):
                (serial, code, _), now = channel.span.key, (channel.value, channel.at_s)
                self.refused.backdated(address(serial), *now, code, channel.quality, since_s, self.offset)
            for place, channel in closing:
                self._final_read(self.channels[world.chains[place][0].key], channel, source.get(place, ""))

    def _linear(self, tariff: Tariff) -> bool:
        """As the registry version has it: later files may say more."""
        told = self.world.linear if self.world is not None else None
        return tariff.linear if told is None else tariff.id in told

    def _final_read(self, first: Channel, last: Channel, source: str) -> None:
        """[9] The old final read of a change-out closes its register, or is a row of the queue."""
        (serial, code, _), value, at_s = last.span.key, last.span.closing, last.until_s
        assert value is not None
        verdict = self._read(first, value, at_s, _A, FOREVER)
        if verdict not in QUIET:
            self.refused.reading(verdict, source, address(serial), value, at_s, code, _A, self.offset)

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
        """Energy so far goes to the ladder in which the account's first counted energy falls, once: what a later
        version says of an account that is open changes nothing."""
        opened: dict[tuple[str, str], int] = {}
        first: dict[str, int] = {}
        for chain in chains:
            for span in chain:
                at_s, key = _opened_s(span), (span.account, span.tariff)
                opened[key] = min(at_s, opened.get(key, FOREVER))
                first[span.account] = min(at_s, first.get(span.account, FOREVER))
        known = {account for (account, _), ladder in self.ladders.items() if ladder.opened_s != FOREVER}
        for key in opened:
            ladder = self.ladders[key]
            if ladder.opened_s != FOREVER:
                continue
            brings = key[0] not in known and opened[key] == first[key[0]]
            brought_wh = world.accounts[key[0]].cycle_energy_wh if brings else 0
            ladder.opened_s = opened[key]
            segment = ladder.tariff.segment_at(opened[key])
            if segment is not None:
                ladder.add(segment, brought_wh)
                ladder.brought = {ladder.tariff.tier_cycle(segment.month): brought_wh} if brought_wh else {}

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
                verdict = "unknown_meter" if (source, meter) not in self._meters else "unknown_register"
                self.verdicts[verdict] += 1
                self.refused.reading(verdict, source, meter, value, at_s, register, quality, self.offset + 1)
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
            verdict = self._read(channel, value, at_s, quality, limit_s)
            self.verdicts[verdict] += 1
            if verdict not in QUIET:
                self.refused.reading(verdict, source, meter, value, at_s, register, quality, self.offset + 1)
            if channel.at_s >= channel.until_s and channel.next is not None:
                self._lookup[source][meter, register] = channel.next
        self.verdicts["accepted"] += plain
        self.as_of_s = max(self.as_of_s, received_at_s)

    def _read(self, channel: Channel, value: int, at_s: int, quality: int, limit_s: int) -> str:
        return channel.read(value, at_s, quality, limit_s, self.rating.plausible_window_s, self)

    @property
    def _meters(self) -> Mapping[tuple[str, int], bool]:
        return self.world.meters if self.world is not None else {}

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
            for channel, value, at_s in estimates(bill.channels, bill.end_s, self.rating):
                self._read(channel, value, at_s, int(Quality.E), FOREVER)
        tariff = self.tariffs[bill.account.tariff]
        kept = charge(bill, self)
        total = Fraction(bill.carry_energy + bill.carry_adder - kept.carry) + kept.whole
        steps = fen(total, tariff) - kept.booked_fen
        self.posted(bill.account.id, month_start(bill.cycle + 1) - 1, "rounding", steps)
        bill.carry_energy, bill.carry_adder = kept.carry, Decimal(0)
        if bill.account.until_s <= bill.end_s:
            bill.open = False
        bill.cycle += 1
        bill.end_s = tariff.cycle_end_s(bill.cycle)

    def pending_e11(self, bill: Bill) -> int:
        return pending_e11(bill, self.ticked_s)

    # -- the inbox ---------------------------------------------------------------------------------------------
    def command(
        self, number: int, kind: str, key: str, body: Mapping[str, Any], world_of: Callable[[str], World]
    ) -> None:
        """One inbox row, where the ledger says that it was applied."""
        match kind:
            case "registry":
                self.activate(world_of(str(body["digest"])))
            case "credit" | "reversal":
                account = str(body["account"])
                sign = 1 if kind == "credit" else -1
                if account in self.bills:
                    self.money[key] = kind, account, sign * int(body["amount_fen"])
                    self.credited(account, NO_DAY, kind, sign * int(body["amount_fen"]))
            case "rebaseline":
                self._rebaseline(body)
            case "release":
                if not _released(body):
                    self.refused.command(number, kind, body, self.offset)
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

    def restored(self) -> None:
        """Registers, ladders and bills were put in place from an earlier audit."""
        for channel in self.channels.values():
            channel.place()
        self._ends()


def _released(body: Any) -> list[tuple[int, int, int, int, int]]:
    """Readings of a release: meter, register, at_s, value, quality. A body that is not whole releases nothing."""
    if not isinstance(body, Mapping) or not body.get("concentrator"):
        return []
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
