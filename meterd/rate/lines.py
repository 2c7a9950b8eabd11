"""Pure: bill cycles as lines of bills: energy by period and tier, then the tariff's charges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from config.units import ACCRUAL_PER_MINOR, round_ratio
from rating.bills import Due, energy_lines
from rating.bins import CycleBins
from rating.closes.reckoning import Reckoned
from rating.tariff.charges import Charge
from rating.tariff.model import Rounding


@dataclass(frozen=True, slots=True)
class Line:
    """Use of one period in one tier, or a charge: exact money in 1e-11.

    `quantity`: thousandths of the unit; days of a charge by days; 1e-11 of the base of a percentage.
    """

    component: str
    period: str
    tier: int  # from 1; 0: not by tier
    quantity: int
    price_e8: int
    amount_e11: int
    charge: Charge | None = None  # None: energy

    @property
    def contained(self) -> bool:
        """It says what is in other lines, and adds nothing."""
        return self.charge is not None and bool(self.charge.included)


@dataclass(frozen=True, slots=True)
class Cycle:
    """One bill cycle of a metering point; `total_minor` is what a bill would say."""

    metering_point: str
    from_s: int
    to_s: int
    lines: tuple[Line, ...]
    exact_e11: int  # before rounding
    total_minor: int

    @property
    def rounding_e11(self) -> int:
        """What leads from the lines to the total."""
        return self.total_minor * ACCRUAL_PER_MINOR - _sum(self.lines)


def _sum(lines: Iterable[Line]) -> int:
    return sum(line.amount_e11 for line in lines if not line.contained)


def billed(name: str, ends: tuple[int, int], lines: Sequence[Line], rounding: Rounding) -> Cycle:
    """A bill of these lines, rounded as a whole or line by line."""
    exact = _sum(lines)
    if rounding.level == "line":
        lines = [replace(one, amount_e11=_minor(one.amount_e11, rounding) * ACCRUAL_PER_MINOR) for one in lines]
    return Cycle(name, *ends, tuple(lines), exact, _minor(_sum(lines), rounding))


def _minor(amount_e11: int, rounding: Rounding) -> int:
    """To whole minor units, which is the only step of a bill that is built (rating.tariff.coherence)."""
    return round_ratio(amount_e11, ACCRUAL_PER_MINOR, rounding.mode)


def energy_of(here: CycleBins, found: Due, point: int, *, tiered: bool) -> list[Line]:
    """Energy of one cycle of a point; what has period, tier and price in common is one line."""
    lines = []
    for line, energy in energy_lines(here, found.tiers_wh):
        if wh := int(energy[point]):
            lines.append(
                Line("energy", line.period, line.tier + 1 if tiered else 0, wh, line.price_e8, wh * line.price_e8)
            )
    return lines


def charges_of(found: Due, point: int) -> list[Line]:
    """Lines of the charges of a point that was served or has used something."""
    return [_line(one.sum, point) for one in found.charges] if found.there[point] else []


def _line(one: Reckoned, point: int) -> Line:
    charge = one.charge
    price_e8 = charge.amount_e8 if charge.amount_e8 is not None else charge.price_e8
    if charge.kind in ("credit", "export"):
        price_e8 = -(price_e8 or 0)
    return Line(charge.name, "", 0, int(one.quantity[point]), price_e8 or 0, int(one.amount_e11[point]), charge)
