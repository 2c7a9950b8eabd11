"""A small city's day through the benchmark: the archive to committed state, and the same again by `meterd replay`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import city_day
from benchmarks.city_day_data import settings_of
from meterd.replay import replay

METERS = 4000


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("city-day")
    runs = city_day.measure(folder, METERS, 2, runs=2)  # checks counts, verdicts and charges after each
    assert len(runs) == 2
    for ours, plain in runs:
        assert plain["bytes"] > METERS * 96 * 22
        assert ours["peak_mib"] > 0
    return folder


@pytest.mark.parametrize(("jobs", "batch"), [(1, 7), (2, 3)])
def test_a_replay_from_empty_comes_to_the_same_bytes(rated: Path, jobs: int, batch: int) -> None:
    found = replay(settings_of(rated), jobs=jobs, batch=batch)
    assert [one.partition for one in found] == list(range(16))
    for one in found:
        assert one.differences == ()
        assert one.records > 0
