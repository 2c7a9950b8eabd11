"""I/O: `meterd registry generate | check | import`: the made-up city, and registry directories."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption, settings_or_stop
from meterd.commands.tariff import tariffs_in
from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from config.clock import Clock
    from config.settings import Settings
    from registry.faults import ImportFaults

DirArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of CSV files (docs/registry.md).")]


def generate(
    directory: DirArgument,
    meters: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many meters the city has.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same city.")] = 1,
    start: Annotated[str, typer.Option(metavar="DATE", help="Local date from which meters count.")] = "2026-03-01",
    gateway: Annotated[str, typer.Option(help="Gateway that the mandates name.")] = "simulated",
) -> None:
    """Write the registry directory of a made-up city."""
    from registry.generate import generate as write

    if directory.is_dir() and any(directory.iterdir()):  # it may be a real city's
        raise Stop(Exit.REFUSED, f"{directory} is not empty: name a new folder")
    if re.fullmatch(r"\d{4}-\d\d-\d\d", start) is None:
        raise Stop(Exit.USAGE, f"--start {start!r} is no date like 2026-03-01")
    try:
        write(directory, meters=meters, seed=seed, start=start, gateway=gateway)
    except (OSError, ValueError) as wrong:
        raise Stop(Exit.USAGE, f"{directory}: {wrong}") from None
    output.line(f"{meters} meters in {directory}")


def check(directory: DirArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Check a registry directory by itself: every fault with file and line; exit 0 or 1."""
    from config.tariff_files import tariff_ids
    from registry.importer import ImportFaults
    from registry.importer import check as judge

    settings = settings_or_stop(config) if config is not None else _defaults()
    _must_be_folder(directory)
    try:
        counts = judge(
            directory,
            partitions=settings.partitions,
            timezone=settings.timezone,
            tariffs_known=tariff_ids(settings.rating.tariffs_dir, settings.currency),
            now_s=_clock(settings).now_s(),
        )
    except ImportFaults as faults:
        _show_faults(faults, "", json=json)
        raise typer.Exit(Exit.NO) from None
    output.record(counts, json=json)


def import_directory(directory: DirArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Import a registry directory: all of it or nothing; the daemon activates it now or at its next start."""
    from config.settings import Paths
    from registry.importer import ImportFaults, stage_with
    from registry.staged import mark_staged

    settings = settings_or_stop(config)
    _must_be_folder(directory)
    paths, now_s = Paths(settings.data_dir), _clock(settings).now_s()
    running, tariffs = active_digest(paths.ledger), tariffs_in(settings.rating.tariffs_dir)
    if running is not None:
        city = import_module("meterd.city")  # by name: it compiles, and a first import needs none of it
        if why := city.past_rewritten(paths.registry / running, tariffs, settings.rating, now_s):
            raise Stop(Exit.NO, f"{why}: nothing was imported")
    try:
        staged = stage_with(settings, directory, previous_digest=running, now_s=now_s)
    except ImportFaults as faults:
        _show_faults(faults, ": nothing was imported", json=json)
        raise typer.Exit(Exit.NO) from None
    mark_staged(paths.registry, staged.digest)
    activated = activate(settings, staged.digest)
    found = set_aside(paths.ledger) if activated else {}
    output.record({"digest": staged.digest, "activated": activated, **staged.counts, **found}, json=json)
    if any(found.values()):
        told = ", ".join(f"{name} {count}" for name, count in found.items() if count)
        output.warn(f"open in the exceptions queue: {told}. `meterd exceptions list` has them, each with a note")


def activate(settings: Settings, digest: str) -> bool:
    """Ask the running daemon to activate a staged version; False when none runs (its next start does it)."""
    from config.settings import Paths

    if not Paths(settings.data_dir).endpoint.is_file():
        return False
    client = import_module("meterd.client")  # by name: a machine without a daemon needs none of it
    return bool(client.activate(settings, digest))


def set_aside(ledger: Path) -> dict[str, int]:
    """Rows that registry versions put into the exceptions queue and nobody has closed: the version went on.

    An activation's own outcome says only whether it is the version now; what of it was refused is told here.
    """
    if not ledger.is_file():
        return {}
    from sqlalchemy import func, select

    from config.reasons import Reason
    from ledger.database import reading
    from ledger.schema import exception
    from rating.refusals import FINAL_READ

    kinds = {
        "final_reads_refused": exception.c.note == FINAL_READ,
        "backdated": exception.c.reason == str(Reason.BACKDATED),
    }
    with reading(ledger) as connection:
        asked = select(func.count()).select_from(exception).where(exception.c.state == "open")
        return {name: int(connection.execute(asked.where(kind)).scalar_one()) for name, kind in kinds.items()}


def active_digest(ledger: Path) -> str | None:
    """The newest registry version that the ledger has activated; None before the first."""
    if not ledger.is_file():
        return None
    from sqlalchemy import select

    from ledger.database import reading
    from ledger.schema import registry_version as version

    with reading(ledger) as connection:
        asked = select(version.c.digest).where(version.c.activated_at_s.is_not(None))
        found = connection.execute(asked.order_by(version.c.number.desc()).limit(1)).scalar()
    return None if found is None else str(found)


def _clock(settings: Settings) -> Clock:
    from config.clock import RealClock, ScaledClock

    asked = settings.clock
    if asked.kind == "scaled":
        return ScaledClock(asked.origin_unix, asked.start_s, asked.factor)
    return RealClock()


def _defaults() -> Settings:
    """Settings for a look at a directory, when no file is named: nothing of them is written anywhere."""
    from config.settings import Settings

    return Settings(data_dir=Path())


def _must_be_folder(directory: Path) -> None:
    if not directory.is_dir():
        raise Stop(Exit.USAGE, f"{directory} is no directory")


def _show_faults(faults: ImportFaults, meaning: str, *, json: bool) -> None:
    rows = [(f.file, f.line if json else f.line or "", f.what) for f in faults.faults]  # 0: the file as a whole
    output.table(("file", "line", "what"), rows, json=json)
    more = f", the first {len(faults.faults)} are listed" if faults.unlisted else ""
    output.warn(f"{faults.count} fault{'' if faults.count == 1 else 's'}{more}{meaning}")
