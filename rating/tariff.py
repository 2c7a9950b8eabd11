"""Pure: a tariff file (TOML) as a frozen, checked model in exact integers. Format: docs/tariffs.md.

Every figure is decimal text in the file and an integer here: prices in 1e-8 of the currency per unit (`_e8`),
bounds in thousandths of the unit (`_wh`). Whatever has two readings is a required word; a word that this
version does not build is refused by name, never silently taken for another. All faults of all files are
reported at once, each with file and key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from config.units import CURRENCIES, round_ratio
from rating.tariff_fields import (
    ALL_MONTHS,
    MINUTES,
    PRICE_MAX_E8,
    RATIO_DIGITS,
    TIERS_MAX,
    Energy,
    Mode,
    Months,
    Name,
    Price,
    Ratio,
    Spans,
    Step,
    word,
)


class Part(BaseModel):
    """Frozen, and refuses keys that it does not know. (Lists of the file become tuples.)"""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EnergyPrice(Part):
    """price = round(base x ratio, ratio_step) + funds; the ratio never multiplies the funds."""

    base_e8: Price = Field(alias="base")
    funds_e8: Price = Field(alias="funds")
    step_e8: Step = Field(alias="ratio_step")
    ratio_mode: Mode

    def price_e8(self, ratio_e6: int) -> int:
        steps = round_ratio(self.base_e8 * ratio_e6, 10**RATIO_DIGITS * self.step_e8, self.ratio_mode)
        return steps * self.step_e8 + self.funds_e8


class Period(Part):
    """A name and ratio for spans of the local day in some months; no spans: the rest of those days."""

    name: Name
    ratio_e6: Ratio = Field(alias="ratio")
    spans: Spans = Field(alias="at")
    months: Months = ALL_MONTHS


class SeasonBounds(Part):
    """Upper bounds of all tiers but the last, inclusive, for some months."""

    months: Months = ALL_MONTHS
    upto_wh: tuple[Energy, ...] = Field(alias="upto", min_length=1, max_length=TIERS_MAX - 1)


class AttributeBounds(Part):
    """What an account attribute adds to the bounds when it is at least so much (absent counts as 0)."""

    name: Name
    at_least: Annotated[int, Field(ge=1)]
    add_wh: tuple[Energy, ...] = Field(alias="add")


class Tiers(Part):
    """Adders per tier, and bounds by season and attribute."""

    adders_e8: tuple[Price, ...] = Field(alias="adders", min_length=2, max_length=TIERS_MAX)
    bounds: tuple[SeasonBounds, ...] = Field(min_length=1)
    attribute: tuple[AttributeBounds, ...] = ()

    @model_validator(mode="after")
    def _coherent(self) -> Tiers:
        between = len(self.adders_e8) - 1
        if self.adders_e8[0] != 0:
            raise ValueError("the first adder must be 0: the first tier's price is the energy price")
        months = sorted(m for season in self.bounds for m in season.months)
        if months != list(ALL_MONTHS):
            raise ValueError("bounds must name every month exactly once")
        for season in self.bounds:
            if len(season.upto_wh) != between:
                raise ValueError(f"{between + 1} adders need {between} bounds, not {len(season.upto_wh)}")
            if list(season.upto_wh) != sorted(set(season.upto_wh)):
                raise ValueError("bounds must rise from tier to tier")
        for extra in self.attribute:
            if len(extra.add_wh) != between:
                raise ValueError(f"attribute {extra.name}: add needs {between} figures, not {len(extra.add_wh)}")
            if list(extra.add_wh) != sorted(extra.add_wh):
                raise ValueError(f"attribute {extra.name}: add must not fall from tier to tier")
        return self


class Version(Part):
    """What is in force from a local date on, with its source."""

    from_day: date = Field(alias="from")
    source: Annotated[str, Field(min_length=1)]
    dated: Annotated[str, Field(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$")]
    energy: EnergyPrice
    period: tuple[Period, ...] = Field(min_length=1)
    tiers: Tiers | None = None

    @field_validator("from_day", mode="before")
    @classmethod
    def _plain_date(cls, value: Any) -> Any:
        if type(value) is not date:
            raise ValueError("write a date without quotes: 2021-10-01")
        return value

    @model_validator(mode="after")
    def _coherent(self) -> Version:
        names = [p.name for p in self.period]
        if len(set(names)) != len(names):
            raise ValueError("period names must differ; a season is a list of months inside one period")
        for month in ALL_MONTHS:
            self.day_plan(month)
        for price in (self.energy.price_e8(p.ratio_e6) + a for p in self.period for a in self.adders_e8):
            if abs(price) >= PRICE_MAX_E8:
                raise ValueError(f"a price of {price}e-8 does not fit; the limit is {PRICE_MAX_E8}e-8")
        return self

    @property
    def adders_e8(self) -> tuple[int, ...]:
        return self.tiers.adders_e8 if self.tiers else (0,)

    def prices_e8(self, period: Period) -> tuple[int, ...]:
        """TIERS_MAX prices of a period; tiers beyond the last repeat the last."""
        adders = self.adders_e8 + (self.adders_e8[-1],) * (TIERS_MAX - len(self.adders_e8))
        first = self.energy.price_e8(period.ratio_e6)
        return tuple(first + adder for adder in adders)

    def day_plan(self, month: int) -> tuple[int, ...]:
        """Index into `period` for each of the 1440 minutes of a local day; ValueError for gaps and overlaps."""
        plan = [-1] * MINUTES
        rest = [i for i, p in enumerate(self.period) if not p.spans and month in p.months]
        for i, period in enumerate(self.period):
            for start, end in period.spans if month in period.months else ():
                if any(p >= 0 for p in plan[start:end]):
                    raise ValueError(f"month {month}: period {period.name!r} overlaps another")
                plan[start:end] = [i] * (end - start)
        if len(rest) > 1:
            raise ValueError(f'month {month}: two periods are the "rest"')
        if not rest and -1 in plan:
            at = plan.index(-1)
            raise ValueError(f"month {month}: no period at {at // 60:02}:{at % 60:02}")
        return tuple(rest[0] if p < 0 else p for p in plan)


class Rounding(Part):
    """The last step of a bill: whole minor units, by a named mode, as a line of its own."""

    level: Annotated[str, BeforeValidator(word("rounding.level"))]
    mode: Mode
    step_e8: Step = Field(alias="step")


class Tariff(Part):
    """One tariff file."""

    id: Name
    commodity: Literal["electricity", "water", "gas", "heat"]
    unit: Literal["kWh", "m3"]
    currency: str
    timezone: str
    bill_cycle: Annotated[str, BeforeValidator(word("bill_cycle"))]
    cycle: Annotated[str, BeforeValidator(word("cycle"))]
    tier_kind: Annotated[str, BeforeValidator(word("tier_kind"))]
    allocation: Annotated[str, BeforeValidator(word("allocation"))]
    on_change: Annotated[str, BeforeValidator(word("on_change"))]
    on_open: Annotated[str, BeforeValidator(word("on_open"))]
    on_switch: Annotated[str, BeforeValidator(word("on_switch"))]
    rounding: Rounding
    version: tuple[Version, ...] = Field(min_length=1)

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

    @model_validator(mode="after")
    def _coherent(self) -> Tariff:
        minor_e8 = 10 ** (8 - CURRENCIES[self.currency].minor_digits)
        if self.rounding.step_e8 != minor_e8:
            raise ValueError(f"rounding.step: only the currency's minor unit is built ({self.currency})")
        days = [v.from_day for v in self.version]
        if days != sorted(set(days)):
            raise ValueError("versions must be in order of their dates, one for each date")
        if self.on_change == "by_days" and len({len(v.adders_e8) for v in self.version}) > 1:
            raise ValueError("on_change by_days cannot weigh bounds between versions with different numbers of tiers")
        return self

    @property
    def period_names(self) -> tuple[str, ...]:
        """Distinct names over all versions; a segment's `period` is an index into it."""
        return tuple(dict.fromkeys(p.name for v in self.version for p in v.period))


