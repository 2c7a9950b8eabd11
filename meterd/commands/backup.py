"""I/O: `meterd backup` and `meterd restore`: the whole data directory at one moment, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption, settings_or_stop
from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from ledger.backup import Backup

DirArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the backup.")]


def backup(directory: DirArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Write ledger, log, archive and registry of one moment into a new folder; the daemon may run."""
    from config.settings import Paths
    from ledger.backup import backup as write
    from ledger.port import StartRefused
    from meterd.clocks import clock_of

    settings = settings_or_stop(config)
    try:
        made = write(Paths(settings.data_dir), directory, clock=clock_of(settings.clock))
    except StartRefused as refused:
        raise Stop(Exit.REFUSED, str(refused)) from None
    _show(made, json)


def restore(directory: DirArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Put a backup into the settings' empty data directory; autopay starts on HOLD."""
    from config.settings import Paths
    from ledger.backup import restore as put
    from ledger.port import StartRefused
    from meterd.clocks import clock_of

    settings = settings_or_stop(config)
    try:
        made = put(directory, Paths(settings.data_dir), clock=clock_of(settings.clock))
    except StartRefused as refused:
        raise Stop(Exit.REFUSED, str(refused)) from None
    _show(made, json)
    output.warn(
        "autopay is on HOLD: start the daemon, `meterd autopay reconcile GATEWAY`, then `meterd autopay resume`"
    )


def _show(made: Backup, json: bool) -> None:
    from meterd.views.money import instant

    at = instant(made.made_at_s, ZoneInfo("UTC"))
    output.record({"folder": made.folder, "made_at": at, "files": made.files, "bytes": made.bytes}, json=json)
