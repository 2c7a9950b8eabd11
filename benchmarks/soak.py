"""I/O: `make soak`: twenty times a city's load for half an hour; exit 1 when memory or a file grows meanwhile.

    python -m benchmarks.soak [--seconds 1800] [--out DIR]

What is compared is a third of the way and the end. The archive grows by what comes in, and nothing else may: the
daemon's memory, the log and the ledger.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from benchmarks.harness import Benchmark
from benchmarks.latency import RATE, run

TIMES: Final = 20
METERS: Final = 2_000_000
GROWTH_MOST: Final = 1.10
BENCHMARKS: dict[str, Benchmark] = {}  # not one of `make bench`: it takes half an hour


def main() -> int:
    """See the module's head."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("--out", type=Path, default=Path("soak-out"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    report = run(
        asked.out, "--meters", str(METERS), "--per-message", "1000", "--rate", str(TIMES * RATE),
        "--seconds", str(asked.seconds), "--no-audit",
    )  # fmt: skip
    grown = {name: times for name, times in report["growth"].items() if times > GROWTH_MOST}
    for name, times in report["growth"].items():
        print(f"{name:32} {times:.3f} of what it was after a third of the run")
    for name, one in report["resources"].items():
        memory_mb, written = one["rss_most"] / 1e6, one["written_a_reading"]
        print(f"{name:32} {one['cores']:.2f} cores, {memory_mb:.0f} MB, {written} B a reading")
    print(f"reading to balance, p99: {report['latency_ms']['reading_to_balance']['p99']} ms; report in {asked.out}")
    if grown:
        print(f"GROWS: {grown}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
