"""I/O: `meterd replay`: rebuild the state from log, inbox and checkpoint rows and compare it bit for bit."""

from __future__ import annotations

from typing import Annotated

import typer

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption, settings_or_stop
from meterd.exits import Exit


def replay(
    config: ConfigOption = None,
    batch: Annotated[int, typer.Option(min=1, max=100_000, help="Records given to the engine at a time.")] = 7,
    json: JsonOption = False,
) -> None:
    """Replay log, inbox and checkpoints from empty and compare the state, bit for bit; exit 1 when it differs."""
    from meterd.replay import replay as run

    found = run(settings_or_stop(config), batch=batch)
    rows = [(r.partition, r.records, r.checkpoints, "; ".join(r.differences) or "same") for r in found]
    output.table(("partition", "records", "checkpoints", "state"), rows, json=json)
    if any(r.differences for r in found):
        raise typer.Exit(Exit.NO)
