"""I/O: `meterd audit`: recomputes every balance and prints what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption, settings_or_stop
from meterd.exits import Exit, Stop


def audit(
    config: ConfigOption = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Audit this directory, not the settings' own.")
    ] = None,
    gateway_book: Annotated[
        list[Path], typer.Option(metavar="FILE", help="A gateway's own book (SQLite or JSON); once for each.")
    ] = [],  # noqa: B006 - typer's way to say: none
    since: Annotated[
        str | None, typer.Option("--since", metavar="CHECKPOINT", help="Go on from an audited checkpoint, or 'last'.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Processes.")] = 2,
    json: JsonOption = False,
) -> None:
    """Recompute every balance from archive, registry and inbox; exit 1 on any difference."""
    import sqlite3

    from audit.compare import Report
    from audit.run import StateMissing
    from audit.run import audit as run
    from config.settings import Paths

    settings = settings_or_stop(config)
    folder = data_dir or settings.data_dir
    for name, file in (("ledger", Paths(folder).ledger), *(("--gateway-book", book) for book in gateway_book)):
        if not file.is_file():  # SQLite would only say that it cannot open a file
            raise Stop(Exit.USAGE, f"cannot audit {folder}: {name}: there is no {file}")
    try:
        with output.progress("audit: partitions", settings.partitions) as advance:
            report: Report = run(
                folder, settings=settings, gateway_books=gateway_book, since=since, jobs=jobs, progress=advance
            )
    except (StateMissing, OSError, sqlite3.Error) as fault:
        raise Stop(Exit.USAGE, f"cannot audit {folder}: {fault}") from None
    columns = ("account", "day", "component", "expected", "found", "note")
    rows = [(d.account, d.day, d.component, d.expected, d.found, d.note) for d in report.differences]
    if json:
        summary = {"ok": report.ok, "difference_fen": report.difference_fen, "counts": report.counts}
        output.record(summary | {"differences": [dict(zip(columns, row, strict=True)) for row in rows]}, json=True)
    else:
        if rows:
            output.table(columns, rows, title="Differences (fen, or the unit at the end of the component's name)")
        output.record({"difference_fen": report.difference_fen, **report.counts})
    if not report.ok:
        raise typer.Exit(Exit.NO)
