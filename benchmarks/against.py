"""I/O: `batch.*`, `stream.*`, `state.*`, `year.*`: meterd's parts against what a user would pick, on one input.

Each side is a process of its own (benchmarks/peers), one thread each, in turn and repeated; the digests of all
answers must be equal, or there is no figure. Peers that meterd does not need live in a virtual environment of their
own, which is made here; one that cannot be had is an error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Benchmark, Result, against
from benchmarks.peers.balances import BATCHES, TOUCHED
from benchmarks.peers.job import HOMES, ROUNDS, make
from benchmarks.peers.postgres_state import programs
from benchmarks.peers.year import HOMES as YEAR_HOMES
from benchmarks.peers.year import HOURS

RUNS: Final = 3
STREAM_ROUNDS: Final = 10
ROOT: Final = Path(__file__).parents[1]
VENV: Final = ROOT / "benchmarks" / ".peers"
PINNED: Final = ROOT / "benchmarks" / "peers" / "constraints.txt"
_THREADS: Final = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
ONE_THREAD: Final = dict.fromkeys(_THREADS, "1")
NEEDED: Final = ("numpy", "polars", "bytewax", "psycopg[binary]", "duckdb", "pandas", "NREL-PySAM")
BATCH: Final = {"duckdb": "DuckDB", "polars": "Polars", "pandas": "pandas", "numpy": "numpy"}
STREAM: Final = {"dict": "a dictionary in Python", "bytewax": "Bytewax"}
STATE: Final = {"sqlite": "SQLite rows", "postgres": "PostgreSQL rows"}
WHY: Final = {
    "batch.ordered.duckdb": "windows sort all readings by home; the kernel goes to a home's row as readings arrive",
    "batch.ordered.polars": "the same sort and windows, and a join that copies every column",
    "batch.ordered.pandas": "a sort and three groupings, each a pass over memory with a copy",
    "batch.ordered.numpy": "one stable sort and running sums: the least that a batch must do; no rule of a register",
    "batch.month_totals.duckdb": "where no order matters DuckDB needs three registers of a home and one pass: nearly"
    " as fast as the kernel, which judges and prices every reading all the same",
    "stream.dict": "an object, a call and integers of Python for each reading; frames of a thousand need none",
    "stream.bytewax": "the same Python for each reading, and a key of text and a hand-over for each beside",
    "state.sqlite": "a row is found, changed and logged by itself; pages of state are written whole",
    "year.pysam": "made for one home with 8,760 numbers at a time; the engine takes 400 homes an hour at a time."
    " Allocation: tiers in the order of time (one price period), or time of use without tiers",
    "state.postgres": "a new version of each row, its index entry and its log record; and a copy over a socket",
}


def _python() -> Path:
    """Of the peers' environment, made when it is missing or its pins have changed."""
    python, stamp = VENV / "bin" / "python", VENV / ".ready"
    if not stamp.exists() or stamp.read_text() != PINNED.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True, timeout=120)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--constraint", str(PINNED), *NEEDED], check=True, timeout=900)
        stamp.write_text(PINNED.read_text())
    return python


def _worker(python: str | Path, name: str, folder: Path, *words: str) -> dict[str, Any]:
    """What one worker found."""
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
    command = [str(python), "-m", f"benchmarks.peers.{name}", str(folder), "1", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=900, env=environment, cwd=folder
    )
    assert done.returncode == 0, f"{name}: {done.stderr[-2000:]}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(
    name: str, ours: Callable[[], dict[str, Any]], theirs: Callable[[], dict[str, Any]], digest: str, count: int
) -> tuple[list[float], list[float]]:
    """Rates of both, in turn; AssertionError when an answer is another one."""
    rates: tuple[list[float], list[float]] = [], []
    for _ in range(RUNS):
        for side, run in zip(rates, (ours, theirs), strict=True):
            found = run()
            assert digest in ("", found["digest"]), f"{name}: the answers differ"
            digest = found["digest"]
            side.append(count / found["seconds"][-1])
    return rates


def _readings(group: str, peers: Mapping[str, str], kind: str, rounds: int) -> list[Result]:
    """Ours for a stream is the batch path: frames are what a concentrator sends, and what rating gets."""
    with tempfile.TemporaryDirectory(prefix="meterd-peers-") as place:
        folder = Path(place)
        digest, count = make(folder, rounds=rounds), HOMES * rounds
        found = []
        for peer, who in peers.items():
            name = f"{group}.{peer}"
            own = partial(_worker, sys.executable, "ours_batch", folder)
            words = ("totals",) if "totals" in group else ()
            their = partial(_worker, _python(), f"{peer}_{kind}", folder, *words)
            found.append(against(name, "readings/s", who, *compare(name, own, their, digest, count)))
    return found


def ordered() -> list[Result]:
    """10 million readings, time of use and tiers, in the order of arrival."""
    return _readings("batch.ordered", BATCH, "batch", ROUNDS)


def totals() -> list[Result]:
    """The same bill from totals alone, where no order matters: what a monthly batch may do, and live rating not."""
    return _readings("batch.month_totals", {"duckdb": "DuckDB"}, "batch", ROUNDS)


def stream() -> list[Result]:
    """A million of the same readings, one after the other, state by home."""
    return _readings("stream", STREAM, "stream", STREAM_ROUNDS)


def state() -> list[Result]:
    """A million balances on disk; every batch of 10,000 charges is durable before the next."""
    if programs() is None:
        raise RuntimeError("no PostgreSQL on this machine: apt-get install postgresql")
    found = []
    with tempfile.TemporaryDirectory(prefix="meterd-peers-") as place:
        for peer, who in STATE.items():
            name = f"state.{peer}"
            own = partial(_worker, sys.executable, "ours_state", Path(place))
            their = partial(_worker, _python(), f"{peer}_state", Path(place))
            rates = compare(name, own, their, "", BATCHES * TOUCHED)
            found.append(against(name, "updates/s", who, *rates))
    return found


def year() -> list[Result]:
    """A year of hours of 400 homes; twelve bills each, equal to the fen."""
    with tempfile.TemporaryDirectory(prefix="meterd-peers-") as place:
        own = partial(_worker, sys.executable, "ours_year", Path(place))
        their = partial(_worker, _python(), "pysam_year", Path(place))
        rates = compare("year.pysam", own, their, "", YEAR_HOMES * HOURS)
    return [against("year.pysam", "hours/s", "NREL-PySAM", *rates)]


BENCHMARKS: dict[str, Benchmark] = {
    "batch.ordered": ordered,
    "batch.month_totals": totals,
    "stream": stream,
    "state": state,
    "year": year,
}
