"""I/O: a load test from beginning to end: generators, observer, verdict; what `meterd load` runs.

Generators are processes; they connect, say that they are ready, and begin at one instant. The observer watches the
daemon's files when there is a daemon on this machine. In the end every reading must be held, and with a daemon of our
own every balance be right.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from config.clock import RealClock
from config.settings import Paths
from simulators.fleet_ledger import billed_wh
from simulators.load.accounts import accounts_of
from simulators.load.answers import Answers, slots_of
from simulators.load.dues import Dues
from simulators.load.figures import Figures, Objective, Sent, figures, judged
from simulators.load.host import Host
from simulators.load.observe import Observer, Seen, Streams
from simulators.load.population import NoPopulation, Population, read_population
from simulators.load.processes import DAEMON, Sampler, Usage
from simulators.load.schedule import BACKFILL_S, NoSchedule, Wish, schedule
from simulators.load.sender import NOT_ALL, Orders
from simulators.quiet import quiet_of
from simulators.rig import end_process

LEAD_S: Final = 2.0  # from the last "ready" to the start
READY_S: Final = 120.0
READ_AGAIN_S: Final = 10  # a meter is read no more often: its register moves in steps
PEAKS: Final = {"ramp": 2.0, "morning": 2.0}
QUIET_S: Final = 60.0
DUES: Final = "dues.bin"


class LoadFailed(Exception):
    """The test could not be run to its end; the message says why."""


@dataclass(slots=True)
class Target:
    """Where the load goes. `registry`: the directory whose meters are sent for; `data`: of a daemon on this machine.

    `cafile`, `cert`, `key`: files for TLS; `processes`: whose processor and memory are noted, by name;
    `broker`: the broker's process, when it is not to be looked for.
    """

    host: str
    port: int
    registry: Path
    data: Path | None = None
    book: Path | None = None
    notices: Path | None = None
    user: str = ""
    password: str = ""
    cafile: str = ""
    cert: str = ""
    key: str = ""
    processes: dict[str, int] = field(default_factory=dict)
    broker: int | None = None


@dataclass(slots=True)
class Test:
    """What is to be run."""

    wish: Wish
    format: str = "arrow"
    connections: int = 8
    processes: int = 1
    wait_s: float = 60.0
    faults: dict[str, float] = field(default_factory=dict)
    objectives: Sequence[Objective] = ()

    def check(self) -> None:
        """Raise `NoSchedule` for what cannot be."""
        schedule(self.wish)
        again_s = self.wish.meters / self.wish.rate / PEAKS.get(self.wish.pattern, 1.0)
        if again_s < READ_AGAIN_S:
            raise NoSchedule(
                f"{self.wish.meters} meters at {self.wish.rate:g} readings a second are read every {again_s:.1f} s:"
                f" at least {READ_AGAIN_S} s, or a register's last digit is more power than a connection has"
            )
        if self.processes > self.wish.senders:
            raise NoSchedule(f"{self.wish.senders} concentrators are too few for {self.processes} processes")


@dataclass(slots=True, eq=False)
class Result:
    """What came of it."""

    figures: Figures
    sent: Sent
    seen: Seen | None
    usage: Usage
    start_s: float
    seconds: list[dict[str, Any]]  # what the generators said, second by second, added up
    verdict: dict[str, Any]
    objectives: list[dict[str, Any]]

    @property
    def good(self) -> bool:
        return bool(self.verdict["good"]) and all(one["met"] for one in self.objectives)


class _Generators:
    """The processes, and what they say."""

    def __init__(self, test: Test, target: Target, folder: Path, run: str, thirsty: Sequence[str]) -> None:
        self._outs = [folder / f"sender{part}.npz" for part in range(test.processes)]
        self.lines: list[list[dict[str, Any]]] = [[] for _ in range(test.processes)]
        self.processes: list[subprocess.Popen[str]] = []
        self._logs = [folder / f"sender{part}.log" for part in range(test.processes)]
        for part in range(test.processes):
            orders = Orders(
                asdict(test.wish), str(target.registry), str(self._outs[part]), str(folder / DUES), run,
                start_s=0.0, start_unix=0, begin_s=begin_s(test.wish), wait_s=test.wait_s, part=part,
                of=test.processes, connections=test.connections, format=test.format, host=target.host,
                port=target.port, user=target.user, password=target.password, cafile=target.cafile,
                cert=target.cert, key=target.key, thirsty=list(thirsty), faults=test.faults,
            )  # fmt: skip
            path = folder / f"sender{part}.json"
            path.touch(mode=0o600)
            path.write_text(json.dumps(asdict(orders)))
            with self._logs[part].open("w") as log:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "simulators.load.sender", str(path)],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                    )
                )  # fmt: skip
        self._threads = [
            threading.Thread(target=self._follow, args=(part,), daemon=True) for part in range(test.processes)
        ]
        for thread in self._threads:
            thread.start()

    def _follow(self, part: int) -> None:
        stdout = self.processes[part].stdout
        assert stdout is not None
        for text in stdout:
            self.lines[part].append(json.loads(text))

    def await_ready(self) -> None:
        until = time.monotonic() + READY_S
        while not all(lines and "ready" in lines[0] for lines in self.lines):
            self.raise_failure()
            if time.monotonic() > until:
                raise LoadFailed("a generator does not get ready: its log is beside the report")
            time.sleep(0.02)

    def raise_failure(self) -> None:
        for part, process in enumerate(self.processes):
            code = process.poll()
            if code is not None and code not in (0, NOT_ALL):
                time.sleep(0.1)  # for its last line
                said = [line["error"] for line in self.lines[part] if "error" in line]
                why = said[-1] if said else f"ended with {code}: {self._logs[part].read_text()[-1500:]}"
                raise LoadFailed(f"generator {part}: {why}")

    def begin(self, start_s: float, start_unix: int) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"start_s": start_s, "start_unix": start_unix}) + "\n")
            process.stdin.flush()

    def follow(self, told: Callable[[dict[str, Any]], None], deadline_s: float) -> None:
        """A call a second with what all of them say, until all have ended."""
        until, shown = time.monotonic() + deadline_s, -1
        while any(process.poll() is None for process in self.processes):
            newest = min((len(lines) for lines in self.lines), default=0) - 1
            if newest > shown and newest >= 1:
                shown = newest
                told(_added([lines[newest] for lines in self.lines]))
            if time.monotonic() > until:
                raise LoadFailed("the generators do not end")
            time.sleep(0.05)
        for thread in self._threads:
            thread.join(5.0)
        self.raise_failure()

    def seconds(self) -> list[dict[str, Any]]:
        """What all of them said, second by second; who has ended is as he was."""
        most = max(len(lines) for lines in self.lines)
        return [_added([lines[min(at, len(lines) - 1)] for lines in self.lines]) for at in range(1, most)]

    def sent(self) -> Sent:
        parts = []
        for path in self._outs:
            with np.load(path) as arrays:
                parts.append(Sent.from_arrays(dict(arrays)))
        return Sent.merged(parts)

    def stop(self) -> None:
        for process in self.processes:
            end_process(process, 5.0)


def _added(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = [name for name in lines[0] if name != "t"]
    return {"t": max(line["t"] for line in lines)} | {
        name: sum(line.get(name, 0) for line in lines) for name in names
    }


def begin_s(wish: Wish) -> int:
    """Second of the run from which registers move: a backlog's beginning, or the run's."""
    return -BACKFILL_S if wish.pattern == "backfill" else 0


def load(
    test: Test, target: Target, folder: Path, told: Callable[[dict[str, Any]], None], thirsty: Sequence[str] = ()
) -> Result:
    """Run it. `told` is called once a second with what the generators say."""
    test.check()
    town = read_population(target.registry, begin_s=begin_s(test.wish), seed=test.wish.seed)
    _fits(test.wish, town, target.registry)
    clock, run = RealClock(), secrets.token_hex(3)
    generators = _Generators(test, target, folder, run, thirsty)
    observer: Observer | None = None
    sampler: Sampler | None = None
    try:
        observe = _observing(test, target, town, folder, run)
        named = _processes(target) | {f"generator {n}": p.pid for n, p in enumerate(generators.processes)}
        sampler = Sampler(named, target.host, target.port, target.broker, clock)
        generators.await_ready()
        start_s, start_unix = clock.monotonic_s() + LEAD_S, clock.now_s() + int(LEAD_S)
        observer = observe(start_s) if observe is not None else None
        sampler.start()
        generators.begin(start_s, start_unix)
        generators.follow(told, test.wish.seconds + test.wait_s + 30.0)
        sent = generators.sent()
        if target.data is not None:
            _settle(target.data)
    finally:
        generators.stop()
        usage = sampler.stop() if sampler is not None else Usage()
        seen = observer.stop() if observer is not None else None
    came = figures(sent, seen.answered if seen is not None else None)
    return Result(
        came, sent, seen, usage, start_s, generators.seconds(), _verdict(sent, came),
        judged(test.objectives, came.histograms),
    )  # fmt: skip


def _observing(
    test: Test, target: Target, town: Population, folder: Path, run: str
) -> Callable[[float], Observer] | None:
    """What starts an observer for a run that begins then; None without a daemon on this machine.

    A city's accounts take seconds to read, so that is done before the run has its beginning.
    """
    data = target.data
    if data is None:
        return None
    slots = slots_of(schedule(test.wish).sender, len(town.concentrators))
    due, streams = Dues(folder / DUES, slots).due, Streams(f"L{run}-", accounts_of(target.registry, town))

    def start(start_s: float) -> Observer:
        answers = Answers(due, slots, np.diff(town.first), start_s)
        observer = Observer(data, target.book, target.notices, RealClock(), answers, streams)
        observer.start()
        return observer

    return start


def _processes(target: Target) -> dict[str, int]:
    """Of the target, and the daemon that runs in its data directory."""
    found = dict(target.processes)
    if target.data is not None and DAEMON not in found:
        with contextlib.suppress(OSError, ValueError, KeyError):
            found[DAEMON] = int(json.loads((target.data / "endpoint.json").read_text())["pid"])
    return found


def _settle(data: Path) -> None:
    """Wait until what is held is rated and what was low is paid and told, or the deadline is over."""
    until = time.monotonic() + QUIET_S
    while time.monotonic() < until and not quiet_of(data)["quiet"]:
        time.sleep(0.2)


def _fits(wish: Wish, town: Population, registry: Path) -> None:
    """`NoPopulation` when the schedule's concentrators do not have its meters: the rate would be another."""
    there = len(town.concentrators)
    if there >= wish.senders and abs(int(town.first[wish.senders]) - wish.meters) <= wish.meters / 10:
        return
    size = round(len(town) / there)
    raise NoPopulation(
        f"{registry} has {there} concentrators of {size} meters, not {wish.senders} of {wish.per_message}:"
        f" ask for --meters {len(town)} --per-message {size}, or fewer meters"
    )


