"""Pure: tiers of a tariff version: what each costs, and up to where it reaches, by season and account attribute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from rating.tariff.fields import TIERS_MAX, Energy, Months, Name, Names, Price, word, words
from rating.tariff.part import Part


class SeasonBounds(Part):
    """Upper bounds of all tiers but the last, inclusive, in some months or seasons (neither: all year)."""

    months: Months | None = None
    season: Names | None = None
    upto_wh: tuple[Energy, ...] = Field(alias="upto", min_length=1, max_length=TIERS_MAX - 1)


class AttributeBounds(Part):
    """What an account attribute adds to the bounds (absent counts as 0): `add` once it is `at_least` so much (or once
    another says so), or `each` for every one `above` so many."""

    name: Name
    flag: Name | None = Field(default=None, alias="or")  # another attribute that, at 1 or more, says the same
    at_least: Annotated[int, Field(ge=1)] | None = None
    add_wh: tuple[Energy, ...] | None = Field(default=None, alias="add")
    above: Annotated[int, Field(ge=0)] | None = None
    each_wh: tuple[Energy, ...] | None = Field(default=None, alias="each")

    @property
    def figures_wh(self) -> tuple[int, ...]:
        return self.add_wh or self.each_wh or ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,) if self.flag is None else (self.name, self.flag)

    def times(self, attributes: Mapping[str, int]) -> int:
        """How many times the figures count for an account with these attributes."""
        value = attributes.get(self.name, 0)
        if self.at_least is not None:
            told = self.flag is not None and attributes.get(self.flag, 0) >= 1
            return int(value >= self.at_least or told)
        return max(value - (self.above or 0), 0)


class Tiers(Part):
    """Adders per tier (none: every period names the price of each tier), and bounds by season and attribute.

    A bound is `per` cycle (as it stands, or by `length` for thirty days of it) or per day of the cycle.
    """

    adders_e8: tuple[Price, ...] | None = Field(default=None, alias="adders", min_length=2, max_length=TIERS_MAX)
    per: Annotated[str, BeforeValidator(word("tiers.per")), words("tiers.per")]
    length: Annotated[str, BeforeValidator(word("tiers.length")), words("tiers.length")] | None = None
    bounds: tuple[SeasonBounds, ...] = Field(min_length=1)
    attribute: tuple[AttributeBounds, ...] = ()

    @property
    def count(self) -> int:
        return len(self.bounds[0].upto_wh) + 1
