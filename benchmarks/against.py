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

from benchmarks.harness import Benchmark, Result, result
from benchmarks.peers.balances import BATCHES, TOUCHED
from benchmarks.peers.job import FRAME, HOMES, ROUNDS, make
from benchmarks.peers.postgres_state import programs
from benchmarks.peers.year import HOMES as YEAR_HOMES
from benchmarks.peers.year import HOURS

RUNS: Final = 3
STREAM_ROUNDS: Final = 10
SINGLE_ROUNDS: Final = 2
ROOT: Final = Path(__file__).parents[1]
VENV: Final = ROOT / "benchmarks" / ".peers"
PINNED: Final = ROOT / "benchmarks" / "peers" / "constraints.txt"
_THREADS: Final = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
ONE_THREAD: Final = dict.fromkeys(_THREADS, "1")
NEEDED: Final = ("numpy", "polars", "bytewax", "psycopg[binary]", "duckdb", "pandas", "NREL-PySAM")
BATCH: Final = {"duckdb": "DuckDB", "polars": "Polars", "pandas": "pandas", "numpy": "numpy"}
STREAM: Final = {"numpy": "numpy", "bytewax": "Bytewax", "dict": "a dictionary in Python"}
SINGLE: Final = {"bytewax": "Bytewax", "dict": "a dictionary in Python"}
STATE: Final = {"sqlite": "SQLite rows", "postgres": "PostgreSQL rows"}
WHY: Final = {
    "batch.ordered.duckdb": "windows sort all readings by home; the kernel goes to a home's row as readings arrive",
    "batch.ordered.polars": "the same sort and windows, and a join that copies every column",
    "batch.ordered.pandas": "a sort and three groupings, each a pass over memory with a copy",
    "batch.ordered.numpy": "one stable sort and running sums: the least that a batch must do; no rule of a register",
    "batch.month_totals.duckdb": "where no order matters DuckDB needs three registers of a home and one pass, while"
    " the kernel judges and prices every reading: DuckDB was expected to win here",
    "stream.frames.numpy": "both get a frame of 1,000 readings in arrays, a call each: the kernel is one pass and"
    " judges each register, numpy some twenty passes over arrays of 1,000",
    "stream.frames.bytewax": "ours: a frame of 1,000 in arrays, a call each; Bytewax: the same frame as one item,"
    " keyed by its concentrator, with numpy on it as its state: that, and a key and a hand-over a frame",
    "stream.frames.dict": "ours: a frame of 1,000 in arrays, a call each; the dictionary: the same frame as a list"
    " of tuples: an object and integers of Python for each reading",
    "stream.single.bytewax": "both get one reading at a time: a key of text and a hand-over for each cost Bytewax"
    " about what a call of the kernel costs",
    "stream.single.dict": "both get one reading at a time: the kernel's call costs more than the reading, which is"
    " why meterd gathers messages and never does so",
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


def _readings(group: str, peers: Mapping[str, str], workers: tuple[str, ...], rounds: int) -> list[Result]:
    """`workers`: ours, the end of the peers' names, and what each of them is told."""
    with tempfile.TemporaryDirectory(prefix="meterd-peers-") as place:
        folder = Path(place)
        digest, count = make(folder, rounds=rounds), HOMES * rounds
        found = []
        own_name, kind, *words = workers
        for peer, who in peers.items():
            name = f"{group}.{peer}"
            own = partial(_worker, sys.executable, own_name, folder, *words)
            their = partial(_worker, _python(), f"{peer}_{kind}", folder, *words)
            found.append(result(name, "readings/s", who, *compare(name, own, their, digest, count)))
    return found


def ordered() -> list[Result]:
    """10 million readings, time of use and tiers, in the order of arrival."""
    return _readings("batch.ordered", BATCH, ("ours_batch", "batch"), ROUNDS)


def totals() -> list[Result]:
    """The same bill from totals alone, where no order matters: what a monthly batch may do, and live rating not."""
    return _readings("batch.month_totals", {"duckdb": "DuckDB"}, ("ours_batch", "batch", "totals"), ROUNDS)


def frames() -> list[Result]:
    """A million of the same readings in concentrators' frames of a thousand, a call each, in the order of arrival."""
    return _readings("stream.frames", STREAM, ("ours_stream", "stream", str(FRAME)), STREAM_ROUNDS)


def single() -> list[Result]:
    """Two hundred thousand of them, one at a time."""
    return _readings("stream.single", SINGLE, ("ours_stream", "stream", "1"), SINGLE_ROUNDS)


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
            found.append(result(name, "updates/s", who, *rates))
    return found


def year() -> list[Result]:
    """A year of hours of 400 homes; twelve bills each, equal to the fen."""
    with tempfile.TemporaryDirectory(prefix="meterd-peers-") as place:
        own = partial(_worker, sys.executable, "ours_year", Path(place))
        their = partial(_worker, _python(), "pysam_year", Path(place))
        rates = compare("year.pysam", own, their, "", YEAR_HOMES * HOURS)
    return [result("year.pysam", "hours/s", "NREL-PySAM", *rates)]


BENCHMARKS: dict[str, Benchmark] = {
    "batch.ordered": ordered,
    "batch.month_totals": totals,
    "stream.frames": frames,
    "stream.single": single,
    "state": state,
    "year": year,
}
