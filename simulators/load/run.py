"""I/O: a load test from beginning to end: generators, observer, verdict; what `meterd load` runs.

Generators are processes; they connect, say that they are ready, and begin at one instant. The observer watches the
daemon's files when there is a daemon on this machine. In the end every reading must be held; whether every balance is
right is asked by `checks`.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from config.clock import RealClock
from simulators.load.accounts import accounts_of
from simulators.load.answers import Answers, slots_of
from simulators.load.asked import Target, Test, begin_s, starts_at
from simulators.load.checks import await_rated, is_watchable
from simulators.load.dues import Dues
from simulators.load.figures import Figures, Sent, figures, judged
from simulators.load.generators import DUES, Generators
from simulators.load.observe import Observer, Seen, Streams
from simulators.load.population import NoPopulation, Population, read_population, zone_of
from simulators.load.processes import DAEMON, Sampler, Usage
from simulators.load.schedule import Wish, midnight, schedule
from simulators.load.sender import DRAIN_S
from simulators.quiet import quiet_of

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
    if target.data is not None:
        is_watchable(target.data)
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
        start_s = clock.monotonic_s() + LEAD_S
        start_unix = starts_at(test.wish, clock.now_s() + int(LEAD_S), zone_of(target.registry))
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
            interrupted |= not _settle(target.data, pays=target.book is not None)
    finally:
        generators.stop()
        usage = sampler.stop() if sampler is not None else Usage()
        seen = observer.stop() if observer is not None else None
    came = figures(sent, seen.answered if seen is not None else None)
    verdict = _verdict(sent, came, test.wish) | ({"interrupted": True, "good": False} if interrupted else {})
    return Result(
        came, sent, seen, usage, start_s, generators.seconds(), verdict, judged(test.objectives, came.histograms)
    )


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


def _settle(data: Path, *, pays: bool) -> bool:
    """Until what is held is rated and what was low is paid and told, or the deadline is over; False: interrupted.

    `pays`: that is seen; a daemon whose payments are not is waited for until it has rated everything.
    """
    until = time.monotonic() + QUIET_S
    try:
        if not pays:
            await_rated(data)
            return True
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


def _verdict(sent: Sent, came: Figures, wish: Wish) -> dict[str, Any]:
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
    if wish.pattern == "midnight":
        quarters = midnight(wish).quarters
        came_to = sent.counts["curve"] // quarters if quarters else 0
        found["curve"] = {"quarter_hours": quarters, "concentrators": came_to}
    found["good"] = not sent.unheld and not found["refused_by_broker"] and not found["never_seen"]
    return found
