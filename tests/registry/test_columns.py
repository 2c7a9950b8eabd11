"""Columns of text against the one-by-one parsers that they stand for."""

from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.units import NotExact, scaled
from registry import columns

SHANGHAI = ZoneInfo("Asia/Shanghai")


@settings(deadline=None)
@given(
    st.lists(st.decimals(-(10**12) + 1, 10**12 - 1, allow_nan=False, places=6) | st.integers(-99, 99), max_size=20)
)
def test_decimals_are_exact(numbers: list[Decimal | int]) -> None:
    texts = [format(number, "f") if isinstance(number, Decimal) else str(number) for number in numbers]
    for column in (pa.array(texts, pa.string()), pa.array(texts, pa.string()).dictionary_encode()):
        found, bad, finer = columns.decimals(column, 3, signed=True)
        for text, value, is_bad, is_finer in zip(texts, found.tolist(), bad, finer, strict=True):
            assert not is_bad
            try:
                assert scaled(text, 3) == value
                assert not is_finer
            except NotExact:
                assert is_finer


@pytest.mark.parametrize("text", ["", " 1", "1e3", "1_0", "NaN", "１", ".5", "1.", "--1", "1.0000000", "1" * 13])
def test_what_is_no_decimal(text: str) -> None:
    _, bad, _ = columns.decimals(pa.array([text]), 3, signed=True)
    assert bad.tolist() == [True]


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2026-03-01", SHANGHAI, 1_772_294_400),
        ("2026-03-01T00:00:00+08:00", ZoneInfo("UTC"), 1_772_294_400),
        ("2026-02-28T16:00Z", SHANGHAI, 1_772_294_400),
        ("2026-03-08", ZoneInfo("America/New_York"), 1_772_946_000),
        ("2026-03-01T00:00:00", SHANGHAI, None),
        ("2026-3-1", SHANGHAI, None),
        ("20260301", SHANGHAI, None),
        ("0000-01-01", SHANGHAI, None),
        ("1960-01-01", SHANGHAI, None),
        ("9999-12-31", SHANGHAI, None),
    ],
)
def test_instants(text: str, zone: ZoneInfo, expected: int | None) -> None:
    assert columns.instant_s(text, zone) == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=30), st.lists(st.integers(0, 5), max_size=30))
def test_joined_is_every_pair_with_equal_keys(left: list[int], right: list[int]) -> None:
    rows = columns.joined(np.array(left, np.int64), *columns.grouped(np.array(right, np.int64), 6))
    expected = [(i, j) for i, a in enumerate(left) for j, b in enumerate(right) if a == b]
    assert list(zip(rows[0].tolist(), rows[1].tolist(), strict=True)) == expected


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20), st.integers(1, 5)), max_size=12))
def test_overlapping_finds_an_overlap_when_there_is_one(spans: list[tuple[int, int, int]]) -> None:
    key = np.array([s[0] for s in spans], np.int64)
    low = np.array([s[1] for s in spans], np.int64)
    high = low + np.array([s[2] for s in spans], np.int64)
    met = any(key[a] == key[b] and low[a] < high[b] and low[b] < high[a] for a in range(len(spans)) for b in range(a))
    assert columns.overlapping(key, low, high).any() == met


@settings(deadline=None)
@given(st.integers(0, 20), st.sets(st.integers(2, 25), max_size=8))
def test_lines_count_past_what_is_no_row(count: int, skipped: set[int]) -> None:
    skipped = {line for line in skipped if line < 2 + count + len(skipped)}
    rows = [line for line in range(2, 2 + count + len(skipped)) if line not in skipped]
    lines = columns.Lines(len(rows), np.array(sorted(skipped), np.int64))
    assert len(lines) == len(rows)
    assert lines[np.arange(len(rows))].tolist() == rows
    assert [int(lines[row]) for row in range(len(rows))] == rows
