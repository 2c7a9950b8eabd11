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
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from config.clock import RealClock
from config.settings import Paths
from simulators.fleet_ledger import billed_wh
from simulators.load.accounts import accounts_of
from simulators.load.answers import Answers, slots_of
from simulators.load.asked import LoadFailed, Target, Test, begin_s
from simulators.load.dues import Dues
from simulators.load.figures import Figures, Sent, figures, judged
from simulators.load.generators import DUES, Generators
from simulators.load.host import Host
from simulators.load.observe import Observer, Seen, Streams
from simulators.load.population import NoPopulation, Population, read_population
from simulators.load.processes import DAEMON, Sampler, Usage
from simulators.load.schedule import Wish, schedule
from simulators.load.sender import DRAIN_S
from simulators.quiet import quiet_of
from simulators.rig import RigFailed

LEAD_S: Final = 2.0  # from the last "ready" to the start
QUIET_S: Final = 60.0
END_S: Final = 60.0  # of generators, for what they write when all is held


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


def load(
    test: Test, target: Target, folder: Path, told: Callable[[dict[str, Any]], None], thirsty: Sequence[str] = ()
) -> Result:
    """Run it. `told` is called once a second with what the generators say.

    KeyboardInterrupt ends it early, with what was seen until then; a second one, or one before it began, is raised.
    """
    test.check()
    _is_watchable(target.data)
    town = read_population(target.registry, begin_s=begin_s(test.wish), seed=test.wish.seed)
    _fits(test.wish, town, target.registry)
    clock, run = RealClock(), secrets.token_hex(3)
    generators = Generators(test, target, folder, run, thirsty)
    observer: Observer | None = None
    sampler: Sampler | None = None
    interrupted = False
    try:
        observe = _observing(test, target, town, folder, run)
        named = _processes(target) | {f"generator {n}": p.pid for n, p in enumerate(generators.processes)}
        sampler = Sampler(named, target.host, target.port, target.broker, clock)
        generators.await_ready()
        start_s, start_unix = clock.monotonic_s() + LEAD_S, clock.now_s() + int(LEAD_S)
        observer = observe(start_s) if observe is not None else None
        sampler.start()
        generators.begin(start_s, start_unix)
        try:
            generators.follow(told, test.wish.seconds + test.wait_s + END_S)
        except KeyboardInterrupt:
            interrupted = True
            generators.end_early()
            generators.follow(told, DRAIN_S + END_S)
        sent = generators.sent()
        if target.data is not None:
            interrupted |= not _settle(target.data)
    finally:
        generators.stop()
        usage = sampler.stop() if sampler is not None else Usage()
        seen = observer.stop() if observer is not None else None
    came = figures(sent, seen.answered if seen is not None else None)
    verdict = _verdict(sent, came) | ({"interrupted": True, "good": False} if interrupted else {})
    return Result(
        came, sent, seen, usage, start_s, generators.seconds(), verdict, judged(test.objectives, came.histograms)
    )


def _is_watchable(data: Path | None) -> None:
    """`LoadFailed` at once, not when all is sent."""
    if data is not None and not (Paths(data).ledger.exists() and Paths(data).log.exists()):
        raise LoadFailed(f"{data} is no data directory of a daemon: it has no log and no ledger")


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


def _settle(data: Path) -> bool:
    """Until what is held is rated and what was low is paid and told, or the deadline is over; False: interrupted."""
    until = time.monotonic() + QUIET_S
    try:
        while time.monotonic() < until and not quiet_of(data)["quiet"]:
            time.sleep(0.2)
    except KeyboardInterrupt:
        return False
    return True


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
        "put_off_by_autopay": came.put_off,
        "never_seen": {name: count for name, count in came.waits.items() if count},
    }
    found["good"] = not sent.unheld and not found["refused_by_broker"] and not found["never_seen"]
    return found


def check_balances(result: Result, host: Host, test: Test) -> None:
    """After the daemon of our own has ended: energy billed = energy sent, and the audit; into the verdict."""
    billed = billed_wh(host.data)
    used = dict(zip(result.sent.address.tolist(), result.sent.used.tolist(), strict=True))
    wrong = sum(billed.get(address, 0) != energy for address, energy in used.items())
    result.verdict |= {
        "energy_sent_wh": sum(used.values()),
        "energy_billed_wh": sum(billed.get(address, 0) for address in used),
        "meters_wrong": wrong,
        "exceptions": exceptions_of(host.data),
        "exceptions_not_asked_for": sorted(set(exceptions_of(host.data)) - _asked_for(test)),
    }
    del billed, used  # of a city they are as large as the audit
    audited: dict[str, Any] = _audited(host) if test.audit else {"audit": "not asked for"}
    result.verdict |= audited
    right = not wrong and not result.verdict["exceptions_not_asked_for"]
    result.verdict["good"] = result.verdict["good"] and right and audited.get("audit_ok", not test.audit)


def _asked_for(test: Test) -> set[str]:
    """Reasons of exceptions that faults explain: bytes that are no reading, and what comes after a later one."""
    kinds = {name for name, rate in test.faults.items() if rate}
    return ({"malformed"} if "bad" in kinds else set()) | ({"late"} if kinds - {"bad"} else set())


def _audited(host: Host) -> dict[str, Any]:
    """An audit that does not come to its end is no reason to lose what was measured."""
    try:
        audited = host.audit()
    except RigFailed as failed:
        return {"audit_ok": False, "audit": str(failed)}
    except KeyboardInterrupt:
        return {"audit_ok": False, "audit": "interrupted", "interrupted": True}
    return {"audit_ok": bool(audited["ok"]), "audit_difference_fen": int(audited["difference_fen"])}


def exceptions_of(data: Path) -> dict[str, int]:
    """Rows of the exceptions queue by reason, each as often as it came."""
    with closing(sqlite3.connect(f"file:{Paths(data).ledger}?mode=ro", uri=True, timeout=10)) as db:
        rows = db.execute("SELECT reason, sum(1 + repeats) FROM exception GROUP BY 1 ORDER BY 1").fetchall()
    return {str(reason): int(count) for reason, count in rows}
