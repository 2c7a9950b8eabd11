"""Which tariff files may follow those that run: what is to come may change, what has been may not."""

from __future__ import annotations

from datetime import datetime

import pytest

from config.tariff_files import tariff_texts
from rating.book import TariffBook
from rating.takeover import rewritten
from rating.tariff.reading import parse_tariffs

NAME = "ontario-tou"
TEXT = tariff_texts()[NAME].replace('subdivision = "ON"', 'subdivision = "ON"\ndays_file = "own"')
DAYS = "date,type,name\n2025-03-05,holiday,a day that was\n"
NOW_S = int(datetime.fromisoformat("2025-06-01T12:00-04:00").timestamp())


def book(text: str = TEXT, days: str = DAYS) -> TariffBook:
    tariffs = parse_tariffs({NAME: text, "own.days.csv": days})
    return TariffBook.compile(tariffs, [NAME], (), (), 2024, 2027)


@pytest.mark.parametrize(
    "days",
    [
        DAYS.replace("a day that was", "as it was called"),
        DAYS + "2025-06-02,holiday,tomorrow\n",
    ],
)
def test_what_is_to_come_may_change(days: str) -> None:
    assert rewritten(book(), book(days=days), NOW_S) == ""


def test_so_may_what_a_source_is_said_to_be() -> None:
    assert rewritten(book(), book(TEXT.replace("as published by", "as told by")), NOW_S) == ""


def test_so_may_the_edge_of_a_season_that_has_not_come() -> None:
    """No autumn yet since the first version."""
    earlier = TEXT.replace('to = "10-31"', 'to = "10-30"').replace('from = "11-01"', 'from = "10-31"')
    assert rewritten(book(), book(earlier), NOW_S) == ""


@pytest.mark.parametrize("days", ["date,type,name\n", DAYS.replace("03-05", "03-06")])
def test_a_day_that_was_may_not(days: str) -> None:
    """By its prices: the versions are the same."""
    told = rewritten(book(), book(days=days), NOW_S)
    assert told == f"tariff {NAME} is not what it was before now: a change is a new dated version in its file"


def test_nor_may_a_season_that_has_begun() -> None:
    moved = TEXT.replace('from = "05-01"', 'from = "05-15"').replace('to = "04-30"', 'to = "05-14"')
    assert "is not what it was before now" in rewritten(book(), book(moved), NOW_S)


def test_nor_may_a_word_that_rules_bills() -> None:
    other = book(TEXT.replace('"half_up"', '"half_even"', 1))
    assert rewritten(book(), other, NOW_S) == (
        f"tariff {NAME} has another rounding than the one that runs: give it another id"
    )


def test_a_tariff_that_nobody_has_any_more_is_not_asked() -> None:
    text = TEXT.replace(f'"{NAME}"', '"other"').replace('"half_up"', '"half_even"', 1)
    other = parse_tariffs({"other": text, "own.days.csv": DAYS})
    assert rewritten(book(), TariffBook.compile(other, ["other"], (), (), 2024, 2027), NOW_S) == ""
