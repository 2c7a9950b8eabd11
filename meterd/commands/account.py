"""I/O: `meterd account show`: who, where, which registers, what balance, who pays, and the last payments."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption

if TYPE_CHECKING:
    from meterd.lookup import Account

AccountArgument = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Account id.")]
LAST_ORDERS: Final = 5


def show(account: AccountArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show one account: party, point, registers, balance, mandates, last orders."""
    from meterd.lookup import opened

    with opened(config) as view:
        facts = _facts(view.account(account))
    if json:
        output.record(facts, json=True)
        return
    lists = {name: facts.pop(name) for name in ("registers", "mandates", "orders")}
    output.record(facts, title=f"account {account}")
    for name, rows in lists.items():
        if rows:
            output.line("")
            output.table(list(rows[0]), [list(row.values()) for row in rows], title=name)


def _facts(account: Account) -> dict[str, Any]:
    from ledger.reads import orders, switch_value
    from meterd.views.money import exact_yuan, instant, yuan
    from rating.state import AccountFlag
    from registry.image import NO_TRIGGER

    view = account.view
    state = account.state()
    row, channels = account.tables()
    holder = view.registry.party(str(row["party"]))
    flags, trigger = state.row["flags"], state.row["trigger_fen"]
    hold, why = switch_value(view.connection, "autopay.hold")
    return {
        "account": account.id,
        "holder": holder.id,
        "name": holder.name,
        "language": holder.language,
        "metering_point": row["metering_point"],
        "from": row["from"],
        "to": row["to"],
        "tariff": account.tariff(),
        "partition": account.partition,
        "as_of": instant(state.as_of_s, view.zone),
        "posted": yuan(state.balance_fen),
        "accrued": exact_yuan(state.accrued_e11),
        "live": yuan(state.live_fen),
        "arrears": yuan(state.arrears_fen),
        "alert_at": yuan(state.row["alert_fen"]),
        "alert": "armed" if flags & AccountFlag.ALERT_ARMED else "told, waits for recovery",
        "trigger_at": "" if trigger == NO_TRIGGER else yuan(trigger),
        "trigger": _trigger(flags, trigger == NO_TRIGGER),
        "arm": state.row["arm"],
        "open": bool(flags & AccountFlag.OPEN),
        "autopay_hold": why if hold else "",
        "registers": _registers(account, channels),
        "mandates": _mandates(account),
        "orders": [
            {
                "order": order["id"],
                "created": instant(order["created_at_s"], view.zone),
                "payer": order["payer"],
                "amount": yuan(order["amount_fen"]),
                "state": order["state"],
                "reason": order["reason"],
            }
            for order in orders(view.connection, account=account.id, limit=LAST_ORDERS)
        ],
    }


def _trigger(flags: int, none: bool) -> str:
    from rating.state import AccountFlag

    if none:
        return "nobody pays by mandate"
    return "armed" if flags & AccountFlag.TRIGGER_ARMED else "out: waits for a credit or recovery"


def _registers(account: Account, channels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from config.units import Quality
    from meterd.views.money import instant, kwh

    zone = account.view.zone
    rows = dict(zip(account.channels, account.rows, strict=True))
    found = []
    for channel in channels:
        row = rows.get(int(channel["slot"]))
        if row is None:
            continue
        quality = int(row["quality"])
        value = int(row["value"])
        found.append(
            {
                "meter": channel["meter"],
                "register": channel["register"],
                "role": channel["role"],
                "tariff": channel["tariff"],
                "last_value": kwh(value) if value >= 0 else "",  # -1: the span before has not handed over yet
                "read_at": instant(int(row["at_s"]), zone),
                "quality": Quality(quality).name if quality else "",
                "from": instant(int(channel["from_s"]), zone),
                "until": "" if int(channel["until_s"]) == 2**32 - 1 else instant(int(channel["until_s"]), zone),
            }
        )
    return found


def _mandate_state(row: Any, gateways: Container[str]) -> str:
    if row.cancelled_at_s:
        return "cancelled"
    return "valid" if row.gateway in gateways else "gateway is not in the settings"


def _mandates(account: Account) -> list[dict[str, Any]]:
    from sqlalchemy import select

    from ledger.schema import mandate
    from meterd.views.money import yuan

    asked = select(mandate).where(mandate.c.account == account.id).order_by(mandate.c.priority, mandate.c.id)
    return [
        {
            "mandate": row.id,
            "payer": row.payer,
            "gateway": row.gateway,
            "priority": row.priority,
            "trigger": yuan(row.trigger_fen),
            "amount": f"up to {yuan(row.target_fen)}" if row.target_fen else yuan(row.amount_fen),
            "cap_charge": yuan(row.cap_charge_fen),
            "cap_day": yuan(row.cap_day_fen),
            "cap_month": yuan(row.cap_month_fen),
            "window": "always" if row.window_from == row.window_to else f"{row.window_from}-{row.window_to}",
            "state": _mandate_state(row, account.view.settings.gateways),
        }
        for row in account.view.connection.execute(asked)
    ]
