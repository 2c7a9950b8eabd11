"""Pure: the engine's state arrays against what the auditor derived: registers, open days, ladders, balances.

Money is compared in 1e-11 of the currency, where it is exact: the live balance of an account is what is posted
less what its channels have accrued, less the remainders that wait for the close of its bill, and less what that bill
would charge beside the energy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from audit.accounts import PartitionAudit
from audit.closing import Bill
from audit.compare import Difference, day_text, month_text
from audit.meter import Channel, Ladder
from audit.packed import ACCOUNT_OPEN, CHANNEL_BILL, CHANNEL_SHARED, Rows
from audit.tariffs import WIDE

_E11_PER_FEN: Final = 10**9
Place = tuple[str, int, int]  # serial, register code, from_s


def e11(amount: Decimal, minor: Decimal) -> int:
    """An exact amount in billionths of the minor unit: 1e-11 of a currency with cents."""
    scaled = WIDE.divide(WIDE.multiply(amount, Decimal(_E11_PER_FEN)), minor)
    whole = int(scaled)
    assert scaled == whole, f"finer than a billionth of {minor}: {amount}"
    return whole


def _waiting(pending: tuple[int, int] | None, at_s: int) -> tuple[int, int]:
    """A jump (value, time) that still waits [3]; (0, 0): none."""
    return pending if pending is not None and pending[1] > at_s else (0, 0)


class StateAudit:
    """Compares one partition's arrays; `differences` grows with every part."""

    def __init__(self, book: PartitionAudit, arrays: Mapping[str, Rows]) -> None:
        self.book, self.arrays = book, arrays
        self.differences: list[Difference] = []
        self._accrued: dict[int, int] = defaultdict(int)  # account slot -> as the channels say
        self._expected: dict[str, int] = defaultdict(int)  # account -> as derived

    def compare(self, channels: Iterable[tuple[int, Place]], ladders: Iterable[tuple[int, tuple[str, str]]]) -> None:
        """Everything, by the slots that the registry gives to channels and ladders."""
        ladder_slot = {key: slot for slot, key in ladders}
        channel_slot = {key: slot for slot, key in channels}
        if self.book.world is None:
            return
        self._lengths(len(channel_slot), len(ladder_slot))
        account_slot = {a.id: a.slot for a in self.book.world.accounts.values()}
        for key, channel in self.book.channels.items():
            self._channel(key, channel, channel_slot, ladder_slot, account_slot)
        for (account, tariff), ladder in self.book.ladders.items():
            slot = ladder_slot.get((account, tariff), -1)
            told = ladder.latest()
            if told is not None and self._holds("ladder", slot, account, tariff):
                row = self.arrays["ladder"][slot]
                self._differ(account, "", "ladder_used_wh", told[0], int(row["used"]), tariff)
                self._differ(account, "", "ladder_used_before_wh", told[1], int(row["used_before"]), tariff)
                slots = sorted(ladder_slot.get((account, member.tariff.id), -1) for member in ladder.ring)
                self._ring((account, tariff), slot, ladder, row, slots)
        self._sheets({key: slot for key, slot in ladder_slot.items() if key in self.book.ladders})
        for name, bill in self.book.bills.items():
            self._account(name, bill)

    def _ring(self, key: tuple[str, str], slot: int, ladder: Ladder, row: Any, slots: list[int]) -> None:
        """Ladders that count as one name each other in order of slots; where that is over the tie says nothing."""
        if ladder.ring and ladder.reached is not None and ladder.reached > ladder.ring_until:
            return
        (account, tariff), following = key, slots[(slots.index(slot) + 1) % len(slots)] + 1 if slots else 0
        until_s = int(row["ring_until_s"]) if row["ring"] else 0
        self._differ(account, "", "ladder_ring", following, int(row["ring"]), tariff)
        self._differ(account, "", "ladder_ring_until_s", ladder.ring_until_s(), until_s, tariff)

    def _sheets(self, ladder_slot: Mapping[tuple[str, str], int]) -> None:
        """Energy of open bill cycles, where a tariff is not linear; and what has been posted of it."""
        rows, cells = self.arrays["sheet"], self.arrays["cell"]
        place_of = {int(ladder): place for place, ladder in enumerate(rows["ladder"].tolist())}
        for (account, tariff), slot in ladder_slot.items():
            used = self.book.ladders[account, tariff].sheet
            if (used is None) != (slot not in place_of):
                self._differ(account, "", "state", int(used is not None), int(slot in place_of), f"{tariff}: a sheet")
                continue
            if used is None:
                continue
            row = rows[place_of[slot]]
            self._differ(account, "", "sheet_cycle", used.open_month, int(row["cycle"]), tariff)
            for month in range(used.open_month, used.open_month + int(row["cycles"])):
                first = int(row["first"]) + month % int(row["cycles"]) * int(row["width"])
                of = cells[first + 1 : first + int(row["width"])]
                counted = used.counted.get(month, {}).values()
                note = f"{tariff}, {month_text(month)}"
                wh = sum(one.wh for one in counted) + sum(used.fed_in.get(month, {}).values())
                self._differ(account, "", "sheet_wh", wh, int(of["wh"].sum()), note)
                money = e11(sum((one.money for one in counted), Decimal(0)), used.tariff.minor)
                self._differ(account, "", "sheet_e11", money, int(of["energy_e11"].sum()), note)
                posted = used.posted_fen.get(month, 0) * _E11_PER_FEN
                self._differ(account, "", "sheet_posted_e11", posted, int(cells[first]["energy_e11"]), note)

    def _lengths(self, channels: int, ladders: int) -> None:
        assert self.book.world is not None
        wanted = {
            "channel": channels,
            "cold": channels,
            "ladder": ladders,
            "account": len(self.book.world.accounts),
            "sheet": sum(one.sheet is not None for one in self.book.ladders.values()),
        }
        for name, count in wanted.items():
            note = f"partition {self.book.partition}: rows of {name}"
            self._differ("", "", "state", count, len(self.arrays[name]), note)

    def _holds(self, name: str, slot: int, account: str, note: str) -> bool:
        if 0 <= slot < len(self.arrays[name]):
            return True
        self.differences.append(Difference(account, "", "state", 1, 0, f"{note}: no row of {name}"))
        return False

    def _differ(self, account: str, day: str, component: str, expected: int, found: int, note: str) -> None:
        if expected != found:
            self.differences.append(Difference(account, day, component, expected, found, note))

    def _channel(
        self,
        key: Place,
        channel: Channel,
        channel_slot: Mapping[Place, int],
        ladder_slot: Mapping[tuple[str, str], int],
        account_slot: Mapping[str, int],
    ) -> None:
        """One register: where it stands, and what its open day has come to."""
        span = channel.span
        account, slot = span.account, channel_slot.get(key, -1)
        energy, adder = (e11(amount, channel.ladder.tariff.minor) for amount in channel.accrued())
        self._expected[account] += energy + adder
        if not self._holds("channel", slot, account, f"meter {key[0]}") or slot >= len(self.arrays["cold"]):
            return
        row, cold = self.arrays["channel"][slot], self.arrays["cold"][slot]
        self._accrued[int(cold["account"])] += int(row["energy_e11"]) + int(row["adder_e11"])
        following = channel_slot.get(channel.next.span.key, -1) if channel.next is not None else -1
        held = _waiting((int(cold["pending_value"]), int(cold["pending_at_s"])), int(row["at_s"]))
        waits = _waiting(channel.pending, channel.at_s)
        told = {
            "register": (channel.value, row["value"]),
            "register_at_s": (channel.at_s, row["at_s"]),
            "quality": (channel.quality, row["quality"]),
            "estimate_excess": (channel.excess, row["excess"]),
            "energy_e11": (energy, row["energy_e11"]),
            "tier_adder_e11": (adder, row["adder_e11"]),
            "day_wh": (channel.day_wh, row["day_wh"]),
            "until_s": (channel.until_s, row["until_s"]),
            "power_max_w": (span.power_max_w, row["power_max_w"]),
            "multiplier": (span.multiplier, row["multiplier"]),
            "resolution": (span.resolution, row["resolution"]),
            "digits": (span.digits, row["digits"]),
            "billed": (int(span.bill and channel.told), row["flags"] & CHANNEL_BILL),
            "pending": (waits[0], held[0]),
            "pending_at_s": (waits[1], held[1]),
            "ladder_shared": (self._shared(channel), int(row["flags"] & CHANNEL_SHARED != 0)),
            "ladder_slot": (ladder_slot.get((account, span.tariff), -1), row["ladder"]),
            "account_slot": (account_slot[account], cold["account"]),
            "next_slot": (following, cold["next"]),
        }
        if all(expected == found for expected, found in told.values()):
            return
        day = channel.segment.day if channel.segment else channel.ladder.tariff.day_of(channel.at_s)
        for component, (expected, found) in told.items():
            self._differ(account, day_text(day), component, expected, int(found), f"open day, meter {key[0]}")

    @staticmethod
    def _shared(channel: Channel) -> int:
        segment = channel.segment
        return int(segment is not None and channel.charged and channel.ladder.shares(segment))

    def _account(self, name: str, bill: Bill) -> None:
        """Posted balance, carry, arrears, and the live balance that follows from all of it."""
        slot = bill.account.slot
        if not self._holds("account", slot, name, "account"):
            return
        row = self.arrays["account"][slot]
        minor = self.book.tariffs[bill.account.tariff].minor
        energy, adder = e11(bill.carry_energy, minor), e11(bill.carry_adder, minor)
        self._differ(name, "", "balance", bill.balance_fen, int(row["balance_fen"]), "posted, in the state")
        self._differ(name, "", "arrears", bill.arrears_fen, int(row["arrears_fen"]), "in the state")
        self._differ(name, "", "carry_energy_e11", energy, int(row["carry_energy_e11"]), "")
        self._differ(name, "", "carry_adder_e11", adder, int(row["carry_adder_e11"]), "")
        if bill.cycle:  # else nothing was priced when it opened, and no bill is due
            self._differ(name, "", "bill_cycle", bill.cycle, int(row["cycle"]), "months since 1970")
            self._differ(name, "", "bill_open", int(bill.open), int(row["flags"] & ACCOUNT_OPEN != 0), "")
        pending = self.book.pending_e11(bill)
        self._differ(name, "", "pending_e11", pending, int(row["pending_e11"]), "beside the energy of open bills")
        live = bill.balance_fen * _E11_PER_FEN - self._expected[name] - energy - adder - pending
        waiting = int(row["carry_energy_e11"]) + int(row["carry_adder_e11"]) + int(row["pending_e11"])
        waiting += self._accrued[slot]
        found = int(row["balance_fen"]) * _E11_PER_FEN - waiting
        self._differ(name, "", "live_balance_e11", live, found, "posted, less what is accrued and carried")
