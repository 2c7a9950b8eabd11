"""Charges drawn from the language: what `meterd rate` bills is what the auditor reads out of the same text."""

from __future__ import annotations

import tomllib
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.charges import Use, charged
from audit.tariffs import month_of
from config.units import ROUNDING, decimal_text
from meterd.rate.columns import NAMES, columns_of
from meterd.rate.cycles import rate_columns
from rating.tariff.reading import parse_tariff

E11 = 10**11
EPOCH = date(1970, 1, 1)
HEAD = """id = "drawn"
commodity = "electricity"
unit = "kWh"
currency = "EUR"
timezone = "Europe/Berlin"
clock = "daylight"
bill_cycle = "calendar_month"
cycle = "calendar_month"
tier_kind = "block"
allocation = "chronological"
on_change = "next_cycle"
on_open = "full_bounds"
on_switch = "carry_over"
[rounding]
level = "bill"
mode = "half_up"
step = "0.01"
[[season]]
name = "warm"
from = "03-20"
to = "10-09"
[[season]]
name = "cold"
from = "10-10"
to = "03-19"
"""
PERIOD = '[[version.period]]\nname = "all"\nat = "rest"\nprice = "{}"\n'


def money(low: int, high: int) -> st.SearchStrategy[str]:
    return st.integers(low, high).map(lambda n: decimal_text(n, 4))


@st.composite
def charges(draw: Any, number: int) -> str:
    """Up to five charges of a version, each on some of those before it."""
    names, text = ["energy"], ""
    rounding = st.tuples(st.sampled_from(["0.01", "0.05", "1", "0.001"]), st.sampled_from(sorted(ROUNDING)))
    kinds = st.lists(st.sampled_from(["standing", "levy", "credit", "percent", "minimum"]), max_size=5)
    for place, kind in enumerate(draw(kinds)):
        name = f"c{number}-{place}-{kind}"
        text += f'[[version.charge]]\nname = "{name}"\nkind = "{kind}"\n'
        contained = kind == "percent" and draw(st.booleans())
        if kind in ("standing", "minimum"):
            some = kind == "standing" and draw(st.booleans())
            per = draw(st.sampled_from(["day", "month", "season"] if some else ["day", "month"]))
            text += f'amount = "{draw(money(0, 900_000))}"\nper = "{per}"\n'
            if some:
                text += draw(st.sampled_from(['season = ["warm"]\n', 'season = ["cold"]\n', "months = [1, 3, 4]\n"]))
            if kind == "standing" and draw(st.booleans()):
                text += 'times = "area"\n'
        if kind in ("levy", "credit"):
            text += f'price = "{draw(money(-9_000, 9_000))}"\n'
        if kind == "credit":
            upto = draw(st.lists(st.integers(0, 30_000).map(lambda n: decimal_text(n, 3)), min_size=2, max_size=2))
            text += f'parts = "{draw(st.sampled_from(["pooled", "each"]))}"\n'
            text += f'allowance = [{{season = ["warm"], upto = "{upto[0]}"}}, '
            text += f'{{season = ["cold"], upto = "{upto[1]}"}}]\n'
        if kind == "percent":
            rate = draw(money(1 if contained else -300_000, 300_000))
            text += f'rate = "{rate}"\nincluded = {str(contained).lower()}\n'
        if kind in ("percent", "minimum"):
            text += f"base = {draw(st.lists(st.sampled_from(names), min_size=1, unique=True))!r}\n"
        if kind == "percent" or (kind in ("standing", "minimum") and per != "day"):
            text += 'step = "{}"\nmode = "{}"\n'.format(*draw(rounding))
        if not contained:
            names.append(name)
    return text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.tuples(money(-900, 9_000), money(-900, 9_000)),
    charges(1),
    charges(2),
    st.integers(2, 27),
    st.lists(st.integers(0, 60_000), min_size=2, max_size=75),
    st.integers(0, 400),
)
def test_what_is_billed_is_what_the_auditor_reads(
    prices: tuple[str, str], one: str, two: str, change: int, daily: list[int], area: int
) -> None:
    """One account from 3 March 2026 on, a version in force until some day of April, so much Wh on each day."""
    head = '[[version]]\nfrom = {}\nsource = "drawn"\ndated = "2026"\n'
    text = HEAD + head.format("2026-01-01") + PERIOD.format(prices[0]) + one
    text += head.format(f"2026-04-{change:02}") + PERIOD.format(prices[1]) + two
    first = date(2026, 3, 3)
    days = [first + timedelta(days=n) for n in range(len(daily) + 1)]
    shown = [0]
    for wh in daily:
        shown.append(shown[-1] + wh)
    offset = ["+01:00" if on < date(2026, 3, 30) else "+02:00" for on in days]
    rows = [
        ("p", "1.8.0", f"{on}T00:00{far}", decimal_text(total, 3), "kWh", "A")
        for on, far, total in zip(days, offset, shown, strict=True)
    ]
    table = pa.table({name: [row[n] for row in rows] for n, name in enumerate(NAMES)})
    rated = rate_columns(columns_of(table, "kWh"), parse_tariff("drawn", text, {}), {"area": area})
    told = tomllib.loads(text)
    use: dict[int, Use] = {}
    for on, wh in zip(days, daily, strict=False):
        price = Fraction(prices[0] if on < date(2026, 4, change) else prices[1])
        use[(on - EPOCH).days] = Use(Fraction(wh, 1000), Fraction(wh, 1000) * price)
    billed = {
        (month_of(cycle.from_s // 86_400 + 1), line.component): (Fraction(line.amount_e11, E11), line.contained)
        for cycle in rated.cycles  # a month begins in Berlin an hour or two before it does in UTC
        for line in cycle.lines
        if line.charge is not None
    }
    wanted = {}
    for month in {month_of(day) for day in use}:
        mine = {day: one for day, one in use.items() if month_of(day) == month}
        wanted |= {
            (month, one.name): (one.money, one.contained)
            for one in charged(told, month, list(mine), mine, lambda *_: area)
        }
    assert billed == {key: wanted[key] for key in billed}
    assert not any(amount for key, (amount, _) in wanted.items() if key not in billed)
