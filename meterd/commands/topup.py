"""I/O: `meterd topup | reverse | rebaseline`: money and registers by hand, through the daemon, once by reference."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from meterd import output
from meterd.commands.account import AccountArgument
from meterd.commands.config import ConfigOption, JsonOption, settings_or_stop
from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from config.settings import Settings

AmountArgument = Annotated[str, typer.Argument(metavar="AMOUNT", help="Yuan, as 100 or 100.50.")]
ReferenceOption = Annotated[
    str, typer.Option("--reference", help="Your number for it: the same one again changes nothing.")
]


def topup(
    account: AccountArgument,
    amount: AmountArgument,
    reference: ReferenceOption,
    gateway: Annotated[str, typer.Option(help="Where the money came in.")] = "counter",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Credit an account, through the daemon, once by reference."""
    from config.units import decimal_text
    from meterd import client

    amount_fen = fen(amount)
    body = {"account": account, "amount_fen": amount_fen, "reference": reference, "gateway": gateway}
    told = client.command(settings_or_stop(config), "/v1/topups", **body)
    shown = {"account": account, "amount": decimal_text(amount_fen, 2), "reference": reference}
    output.record(shown | told, json=json)


def reverse(
    account: AccountArgument,
    amount: AmountArgument,
    reference: ReferenceOption,
    of: Annotated[str, typer.Option("--of", help="Reference of the credit that is taken back.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Take a credit back, all or part of it, through the daemon, once by reference."""
    from config.units import decimal_text
    from meterd import client

    amount_fen = fen(amount)
    body = {"account": account, "amount_fen": amount_fen, "reference": reference, "of": of}
    told = client.command(settings_or_stop(config), "/v1/reversals", **body)
    shown = {"account": account, "amount": decimal_text(amount_fen, 2), "reference": reference, "of": of}
    output.record(shown | told, json=json)


def rebaseline(
    meter: Annotated[str, typer.Argument(metavar="METER", help="Serial of the meter.")],
    register: Annotated[str, typer.Argument(metavar="REGISTER", help="As 1.8.0.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Where it stands, in kWh or m3, as 1234.56.")],
    at: Annotated[str, typer.Option("--at", metavar="T", help="When: 2026-07-14T08:00 local, or with offset.")],
    why: Annotated[str, typer.Option("--why", help="The reason, which is kept.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Say where a register stands, through the daemon: nothing is charged for the step."""
    from config.units import NotExact, scaled
    from meterd import client

    settings = settings_or_stop(config)
    try:
        thousandths = scaled(value, 3)
    except NotExact as wrong:
        raise Stop(Exit.USAGE, f"VALUE: {wrong}") from None
    body = {"meter": meter, "register": register, "value": thousandths, "at_s": instant(settings, at), "why": why}
    told = client.command(settings, "/v1/rebaselines", **body)
    output.record({"meter": meter, "register": register, "value": value, "at": at} | told, json=json)


def fen(amount: str) -> int:
    """'100.50' -> 10050; ends the command on anything that is not exact and positive."""
    from config.units import NotExact, scaled

    try:
        found = scaled(amount, 2)
    except NotExact as wrong:
        raise Stop(Exit.USAGE, f"AMOUNT: {wrong}") from None
    if found <= 0:
        raise Stop(Exit.USAGE, f"AMOUNT must be more than 0, not {amount}")
    return found


def instant(settings: Settings, text: str, option: str = "--at") -> int:
    """UTC seconds of ISO 8601 text; without an offset it is local time."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Stop(Exit.USAGE, f"{option} {text!r} is no time like 2026-07-14T08:00") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=ZoneInfo(settings.timezone))
    return int(found.timestamp())
