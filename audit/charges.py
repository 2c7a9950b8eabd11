"""Pure: charges beside the energy, read from a tariff's text once more: one account, day by day, in exact fractions.

Nothing is shared with `rating.closes`: a day is asked what it is allowed, a sum is a Fraction, and only what the text
says is rounded is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NamedTuple

from audit.tariffs import month_start
from config.units import ROUNDING

_EPOCH: Final = date(1970, 1, 1)


class Use(NamedTuple):
    """Of one local day."""

    units: Fraction  # kWh, m3, GJ
    money: Fraction  # what they cost by themselves
    fed_in: Fraction = Fraction()  # kWh, and not netted


class Charged(NamedTuple):
    """What one charge of one version comes to in a cycle; `last_day`: of those of the version in it."""

    version: int
    place: int
    last_day: int
    kind: str
    name: str
    money: Fraction
    contained: bool


def charged(
    told: Mapping[str, Any],
    month: int,
    served: Sequence[int],
    use: Mapping[int, Use],
    says: Callable[[str, int], int] = lambda _name, _day: 0,
) -> list[Charged]:
    """Charges of a bill cycle (`month` since 1970-01) of an account that is served on some days and uses some.

    `told`: the file as TOML has it; days are local, since 1970-01-01, and all of this month. `says`: what an
    attribute of the account is on a day.
    """
    found: list[Charged] = []
    versions = told["version"]
    for number, version in enumerate(versions):
        first = (version["from"] - _EPOCH).days
        end = (versions[number + 1]["from"] - _EPOCH).days if number + 1 < len(versions) else first + 10**6
        if month_start(month + 1) <= first or month_start(month) >= end:
            continue
        its_use = {day: one for day, one in use.items() if first <= day < end}
        mine = _Days(told, month, [day for day in served if first <= day < end], its_use, says)
        sums = {"energy": sum((one.money for one in mine.use.values()), Fraction())}
        last_day = min(end, month_start(month + 1)) - 1
        for place, charge in enumerate(version.get("charge", ())):
            money = mine.money(charge, sum((sums[name] for name in charge.get("base", ())), Fraction()))
            contained = bool(charge.get("included"))
            if not contained:
                sums[charge["name"]] = money
            found.append(Charged(number, place, last_day, charge["kind"], charge["name"], money, contained))
    return found


class _Days:
    """Of one version in one month."""

    def __init__(
        self,
        told: Mapping[str, Any],
        month: int,
        served: list[int],
        use: Mapping[int, Use],
        says: Callable[[str, int], int],
    ) -> None:
        self.told, self.month, self.served, self.use, self.says = told, month, served, use, says

    def money(self, charge: Mapping[str, Any], base: Fraction) -> Fraction:
        match charge["kind"]:
            case "standing":
                return self._standing(charge)
            case "levy":
                return Fraction(charge["price"]) * sum((one.units for one in self.use.values()), Fraction())
            case "credit":
                return -Fraction(charge["price"]) * self._allowed(charge)
            case "export":
                return -Fraction(charge["price"]) * sum((one.fed_in for one in self.use.values()), Fraction())
            case "percent":
                rate = Fraction(charge["rate"]) / 100
                return _rounded(base * rate / (1 + rate if charge["included"] else 1), charge)
            case "minimum":
                return max(self._of_days(charge) - base, Fraction())
        raise AssertionError(f"no charge {charge['kind']}")

    def _standing(self, charge: Mapping[str, Any]) -> Fraction:
        amount = Fraction(charge["amount"])
        shares: dict[int, int] = {}  # by how many days share the amount
        for day in self.served:
            if speaks(self.told, charge, day):
                length = 1 if charge["per"] == "day" else self._sharing(charge, day)
                shares[length] = shares.get(length, 0) + (self.says(charge["times"], day) if "times" in charge else 1)
        if charge["per"] == "day":
            return amount * shares.get(1, 0)
        return sum((_rounded(amount * days / length, charge) for length, days in shares.items()), Fraction())

    def _sharing(self, charge: Mapping[str, Any], day: int) -> int:
        """Days of the month, or of the season around the day."""
        if charge["per"] == "month":
            return month_start(self.month + 1) - month_start(self.month)
        first = end = day
        while speaks(self.told, charge, first - 1):
            first -= 1
        while speaks(self.told, charge, end):
            end += 1
        return end - first

    def _of_days(self, charge: Mapping[str, Any]) -> Fraction:
        amount = Fraction(charge["amount"]) * len(self.served)
        if charge["per"] == "day":
            return amount
        return _rounded(amount / (month_start(self.month + 1) - month_start(self.month)), charge)

    def _allowed(self, charge: Mapping[str, Any]) -> Fraction:
        groups: dict[int, tuple[Fraction, Fraction]] = {}
        for day in range(month_start(self.month), month_start(self.month + 1)):
            if day not in self.use and day not in self.served:
                continue
            place = allowance_of(self.told, charge, day)
            allowed = Fraction(charge["allowance"][place]["upto"]) if day in self.served else Fraction()
            group = 0 if charge["parts"] == "pooled" else place
            before = groups.get(group, (Fraction(), Fraction()))
            used = self.use[day].units if day in self.use else Fraction()
            groups[group] = before[0] + allowed, before[1] + used
        return sum((min(allowed, max(used, Fraction())) for allowed, used in groups.values()), Fraction())


def allowance_of(told: Mapping[str, Any], charge: Mapping[str, Any], day: int) -> int:
    """The place of the allowance that holds on a local day."""
    return next(place for place, one in enumerate(charge["allowance"]) if speaks(told, one, day))


def speaks(told: Mapping[str, Any], part: Mapping[str, Any], day: int) -> bool:
    """Whether a part that may be for some months or seasons holds on a local day."""
    on = _EPOCH + timedelta(days=day)
    if "months" in part:
        return on.month in part["months"]
    if "season" not in part:
        return True
    spans = [(one["from"], one["to"]) for one in told["season"] if one["name"] in part["season"]]
    text = f"{on:%m-%d}"
    return any(a <= text <= b if a <= b else text >= a or text <= b for a, b in spans)


def _rounded(money: Fraction, charge: Mapping[str, Any]) -> Fraction:
    """To a multiple of the charge's step, by its mode."""
    steps = money / Fraction(charge["step"])
    whole = steps.numerator // steps.denominator
    rest = steps - whole  # from 0 to 1
    # Decimal rounds halves, ups and downs as the modes say; the rest needs only to stay on its side of a half.
    told = "0" if rest == 0 else "0.5" if rest == Fraction(1, 2) else "0.25" if rest < Fraction(1, 2) else "0.75"
    rounded = (Decimal(whole) + Decimal(told)).to_integral_value(ROUNDING[charge["mode"]])
    return int(rounded) * Fraction(charge["step"])
