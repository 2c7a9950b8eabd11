"""I/O: `latency.city` and `latency.lone`: a city's steady load, from concentrators and from lone meters.

6,667 readings a second are six million meters every quarter hour. `meterd load` sends them, open loop, to a daemon of
its own on disk, and measures from when each was due; every reading must be held and every balance right, or there is
no figure. RUNS minutes of each, city and daemon anew. A latency is compared with the broker's PUBACK in the same run,
which the embedded broker gives as soon as it has the message, whatever the daemon's log does. Bytes written to disk,
by daemon and broker, are compared with those of the message on the wire, made here by the generator's own encoder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.harness import Benchmark, Result, repeated, result
from ingest.wire import Topic
from rating.readings import Readings
from simulators.fleet_formats import Envelope, encode
from simulators.load.packets import NUMBERS, addressed, publish

RATE: Final = 6667
SECONDS: Final = 60
METERS: Final = 100_000
RUNS: Final = 3
WAIT_S: Final = 180  # for all to be held: a slow machine is a bad figure, and not none
CITY: Final = (100, "arrow", 8)  # readings a message, format, connections
LONE: Final = (1, "json", 64)
MEASURES: Final = ("held", "reading_to_balance", "reading_to_order", "reading_to_notice")
WHY: Final = {
    "latency.city.held_p99": "PUBACK waits for no disk; `held` waits for the log's sync and is said for many"
    " messages at once, five times a second: up to 200 ms are that wait",
    "latency.city.reading_to_balance_p99": "behind the PUBACK come the log's sync, rating, and a checkpoint of the"
    " ledger with a sync of its own, every 25 ms at most",
    "latency.city.reading_to_order_p99": "behind the balance: autopay's decision, an order made durable, and a call"
    " to the gateway over HTTP",
    "latency.city.reading_to_notice_p99": "behind the order: the gateway's answer, the credit, and a turn of the"
    " outbox with a sync of the notices file",
    "latency.city.written": "whole pages for a frame (the log's of 16 kB, the ledger's of 8 at a checkpoint every"
    " 25 ms), to a write-ahead log first, and again when that is copied into its file",
    "latency.lone.held_p99": "6,667 messages a second on two cores: also the PUBACK waits for a core; `held` for the"
    " log's sync and its turn besides",
    "latency.lone.reading_to_balance_p99": "every message is a packet, a JSON text and a row of the log, by a dozen"
    " threads for two cores: receiving and logging are the bound, not rating",
    "latency.lone.reading_to_order_p99": "the order's steps behind the balance compete with the same threads",
    "latency.lone.reading_to_notice_p99": "the notice's steps behind the order do so again",
    "latency.lone.written": "a row of the log, a mark of the stream and a changed row of state for each reading:"
    " pages of 16 and 8 kB are changed for a few bytes each",
}


def run(folder: Path, *words: str) -> dict[str, Any]:
    """The report of one `meterd load`; AssertionError when anything was lost or wrong."""
    command = [sys.executable, "-m", "meterd.cli", "load", "--report", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    assert done.returncode in (0, 1), done.stderr[-2000:]
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    assert report["verdict"]["good"], report["verdict"]
    return report


def wire_bytes(per_message: int, format_: str) -> float:
    """Of the PUBLISH packet that brings it, a reading."""
    ones = np.ones(per_message, np.uint8)
    address = np.arange(per_message, dtype=np.uint64) + 440_100_000_000
    value = address.astype(np.int64) % 9_000_000 * 10
    readings = Readings(address, value, np.full(per_message, 1_785_340_800, np.uint32), ones, ones * 4)
    names = [str(one) for one in address.tolist()]
    payload = encode(format_, readings, names, Envelope("C000001", "La1b2c3-000001", 1, 1, 1_785_340_800))
    topic, properties = addressed(Topic("0", "C000001", "reads", format_, "La1b2c3-000001", 1), NUMBERS[0])
    return len(publish(topic, payload, 1, properties)) / per_message


def _load(per_message: int, format_: str, connections: int) -> dict[str, Any]:
    how: dict[str, object] = {
        "meters": METERS,
        "rate": RATE,
        "seconds": SECONDS,
        "per-message": per_message,
        "format": format_,
    }
    how |= {"connections": connections, "wait": WAIT_S}
    words = [word for name, told in how.items() for word in (f"--{name}", str(told))]
    with tempfile.TemporaryDirectory(prefix="meterd-latency-") as folder:
        return run(Path(folder), *words)


def rows(name: str, reports: list[dict[str, Any]], wire: float) -> list[Result]:
    """What so many runs came to."""
    told = [report["latency_ms"] for report in reports]
    published = [one["published"]["p99"] for one in told]
    found = [
        result(
            f"{name}.{of}_p99",
            "ms",
            "the broker's PUBACK, p99",
            [one[of]["p99"] for one in told],
            published,
            paired=True,
        )
        for of in MEASURES
    ]
    written = [sum(report["resources"][of]["written_a_reading"] for of in ("daemon", "broker")) for report in reports]
    if min(written) > 0:  # a TMPDIR in memory has no disk to write to
        wires = [wire] * len(reports)
        found.append(result(f"{name}.written", "bytes/reading", "the message on the wire", written, wires))
    return found


def _measured(name: str, how: tuple[int, str, int]) -> list[Result]:
    return rows(name, repeated(RUNS, lambda: _load(*how)), wire_bytes(how[0], how[1]))


def city() -> list[Result]:
    """From concentrators of 100 meters."""
    return _measured("latency.city", CITY)


def lone() -> list[Result]:
    """From lone meters, one reading a message."""
    return _measured("latency.lone", LONE)


BENCHMARKS: dict[str, Benchmark] = {"latency.city": city, "latency.lone": lone}
