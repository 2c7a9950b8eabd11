"""I/O: `meterd autopay why | hold | resume | reconcile`: why somebody was charged or not, and the switch by hand."""

from __future__ import annotations

import json as json_format
from typing import Annotated, Any

import typer

from meterd import output
from meterd.commands.account import AccountArgument
from meterd.commands.config import ConfigOption, JsonOption, settings_or_stop

WhyOption = Annotated[str, typer.Option("--why", help="The reason, which is kept.")]


def why(account: AccountArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show every decision on an account: charged, waited or refused, with reason and figures."""
    from sqlalchemy import select

    from ledger.reads import switch_value
    from ledger.schema import decision, event
    from meterd.lookup import opened
    from meterd.views.money import instant, yuan
    from registry.image import NO_TRIGGER

    with opened(config) as view:
        nobody_pays = view.account(account).state().row["trigger_fen"] == NO_TRIGGER
        asked = (
            select(decision, event.c.arm, event.c.balance_fen, event.c.as_of_s)
            .join(event, event.c.id == decision.c.event_id)
            .where(decision.c.account == account)
            .order_by(decision.c.id)
        )
        rows: list[dict[str, Any]] = [
            {
                "at": instant(row["at_s"], view.zone),
                "outcome": row["outcome"],
                "reason": row["reason"],
                "balance": yuan(row["balance_fen"]),
                "arm": row["arm"],
                "mandate": row["mandate"] or "",
                "order": row["order_id"],
                "again_at": instant(row["retry_at_s"], view.zone),
                "figures": json_format.loads(row["detail"]),
            }
            for row in view.connection.execute(asked).mappings()
        ]
        hold, because = switch_value(view.connection, "autopay.hold")
    if hold:
        output.warn(f"autopay is on HOLD: {because}")
    columns = ("at", "outcome", "reason", "balance", "arm", "mandate", "order", "again_at", "figures")
    output.table(columns, [tuple(row.values()) for row in rows], json=json)
    if not rows and not json:
        why_none = "nobody pays for it by mandate" if nobody_pays else "its balance has not triggered"
        output.warn(f"no decision was ever made on {account}: {why_none}")


def hold(why: WhyOption, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Stop submitting payments, through the daemon; asking and crediting go on."""
    _switch(config, json, value=True, why=why)


def resume(why: WhyOption, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Submit payments again, through the daemon."""
    _switch(config, json, value=False, why=why)


def reconcile(
    gateway: Annotated[str, typer.Argument(metavar="GATEWAY", help="Name in the settings' [gateways].")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Compare a gateway's book with our orders, through the daemon; needed before a resume after a restore."""
    from meterd import client

    told = client.call(settings_or_stop(config), "POST", "/v1/autopay/reconcile", {"gateway": gateway})
    output.record(told, json=json)


def _switch(config: ConfigOption, json: bool, *, value: bool, why: str) -> None:
    from meterd import client

    body = {"value": value, "reason": why}
    output.record(client.call(settings_or_stop(config), "POST", "/v1/autopay/hold", body), json=json)
