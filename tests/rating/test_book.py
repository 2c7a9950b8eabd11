"""The book: flat arrays for the kernel, looked up by instants."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.units import INT64_MAX
from rating.book import TariffBook, UnknownTariff
from rating.tariff.model import Tariff
from registry.image import AttributeChange

ORDER = ("guangzhou-residential-tou", "guangzhou-residential", "guangzhou-residential-flat")
TOU, PLAIN, FLAT = 0, 1, 2
GROWN_S = int(datetime(2026, 7, 15, 16, tzinfo=UTC).timestamp())
HISTORIES = ((), (AttributeChange("household_size", 0, 5),), (AttributeChange("household_size", GROWN_S, 5),))
PAIRS = [(TOU, 0), (PLAIN, 0), (PLAIN, 1), (PLAIN, 2), (FLAT, 0), (FLAT, 2)]
ARRAYS = (
    *("seg_start", "seg_day", "seg_cycle", "seg_period", "seg_price"),
    *("stage_start", "stage_end", "stage_cycle", "stage_bounds", "bounds"),
)


@pytest.fixture(scope="module")
def book(shipped: dict[str, Tariff]) -> TariffBook:
    return TariffBook.compile(tuple(shipped.values()), ORDER, HISTORIES, PAIRS, 2020, 2040)


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def test_arrays_are_what_the_kernel_takes(book: TariffBook) -> None:
    types = {name: getattr(book, name).dtype for name in ARRAYS}
    assert {n for n, t in types.items() if t == np.int64} == {
        "seg_start", "seg_price", "stage_start", "stage_end", "bounds",
    }  # fmt: skip
    assert {n for n, t in types.items() if t == np.int32} == {"seg_day", "seg_cycle", "stage_cycle", "stage_bounds"}
    assert types["seg_period"] == np.uint8
    assert all(getattr(book, name).flags.c_contiguous for name in ARRAYS)
    assert book.seg_price.shape == (len(book.seg_start), 8)
    assert book.bounds.shape[1] == 8
    assert (book.bounds[:, -1] == INT64_MAX).all()


def test_every_run_is_sorted_and_ends_with_a_sentinel(book: TariffBook) -> None:
    for start, first, runs in (
        (book.seg_start, book.seg_first, len(ORDER)),
        (book.stage_start, book.stage_first, len(book.stage_first) - 1),
    ):
        assert first[-1] == len(start)
        assert runs == len(first) - 1
        assert np.nonzero(start == INT64_MAX)[0].tolist() == [int(f) - 1 for f in first[1:]]
        for run in range(runs):
            assert (np.diff(start[first[run] : first[run + 1]]) > 0).all()
    inner = np.nonzero(book.stage_start != INT64_MAX)[0]
    follows = inner[book.stage_start[inner + 1] != INT64_MAX]
    assert (book.stage_end[follows] == book.stage_start[follows + 1]).all(), "stages have no gaps"
    assert (book.stage_end[book.stage_start == INT64_MAX] == INT64_MAX).all()


@given(
    st.lists(
        st.tuples(st.sampled_from(PAIRS), st.integers(utc("2020-01-01T00:00"), utc("2039-12-30T00:00"))),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=100, deadline=None)
def test_look_ups_agree_with_a_linear_search(book: TariffBook, asked: list[tuple[tuple[int, int], int]]) -> None:
    tariff = np.array([pair[0] for pair, _ in asked], dtype=np.int32)
    history = np.array([pair[1] for pair, _ in asked], dtype=np.int32)
    at_s = np.array([at for _, at in asked], dtype=np.int64)
    segment = book.segment_at(tariff, at_s)
    stage = book.stage_at(tariff, history, at_s)
    assert segment.dtype == stage.dtype == np.int32
    for i in range(len(asked)):
        rows = range(book.seg_first[tariff[i]], book.seg_first[tariff[i] + 1])
        assert segment[i] in rows
        assert book.seg_start[segment[i]] <= at_s[i] < book.seg_start[segment[i] + 1]
        run = book.schedule_of[tariff[i], history[i]]
        assert book.stage_first[run] <= stage[i] < book.stage_first[run + 1] - 1
        assert book.stage_start[stage[i]] <= at_s[i] < book.stage_end[stage[i]]


#   07:59:59 | 08:00:00      a reading at 08:00 completes valley; the next energy is flat
@pytest.mark.parametrize(
    ("at", "period"),
    [("2026-07-14T23:59:59", "valley"), ("2026-07-15T00:00:00", "flat"), ("2026-07-15T00:00:01", "flat")],
)
def test_the_segment_holds_the_instant_after(book: TariffBook, at: str, period: str) -> None:
    assert book.period_names(TOU)[book.seg_period[book.segment_of(TOU, utc(at))]] == period


def test_outside_there_is_nothing(book: TariffBook) -> None:
    first, end = utc("2019-12-31T16:00"), utc("2039-12-31T16:00")
    at = np.array([first - 1, first, end - 1, end, 2**40, 0], dtype=np.int64)
    for tariff in (TOU, PLAIN, FLAT):
        one = np.full(len(at), tariff, dtype=np.int32)
        assert (book.segment_at(one, at) >= 0).tolist() == [False, True, True, False, False, False]
        assert (book.stage_at(one, one * 0, at) >= 0).tolist() == [False, True, True, False, False, False]
    assert book.segment_of(-1, first) == -1
    assert book.stage_of(-1, 0, first) == -1
    assert book.stage_of(TOU, 1, first) == -1, "that pair was not in use"


def test_stages_of_a_household_that_grows(book: TariffBook) -> None:
    before, after = (book.stage_of(PLAIN, 2, utc(t)) for t in ("2026-07-31T15:59:59", "2026-07-31T16:00:00"))
    assert book.bounds[book.stage_bounds[before]][:2].tolist() == [260_000, 600_000]
    assert book.bounds[book.stage_bounds[after]][:2].tolist() == [360_000, 700_000]
    assert book.stage_cycle[after] == book.stage_cycle[before] + 1
    assert book.schedule_of[FLAT, 0] == book.schedule_of[FLAT, 2], "equal schedules are one run"


def test_cycles_and_rounding(book: TariffBook) -> None:
    segment = book.segment_of(PLAIN, utc("2026-07-15T00:00:00"))
    cycle = int(book.seg_cycle[segment])
    assert book.cycle_start_s(PLAIN, cycle) == utc("2026-06-30T16:00")
    assert book.cycle_end_s(PLAIN, cycle) == utc("2026-07-31T16:00")
    assert book.day_start_s(PLAIN, int(book.seg_day[segment])) == int(book.seg_start[segment])
    rounding = book.rounding(PLAIN)
    assert (rounding.mode, rounding.step_e11) == ("half_up", 10**9)


def test_digest_names_the_content(book: TariffBook, shipped: dict[str, Tariff]) -> None:
    tariffs = tuple(shipped.values())
    again = TariffBook.compile(tariffs[::-1], ORDER, HISTORIES, reversed(PAIRS), 2020, 2040)
    assert again.digest == book.digest
    assert len(book.digest) == 64
    for other in (
        TariffBook.compile(tariffs, ORDER[::-1], HISTORIES, PAIRS, 2020, 2040),
        TariffBook.compile(tariffs, ORDER, HISTORIES, PAIRS, 2020, 2039),
        TariffBook.compile(tariffs, ORDER, HISTORIES, PAIRS[:-1], 2020, 2040),
    ):
        assert other.digest != book.digest


def test_appending_moves_nothing(book: TariffBook, shipped: dict[str, Tariff]) -> None:
    """State holds indexes of segments and stages: a later registry version that only appends keeps them."""
    old = TariffBook.compile(tuple(shipped.values()), ORDER[:2], HISTORIES[:2], PAIRS[:3], 2020, 2040)
    n = len(old.seg_start)
    assert (old.seg_start == book.seg_start[:n]).all()
    new = TariffBook.compile(tuple(shipped.values()), ORDER[:2], HISTORIES, PAIRS[:4], 2020, 2040)
    n = len(old.stage_start)
    assert (old.stage_start == new.stage_start[:n]).all()
    assert (old.bounds[old.stage_bounds] == new.bounds[new.stage_bounds[:n]]).all()


def test_a_tariff_without_a_file_is_named(shipped: dict[str, Tariff]) -> None:
    with pytest.raises(UnknownTariff, match="no tariff file defines beijing"):
        TariffBook.compile(tuple(shipped.values()), ("beijing",), HISTORIES, [], 2020, 2021)


def test_an_empty_registry_has_an_empty_book(shipped: dict[str, Tariff]) -> None:
    empty = TariffBook.compile(tuple(shipped.values()), (), ((),), [], 2020, 2021)
    assert len(empty.seg_start) == len(empty.stage_start) == 0
    assert empty.segment_of(-1, 1_700_000_000) == -1
