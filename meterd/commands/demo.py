"""I/O: `meterd demo`: the whole story on embedded parts, each its own process; exit 0 only if all of it is true."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meterd.exits import Exit, Stop


def demo(
    meters: Annotated[int, typer.Option(min=10, max=100_000, help="Households.")] = 2000,
    days: Annotated[int, typer.Option(min=1, max=366, help="Days of quarter hours; the story needs about 20.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same city and faults.")] = 7,
    faults: Annotated[str, typer.Option(help="none, all, or name=rate,... (docs/simulators.md).")] = "none",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")] = Path("demo-out"),
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the summary here.")
    ] = None,
) -> None:
    """Show the whole story: a city's month, a low balance, one charge, both told; then checker and audit."""
    from meterd.demo.show import show
    from simulators.rig import RigFailed

    try:
        good = show(out, meters=meters, days=days, seed=seed, faults=faults, json_file=json_file)
    except RigFailed as failed:
        raise Stop(Exit.NO, str(failed)) from None
    if not good:
        raise typer.Exit(Exit.NO)
