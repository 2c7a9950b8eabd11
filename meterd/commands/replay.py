"""I/O: `meterd replay`: rebuild the state from log, inbox and checkpoint rows and compare it bit for bit."""

from __future__ import annotations

from typing import Annotated

import typer

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption, settings_or_stop
from meterd.exits import Exit, Stop


def replay(
    config: ConfigOption = None,
    batch: Annotated[int, typer.Option(min=1, max=100_000, help="Records given to the engine at a time.")] = 7,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Partitions at a time, each in a thread.")] = 2,
    json: JsonOption = False,
) -> None:
    """Replay log, inbox and checkpoints from empty and compare the state, bit for bit; exit 1 when it differs."""
    from config.settings import Paths
    from meterd.replay import replay as run

    settings = settings_or_stop(config)
    paths = Paths(settings.data_dir)
    for file in (paths.ledger, paths.log):  # the log would be made anew: a look writes nothing
        if not file.is_file():
            raise Stop(Exit.NO, f"there is no {file}: name the --config of a daemon that has run")
    found = run(settings, batch=batch, jobs=jobs)
    rows = [(r.partition, r.records, r.checkpoints, "; ".join(r.differences) or "same") for r in found]
    output.table(("partition", "records", "checkpoints", "state"), rows, json=json)
    if any(r.differences for r in found):
        raise typer.Exit(Exit.NO)
