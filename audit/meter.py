"""Pure: the rules for one register: verdicts, spreading, the ladder, the posting of a day.

Energy is gathered in Wh by (price, tier) while a local day is open, and becomes money once, with Decimal, when
the day ends: floor of the exact amount in fen, the rest stays. The rules are those of docs/ARCHITECTURE.md,
"Rating, in words that the auditor repeats"; the numbers in brackets below are theirs.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import ROUND_FLOOR, Decimal
from typing import Final, Protocol

from audit.bills import Used, within
from audit.tariffs import TIERS_MAX, WIDE, Bounds, History, Segment, Tariff, month_start
from audit.world import FOREVER, Span
from config.units import FED_IN_REGISTER, Quality

ENERGY_MAX: Final = 4_000_000_000  # of one reading; beyond it is `overflow`
_UNCHECKED: Final = 10**30
_NO_BOUND: Final = 10**30
_E: Final = int(Quality.E)
_THOUSAND: Final = Decimal(1000)


class Sink(Protocol):
    """Where money goes that a channel gives away."""

    def posted(self, account: str, day: int, component: str, amount: int) -> None:
        """Fen that the customer pays on a local day, or Wh for `quantity_wh`."""
        ...

    def carried(self, account: str, energy: Decimal, adder: Decimal) -> None:
        """Remainders of both components that wait for the close of the bill."""
        ...


class Ladder:
    """Energy of an account under one tariff: in the furthest tier cycle that it has reached, and in the one before.

    `ring`: ladders that count as one, this one among them, up to the tier cycle `ring_until`; empty: none.
    """

    __slots__ = (
        "brought", "channels", "history", "opened_s", "reached", "ring", "ring_until", "sheet", "tariff", "used"
    )  # fmt: skip

    def __init__(self, tariff: Tariff, history: History) -> None:
        self.tariff, self.history = tariff, history
        self.used: dict[int, list[int]] = defaultdict(lambda: [0])  # by tier cycle
        self.brought: dict[int, int] = {}  # by tier cycle: what the first version that opened it said
        self.opened_s = FOREVER
        self.reached: int | None = None  # the tier cycle of the furthest energy, or of the opening
        self.ring: list[Ladder] = []
        self.ring_until = -1
        self.channels: list[Channel] = []  # that count here
        self.sheet: Used | None = None  # from the registry version on under which the tariff is not linear

    def kept(self, cycle: int) -> int:
        """[5] The tier cycle on whose use energy of `cycle` counts: of older ones the use is not known any more."""
        return cycle if self.reached is None else max(cycle, self.reached - self.tariff.cycle_months)

    def use(self, segment: Segment) -> list[int]:
        """Energy so far that counts in a segment, as a list of one."""
        return self.used[self.kept(self.tariff.tier_cycle(segment.month))]

    def add(self, segment: Segment, energy: int) -> tuple[int, int]:
        """[5] Count energy of a segment, here and on every ladder that counts as one; (use before, use after)."""
        cycle = self.tariff.tier_cycle(segment.month)
        for ladder in self.ring if self.shares(segment) else (self,):
            ladder.reach(cycle)
            ladder.used[ladder.kept(cycle)][0] += energy
        after = self.use(segment)[0]
        return after - energy, after

    def reach(self, cycle: int) -> None:
        """Energy, or the opening, stands in this tier cycle; what counts here must not take it for another."""
        if self.reached is None or cycle > self.reached:
            self.reached = cycle
            for channel in self.channels:
                channel.settle()

    def ring_until_s(self) -> int:
        """When the last tier cycle ends in which the ring counts as one; 0: there is no ring."""
        end = month_start(self.ring_until + self.tariff.cycle_months)
        return self.tariff.day_start_s(end) if self.ring else 0

    def shares(self, segment: Segment) -> bool:
        """Does energy of this segment move the whole ring?"""
        return bool(self.ring) and self.tariff.tier_cycle(segment.month) <= self.ring_until

    def plain(self, segment: Segment) -> bool:
        """Does energy of this segment count on this ladder alone, in the furthest cycle?"""
        cycle = self.tariff.tier_cycle(segment.month)
        return cycle == self.reached and not self.shares(segment)

    def latest(self) -> tuple[int, int] | None:
        """Energy in the furthest cycle that has been reached and in the one before; None before the opening."""
        if self.reached is None:
            return None
        return self.use_of(self.reached), self.use_of(self.reached - self.tariff.cycle_months)

    def use_of(self, cycle: int) -> int:
        return self.used[cycle][0] if cycle in self.used else 0

    def bounds(self, segment: Segment) -> Bounds:
        return self.tariff.bounds_on(segment.day, self.history)


class Channel:
    """One register during one span; plain attributes, because there are millions of readings."""

    __slots__ = (
        "at_s", "bound", "day_wh", "excess", "fast_end_s", "key", "ladder", "multiplier", "next", "open", "pending",
        "power", "quality", "resolution", "rest_adder", "rest_energy", "segment", "span", "until_s", "use", "value",
    )  # fmt: skip

    def __init__(self, span: Span, ladder: Ladder) -> None:
        value, at_s, quality = span.opening or (-1, span.from_s, int(Quality.A))
        self.value, self.at_s, self.quality = value, at_s, quality
        self.excess = 0
        self.pending: tuple[int, int] | None = None  # value, at_s
        self.open: dict[int, int] = {}  # price key + tier -> Wh of the open day
        self.day_wh = 0
        self.rest_energy = self.rest_adder = Decimal(0)
        self.next: Channel | None = None
        self.segment: Segment | None = None
        self.renew(span, ladder)
        self.place()

    def renew(self, span: Span, ladder: Ladder) -> None:
        """Dated facts, as the active registry version has them."""
        self.span, self.ladder = span, ladder
        self.until_s, self.resolution, self.multiplier = span.until_s, span.resolution, span.multiplier
        self.power = span.power_max_w or _UNCHECKED

    def place(self) -> None:
        """Find the segment after `at_s`; a span without a price then is never charged."""
        self.segment = self.ladder.tariff.segment_at(self.at_s)
        self.settle()

    def settle(self) -> None:
        """What the plain reading needs of the segment: its end, its price, use and first bound of the ladder."""
        plain = self.span.bill and self.ladder.sheet is None and self.most == ENERGY_MAX and not self.fed_in
        if self.segment is None or not plain or not self.ladder.plain(self.segment):
            self.fast_end_s = 0
            self.key, self.use, self.bound = 0, [0], 0
            return
        bounds = self.ladder.bounds(self.segment)
        self.fast_end_s = min(self.segment.end_s, self.until_s)
        self.key, self.use = self.segment.key, self.ladder.use(self.segment)
        self.bound = bounds[0] if bounds else _NO_BOUND

    @property
    def most(self) -> int:
        """Energy that one reading may bring: less where this span, or one that follows, has dear prices."""
        here: Channel | None = self
        while here is not None:
            if here.ladder.tariff.dear:
                return ENERGY_MAX // 10
            here = here.next
        return ENERGY_MAX

    @property
    def fed_in(self) -> bool:
        """It counts what is fed in: no price as it comes, and no ladder."""
        return self.span.key[1] == FED_IN_REGISTER

    @property
    def told(self) -> bool:
        """The tariff says what becomes of this register's energy."""
        return not self.fed_in or self.ladder.tariff.netting is not None

    @property
    def charged(self) -> bool:
        return self.span.bill and self.told and self.segment is not None

    # -- energy ----------------------------------------------------------------------------------------------
    def charge(self, segment: Segment, energy: int, now: Segment) -> None:
        """[5] One piece of energy climbs the ladder (or comes back down): each tier takes what lies in it.

        `now`: the segment where the register stands.
        """
        if self.fed_in:
            if self.ladder.sheet is not None:
                self.ladder.sheet.feed(segment, now, energy)
            return
        before, after = self.ladder.add(segment, energy)
        self.day_wh += energy
        low = None
        for tier, high in enumerate((*self.ladder.bounds(segment), None)):
            part = within(after, low, high) - within(before, low, high)
            if part:
                key = segment.key + tier
                self.open[key] = self.open.get(key, 0) + part
                if self.ladder.sheet is not None:
                    self.ladder.sheet.count(segment, now, tier, part)
            low = high

    def walk(self, from_s: int, to_s: int, energy: int, sink: Sink) -> None:
        """[5] Spread over (from_s, to_s] by cumulative floors; days that end are posted [6]."""
        segment = self.segment
        assert segment is not None
        given = 0
        while True:
            upto = energy if segment.end_s >= to_s else energy * (segment.end_s - from_s) // (to_s - from_s)
            if upto != given:
                self.charge(segment, upto - given, segment)
                given = upto
            if segment.end_s > to_s:
                break
            following = segment.following()
            if following is None:
                break
            if following.day != segment.day:
                self.post_day(sink, last=following.month != segment.month, segment=segment)
            segment = following
            if segment.start_s == to_s:
                break
        self.segment = segment

    def accrued(self) -> tuple[Decimal, Decimal]:
        """Money of both components that is not posted yet: of the open day, and what days before left over."""
        prices = self.ladder.tariff.prices
        energy, adder = self.rest_energy, self.rest_adder
        for key, wh in self.open.items():
            first, used = prices[key - key % TIERS_MAX], wh / _THOUSAND
            energy += used * first
            adder += used * (prices[key] - first)
        return energy, adder

    def post_day(self, sink: Sink, *, last: bool, segment: Segment) -> None:
        """[6] Whole fen of both components; at the end of a bill cycle the remainders go to the carry."""
        if not self.open and not self.rest_energy and not self.rest_adder:
            return
        minor = segment.tariff.minor
        energy, adder = self.accrued()
        whole_energy = int(WIDE.divide(energy, minor).to_integral_value(ROUND_FLOOR))
        whole_adder = int(WIDE.divide(adder, minor).to_integral_value(ROUND_FLOOR))
        account, day = self.span.account, segment.day
        sink.posted(account, day, "energy", whole_energy)
        sink.posted(account, day, "tier_adder", whole_adder)
        sink.posted(account, day, "quantity_wh", self.day_wh)
        self.open, self.day_wh = {}, 0
        self.rest_energy, self.rest_adder = energy - whole_energy * minor, adder - whole_adder * minor
        if self.ladder.sheet is not None:
            rest = self.rest_energy + self.rest_adder if last else None
            self.ladder.sheet.post(segment.month, whole_energy + whole_adder, rest)
        if last:
            sink.carried(account, self.rest_energy, self.rest_adder)
            self.rest_energy = self.rest_adder = Decimal(0)

    # -- verdicts --------------------------------------------------------------------------------------------
    def read(self, value: int, at_s: int, quality: int, limit_s: int, window_s: int, sink: Sink) -> str:
        """[3] The verdict on a reading of this span (or of one that follows it), carried out."""
        if at_s > limit_s:
            return "future"
        here = self.open_at(at_s)
        if value % here.resolution:
            return "resolution"
        if value < 0:
            return "negative"
        if at_s < here.at_s:
            return "late"
        if at_s == here.at_s:
            return here.same_time(value, quality, window_s)
        last, multiplier = here.reached(at_s)
        if at_s > last.until_s:
            return "not_installed"
        verdict, change = here.change_of(value, at_s, quality, window_s, multiplier)
        if verdict not in ("accepted", "rollover", "confirmed"):
            return verdict
        here.excess = here.excess + change if quality == _E else 0  # [4]
        here.count(value, at_s, quality, here.counted(change), sink)
        return verdict

    def counted(self, change: int) -> int:
        """[5] Whole steps of the register, where its tariff has them; the rest stays in it."""
        step = self.ladder.tariff.step if self.span.bill else 1
        return (self.value + change) // step * step - self.value // step * step

    def touches(self, other: Channel) -> bool:
        return other.span.opening is None

    def open_at(self, at_s: int) -> Channel:
        """[2] The span of this register that a reading at `at_s` is judged in: the first that has not ended.

        Where the spans that take over from it all end before, it is the one after the vacancy.
        """
        here = self
        while True:
            following = here.next
            if here.at_s < here.until_s:
                last, _ = here.reached(at_s)
                if at_s <= last.until_s:
                    return here
                following = last.next
            if following is None:
                return here
            here = following

    def reached(self, at_s: int) -> tuple[Channel, int]:
        """How far a reading goes from span to span without a new register, and the largest multiplier there."""
        here, multiplier = self, self.multiplier
        while at_s > here.until_s and here.next is not None and here.touches(here.next):
            here = here.next
            multiplier = max(multiplier, here.multiplier)
        return here, multiplier

    def leaves_s(self, end_s: int) -> int:
        """`end_s`, or when the register leaves the account before it."""
        here = self
        while here.until_s < end_s and here.next is not None and here.touches(here.next):
            if here.next.span.account != self.span.account:
                break
            here = here.next
        return min(end_s, here.until_s)

    def take_over(self, before: Channel) -> None:
        """[2] Go on from the register of the span before, which has one behind its end."""
        self.value, self.at_s, self.quality, self.excess = before.value, before.at_s, before.quality, before.excess
        self.place()

    def same_time(self, value: int, quality: int, window_s: int) -> str:
        """[3] The verdict on a reading at the very time of the last one; a better quality charges the difference."""
        if value == self.value and quality > self.quality:
            self.quality, self.excess = quality, 0
            return "replaced"
        if value == self.value:
            return "duplicate"
        if quality <= self.quality:
            return "conflict"
        if value < self.value - self.excess:
            return "negative"
        change = value - self.value
        if abs(change) * self.multiplier > self.most:
            return "overflow"
        if abs(change) * self.multiplier * 3600 > self.power * window_s:
            return "implausible"
        if self.charged:
            assert self.segment is not None
            ends_here = self.segment.start_s == self.at_s
            before = self.segment.tariff.segment_at(self.at_s - 1) if ends_here else self.segment
            self.charge(before or self.segment, self.counted(change) * self.multiplier, self.segment)
        self.value, self.quality, self.excess = value, quality, 0
        return "replaced"

    def change_of(self, value: int, at_s: int, quality: int, window_s: int, multiplier: int) -> tuple[str, int]:
        """(verdict, difference of the register) for a later time."""
        lasted_s = at_s - self.at_s
        allowed = self.power * min(lasted_s, window_s)
        change = value - self.value
        if value < self.value - self.excess:
            wrapped = change + 10 ** (self.span.digits + 3)
            known = self.span.digits and self.span.power_max_w and 0 <= wrapped * multiplier <= self.most
            if known and wrapped * multiplier * 3600 <= allowed:
                return "rollover", wrapped
            if self.value > 1_000_000 and value < self.value // 1000:
                return "reset", 0
            return "negative", 0
        if abs(change) * multiplier > self.most:
            return "overflow", 0
        need = change * multiplier * 3600
        if need <= allowed:
            return "accepted", change
        if need > self.power * lasted_s:
            return "implausible", 0
        if quality != _E and self.pending is not None:
            waiting, since_s = self.pending
            if self.at_s < since_s < at_s and value >= waiting:
                step = (value - waiting) * multiplier * 3600
                if step <= self.power * min(at_s - since_s, window_s):
                    return "confirmed", change
        self.pending = value, at_s
        return "unconfirmed_jump", 0

    def count(self, value: int, at_s: int, quality: int, change: int, sink: Sink) -> None:
        """Move the register; a reading past the end of spans is split there by cumulative floors.

        Each part of what the register counted, `change`, times its span's multiplier is energy.
        """
        here, start_s, from_s, given = self, self.at_s, self.at_s, 0
        while True:
            upto_s = min(at_s, here.until_s)
            upto = change * (upto_s - start_s) // (at_s - start_s)
            if upto_s > from_s:
                if here.charged:
                    here.walk(from_s, upto_s, (upto - given) * here.multiplier, sink)
                here.settle()
            here.value, here.at_s, here.quality = value, upto_s, quality
            given, from_s = upto, upto_s
            following = here.next
            if upto_s < here.until_s or following is None or not here.touches(following):
                return
            following.value, following.quality, following.excess = value, quality, here.excess
            here = following
            if at_s == upto_s:
                return
