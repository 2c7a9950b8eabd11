"""The peers that need nothing more than meterd does give the same answers; one that does not is caught."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import city
from benchmarks.against import _worker, compare
from benchmarks.peers import ours_stream
from benchmarks.peers.job import load, make


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("job")
    return folder, make(folder, homes=2000, rounds=70)  # over the start of peak


@pytest.mark.parametrize("peer", ["ours_batch", "numpy_batch", "pandas_batch", "duckdb_batch"])
def test_the_answer_is_the_same(job: tuple[Path, str], peer: str) -> None:
    folder, digest = job
    assert _worker(sys.executable, peer, folder)["digest"] == digest


@pytest.mark.parametrize(
    ("peer", "size"), [("ours", 1000), ("ours", 1), ("numpy", 1000), ("dict", 1000), ("dict", 1)]
)
def test_a_stream_comes_to_the_same_by_frames_and_by_readings(job: tuple[Path, str], peer: str, size: int) -> None:
    folder, digest = job
    assert _worker(sys.executable, f"{peer}_stream", folder, str(size))["digest"] == digest


def test_a_stream_of_ours_is_a_call_of_the_kernel_for_each_frame(
    job: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice of half a million readings is a batch, whatever it is called."""
    folder, _ = job
    monkeypatch.setattr(sys, "argv", ["ours_stream", str(folder), "1", "1000"])
    do = ours_stream.prepare(load(folder))
    calls: list[int] = []
    monkeypatch.setattr(city, "rate", lambda _homes, batch, *_: calls.append(len(batch[0])) or (len(batch[0]), 0))
    do()
    assert calls == [1000] * 140


def test_totals_give_the_same_bill(job: tuple[Path, str]) -> None:
    folder, digest = job
    assert _worker(sys.executable, "duckdb_batch", folder, "totals")["digest"] == digest


def test_an_answer_that_differs_is_no_figure() -> None:
    def says(digest: str) -> dict[str, Any]:
        return {"seconds": [1.0], "digest": digest}

    ours, theirs = compare("x", partial(says, "a"), partial(says, "a"), "a", 10)
    assert ours == theirs == [10.0] * 3
    with pytest.raises(AssertionError, match="differ"):
        compare("x", partial(says, "a"), partial(says, "b"), "", 10)
