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
    ours, plain = city_day.measure(folder, METERS, 2)  # checks counts, verdicts and charges itself
    assert plain["bytes"] > METERS * 96 * 22
    assert ours["peak_mb"] > 0
    return folder


def test_a_replay_from_empty_comes_to_the_same_bytes(rated: Path) -> None:
    for found in replay(settings_of(rated)):
        assert found.differences == ()
        assert found.records > 0
