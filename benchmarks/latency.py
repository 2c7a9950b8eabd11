"""I/O: `latency.city` and `latency.lone`: a city's steady load, from concentrators and from lone meters.

6,667 readings a second are six million meters every quarter hour. `meterd load` sends them, open loop, to a daemon of
its own on disk, and measures from when each was due; every reading must be held and every balance right, or there is
no figure. The baseline of a latency is the broker's acknowledgement in the same run; of bytes, a reading in a frame.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Benchmark, Result, result

RATE: Final = 6667
SECONDS: Final = 60
METERS: Final = 100_000
READING_BYTES: Final = 20  # address, value, time, register and quality in an Arrow frame
CITY: Final = ("--per-message", "100", "--format", "arrow")
LONE: Final = ("--per-message", "1", "--format", "json", "--connections", "64")
WHY: Final = {
    "latency.city": "the acknowledgement ends at the log's sync; the balance takes rating and one checkpoint more",
    "latency.lone": "a message for each reading: the broker, JSON and the log's rows are the bound, not rating",
}


def run(folder: Path, *words: str) -> dict[str, Any]:
    """The report of one `meterd load`; AssertionError when anything was lost or wrong."""
    command = [sys.executable, "-m", "meterd.cli", "load", "--report", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    assert done.returncode in (0, 1), done.stderr[-2000:]
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    assert report["verdict"]["good"], report["verdict"]
    return report


def _measured(name: str, *words: str) -> list[Result]:
    load = ("--meters", str(METERS), "--rate", str(RATE), "--seconds", str(SECONDS))
    with tempfile.TemporaryDirectory(prefix="meterd-latency-") as folder:
        report = run(Path(folder), *load, *words)
    told, published = report["latency_ms"], report["latency_ms"]["published"]["p99"]
    found = [
        result(f"{name}.{measure}_p99", "ms", told[measure]["p99"], published)
        for measure in ("held", "reading_to_balance", "reading_to_order", "reading_to_notice")
    ]
    written = sum(report["resources"][name]["written_a_reading"] for name in ("daemon", "broker"))
    found.append(result(f"{name}.written", "bytes/reading", max(0.1, written), READING_BYTES))
    return found


def city() -> list[Result]:
    """From concentrators of 100 meters."""
    return _measured("latency.city", *CITY)


def lone() -> list[Result]:
    """From lone meters, one reading a message."""
    return _measured("latency.lone", *LONE)


BENCHMARKS: dict[str, Benchmark] = {"latency.city": city, "latency.lone": lone}