class TariffFaults(ValueError):
    """Everything that is wrong with the files, one line a fault: `file: key: what`."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def _key(place: tuple[int | str, ...]) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(file)"


def _lines(fault: ValidationError) -> list[str]:
    errors = fault.errors()
    places = [e["loc"] for e in errors]
    return [  # a list is "too short" only because its one item is at fault: that is said already
        f"{_key(e['loc'])}: {e['msg'].removeprefix('Value error, ')}"
        for e in errors
        if not (e["type"] == "too_short" and any(p[: len(e["loc"])] == e["loc"] != p for p in places))
    ]


def parse_tariffs(texts: Mapping[str, str]) -> tuple[Tariff, ...]:
    """Tariffs of the files `{name without .toml: text}`, in order of name; raise `TariffFaults` with all faults."""
    tariffs: list[Tariff] = []
    faults: list[str] = []
    for name, text in sorted(texts.items()):
        try:
            tariff = Tariff.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as fault:
            faults.append(f"{name}.toml: {fault}")
        except ValidationError as fault:
            faults += [f"{name}.toml: {line}" for line in _lines(fault)]
        else:
            if tariff.id != name:
                faults.append(f"{name}.toml: id: {tariff.id!r} must be the name of the file")
            tariffs.append(tariff)
    if faults:
        raise TariffFaults(faults)
    return tuple(tariffs)
