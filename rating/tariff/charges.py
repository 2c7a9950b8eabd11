"""Pure: charges of a tariff version beside the price of its energy, in the order in which they are reckoned.

A charge sees the sums of those before it by name (`base`; "energy" is all energy), so that none can depend on itself.
What a kind needs and what it may say is in NEEDS; everything else is refused.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

from pydantic import BeforeValidator, Field

from rating.tariff.fields import Energy, Mode, Money, Months, Name, Names, Price, Rate, Step, word, words
from rating.tariff.part import Part

ENERGY: Final = "energy"
RATE_E6: Final = 10**6  # a whole in millionths: `rate_e6` of 130000 is 13 %


class Needs(NamedTuple):
    """Keys of a kind of charge."""

    always: frozenset[str]
    by_share: frozenset[str] = frozenset()  # with per = "month" or "season": a share of one is no whole number
    may: frozenset[str] = frozenset()


_ROUNDED: Final = frozenset({"step", "mode"})
NEEDS: Final[dict[str, Needs]] = {
    "standing": Needs(frozenset({"amount", "per"}), _ROUNDED, frozenset({"times", "months", "season"})),
    "levy": Needs(frozenset({"price"})),
    "credit": Needs(frozenset({"price", "parts", "allowance"})),
    "percent": Needs(frozenset({"rate", "base", "included"}) | _ROUNDED),
    "minimum": Needs(frozenset({"amount", "per", "base"}), _ROUNDED),
    "export": Needs(frozenset({"price"})),
}
KEYS: Final = (
    "amount", "per", "price", "parts", "allowance", "rate", "base", "included", "step", "mode", "times", "months",
    "season",
)  # fmt: skip


class Allowance(Part):
    """Thousandths of the unit a day that a credit is for, in some months or seasons (neither: all year)."""

    months: Months | None = None
    season: Names | None = None
    upto_wh: Energy = Field(alias="upto")


class Charge(Part):
    """One charge; `kind` says what it does.

    standing: `amount` per day, month or season, in some months or seasons or all year, `times` what an attribute of
    the account says. levy: `price` on all energy. credit: `price` off the energy within the
    allowance, over the whole cycle (pooled) or each season's days by themselves (each). percent: `rate` of the base,
    added or contained in it. minimum: what the base falls short of `amount` per day or month.
    export: `price` for what was fed in and not netted.
    """

    name: Name
    kind: Annotated[str, BeforeValidator(word("charge.kind")), words("charge.kind")]
    amount_e8: Money | None = Field(default=None, alias="amount")
    per: Annotated[str, BeforeValidator(word("charge.per")), words("charge.per")] | None = None
    price_e8: Price | None = Field(default=None, alias="price")
    parts: Annotated[str, BeforeValidator(word("charge.parts")), words("charge.parts")] | None = None
    allowance: tuple[Allowance, ...] = ()
    rate_e6: Rate | None = Field(default=None, alias="rate")
    base: Names | None = None
    included: bool | None = None
    step_e8: Step | None = Field(default=None, alias="step")
    mode: Mode | None = None
    times: Name | None = None
    months: Months | None = None
    season: Names | None = None

    @property
    def limited(self) -> bool:
        """It is for some days of the year only."""
        return self.months is not None or self.season is not None

    @property
    def said(self) -> frozenset[str]:
        """Keys of KEYS that the file has."""
        values = (
            self.amount_e8, self.per, self.price_e8, self.parts, self.allowance or None, self.rate_e6, self.base,
            self.included, self.step_e8, self.mode, self.times, self.months, self.season,
        )  # fmt: skip
        return frozenset(key for key, value in zip(KEYS, values, strict=True) if value is not None)

    @property
    def needed(self) -> frozenset[str]:
        """Keys that it must have, and no others."""
        needs = NEEDS[self.kind]
        return needs.always | (needs.by_share if self.per in ("month", "season") else frozenset())
