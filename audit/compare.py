"""Pure: what was found against what must be, as differences that name account, day and component."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

NO_DAY: Final = -1
Key = tuple[str, int, str]  # account, local day, component
Money = tuple[str, str, int]  # kind, account, fen
# Amounts in fen; those in e-11 of the currency count as whole fen, rounded up; what else is compared is no money.
_FEN: Final = frozenset(
    {"energy", "tier_adder", "rounding", "credit", "opening", "reversal", "adjustment"}
    | {"standing", "levy", "allowance", "percent", "minimum", "tiers", "export"}
    | {"entry", "customer", "arrears", "gateway", "balance"}
)
_E11_PER_FEN: Final = 10**9


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One thing that is not as it must be. `day` is a local date, "" where no day matters.

    Amounts are in fen unless the component's name ends in its unit (`_e11`: 1e-11 of the currency, `_wh`, `_s`).
    """

    account: str
    day: str
    component: str
    expected: int
    found: int
    note: str = ""

    @property
    def fen(self) -> int:
        """Its size as money."""
        size = abs(self.expected - self.found)
        if self.component.endswith("_e11"):
            return -(-size // _E11_PER_FEN)
        return size if self.component.split(" ")[0] in _FEN else 0


@dataclass(slots=True)
class Report:
    """What an audit found. `ok`: nothing differs."""

    differences: list[Difference] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.differences

    @property
    def difference_fen(self) -> int:
        """Sum of the sizes of all differences of money."""
        return sum(difference.fen for difference in self.differences)


def day_text(day: int) -> str:
    """A local day number as a date."""
    return "" if day == NO_DAY else (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def month_text(month: int) -> str:
    """A month number (since 1970-01) as 2026-07."""
    return f"{1970 + month // 12:04}-{month % 12 + 1:02}"


class Tally:
    """What must be posted against what was, as both come in; what agrees on a day is forgotten, so memory stays.

    `expected` and `money` are the auditor's own (PartitionAudit), and lose what is settled. Amounts without a day
    stay, so that their totals can be told.
    """

    def __init__(self, expected: MutableMapping[Key, int], money: MutableMapping[str, Money]) -> None:
        self.expected, self.money = expected, money
        self.posted: dict[Key, int] = defaultdict(int)
        self.settled = 0
        self._touched: set[Key] = set()
        self._single: list[Difference] = []
        self._control: list[Difference] = []
        self._rows: dict[int, int] = defaultdict(int)  # entry -> sum of its packed rows
        self.entries = 0
        self.arrears_fen = 0

    def amount(self, account: str, day: int, component: str, amount: int) -> None:
        """One packed row of the subledger."""
        key = account, day, component
        self.posted[key] += amount
        if day != NO_DAY:
            self._touched.add(key)

    def single(self, reference: str, kind: str, account: str, amount: int) -> None:
        """A credit or reversal: each has exactly one applied inbox row, its own."""
        wanted = self.money.get(reference)
        if wanted == (kind, account, amount):
            del self.money[reference]
        else:
            note = f"no applied inbox row {reference}" if wanted is None else f"inbox row {reference}"
            self._single.append(Difference(account, "", kind, wanted[2] if wanted else 0, amount, note))

    def rows(self, entry: int, total: int) -> None:
        """Packed rows of an entry sum to `total`."""
        self._rows[entry] += total

    def entry(self, entry: int, postings: Iterable[tuple[str, int]]) -> None:
        """An entry sums to zero, and its `customer` posting is the sum of its packed rows, told before."""
        self.entries += 1
        total, rows = 0, self._rows.pop(entry, 0)
        customer = 0
        for name, amount in postings:
            total += amount
            if name == "customer":
                customer += amount
            elif name == "customer_arrears":
                self.arrears_fen += amount
        if total:
            self._control.append(Difference("", "", "entry", 0, total, f"entry {entry} does not sum to zero"))
        if customer != rows:
            note = f"entry {entry}: rows, control account"
            self._control.append(Difference("", "", "customer", customer, rows, note))

    def settle(self) -> None:
        """Forget what agrees."""
        for key in self._touched:
            if self.expected.get(key, 0) == self.posted[key]:
                self.expected.pop(key, None)
                del self.posted[key]
                self.settled += 1
        self._touched.clear()

    def control(self) -> list[Difference]:
        """What the entries' postings did not agree with; call it when all are told."""
        left = sorted((entry, rows) for entry, rows in self._rows.items() if rows)
        note = "entry {}: rows without a posting"
        return self._control + [Difference("", "", "customer", 0, rows, note.format(entry)) for entry, rows in left]

    def differences(self) -> list[Difference]:
        """Every (account, day, component) whose sums differ, and credits and reversals one by one."""
        keys = {key for key, amount in self.expected.items() if amount} | self.posted.keys()
        out = [
            Difference(account, day_text(day), component, self.expected.get(key, 0), self.posted.get(key, 0))
            for key in sorted(keys)
            for account, day, component in (key,)
            if self.expected.get(key, 0) != self.posted.get(key, 0)
        ]
        for key, (kind, account, amount) in sorted(self.money.items()):
            out.append(Difference(account, "", kind, amount, 0, f"inbox row {key} has no entry"))
        return out + self._single


def missing(kind: str, notes: Iterable[str]) -> list[Difference]:
    """Things that have no amount: bytes that fail their checksum, records that are nowhere."""
    return [Difference("", "", kind, 1, 0, note) for note in dict.fromkeys(notes)]
