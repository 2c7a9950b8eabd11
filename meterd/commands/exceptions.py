"""I/O: `meterd exceptions list | show | release | discard`: what was set aside, and what a person does about it."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption, settings_or_stop
from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from meterd.lookup import View

IdArgument = Annotated[int, typer.Argument(metavar="ID", min=1, help="Number from `meterd exceptions list`.")]
IdsArgument = Annotated[
    list[int] | None, typer.Argument(metavar="[ID]...", min=1, help="Numbers from `meterd exceptions list`.")
]
ReasonOption = Annotated[str, typer.Option(help="Only this reason (docs/bad-input.md).")]
SourceOption = Annotated[str, typer.Option(help="Only this concentrator's.")]
MeterOption = Annotated[str, typer.Option(help="Only readings of this meter: its serial.")]
BeforeOption = Annotated[str, typer.Option(metavar="T", help="Only what came before: 2026-07-14T08:00.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Of a filter: at most so many, the oldest.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Of a filter: do not ask; needed where nobody can answer.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say how many rows it would be, and stop.")]
BYTES_SHOWN: Final = 4096
STATES: Final = ("open", "released", "discarded", "all")


def list_exceptions(
    config: ConfigOption = None,
    json: JsonOption = False,
    reason: ReasonOption = "",
    source: SourceOption = "",
    meter: MeterOption = "",
    before: BeforeOption = "",
    state: Annotated[str, typer.Option(help="open, released, discarded or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many.")] = 1000,
    after: Annotated[int, typer.Option(min=0, help="Only ids above this one.")] = 0,
) -> None:
    """List what was set aside: messages and readings with their reasons."""
    from ledger.reads import exceptions
    from meterd.commands.exceptions_bulk import Filter
    from meterd.lookup import opened

    if state not in STATES:
        raise Stop(Exit.USAGE, f"--state {state!r}: there are {', '.join(STATES)}")
    chosen = Filter(reason, source, meter, before)
    with opened(config) as view:
        wanted = chosen.wanted(view.settings, None if state == "all" else state)
        rows = [_short(view, row) for row in exceptions(view.connection, wanted, after_id=after, limit=limit)]
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

    from ingest.origin import split_note
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
    facts["note"], origin = split_note(facts["note"])
    if facts["meter"] is None:
        facts |= {"topic": origin.topic, "format": origin.format, "signed": bool(origin.signature)}
    body = bytes(facts.pop("bytes"))
    facts["size"] = len(body)
    shown = body[:BYTES_SHOWN]
    facts["bytes"] = shown.hex() if facts["meter"] is not None else shown.decode("utf-8", "backslashreplace")
    output.record(facts, json=json)


def release(
    numbers: IdsArgument = None,
    as_format: Annotated[str, typer.Option("--as", help="Read the message as json, senml-json ...")] = "",
    trust: Annotated[bool, typer.Option("--trust", help="Believe its sender, on your word (--why).")] = False,
    why: Annotated[str, typer.Option("--why", help="With --trust: the reason, which is kept.")] = "",
    by: Annotated[str, typer.Option(help="With --trust: who says so; your login name if left out.")] = "",
    reason: ReasonOption = "",
    source: Annotated[str, typer.Option(help="Only this concentrator's; with --trust: it is this one's.")] = "",
    meter: MeterOption = "",
    before: BeforeOption = "",
    limit: LimitOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Have readings or whole messages judged again, through the daemon: by id, or all that a filter names."""
    from ingest.topics import FORMATS
    from meterd import client
    from meterd.commands import exceptions_bulk as bulk

    if as_format and as_format not in FORMATS:
        raise Stop(Exit.USAGE, f"--as {as_format!r}: there are {', '.join(FORMATS)}")
    if trust and not why:
        raise Stop(Exit.USAGE, "--trust needs --why: the reason is kept with the message")
    if trust and not numbers:
        raise Stop(Exit.USAGE, "--trust needs ids: whom to believe is said message by message")
    if not trust and (why or by or (source and numbers)):
        raise Stop(Exit.USAGE, "with ids, --source, --why and --by go with --trust")
    said: dict[str, Any] = {"as": as_format or None}
    if trust:
        said |= {"trust": True, "source": source or None, "why": why, "by": by or _login()}
    settings = settings_or_stop(config)
    chosen = bulk.Filter(reason, "" if trust else source, meter, before)
    ids = bulk.chosen(config, numbers, chosen, limit, bulk.Consent("release", yes=yes, dry_run=dry_run, json=json))
    if not numbers or len(ids) > 1:
        bulk.release(settings, ids, said, json=json)
        return
    told = client.call(settings, "POST", f"/v1/exceptions/{ids[0]}/release", said)
    if not told["applied"]:
        rows = ", ".join(map(str, told["inbox_ids"]))
        raise Stop(
            Exit.TIMED_OUT, f"inbox {rows}: stored, and not applied yet. It will be; ask again to close the row"
        )
    output.record({name: value for name, value in told.items() if name != "applied"}, json=json)
    if told["state"] != "released":
        raise typer.Exit(Exit.NO)


def _login() -> str:
    """Who runs this command, as the system knows it; environment variables may say anything."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def discard(
    why: Annotated[str, typer.Option("--why", help="The reason, which is kept.")],
    numbers: IdsArgument = None,
    reason: ReasonOption = "",
    source: SourceOption = "",
    meter: MeterOption = "",
    before: BeforeOption = "",
    limit: LimitOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Close rows of the exceptions queue without effect, through the daemon: by id, or all that a filter names."""
    from meterd import client
    from meterd.commands import exceptions_bulk as bulk

    settings = settings_or_stop(config)
    chosen = bulk.Filter(reason, source, meter, before)
    ids = bulk.chosen(config, numbers, chosen, limit, bulk.Consent("discard", yes=yes, dry_run=dry_run, json=json))
    if not numbers or len(ids) > 1:
        bulk.discard(settings, ids, {"why": why}, json=json)
        return
    told = client.call(settings, "POST", f"/v1/exceptions/{ids[0]}/discard", {"why": why})
    output.record(told, json=json)


def _short(view: View, row: dict[str, Any]) -> tuple[Any, ...]:
    from ingest.origin import split_note
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
        split_note(row["note"])[0],
    )
