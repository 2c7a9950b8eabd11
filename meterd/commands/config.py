"""I/O: `meterd check-config` and `meterd config`, and the settings that other commands start from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meterd import output
from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from config.load import Loaded
    from config.settings import Settings

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", envvar="METERD_CONFIG", metavar="FILE", help="Settings file (TOML)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings_or_stop(file: Path | None) -> Settings:
    """The settings from `file` and the environment; a faulty configuration ends the command (exit 2)."""
    return _loaded_or_stop(file, Exit.USAGE).settings


def check_config(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", envvar="METERD_CONFIG")] = None,
    json: JsonOption = False,
) -> None:
    """Check a settings file and the environment: exit 0 or 1."""
    from config.load import ConfigFaults, load

    try:
        loaded = load(file, os.environ)
    except ConfigFaults as error:
        output.table(("where", "key", "what"), error.faults, json=json)
        raise typer.Exit(Exit.NO) from None
    faults = _tariff_faults(loaded)
    if faults:
        output.table(("where", "key", "what"), faults, json=json)
        raise typer.Exit(Exit.NO)
    if json:
        output.table(("where", "key", "what"), (), json=True)
    else:
        count = sum(origin != "default" for origin in loaded.origins.values())
        output.line(f"ok: {count} of {len(loaded.origins)} settings are not the default")


def show_config(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", envvar="METERD_CONFIG")] = None,
    json: JsonOption = False,
) -> None:
    """Print every effective setting and where it came from."""
    from config.load import render

    output.table(("key", "value", "origin"), render(_loaded_or_stop(file, Exit.NO)), json=json)


def _tariff_faults(loaded: Loaded) -> list[tuple[str, str, str]]:
    """What is wrong with the tariff files: no other command reads them before the daemon needs them."""
    from config.tariff_files import tariff_texts
    from rating.tariff.reading import TariffFaults, parse_tariffs

    where, key = loaded.origins["rating.tariffs_dir"], "rating.tariffs_dir"
    try:
        parse_tariffs(tariff_texts(loaded.settings.rating.tariffs_dir))
    except TariffFaults as faults:
        return [(where, key, line) for line in str(faults).splitlines()]
    except OSError as wrong:
        return [(where, key, f"cannot be read: {wrong.strerror}")]
    except ValueError as wrong:
        return [(where, key, str(wrong))]
    return []


def _loaded_or_stop(file: Path | None, code: Exit) -> Loaded:
    from config.load import ConfigFaults, load

    try:
        return load(file, os.environ)
    except ConfigFaults as error:
        told = "\n".join(map(str, error.faults))
    raise Stop(code, told)
