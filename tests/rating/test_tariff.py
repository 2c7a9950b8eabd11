"""Tariff files: the shipped figures, and every way to write one wrongly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.tariff_files import tariff_texts
from rating.tariff.fields import DayType, day_of_year
from rating.tariff.model import Tariff
from rating.tariff.plans import plans_of
from rating.tariff.reading import TariffFaults, parse_tariffs

# Domain 1. id, version, period, price of each tier in 1e-8 yuan/kWh.
PRICES = [
    ("guangzhou-residential", 0, "all", (58886875, 63886875, 88886875)),
    ("guangzhou-residential-flat", 0, "all", (62586875, 62586875)),
    ("guangzhou-residential-tou", 0, "peak", (96596875, 101596875, 126596875)),  # 1.65, before 2021-10-01
    ("guangzhou-residential-tou", 0, "valley", (29876875, 34876875, 59876875)),  # 0.5
    ("guangzhou-residential-tou", 1, "peak", (99496875, 104496875, 129496875)),  # not 99500875
    ("guangzhou-residential-tou", 1, "valley", (22916875, 27916875, 52916875)),
    ("guangzhou-residential-tou", 1, "flat", (58886875, 63886875, 88886875)),
]


@pytest.mark.parametrize(("name", "version", "period", "prices"), PRICES)
def test_shipped_prices(
    shipped: dict[str, Tariff], name: str, version: int, period: str, prices: tuple[int, ...]
) -> None:
    rules = shipped[name].version[version]
    named = next(p for p in rules.period if p.name == period)
    eight = rules.prices_e8(named)
    assert eight[: len(prices)] == prices
    assert len(eight) == 8
    assert set(eight[len(prices) :]) == {prices[-1]}, "tiers beyond the last repeat the last"


def test_the_ratio_never_multiplies_the_funds(shipped: dict[str, Tariff]) -> None:
    energy = shipped["guangzhou-residential-tou"].version[1].energy
    assert energy.price_e8(0) == energy.funds_e8 == 866_875
    assert energy.price_e8(1_700_000) == 98_630_000 + 866_875


@pytest.mark.parametrize(
    ("mode", "price_e8"),
    [("half_up", 22_050_000), ("down", 22_040_000), ("up", 22_050_000), ("half_even", 22_050_000)],
)
def test_rounding_step_of_base_times_ratio(make_text: Callable[..., str], mode: str, price_e8: int) -> None:
    text = (
        make_text()
        .replace('base = "1"', 'base = "0.5802"')
        .replace('ratio_mode = "half_up"', f'ratio_mode = "{mode}"')
    )
    energy = parse_tariffs({"made-up": text})[0].version[0].energy
    assert energy.price_e8(380_000) == price_e8  # 0.220476


def test_shipped_files_say_where_their_figures_come_from(shipped: dict[str, Tariff]) -> None:
    assert {"guangzhou-residential", "guangzhou-residential-flat", "guangzhou-residential-tou"} < set(shipped)
    for tariff in shipped.values():
        for version in tariff.version:
            assert len(version.source) > 10
            assert 2012 <= int(version.dated[:4]) <= 2026


def test_time_of_use_covers_the_day_as_published(shipped: dict[str, Tariff]) -> None:
    version = shipped["guangzhou-residential-tou"].version[1]
    plans = plans_of(shipped["guangzhou-residential-tou"], version)
    hours = [version.period[i].name for i in plans.plan[plans.index[day_of_year(7, 1)][DayType.WEEKDAY]].period[::60]]
    assert hours == ["valley"] * 8 + ["flat"] * 2 + ["peak"] * 2 + ["flat"] * 2 + ["peak"] * 5 + ["flat"] * 5


# What is replaced, by what, and the line that must be among the faults.
WRONG = [
    (
        'tier_kind = "block"\nallocation = "chronological"',
        'tier_kind = "slab"\nallocation = "per_period"',
        "allocation: a slab has one tier for all energy",
    ),
    (
        'allocation = "chronological"\non_change = "next_cycle"',
        'allocation = "per_period"\non_change = "by_instant"',
        "on_change: 'per_period' is told by a whole bill's energy",
    ),
    (
        'cycle = "calendar_month"\ntier_kind = "block"',
        'cycle = "calendar_year"\ncycle_begins = 1\ntier_kind = "slab"',
        "cycle: 'slab' is told by a whole bill's energy",
    ),
    ('tier_kind = "block"', 'tier_kind = "slab"', "on_switch: 'slab' is told by a whole bill's energy"),
    ('level = "bill"', 'level = "cent"', "rounding.level: 'cent' is no such word"),
    ('on_open = "full_bounds"', 'on_open = "by_months"', "on_open: 'by_months' is not built"),
    ('on_switch = "carry_over"', 'on_switch = "by_days"', "on_switch: 'by_days' is not built"),
    ('on_switch = "carry_over"\n', "", "on_switch: Field required"),
    ('on_change = "next_cycle"', 'on_change = "whenever"', "on_change: 'whenever' is no such word"),
    ('on_change = "next_cycle"', "", "on_change: Field required"),
    ('unit = "kWh"', 'unit = "kWh"\nunits = "kWh"', "units: Extra inputs are not permitted"),
    ('base = "1"', "base = 1.0", 'version[0].energy.base: write the figure as decimal text in quotes: "1.0"'),
    ('base = "1"', 'base = "1.000000001"', "version[0].energy.base: finer than 10^-8"),
    ('base = "1"', 'base = "1e3"', "version[0].energy.base: not a plain decimal"),
    ('base = "1"', 'base = "250"', "version[0].energy.base: Input should be less than"),
    ('ratio = "0.5"', 'ratio = "210"', "version[0].period[0]: a price of 21000000000e-8 does not fit"),
    ('ratio_step = "0.0001"', 'ratio_step = "0"', "version[0].energy.ratio_step: Input should be greater than 0"),
    (
        'ratio_mode = "half_up"',
        'ratio_mode = "bankers"',
        "version[0].energy.ratio_mode: 'bankers' is no rounding mode",
    ),
    ('step = "0.01"', 'step = "0.1"', "rounding.step: only the currency's minor unit is built (CNY)"),
    ('clock = "daylight"', 'clock = "summer"', "clock: 'summer' is no such word; there are daylight, standing"),
    ("Asia/Shanghai", "Asia/Canton2", "timezone: no such time zone: 'Asia/Canton2'"),
    ('currency = "CNY"', 'currency = "XAU"', "currency: 'XAU' is not a currency that is built"),
    ("from = 2020-01-01", 'from = "2020-01-01"', "version[0].from: write a date without quotes"),
    ("from = 2020-01-01", "from = 2020-01-01T00:00:00Z", "version[0].from: write a date without quotes"),
    ('dated = "2020-01-01"', 'dated = "lately"', "version[0].dated: String should match"),
    ('at = "rest"', 'at = ["06:00-21:59"]', "version[0]: on 01-01: no period at 21:59"),
    ('at = "rest"', 'at = ["05:59-22:00"]', "version[0].period[1]: on 01-01: period 'day' overlaps another"),
    ('at = "rest"', 'at = ["22:00-06:00"]', "version[0].period[1].at: '22:00-06:00' does not end after it starts"),
    ('at = "rest"', 'at = ["6:00-22:00"]', "version[0].period[1].at: '6:00' is no time of day HH:MM"),
    ('at = "rest"', 'at = ["06:00-24:01"]', "version[0].period[1].at: '24:01' is no time of day up to 24:00"),
    ('at = "rest"', 'at = "rest"\nmonths = [1]', "version[0]: on 02-01: no period at 06:00"),
    (
        'name = "day"',
        'name = "night"',
        "version[0].period[1].name: there is another period 'night' with another price",
    ),
    ('id = "made-up"', 'id = "other"', "id: 'other' must be the name of the file"),
    ('id = "made-up"', "id = ", "made-up.toml:2: Invalid value"),
]


@pytest.mark.parametrize(("old", "new", "line"), WRONG)
def test_what_is_wrong_is_said_with_its_key(make_text: Callable[..., str], old: str, new: str, line: str) -> None:
    text = make_text(switch="carry_over" if "switch" in line or "switch" in old else "start_anew")
    assert old in text
    with pytest.raises(TariffFaults) as caught:
        parse_tariffs({"made-up": text.replace(old, new)})
    assert any(line in fault for fault in caught.value.faults), caught.value.faults
    assert len(caught.value.faults) == 1, caught.value.faults


TIERS = """
[version.tiers]
adders = ["0", "0.05"]
per = "cycle"
length = "none"
[[version.tiers.bounds]]
upto = ["260"]
[[version.tiers.attribute]]
name = "household_size"
at_least = 5
add = ["100"]
"""
WRONG_TIERS = [
    ('adders = ["0", "0.05"]', 'adders = ["0.01", "0.05"]', "the first adder must be 0"),
    ('adders = ["0", "0.05"]', 'adders = ["0", "0.05", "0.3"]', "3 adders need 2 bounds, not 1"),
    ('upto = ["260"]', 'upto = ["260.0001"]', "version[0].tiers.bounds[0].upto[0]: finer than 10^-3"),
    (
        'upto = ["260"]',
        'upto = ["260"]\nmonths = [1, 2]',
        "version[0].tiers.bounds: bounds must name every day once; 03-01 has none",
    ),
    ('add = ["100"]', 'add = ["100", "100"]', "attribute household_size: add needs 1 figures, not 2"),
    ("at_least = 5", "at_least = 0", "version[0].tiers.attribute[0].at_least: Input should be greater than or equal"),
]


@pytest.mark.parametrize(("old", "new", "line"), WRONG_TIERS)
def test_what_is_wrong_with_tiers(
    make_text: Callable[..., str], shipped: dict[str, Tariff], old: str, new: str, line: str
) -> None:
    assert parse_tariffs({"made-up": make_text() + TIERS})[0].version[0].tiers is not None
    with pytest.raises(TariffFaults) as caught:
        parse_tariffs({"made-up": make_text() + TIERS.replace(old, new)})
    assert [line in fault for fault in caught.value.faults] == [True], caught.value.faults


def test_bounds_must_rise(make_text: Callable[..., str]) -> None:
    tiers = (
        TIERS.replace('"0.05"]', '"0.05", "0.3"]')
        .replace('["260"]', '["260", "260"]')
        .replace('["100"]', '["1", "1"]')
    )
    with pytest.raises(TariffFaults, match="bounds must rise"):
        parse_tariffs({"made-up": make_text() + tiers})


def test_all_faults_of_all_files_at_once(make_text: Callable[..., str]) -> None:
    one = make_text(word="sometimes").replace('base = "1"', "base = 1")
    two = make_text().replace('id = "made-up"', 'id = "two"').replace('funds = "0"', "")
    with pytest.raises(TariffFaults) as caught:
        parse_tariffs({"made-up": one, "two": two})
    places = [
        ("made-up.toml", one, "on_change", "on_change: "),
        ("made-up.toml", one, "base", "version[0].energy.base: "),
        ("two.toml", two, "[version.energy]", "version[0].energy.funds: "),
    ]
    for fault, (file, text, start, said) in zip(caught.value.faults, places, strict=True):
        line = next(n for n, line in enumerate(text.splitlines(), start=1) if line.startswith(start))
        assert fault.startswith(f"{file}:{line}: {said}")


def test_versions_must_be_in_order(make_text: Callable[..., str]) -> None:
    text = make_text()
    again = text[text.index("[[version]]") :].replace("2020-01-01", "2019-01-01")
    with pytest.raises(TariffFaults, match="versions must be in order"):
        parse_tariffs({"made-up": text + again})


def test_a_tariff_is_frozen(shipped: dict[str, Tariff]) -> None:
    with pytest.raises(ValueError, match="frozen"):
        shipped["guangzhou-residential"].id = "mine"  # type: ignore[misc]


def test_own_directory_of_tariffs(tmp_path: Path, make_text: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match="no tariff files"):
        tariff_texts(tmp_path)
    (tmp_path / "made-up.toml").write_text(make_text(), encoding="utf-8")
    (tmp_path / "notes.txt").write_text("not a tariff", encoding="utf-8")
    assert tariff_texts(tmp_path) == {"made-up": make_text()}
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"bad\.toml: not UTF-8"):
        tariff_texts(tmp_path)
