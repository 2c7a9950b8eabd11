"""Pure: a tariff file (TOML) as a frozen model in exact integers. Format: docs/tariffs.md.

Every figure is decimal text in the file and an integer here: prices in 1e-8 of the currency per unit (`_e8`),
bounds in thousandths of the unit (`_wh`). Whatever has two readings is a required word; a word that this
version does not build is refused by name, never silently taken for another. The model holds what one key can
say alone; what several keys say together is checked by `rating.tariff.coherence`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, field_validator

from config.units import CURRENCIES, round_ratio
from rating.tariff.charges import Charge
from rating.tariff.fields import (
    CYCLE_MONTHS,
    RATIO_DIGITS,
    TIERS_MAX,
    Date,
    DayType,
    DayTypes,
    Mode,
    MonthDay,
    Months,
    Name,
    Names,
    Price,
    QuantityStep,
    Ratio,
    Spans,
    Step,
    Weekend,
    word,
    words,
)
from rating.tariff.part import Part
from rating.tariff.tiers import Tiers


class EnergyPrice(Part):
    """price = round(base x ratio, ratio_step) + funds; the ratio never multiplies the funds."""

    base_e8: Price = Field(alias="base")
    funds_e8: Price = Field(alias="funds")
    step_e8: Step = Field(alias="ratio_step")
    ratio_mode: Mode

    def price_e8(self, ratio_e6: int) -> int:
        steps = round_ratio(self.base_e8 * ratio_e6, 10**RATIO_DIGITS * self.step_e8, self.ratio_mode)
        return steps * self.step_e8 + self.funds_e8


class Season(Part):
    """A name for the days of the year from one to another, both inclusive; it may go over the year's end."""

    name: Name
    from_place: MonthDay = Field(alias="from")
    to_place: MonthDay = Field(alias="to")


class Calendar(Part):
    """Where the days of each type come from; `counts` names the library's holidays that this tariff knows."""

    weekend: Weekend
    library: Annotated[str, BeforeValidator(word("calendar.library")), words("calendar.library")]
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = None
    subdivision: Annotated[str, Field(pattern=r"^[A-Z0-9-]{1,6}$")] | None = None
    observed: bool | None = None
    counts: tuple[Annotated[str, Field(min_length=1, max_length=80)], ...] = ()
    days_file: Name | None = None
    unknown_year: (
        Annotated[str, BeforeValidator(word("calendar.unknown_year")), words("calendar.unknown_year")] | None
    ) = None


class ListedDay(Part):
    """One row of a file of days: it outranks what the library says."""

    day: int  # since 1970-01-01
    kind: DayType
    name: str


class Period(Part):
    """A name and a price for spans of the local day, on some days of the year and types of day.

    No spans: the rest of those days. Neither months nor season: all year. No day types: every day. Several may have
    one name if they have one price: the hours of "mid" in summer, and those in winter.
    """

    name: Name
    spans: Spans = Field(alias="at")
    months: Months | None = None
    season: Names | None = None
    days: DayTypes | None = None
    ratio_e6: Ratio | None = Field(default=None, alias="ratio")
    price_e8: Price | None = Field(default=None, alias="price")
    prices_e8: tuple[Price, ...] | None = Field(default=None, alias="prices", min_length=1, max_length=TIERS_MAX)


