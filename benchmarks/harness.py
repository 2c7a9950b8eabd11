"""I/O: what a benchmark hands back, and the one file of results.

A benchmark is a function without arguments that returns `Result`s; a module of this folder names its benchmarks
in `BENCHMARKS: dict[str, Benchmark]`. Its baseline is measured in the same run, on the same data, and what can be
repeated in minutes is. A benchmark asserts that what it timed was also right; a figure of a wrong result is never
written.
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
from typing import Any, Final, TypeVar

from config.clock import RealClock

RESULTS: Final = Path(__file__).parent / "results" / "latest.json"


@dataclass(frozen=True, slots=True)
class Result:
    """One figure: medians of repeated runs of ours and of what it is compared with; `ratio` is value / baseline.

    `peer` names that: another program, or the least that any program must do. Each range is the least and the most
    of the runs; that of the ratio is our least against the peer's most, and the other way about, or that of the
    runs' own ratios where both sides are one run's. `command` repeats it; the command, `date` and `machine` are
    noted when it is run and written. What is None is not written.
    """

    name: str
    unit: str
    value: float
    baseline: float
    ratio: float
    command: str
    peer: str
    repeats: int
    value_low: float
    value_high: float
    baseline_low: float
    baseline_high: float
    ratio_low: float
    ratio_high: float
    date: str | None = None
    machine: str | None = None


Benchmark = Callable[[], list[Result]]
T = TypeVar("T")


def result(
    name: str, unit: str, peer: str, ours: Iterable[float], theirs: Iterable[float], *, paired: bool = False
) -> Result:
    """A figure of as many runs as there are values, rounded to four significant digits.

    `paired`: both sides of a run were one process or one moment, so that each run has a ratio of its own.
    """
    one, other = list(ours), list(theirs)
    assert len(one) == len(other) >= 1
    value, baseline = median(one), median(other)
    ratios = [v / w for v, w in zip(one, other, strict=True)] if paired else [value / baseline]
    ends = ratios if paired else [min(one) / max(other), max(one) / min(other)]
    found = {
        "value": value, "baseline": baseline, "ratio": median(ratios),
        "value_low": min(one), "value_high": max(one), "baseline_low": min(other), "baseline_high": max(other),
        "ratio_low": min(ends), "ratio_high": max(ends),
    }  # fmt: skip
    rounded: dict[str, Any] = {of: float(f"{v:.4g}") for of, v in found.items()}
    return Result(name=name, unit=unit, command="", peer=peer, repeats=len(one), **rounded)


def repeated(runs: int, once: Callable[[], T]) -> list[T]:
    """What each of so many runs found, one after the other."""
    return [once() for _ in range(runs)]


def ran(name: str, benchmark: Benchmark) -> list[Result]:
    """Run it; each of its figures gets the command that repeats it."""
    return [replace(found, command=f"make bench ONLY={name}") for found in benchmark()]


def collect() -> dict[str, Benchmark]:
    """Every benchmark of this folder by name."""
    found: dict[str, Benchmark] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name == "__main__":
            continue
        own: dict[str, Benchmark] = getattr(importlib.import_module(f"benchmarks.{module.name}"), "BENCHMARKS", {})
        doubled = own.keys() & found.keys()
        assert not doubled, f"two benchmarks are named {doubled}"
        found |= own
    return found


def choose(names: Iterable[str], only: str | None) -> list[str]:
    """The benchmark named `only`, or those of the group `only.`, or that whose row it is; all without it."""
    known = list(names)
    if only is None:
        return known
    found = [n for n in known if n == only or n.startswith(only + ".")]
    return found or [n for n in known if only.startswith(n + ".")]


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
