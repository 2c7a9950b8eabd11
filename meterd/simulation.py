"""I/O (stdout, processes): what `meterd sim` does: histories one after the other, what broke and how to see it again.

The simulated world is `simulators.world`; here the daemon's own parts (`meterd.node`) are put into it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import structlog
import typer

from meterd.node import Nodes
from simulators.world.history import Outcome
from simulators.world.planted import PLANTED
from simulators.world.seeds import Ask, Theatre, play_all, traced
from simulators.world.shrink import Shrinker
from simulators.world.weather import Cut

LAST_LINES: Final = 30  # of the trace, when a rule breaks
TABLE_HEAD: Final = """# Planted faults

Each of these changes the real code (`simulators/world/planted.py` has the words), and the simulated world must find
it: `make sim-planted` plays seeds 1, 2, 3 ... with the fault in the code until a rule breaks, and writes this table.
`make test` plays each again with the seed that stands here, and demands that it is found. Without a fault none of
these seeds breaks a rule.

| Fault | What it breaks | Found by seed | Rule that broke |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked for."""

    seeds: range
    world: str
    days: int | None
    without: frozenset[str]
    planted: str
    jobs: int
    trace: Path | None
    shrink: bool

    def asks(self) -> Iterator[Ask]:
        keep = None if self.trace is not None else LAST_LINES
        for seed in self.seeds:
            yield Ask(seed, self.world, Cut(self.without, self.days), self.planted, keep)


def quiet() -> None:
    """The daemon's own log is no part of a history's output."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.ReturnLoggerFactory(),  # what is critical, too, goes nowhere
    )


def histories(wish: Wish) -> bool:
    """Play them all; every one that breaks a rule is told. False: one did."""
    good, events, counts = True, 0, Counter[str]()
    for done, (ask, outcome) in enumerate(play_all(wish.asks(), Nodes(), wish.jobs), 1):
        events += outcome.events
        counts.update(outcome.counts)
        if len(wish.seeds) == 1:
            _told(outcome)
        elif done % 100 == 0 or done == len(wish.seeds):
            typer.echo(f"seeds {wish.seeds[0]}..{ask.seed}: {events:,} events, {counts['lives']:,} lives", err=True)
        if wish.trace is not None:
            _write_trace(wish.trace, outcome)
        if outcome.rule:
            good = False
            _broken(ask, outcome)
            if wish.shrink:
                _shrink(ask, outcome)
    broken = "no rule is broken" if good else "A RULE IS BROKEN"
    typer.echo(f"{len(wish.seeds)} {'history' if len(wish.seeds) == 1 else 'histories'}, {events:,} events: {broken}")
    return good


def _told(outcome: Outcome) -> None:
    """What happened in one history."""
    for name, count in sorted(outcome.counts.items()):
        typer.echo(f"{count:>8,}  {name}")
    typer.echo(
        f"seed {outcome.seed}: {outcome.events:,} events in {outcome.days} days ({outcome.turns:,} turns),"
        f" digest {outcome.digest}"
    )


def _broken(ask: Ask, outcome: Outcome) -> None:
    typer.echo("\n".join(outcome.trace[-LAST_LINES:]))
    typer.echo(f"seed {outcome.seed}, step {outcome.turns}, day {outcome.days}: {outcome.finding}")
    typer.echo(f"again, with its trace: {traced(ask).command()} --trace FILE")


def _write_trace(file: Path, outcome: Outcome) -> None:
    """Of many seeds, the last one that broke, or the last."""
    file.write_text("\n".join([*outcome.trace, outcome.finding]) + "\n", encoding="utf-8")


def _shrink(ask: Ask, outcome: Outcome) -> None:
    with Theatre(Nodes()) as theatre:
        shrinker = Shrinker(theatre.play, _tried)
        shorter, found = shrinker.shrunk(replace(ask, keep=LAST_LINES), outcome)
    typer.echo("\n".join(found.trace))
    typer.echo(f"after {shrinker.tries} tries: {found.events} events instead of {outcome.events}: {found.finding}")
    typer.echo(f"again, with its trace: {shorter.command()} --trace FILE")


def _tried(ask: Ask, outcome: Outcome, kept: bool) -> None:
    typer.echo(f"{'kept' if kept else 'not '}  {outcome.events:>6} events  {ask.command()}", err=True)


@dataclass(frozen=True, slots=True)
class Found:
    """The first seed that found a planted fault, and by which rule; seed 0: none did."""

    fault: str
    seed: int
    rule: str


def find_planted(wish: Wish, table: Path | None) -> bool:
    """Each fault, seed after seed until a rule breaks. False: one was not found."""
    found: list[Found] = []
    searches = [(name, wish) for name in PLANTED]
    with ProcessPoolExecutor(wish.jobs, get_context("fork"), quiet) as pool:
        for one in pool.map(search, *zip(*searches, strict=True)):
            said = (
                f"seed {one.seed}: {one.rule}"
                if one.seed
                else f"NOT FOUND in seeds {wish.seeds[0]}..{wish.seeds[-1]}"
            )
            typer.echo(f"{one.fault:28} {said}")
            found.append(one)
    if table is not None and all(one.seed for one in found):
        rows = (f"| {one.fault} | {PLANTED[one.fault].what} | {one.seed} | {one.rule} |" for one in found)
        table.write_text(TABLE_HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    return all(one.seed for one in found)


def search(fault: str, wish: Wish) -> Found:
    """The first of the seeds that finds the fault."""
    with Theatre(Nodes()) as theatre:
        for seed in wish.seeds:
            outcome = theatre.play(Ask(seed, wish.world, fault=fault))
            if outcome.rule:
                return Found(fault, seed, outcome.rule)
    return Found(fault, 0, "")
