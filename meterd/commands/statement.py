"""I/O: `meterd statement`: bill cycles with every line, on the terminal, as JSON, or as one printable HTML file."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meterd import output
from meterd.commands.account import AccountArgument
from meterd.commands.config import ConfigOption, JsonOption
from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from ledger.statements import Statement
    from meterd.lookup import Account
    from meterd.views.statement import Head


def statement(
    account: AccountArgument,
    config: ConfigOption = None,
    json: JsonOption = False,
    html: Annotated[bool, typer.Option("--html", help="Write an HTML file for people.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to write the HTML file.")] = None,
    first: Annotated[str, typer.Option("--from", metavar="MONTH", help="First bill cycle: 2026-03.")] = "",
    last: Annotated[str, typer.Option("--to", metavar="MONTH", help="Last bill cycle: 2026-07.")] = "",
) -> None:
    """Print an account's statement: bill cycles with their lines, or write it as HTML."""
    from ledger.statements import between, month_text
    from meterd.lookup import opened
    from meterd.views.statement import COLUMNS, page, plain, rows

    start, end = month_or_stop("--from", first), month_or_stop("--to", last)
    if start is not None and end is not None and start > end:
        raise Stop(Exit.USAGE, f"--from {first} is after --to {last}")
    with opened(config) as view:
        head, whole = build(view.account(account))
    shown = between(whole, start, end)
    if whole.cycles and not shown.cycles:
        known = f"{month_text(whole.cycles[0].month)} to {month_text(whole.cycles[-1].month)}"
        raise Stop(Exit.NO, f"no bill cycle of {account} is in that span; there are {known}")
    if html or out is not None:
        file = out if out is not None else Path(f"statement-{re.sub(r'[^A-Za-z0-9._-]', '_', account)}.html")
        try:
            file.write_text(page(head, shown), encoding="utf-8")
        except OSError as wrong:
            raise Stop(Exit.USAGE, f"--out {file}: {wrong.strerror}") from None
        output.line(str(file))
    elif json:
        output.record(plain(head, shown), json=True)
    else:
        lines = [(*row[:3], Decimal(row[3])) for row in rows(head, shown)]  # as numbers: they stand to the right
        output.table(COLUMNS, lines, title=f"statement of {account}")
        output.warn(
            f"posted {plain(head, shown)['posted']}, lines {plain(head, shown)['lines_sum']}, "
            f"live {plain(head, shown)['live']} yuan on {head.as_of}"
        )
    if not whole.agrees:
        raise Stop(Exit.NO, "the lines do not sum to the posted balance: run `meterd audit`")


def build(account: Account) -> tuple[Head, Statement]:
    """The statement of one account, and whose it is; both from the caller's one snapshot."""
    from ledger.reads import bills, statement_rows
    from ledger.statements import statement as compute
    from meterd.views.money import exact_yuan, instant
    from meterd.views.statement import Head

    view, state = account.view, account.state()
    row, _ = account.tables()
    holder = view.registry.party(str(row["party"]))
    posted = statement_rows(view.connection, account.partition, account.slot)
    closed = bills(view.connection, account.partition, account.slot)
    head = Head(
        account=account.id,
        holder=holder.id,
        name=holder.name,
        metering_point=str(row["metering_point"]),
        tariff=account.tariff(),
        as_of=instant(state.as_of_s, view.zone),
        live_fen=state.live_fen,
        accrued=exact_yuan(state.accrued_e11),
        accrued_fen=state.balance_fen - state.live_fen,
        charges=charge_names(account),
    )
    return head, compute(posted, closed, state.balance_fen)


def charge_names(account: Account) -> dict[tuple[int, int, int], str]:
    """Names of the charges of every tariff that the account has had, by ladder, version and place."""
    from config.tariff_files import DAYS, kept_texts
    from rating.tariff.reading import parse_tariffs

    image = account.image
    mine = (image.ladders["account"] == account.slot).nonzero()[0].tolist()
    names = account.view.registry.image.tariffs
    ids = {slot: names[int(image.ladders["tariff"][slot])] for slot in mine}
    texts = kept_texts(account.view.registry.folder, account.view.settings.rating.tariffs_dir)
    mentioned = {*ids.values(), *(name for name in texts if name.endswith(DAYS))}
    told = {one.id: one for one in parse_tariffs({name: texts[name] for name in mentioned & texts.keys()})}
    return {
        (slot, v, place): charge.name
        for slot, tariff in ids.items()
        if tariff in told
        for v, version in enumerate(told[tariff].version)
        for place, charge in enumerate(version.charge)
    }


def month_or_stop(option: str, text: str) -> int | None:
    """Month number of 2026-03 or 2026-03-15; None for nothing."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{4})-(\d\d)(-\d\d)?", text, re.ASCII)
    if found is None or not 1 <= int(found[2]) <= 12:
        raise Stop(Exit.USAGE, f"{option} {text!r} is no month like 2026-03")
    return (int(found[1]) - 1970) * 12 + int(found[2]) - 1