def _verdict(sent: Sent, came: Figures) -> dict[str, Any]:
    """Whether every message is held, and nothing that was to come did not."""
    found: dict[str, Any] = {
        "messages": sent.messages,
        "readings": sent.readings,
        "sent": sent.sent,
        "held": sent.messages - sent.unheld,
        "unheld": sent.unheld,
        "refused_by_broker": sent.counts.get("refused", 0),
        "never_seen": {name: count for name, count in came.waits.items() if count},
    }
    found["good"] = not sent.unheld and not found["refused_by_broker"] and not found["never_seen"]
    return found


def check_balances(result: Result, host: Host) -> None:
    """After the daemon of our own has ended: energy billed = energy sent, and the audit; into the verdict."""
    billed = billed_wh(host.data)
    used = dict(zip(result.sent.address.tolist(), result.sent.used.tolist(), strict=True))
    wrong = sum(billed.get(address, 0) != energy for address, energy in used.items())
    audited = host.audit()
    result.verdict |= {
        "energy_sent_wh": sum(used.values()),
        "energy_billed_wh": sum(billed.get(address, 0) for address in used),
        "meters_wrong": wrong,
        "audit_ok": bool(audited["ok"]),
        "audit_difference_fen": int(audited["difference_fen"]),
        "exceptions": exceptions_of(host.data),
    }
    result.verdict["good"] = result.verdict["good"] and not wrong and audited["ok"]


def exceptions_of(data: Path) -> dict[str, int]:
    """Rows of the exceptions queue by reason, each as often as it came."""
    with closing(sqlite3.connect(f"file:{Paths(data).ledger}?mode=ro", uri=True, timeout=10)) as db:
        rows = db.execute("SELECT reason, sum(1 + repeats) FROM exception GROUP BY 1 ORDER BY 1").fetchall()
    return {str(reason): int(count) for reason, count in rows}
