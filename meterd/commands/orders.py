"""I/O: `meterd orders list | show | settle`: payment orders, every step with its evidence, and a person's word."""

from __future__ import annotations

import json as json_format
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption, settings_or_stop
from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from meterd.lookup import View


def list_orders(
    config: ConfigOption = None,
    json: JsonOption = False,
    state: Annotated[str, typer.Option(help="Only this state: created, submitted, unknown, credited ...")] = "",
    account: Annotated[str, typer.Option(help="Only this account.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many, newest first.")] = 1000,
) -> None:
    """List payment orders, newest first."""
    from autopay.orders import State
    from ledger.reads import orders
    from meterd.lookup import opened

    if state and state not in {known.value for known in State}:
        raise Stop(Exit.USAGE, f"--state {state!r}: there are {', '.join(known.value for known in State)}")
    with opened(config) as view:
        if account:
            view.account(account)  # a misspelt one is told, not answered with nothing
        found = orders(view.connection, account=account or None, state=state or None, limit=limit)
        rows = [tuple(_short(view, row).values()) for row in found]
    columns = ("id", "created", "account", "payer", "amount", "state", "attempt", "gateway", "reason")
    output.table(columns, rows, json=json)


def show(
    number: Annotated[int, typer.Argument(metavar="ID", min=1, help="Number from `meterd orders list`.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show one payment order with every step and its evidence."""
    from sqlalchemy import select

    from ledger.reads import order_steps
    from ledger.schema import order
    from meterd.lookup import opened
    from meterd.views.money import instant

    with opened(config) as view:
        row = view.connection.execute(select(order).where(order.c.id == number)).mappings().first()
        if row is None:
            raise Stop(Exit.NO, f"no order {number}: `meterd orders list` has them")
        facts = _short(view, dict(row)) | {
            "arm": row["arm"],
            "mandate": row["mandate"],
            "key": row["key"],
            "gateway_txn": row["gateway_txn"],
            "asks": row["asks"],
            "submitted": instant(row["submitted_at_s"], view.zone),
            "next_action": instant(row["next_action_at_s"], view.zone),
        }
        steps = [
            {
                "at": instant(step["at_s"], view.zone),
                "from": step["from_state"],
                "to": step["to_state"],
                "evidence": _evidence(step["evidence"]),
            }
            for step in order_steps(view.connection, number)
        ]
    if json:
        output.record(facts | {"steps": steps}, json=True)
        return
    output.record(facts, title=f"order {number}")
    output.line("")
    output.table(("at", "from", "to", "evidence"), [list(step.values()) for step in steps], title="steps")


def settle(
    number: Annotated[int, typer.Argument(metavar="ID", min=1, help="Number from `meterd orders list`.")],
    why: Annotated[str, typer.Option("--why", help="The reason, which is kept.")],
    charged: Annotated[str, typer.Option(metavar="TXN", help="Charged, under this transaction of the gateway.")] = "",
    not_charged: Annotated[bool, typer.Option("--not-charged", help="Definitely not charged.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Say what became of an order that nobody can tell, through the daemon: charged or not."""
    from getpass import getuser

    from meterd import client

    if bool(charged) == not_charged:
        raise Stop(Exit.USAGE, "say one of --charged TXN and --not-charged")
    body = {"charged": charged or None, "why": why, "who": getuser()[:80]}
    told = client.call(settings_or_stop(config), "POST", f"/v1/orders/{number}/settle", body)
    output.record(told, json=json)


def _short(view: View, row: dict[str, Any]) -> dict[str, Any]:
    from meterd.views.money import instant, yuan

    return {
        "id": row["id"],
        "created": instant(row["created_at_s"], view.zone),
        "account": row["account"],
        "payer": row["payer"],
        "amount": yuan(row["amount_fen"]),
        "state": row["state"],
        "attempt": row["attempt"],
        "gateway": row["gateway"],
        "reason": row["reason"],
    }


def _evidence(text: str) -> Any:
    """A mapping where it is JSON, else the words."""
    try:
        return json_format.loads(text)
    except ValueError:
        return text
