"""The peers that need nothing more than meterd does give the same answers; one that does not is caught."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.against import WHY, _worker, compare
from benchmarks.peers.job import make


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("job")
    return folder, make(folder, homes=2000, rounds=70)  # over the start of peak


@pytest.mark.parametrize("peer", ["ours_batch", "numpy_batch", "pandas_batch", "duckdb_batch", "dict_stream"])
def test_the_answer_is_the_same(job: tuple[Path, str], peer: str) -> None:
    folder, digest = job
    assert _worker(sys.executable, peer, folder)["digest"] == digest


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


def test_every_row_has_its_reason() -> None:
    assert all(reason and len(reason) < 200 for reason in WHY.values())
