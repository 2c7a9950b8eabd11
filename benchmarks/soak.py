"""I/O: `make soak`: twenty times a city's load for half an hour; exit 1 when memory or disk grows meanwhile.

    python -m benchmarks.soak [--seconds 1800] [--out DIR]

After SETTLED_S everything that is bounded is full: the broker's window, the tail in memory, and the log, which is
cut below what both ledger and archive have. From then on these must stay as they are: the memory of daemon and
broker, the log's files, the ledger's, and what else lies in the data directory. Compared are the most of the WINDOW_S
after it and the most of the last WINDOW_S of the load; more than GROWTH_MOST times is growth, and so is what could
not be seen. The archive grows by what comes in, by design, and is told in bytes a reading. Other processes are shown
and not judged.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.harness import Benchmark
from benchmarks.latency import RATE
from config.clock import RealClock
from config.settings import Paths
from simulators.load import report
from simulators.load.asked import Test
from simulators.load.checks import check_balances
from simulators.load.host import Host
from simulators.load.processes import BROKER, DAEMON
from simulators.load.run import Result, load
from simulators.load.schedule import Wish

TIMES: Final = 20
METERS: Final = 2_000_000
PER_MESSAGE: Final = 1000
SETTLED_S: Final = 600
WINDOW_S: Final = 300
GROWTH_MOST: Final = 1.10
MEMORY: Final = (f"memory of {DAEMON}", f"memory of {BROKER}")
ARCHIVE: Final = "archive"
FLAT: Final = ("log", "ledger", "rest of the data directory")
JUDGED: Final = (*MEMORY, *FLAT)
MIDNIGHT_S: Final = 16 * 3600  # in Guangzhou, of a UTC day
_EVERY_S: Final = 5.0
BENCHMARKS: dict[str, Benchmark] = {}  # not one of `make bench`: it takes half an hour
Series = Sequence[tuple[float, int]]  # seconds of the load, bytes


def sizes(data: Path) -> dict[str, int]:
    """Bytes of a data directory's files; of a database with what it has not put into its file yet."""
    paths = Paths(data)
    found = dict.fromkeys((*FLAT, ARCHIVE), 0)
    for path in data.rglob("*"):
        try:
            size = path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # it went meanwhile
            continue
        if path.is_relative_to(paths.archive):
            found[ARCHIVE] += size
        elif path.name.startswith(paths.log.name) or path.name.startswith(paths.ledger.name):
            found["log" if path.name.startswith(paths.log.name) else "ledger"] += size
        else:
            found["rest of the data directory"] += size
    return found


class Disk:
    """A thread that notes the sizes of a data directory every few seconds."""

    def __init__(self, data: Path) -> None:
        self._data, self._clock, self._stopping = data, RealClock(), threading.Event()
        self.seen: list[tuple[float, dict[str, int]]] = []
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)

    def __enter__(self) -> Disk:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            self.seen.append((self._clock.monotonic_s(), sizes(self._data)))


def growth(series: Mapping[str, Series], end_s: float) -> dict[str, float]:
    """The most at the end of the load by the most when all was settled; infinite where one was not seen."""
    found = {}
    for name, points in series.items():
        first = [size for at_s, size in points if SETTLED_S <= at_s < SETTLED_S + WINDOW_S]
        last = [size for at_s, size in points if end_s - WINDOW_S <= at_s <= end_s]
        found[name] = max(last) / max(1, *first) if first and last else float("inf")
    return found


def grows(found: Mapping[str, float], judged: Iterable[str] = JUDGED) -> dict[str, float]:
    """What is judged and has grown, or was not seen."""
    times = {name: found.get(name, float("inf")) for name in judged}
    return {name: one for name, one in times.items() if one > GROWTH_MOST}


def series_of(result: Result, disk: Disk) -> dict[str, Series]:
    """Memory by process, files by what they are."""
    found: dict[str, list[tuple[float, int]]] = {}
    for sample in result.usage.samples:
        if sample.rss:
            found.setdefault(f"memory of {sample.name}", []).append((sample.at_s - result.start_s, sample.rss))
    for at_s, told in disk.seen:
        for name, size in told.items():
            found.setdefault(name, []).append((at_s - result.start_s, size))
    return dict(found)


def archived(series: Mapping[str, Series], seconds: float) -> float:
    """Bytes of archive a reading, from when all was settled."""
    points = [(at_s, size) for at_s, size in series.get(ARCHIVE, ()) if SETTLED_S <= at_s <= seconds]
    if len(points) < 2:
        return float("nan")
    (begun_s, before), (ended_s, after) = points[0], points[-1]
    return (after - before) / (ended_s - begun_s) / (TIMES * RATE)


def soak(seconds: int, out: Path) -> tuple[Result, dict[str, Series]]:
    """The load, against a daemon of its own; AssertionError when a reading was lost or a meter's energy is wrong."""
    test = Test(Wish("steady", METERS, PER_MESSAGE, TIMES * RATE, seconds), audit=False)
    with tempfile.TemporaryDirectory(prefix="meterd-soak-") as name, Host(Path(name) / "rig", test.wish) as host:
        host.prepare()
        target = host.begin()
        with Disk(host.data) as disk:
            result = load(test, target, Path(name), lambda _: None, host.thirsty)
        assert host.stop_daemon() == 0, "the daemon did not end well"
        check_balances(result, host, test)
    report.write(out, test, result)
    assert result.verdict["good"], result.verdict
    return result, series_of(result, disk)


def judged_of(begun_s: float, seconds: int) -> tuple[str, ...]:
    """All, save the ledger when a day ends meanwhile: then every account has postings."""
    to_midnight_s = (MIDNIGHT_S - begun_s) % 86_400
    return JUDGED if to_midnight_s > seconds else tuple(name for name in JUDGED if name != "ledger")


def main() -> int:
    """See the module's head."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("--out", type=Path, default=Path("soak-out"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    judged = judged_of(RealClock().now_s(), asked.seconds)
    result, series = soak(asked.seconds, asked.out)
    for name, points in sorted(series.items()):
        most, last = max(size for _, size in points) / 1e6, points[-1][1] / 1e6
        print(f"{name:32} {most:10,.0f} MB at most, {last:10,.0f} MB in the end")
    for name, one in report.resources(result).items():
        print(f"{name:32} {one['cores']:.2f} cores, {one['written_a_reading']} B written a reading")
    p99_ms = result.figures.histograms["reading_to_balance"].as_json()["p99"]
    print(f"reading to balance, p99: {p99_ms} ms; report in {asked.out}")
    if asked.seconds < SETTLED_S + 2 * WINDOW_S:
        print(f"growth is not judged: that takes {SETTLED_S + 2 * WINDOW_S} s at least")
        return 0
    return _judged(series, asked.seconds, judged)


def _judged(series: Mapping[str, Series], seconds: int, judged: Iterable[str]) -> int:
    found = growth(series, seconds)
    for name in (*judged, *sorted(found.keys() - {*judged, ARCHIVE})):
        told = "" if name in judged else " (not judged)"
        print(f"{name:32} x{found.get(name, float('inf')):.3f} since {SETTLED_S} s{told}")
    print(f"archive: {archived(series, seconds):.2f} B a reading, by design")
    grown = grows(found, judged)
    print(f"GROWS, or was not seen: {grown}" if grown else f"flat: nothing grew more than x{GROWTH_MOST}")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
