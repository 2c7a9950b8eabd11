"""The soak's judgement: what is flat passes; a leak, a file that grows and what was not seen do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import ARCHIVE, JUDGED, archived, grows, growth, judged_of, sizes

END_S = 1800
GB = 1_000_000_000


def flat(size: int = GB) -> list[tuple[float, int]]:
    return [(float(at_s), min(size, at_s * size // 500)) for at_s in range(1, END_S)]  # full after 500 s


def test_flat_after_the_first_minutes_passes() -> None:
    found = growth(dict.fromkeys(JUDGED, flat()), END_S)
    assert set(found.values()) == {1.0}
    assert grows(found) == {}


@pytest.mark.parametrize("name", JUDGED)
def test_each_of_them_can_fail(name: str) -> None:
    leaking = [(at_s, size + int(at_s * 133_340 * 2)) for at_s, size in flat()]  # two bytes a reading
    series = dict.fromkeys(JUDGED, flat()) | {name: leaking}
    assert grows(growth(series, END_S)).keys() == {name}


@pytest.mark.parametrize("name", JUDGED)
def test_what_was_not_seen_is_no_pass(name: str) -> None:
    series = {one: flat() for one in JUDGED if one != name}
    assert grows(growth(series, END_S)) == {name: float("inf")}
    ended = series | {name: flat()[:900]}  # a process that died half-way
    assert grows(growth(ended, END_S)) == {name: float("inf")}


def test_one_high_moment_at_the_end_is_seen() -> None:
    peak = [(at_s, size * (2 if at_s == 1700 else 1)) for at_s, size in flat()]
    assert grows(growth(dict.fromkeys(JUDGED, flat()) | {"log": peak}, END_S)) == {"log": 2.0}


def test_a_day_that_ends_meanwhile_is_posted() -> None:
    assert "ledger" in judged_of(15 * 3600, END_S)
    assert "ledger" not in judged_of(15 * 3600 + 2000, END_S)


def test_the_archive_grows_by_design() -> None:
    points = [(float(at_s), at_s * 133_340 * 5) for at_s in range(0, END_S, 5)]
    assert archived({ARCHIVE: points}, END_S) == pytest.approx(5.0)
    assert ARCHIVE not in JUDGED


def test_files_by_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "archive" / "0").mkdir(parents=True)
    for name, size in (
        ("log.db", 1),
        ("log.db-wal", 2),
        ("ledger.db", 4),
        ("notices.jsonl", 8),
        ("archive/0/1-2.parquet", 16),
    ):
        (tmp_path / name).write_bytes(b"x" * size)
    assert sizes(tmp_path) == {"log": 3, "ledger": 4, "rest of the data directory": 8, "archive": 16}
