"""Pure: rated cycles as rows and as JSON; every decimal is text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import pyarrow as pa

from config.units import CURRENCIES, decimal_text
from meterd.rate.cycles import Rated
from meterd.rate.lines import Cycle, Line
from rating.tariff.model import Tariff

_DECIMAL: Final = pa.decimal128(38, 12)
_MOMENT: Final = pa.timestamp("s", "UTC")
BILL: Final = {  # a row of a file of bills
    "tariff": pa.string(), "currency": pa.string(), "metering_point": pa.string(), "from": _MOMENT, "to": _MOMENT,
    "component": pa.string(), "period": pa.string(), "tier": pa.int32(), "quantity": _DECIMAL, "unit": pa.string(),
    "price": _DECIMAL, "amount": _DECIMAL, "contained": pa.bool_(),
}  # fmt: skip
ROW: Final = ("metering_point", "from", "to", "component", "period", "tier", "quantity", "unit", "price", "amount")


class Text:
    """Figures of one tariff as text."""

    def __init__(self, tariff: Tariff) -> None:
        currency = CURRENCIES[tariff.currency]
        self.tariff, self._zone = tariff, ZoneInfo(tariff.timezone)
        self._price_digits, self._minor_digits = currency.price_digits, currency.minor_digits

    def moment(self, at_s: int) -> str:
        """Local time with its offset."""
        return datetime.fromtimestamp(at_s, UTC).astimezone(self._zone).isoformat()

    def figures(self, line: Line, cycle: Cycle) -> tuple[str, str, str]:
        """Quantity, its unit, and the price of one."""
        charge, price = line.charge, _trimmed(decimal_text(line.price_e8, self._price_digits))
        if charge is None or charge.kind in ("levy", "credit", "export"):
            return self.quantity(line.quantity), self.tariff.unit, price
        if charge.rate_e6 is not None:
            return self.exact(line.quantity), "%", _trimmed(decimal_text(charge.rate_e6, 4))
        return str(line.quantity), "day" if charge.per == "day" else f"1/{self._days(cycle)} month", price

    def _days(self, cycle: Cycle) -> int:
        first, end = (datetime.fromtimestamp(at_s, UTC).astimezone(self._zone) for at_s in (cycle.from_s, cycle.to_s))
        return (end.date() - first.date()).days

    def quantity(self, thousandths: int) -> str:
        return _trimmed(decimal_text(thousandths, 3))

    def exact(self, amount_e11: int) -> str:
        return _trimmed(decimal_text(amount_e11, self._price_digits + 3))

    def total(self, minor: int) -> str:
        return decimal_text(minor, self._minor_digits)


def as_json(rated: Rated) -> dict[str, Any]:
    """The whole answer for one tariff."""
    text = Text(rated.tariff)
    return {
        "tariff": rated.tariff.id,
        "currency": rated.tariff.currency,
        "cycles": [_cycle(cycle, text) for cycle in rated.cycles],
        "exceptions": [
            {
                "line": one.line,
                "metering_point": one.metering_point,
                "register": one.register,
                "read_at": one.read_at,
                "reason": one.reason,
                "note": one.note,
            }
            for one in rated.refusals
        ],
    }


def _cycle(cycle: Cycle, text: Text) -> dict[str, Any]:
    return {
        "metering_point": cycle.metering_point,
        "from": text.moment(cycle.from_s),
        "to": text.moment(cycle.to_s),
        "lines": [*(_line(line, text, cycle) for line in cycle.lines if not line.contained), _rounding(cycle, text)],
        "contained": [_line(line, text, cycle) for line in cycle.lines if line.contained],
        "exact": text.exact(cycle.exact_e11),
        "total": text.total(cycle.total_minor),
    }


def _line(line: Line, text: Text, cycle: Cycle) -> dict[str, Any]:
    quantity, unit, price = text.figures(line, cycle)
    return {
        "component": line.component,
        "period": line.period or None,
        "tier": line.tier or None,
        "quantity": quantity,
        "unit": unit,
        "price": price,
        "amount": text.exact(line.amount_e11),
    }


def _rounding(cycle: Cycle, text: Text) -> dict[str, Any]:
    """What rounding adds: with it the lines sum to the total."""
    empty = dict.fromkeys(("period", "tier", "quantity", "unit", "price"))
    return {"component": "rounding", **empty, "amount": text.exact(cycle.rounding_e11)}


def as_rows(rated: Rated) -> Iterator[tuple[Any, ...]]:
    """`ROW`s: every line, then the total of its cycle."""
    text, unit = Text(rated.tariff), rated.tariff.unit
    for cycle in rated.cycles:
        head = (cycle.metering_point, text.moment(cycle.from_s), text.moment(cycle.to_s))
        for line in cycle.lines:
            period = "(contained)" if line.contained else line.period
            figures = (*text.figures(line, cycle), text.exact(line.amount_e11))
            yield (*head, line.component, period, line.tier or "", *figures)
        yield (*head, "rounding", "", "", "", "", "", text.exact(cycle.rounding_e11))
        yield (
            *head,
            "total",
            "",
            "",
            text.quantity(sum(line.quantity for line in cycle.lines if line.charge is None)),
            unit,
            "",
            text.total(cycle.total_minor),
        )


def bills_of(several: Sequence[Rated]) -> pa.Table:
    """All lines as columns: times in UTC, figures as decimals that hold every currency's exact amounts."""
    rows: list[tuple[Any, ...]] = []
    for rated in several:
        text = Text(rated.tariff)
        for cycle in rated.cycles:
            head = (rated.tariff.id, rated.tariff.currency, cycle.metering_point, cycle.from_s, cycle.to_s)
            for line in cycle.lines:
                quantity, unit, price = text.figures(line, cycle)
                figures = (Decimal(quantity), unit, Decimal(price), Decimal(text.exact(line.amount_e11)))
                rows.append((*head, line.component, line.period or None, line.tier or None, *figures, line.contained))
            rounding = Decimal(text.exact(cycle.rounding_e11))
            rows.append((*head, "rounding", None, None, None, None, None, rounding, False))
    columns = list(zip(*rows, strict=True)) or [()] * len(BILL)
    return pa.Table.from_arrays(
        [pa.array(column, kind) for column, kind in zip(columns, BILL.values(), strict=True)], names=list(BILL)
    )


def beside(several: Sequence[Rated]) -> Iterator[tuple[Any, ...]]:
    """(metering point, currency, total under each tariff, the cheapest) for each point, all cycles together."""
    texts = [Text(rated.tariff) for rated in several]
    points = dict.fromkeys(cycle.metering_point for rated in several for cycle in rated.cycles)
    totals = [dict.fromkeys(points, 0) for _ in several]
    for place, rated in enumerate(several):
        for cycle in rated.cycles:
            totals[place][cycle.metering_point] += cycle.total_minor
    for point in points:
        each = [total[point] for total in totals]
        yield (
            point,
            *(text.total(total) for text, total in zip(texts, each, strict=True)),
            several[each.index(min(each))].tariff.id,
        )


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