class Version(Part):
    """What is in force from a local date on, with its source."""

    from_day: Date = Field(alias="from")
    source: Annotated[str, Field(min_length=1)]
    dated: Annotated[str, Field(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$")]
    energy: EnergyPrice | None = None
    period: tuple[Period, ...] = Field(min_length=1)
    tiers: Tiers | None = None
    charge: tuple[Charge, ...] = ()

    @property
    def tier_count(self) -> int:
        return self.tiers.count if self.tiers else 1

    def prices_e8(self, period: Period) -> tuple[int, ...]:
        """TIERS_MAX prices of a period; tiers beyond the last repeat the last."""
        prices = period.prices_e8
        if prices is None:
            first = period.price_e8
            if first is None:
                assert self.energy is not None
                assert period.ratio_e6 is not None
                first = self.energy.price_e8(period.ratio_e6)
            adders = (self.tiers.adders_e8 if self.tiers else None) or (0,)
            prices = tuple(first + adder for adder in adders)
        return prices + (prices[-1],) * (TIERS_MAX - len(prices))


class Rounding(Part):
    """The last step of a bill: whole minor units, by a named mode, as a line of its own."""

    level: Annotated[str, BeforeValidator(word("rounding.level")), words("rounding.level")]
    mode: Mode
    step_e8: Step = Field(alias="step")


class Tariff(Part):
    """One tariff file."""

    id: Name
    commodity: Literal["electricity", "water", "gas", "heat"]
    unit: Literal["kWh", "m3", "GJ"]
    currency: str
    timezone: str
    clock: Annotated[str, BeforeValidator(word("clock")), words("clock")] | None = None
    bill_cycle: Annotated[str, BeforeValidator(word("bill_cycle")), words("bill_cycle")]
    cycle: Annotated[str, BeforeValidator(word("cycle")), words("cycle")]
    cycle_begins: Annotated[int, Field(ge=1, le=12)] | None = None
    tier_kind: Annotated[str, BeforeValidator(word("tier_kind")), words("tier_kind")]
    allocation: Annotated[str, BeforeValidator(word("allocation")), words("allocation")]
    on_change: Annotated[str, BeforeValidator(word("on_change")), words("on_change")]
    on_open: Annotated[str, BeforeValidator(word("on_open")), words("on_open")]
    on_switch: Annotated[str, BeforeValidator(word("on_switch")), words("on_switch")]
    netting: Annotated[str, BeforeValidator(word("netting")), words("netting")] | None = None
    quantity_step: QuantityStep | None = None  # thousandths: a register counts in such steps, the rest stays in it
    rounding: Rounding
    season: tuple[Season, ...] = ()
    calendar: Calendar | None = None
    version: tuple[Version, ...] = Field(min_length=1)
    _listed: tuple[ListedDay, ...] = ()

    def model_post_init(self, context: Any) -> None:
        """Take the rows of `calendar.days_file` from the context's `days` (file name -> rows)."""
        if context and self.calendar and self.calendar.days_file:
            self._listed = context["days"].get(self.calendar.days_file, ())

    @field_validator("currency")
    @classmethod
    def _currency(cls, value: str) -> str:
        if value not in CURRENCIES:
            raise ValueError(f"{value!r} is not a currency that is built; there are {', '.join(CURRENCIES)}")
        return value

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no such time zone: {value!r}") from None
        return value

    @property
    def listed(self) -> tuple[ListedDay, ...]:
        """Days of `calendar.days_file`, in order."""
        return self._listed

    @property
    def tiers_at_close(self) -> bool:
        """Which tier energy falls into is told when its cycle ends (`rating.closes.allocation`)."""
        return self.tier_kind != "block" or self.allocation != "chronological" or self.nets

    @property
    def nets(self) -> bool:
        """Energy that is fed in is taken off what was taken (`rating.closes.netting`)."""
        return self.netting not in (None, "none")

    @property
    def linear(self) -> bool:
        """Energy is charged as it comes, and nothing is reckoned when a cycle ends but the rounding of its bill."""
        charges = any(version.charge for version in self.version)
        whole = self.quantity_step is not None
        return not (charges or whole or self.tiers_at_close or self.rounding.level != "bill")

    @property
    def cycle_months(self) -> int:
        return CYCLE_MONTHS[self.cycle]

    @property
    def cycle_anchor(self) -> int:
        """Months since 1970-01, modulo `cycle_months`, at which tier cycles begin."""
        return ((self.cycle_begins or 1) - 1) % self.cycle_months

    @cached_property
    def period_names(self) -> tuple[str, ...]:
        """Distinct names over all versions; a segment's `period` is an index into it."""
        return tuple(dict.fromkeys(p.name for v in self.version for p in v.period))
