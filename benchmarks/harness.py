"""I/O: what a benchmark hands back, and the one file of results.

A benchmark is a function without arguments that returns `Result`s; a module of this folder names its benchmarks
in `BENCHMARKS: dict[str, Benchmark]`. Its baseline is measured in the same run, on the same data. A benchmark
asserts that what it timed was also right; a figure of a wrong result is never written.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from config.clock import RealClock

RESULTS: Final = Path(__file__).parent / "results" / "latest.json"


@dataclass(frozen=True, slots=True)
class Result:
    """One figure; `ratio` is value / baseline. `command` repeats it.

    Against a peer: who it is, the number of runs of each, and the range of the ratio: our slowest run against its
    fastest, and the other way about. `date` and `machine` are noted when it is written. What is None is not written.
    """

    name: str
    unit: str
    value: float
    baseline: float
    ratio: float
    command: str
    peer: str | None = None
    repeats: int | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    date: str | None = None
    machine: str | None = None


Benchmark = Callable[[], list[Result]]


def result(name: str, unit: str, value: float, baseline: float) -> Result:
    """A figure with its ratio and the command that repeats it, rounded to four significant digits."""
    value, baseline, ratio = (float(f"{v:.4g}") for v in (value, baseline, value / baseline))
    return Result(name, unit, value, baseline, ratio, f"make bench ONLY={name}")


def against(name: str, unit: str, peer: str, ours: list[float], theirs: list[float]) -> Result:
    """Medians of repeated runs of both (higher is better) and the range of their ratio."""
    assert min(len(ours), len(theirs)) >= 1
    plain = result(name, unit, median(ours), median(theirs))
    low, high = (float(f"{v:.4g}") for v in (min(ours) / max(theirs), max(ours) / min(theirs)))
    command = f"make bench ONLY={name.rsplit('.', 1)[0]}"
    return replace(
        plain, peer=peer, repeats=min(len(ours), len(theirs)), ratio_low=low, ratio_high=high, command=command
    )


def collect() -> dict[str, Benchmark]:
    """Every benchmark of this folder by name."""
    found: dict[str, Benchmark] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name in ("__main__", "harness"):
            continue
        own: dict[str, Benchmark] = getattr(importlib.import_module(f"benchmarks.{module.name}"), "BENCHMARKS", {})
        doubled = own.keys() & found.keys()
        assert not doubled, f"two benchmarks are named {doubled}"
        found |= own
    return found


def choose(names: Iterable[str], only: str | None) -> list[str]:
    """The benchmark named `only`, or those of the group `only.`; all without it."""
    return [n for n in names if only is None or n == only or n.startswith(only + ".")]


def merge(results: Iterable[Result], path: Path = RESULTS) -> None:
    """Put the results into the file, in place of older ones of the same names; the list is sorted by name."""
    kept = {r["name"]: r for r in json.loads(path.read_text(encoding="utf-8"))} if path.exists() else {}
    here = {"date": datetime.fromtimestamp(RealClock().now_s(), UTC).date().isoformat(), "machine": machine()}
    kept |= {r.name: {k: v for k, v in (asdict(r) | here).items() if v is not None} for r in results}
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps([kept[name] for name in sorted(kept)], indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)


def machine() -> str:
    """Processor, cores and memory, as Linux tells them."""
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} cores, {memory:.0f} GiB"


def timed(work: Callable[[], object]) -> float:
    """Real seconds that `work` took."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
