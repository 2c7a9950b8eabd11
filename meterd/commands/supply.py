"""I/O: `meterd supply mark`: a person's word on whether a register's supply is connected, through the daemon."""

from __future__ import annotations

from typing import Annotated

import typer

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption, settings_or_stop
from meterd.exits import Exit, Stop

STATES = ("disconnected", "connected")


def mark(
    meter: Annotated[str, typer.Argument(metavar="METER", help="Serial of the meter.")],
    register: Annotated[str, typer.Argument(metavar="REGISTER", help="As 1.8.0.")],
    state: Annotated[str, typer.Argument(metavar="STATE", help="disconnected or connected.")],
    why: Annotated[str, typer.Option("--why", help="The reason, which is kept.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Say that a register's supply is disconnected or connected, through the daemon: use meanwhile is warned of."""
    from meterd import client

    if state not in STATES:
        raise Stop(Exit.USAGE, f"STATE {state!r}: there are {', '.join(STATES)}")
    body = {"meter": meter, "register": register, "state": state, "why": why}
    told = client.command(settings_or_stop(config), "/v1/supply", **body)
    output.record({"meter": meter, "register": register, "state": state} | told, json=json)
