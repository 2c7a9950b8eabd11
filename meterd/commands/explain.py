"""I/O: `meterd explain`: one account's day from its registers to the fen, and whether the ledger says the same."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterd import output
from meterd.commands.account import AccountArgument
from meterd.commands.config import ConfigOption, JsonOption
from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from meterd.views.explaining import ChannelDay, Guess


def explain(
    account: AccountArgument,
    day: Annotated[str, typer.Argument(metavar="DAY", help="Local date: 2026-07-14.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Explain one day's charge: readings, segments, tiers, energy, price, rounding, every fen."""
    from meterd.evidence import Evidence
    from meterd.lookup import opened

    try:
        number = (date.fromisoformat(day) - date(1970, 1, 1)).days
    except ValueError:
        raise Stop(Exit.USAGE, f"{day!r} is no date like 2026-07-14") from None
    with opened(config) as view:
        one = view.account(account)
        names = {int(c["slot"]): (c["meter"], c["register"], c["tariff"]) for c in one.tables()[1]}
        found = [(names[slot], told) for slot, told in Evidence(one).days(number)]
        zone = view.zone
    if not found:
        raise Stop(Exit.NO, f"account {account} had no charged register on {day}")
    plain = [_plain(name, told, day, zone) for name, told in found]
    if json:
        output.record({"account": account, "day": day, "channels": plain}, json=True)
    else:
        for one_plain in plain:
            _show(one_plain)
    if not all(told.agrees for _, told in found):
        raise Stop(Exit.NO, "the ledger says something else: run `meterd audit`")


def _plain(name: tuple[str, str, str], told: ChannelDay, day: str, zone: ZoneInfo) -> dict[str, Any]:
    from config.units import Quality, decimal_text
    from meterd.views.money import exact_yuan, instant, kwh, yuan

    return {
        "meter": name[0],
        "register": name[1],
        "tariff": name[2],
        "day": day,
        "used_before_kwh": kwh(told.used_before_wh),
        "energy_kwh": kwh(told.energy_wh),
        "readings": [
            {
                "read_at": instant(point.at_s, zone),
                "register_value": kwh(point.shown),
                "quality": Quality(point.quality).name,
                "note": point.note,
            }
            for point in told.points
        ],
        "lines": [
            {
                "from": instant(line.start_s, zone),
                "to": instant(line.end_s, zone),
                "period": line.period,
                "tier": line.tier + 1,
                "kwh": kwh(line.energy_wh),
                "price": decimal_text(line.price_e8, 8),
                "amount": exact_yuan(line.amount_e11),
                "quality": line.quality.name,
            }
            for line in told.lines
        ],
        "estimates": [_guessed(guess, zone) for guess in told.guesses],
        "components": [
            {
                "component": one.name,
                "brought_in": exact_yuan(one.brought_e11),
                "of_the_day": exact_yuan(one.amount_e11),
                "whole_fen": yuan(one.posted_fen),
                "to_the_bill": exact_yuan(one.billed_e11),
                "carried_on": exact_yuan(one.carried_e11),
                "posted": "day is open" if one.ledger_fen is None else yuan(one.ledger_fen),
                "agrees": one.agrees,
            }
            for one in told.components
        ],
        "agrees": told.agrees,
    }


def _guessed(guess: Guess, zone: ZoneInfo) -> dict[str, Any]:
    from meterd.views.money import instant, kwh

    return {
        "made_at": instant(guess.made_at_s, zone),
        "from": instant(guess.from_s, zone),
        "to": instant(guess.to_s, zone),
        "used_kwh": kwh(guess.used_wh),
        "known_s": guess.known_s,
        "registers": guess.registers,
        "for_s": guess.to_s - guess.from_s,
        "energy_kwh": kwh(guess.energy_wh),
        "as_the_rule_says": guess.follows,
    }


def _show(one: dict[str, Any]) -> None:
    lists = {name: one[name] for name in ("readings", "estimates", "lines", "components")}
    output.record({name: value for name, value in one.items() if name not in lists}, title=f"meter {one['meter']}")
    for name, rows in lists.items():
        if rows:
            output.line("")
            output.table(list(rows[0]), [list(row.values()) for row in rows], title=name)
