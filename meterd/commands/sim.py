"""I/O: `meterd sim`: histories of the simulated world, one from each seed; exit 1 when a rule is broken."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from meterd.exits import Exit, Stop


def sim(
    seed: Annotated[int | None, typer.Option(min=0, help="One history, told at length.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="A..B", help="Many histories, both ends included.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="So many processes.")] = 1,
    world: Annotated[str, typer.Option(help="smallest, village or town (docs/simulation.md).")] = "smallest",
    days: Annotated[int | None, typer.Option(min=2, help="Only the first so many days.")] = None,
    without: Annotated[
        str, typer.Option(metavar="RATE,...", help="What does not go wrong (docs/simulation.md).")
    ] = "",
    shrink: Annotated[bool, typer.Option("--shrink", help="Look for a shorter history in which it breaks.")] = False,
    trace: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every line of the trace here.")] = None,
    planted: Annotated[
        str, typer.Option(metavar="NAME", help="Break the code on purpose; all: each fault, until it is found.")
    ] = "",
    table: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --planted all: write the table of seeds here.")
    ] = None,
) -> None:
    """Play histories of a simulated city with seeded faults, and check every rule; a seed is one history."""
    from meterd import simulation as play
    from simulators.world.planted import PLANTED
    from simulators.world.scene import SIZES
    from simulators.world.weather import RATES

    if (seed is None) == (seeds is None) and planted != "all":
        raise Stop(Exit.USAGE, "one of --seed N and --seeds A..B")
    if world not in SIZES:
        raise Stop(Exit.USAGE, f"there is no world {world!r}; there are {', '.join(SIZES)}")
    if planted not in ("", "all", *PLANTED):
        raise Stop(Exit.USAGE, f"there is no fault {planted!r} to plant; there are {', '.join(PLANTED)}")
    left_out = frozenset(filter(None, without.split(",")))
    if left_out - set(RATES):
        raise Stop(
            Exit.USAGE, f"nothing is called {', '.join(sorted(left_out - set(RATES)))}; there are {', '.join(RATES)}"
        )
    asked = play.Wish(_range(seed, seeds), world, days, left_out, planted, jobs, trace, shrink=shrink)
    play.quiet()
    began = time.monotonic()
    good = play.find_planted(asked, table) if planted == "all" else play.histories(asked)
    typer.echo(f"{time.monotonic() - began:.1f} s", err=True)
    if not good:
        raise typer.Exit(Exit.NO)


def _range(seed: int | None, seeds: str | None) -> range:
    if seed is not None:
        return range(seed, seed + 1)
    if seeds is None:
        return range(1, 201)
    first, dots, last = seeds.partition("..")
    if not dots or not first.isdecimal() or not last.isdecimal() or int(last) < int(first):
        raise Stop(Exit.USAGE, f"--seeds {seeds!r}: as in 1..2000")
    return range(int(first), int(last) + 1)
