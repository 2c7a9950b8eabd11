"""I/O: `meterd exceptions list | show | release | discard`: what was set aside, and what a person does about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption, settings_or_stop
from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from meterd.lookup import View

IdArgument = Annotated[int, typer.Argument(metavar="ID", min=1, help="Number from `meterd exceptions list`.")]
BYTES_SHOWN: Final = 4096
STATES: Final = ("open", "released", "discarded", "all")


def list_exceptions(
    config: ConfigOption = None,
    json: JsonOption = False,
    reason: Annotated[str, typer.Option(help="Only this reason (docs/bad-input.md).")] = "",
    state: Annotated[str, typer.Option(help="open, released, discarded or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many.")] = 1000,
    after: Annotated[int, typer.Option(min=0, help="Only ids above this one.")] = 0,
) -> None:
    """List what was set aside: messages and readings with their reasons."""
    from config.reasons import Reason
    from ledger.reads import exceptions
    from meterd.lookup import opened

    if state not in STATES:
        raise Stop(Exit.USAGE, f"--state {state!r}: there are {', '.join(STATES)}")
    if reason and reason not in {known.value for known in Reason}:
        raise Stop(Exit.USAGE, f"--reason {reason!r}: there are {', '.join(known.value for known in Reason)}")
    with opened(config) as view:
        found = exceptions(
            view.connection,
            reason=reason or None,
            state=None if state == "all" else state,
            after_id=after,
            limit=limit,
        )
        rows = [_short(view, row) for row in found]
    columns = (
        "id",
        "reason",
        "received",
        "source",
        "meter",
        "register",
        "read_at",
        "value",
        "state",
        "repeats",
        "note",
    )
    output.table(columns, rows, json=json)


def show(number: IdArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show one row of the exceptions queue with its bytes."""
    from sqlalchemy import select

    from ledger.schema import exception
    from meterd.lookup import opened
    from meterd.views.money import instant, kwh

    with opened(config) as view:
        asked = select(exception).where(exception.c.id == number)
        row = view.connection.execute(asked).mappings().first()
        if row is None:
            raise Stop(Exit.NO, f"no exception {number}: `meterd exceptions list --state all` has them")
        facts = dict(row)
        for name in ("received_at_s", "read_at_s", "resolved_at_s"):
            facts[name.removesuffix("_s")] = instant(facts.pop(name), view.zone)
    if facts["value"] is not None:
        facts["value"] = kwh(facts["value"])
    body = bytes(facts.pop("bytes"))
    facts["size"] = len(body)
    shown = body[:BYTES_SHOWN]
    facts["bytes"] = shown.hex() if facts["meter"] is not None else shown.decode("utf-8", "backslashreplace")
    output.record(facts, json=json)


def release(number: IdArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Have a reading of the exceptions queue judged again, through the daemon."""
    from meterd import client

    told = client.command(settings_or_stop(config), f"/v1/exceptions/{number}/release")
    output.record({"exception": number, "state": "released", "inbox_id": told["inbox_id"]}, json=json)


def discard(
    number: IdArgument,
    why: Annotated[str, typer.Option("--why", help="The reason, which is kept.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Close a row of the exceptions queue without effect, through the daemon."""
    from meterd import client

    told = client.call(settings_or_stop(config), "POST", f"/v1/exceptions/{number}/discard", {"why": why})
    output.record(told, json=json)


def _short(view: View, row: dict[str, Any]) -> tuple[Any, ...]:
    from meterd.views.money import instant, kwh

    return (
        row["id"],
        row["reason"],
        instant(row["received_at_s"], view.zone),
        row["source"],
        row["meter"],
        row["register"],
        instant(row["read_at_s"], view.zone),
        "" if row["value"] is None else kwh(row["value"]),
        row["state"],
        row["repeats"],
        row["note"],
    )
