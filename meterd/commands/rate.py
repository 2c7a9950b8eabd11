"""I/O: `meterd rate`: a file of readings under a tariff, by the daemon's engine, without a daemon."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from config.clock import RealClock
from meterd import output
from meterd.commands.config import ConfigOption, JsonOption
from meterd.commands.tariff import one_tariff
from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from meterd.rate.columns import Columns
    from meterd.rate.cycles import Rated
    from rating.tariff.model import Tariff


BAR_AFTER_S = 1.0


def rate(
    readings: Annotated[Path, typer.Option("--readings", metavar="FILE", help="Readings, CSV or Parquet.")],
    tariff: Annotated[
        str | None, typer.Option("--tariff", metavar="NAME", help="A tariff in use, or a file.")
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option("--compare", metavar="NAME", help="Tariffs side by side; give it twice.")
    ] = None,
    attributes: Annotated[
        list[str] | None,
        typer.Option("--attributes", metavar="NAME=VALUE", help="Of the account, as the tariff names them."),
    ] = None,
    from_day: Annotated[str | None, typer.Option("--from", metavar="DAY", help="First local day.")] = None,
    to_day: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Local day behind the last one.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Bills into a .parquet or .csv file."),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Rate a file of readings: every bill cycle line by line, exact and as billed."""
    from meterd.rate.columns import columns_of
    from meterd.rate.cycles import rate_columns
    from meterd.rate.files import BadFile, read_table, write_bills
    from meterd.rate.told import ROW, as_json, as_rows, beside

    names = [tariff] if tariff else compare or []
    if bool(tariff) == bool(compare) or (compare and len(compare) < 2):
        raise Stop(Exit.USAGE, "say --tariff NAME, or --compare NAME --compare NAME")
    tariffs = [one_tariff(name, config) for name in names]
    facts = _attributes(attributes, tariffs)
    try:
        table = read_table(readings)
    except BadFile as wrong:
        raise Stop(Exit.NO, str(wrong)) from None
    if out is not None and json:
        raise Stop(Exit.USAGE, "--out and --json are two answers: say one")
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise Stop(Exit.USAGE, f"--out {out}: a file that ends in .parquet or .csv")
    rated = []
    for one in tariffs:
        columns = _between(columns_of(table, one.unit), one, from_day, to_day)
        with _bar(one.id, len(columns)) as told_more:
            rated.append(rate_columns(columns, one, facts, told_more))
    if out is not None:
        try:
            write_bills(out, rated)
        except BadFile as wrong:
            raise Stop(Exit.NO, str(wrong)) from None
    elif json:
        output.record(as_json(rated[0]) if tariff else {"compared": [as_json(one) for one in rated]}, json=True)
        return
    elif tariff:
        output.table(ROW, as_rows(rated[0]), title=f"{tariffs[0].id}, {tariffs[0].currency}")
    else:
        output.table(("metering_point", *(one.id for one in tariffs), "least"), beside(rated))
    _refused(rated[0])


def _refused(rated: Rated) -> None:
    if rated.refusals:
        output.table(
            ("line", "metering_point", "register", "read_at", "reason", "note"),
            [(r.line, r.metering_point, r.register, r.read_at, r.reason, r.note) for r in rated.refusals],
            title="not rated as they stand",
        )


@contextlib.contextmanager
def _bar(name: str, length: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on the terminal, for what takes longer than a second."""
    clock, bar = RealClock(), None
    begun_s = clock.monotonic_s()

    def more(count: int) -> None:
        nonlocal bar, length
        if bar is None and clock.monotonic_s() - begun_s > BAR_AFTER_S and length > count:
            bar = typer.progressbar(length=length, label=name, file=sys.stderr)
            bar.__enter__()
        if bar is not None:
            bar.update(count)
        else:
            length -= count

    try:
        yield more
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)


def _attributes(told: list[str] | None, tariffs: list[Tariff]) -> dict[str, int]:
    """NAME=NUMBER, or NAME=true; a name that no tariff knows is refused."""
    from meterd.views.tariffs import attribute_names

    known = sorted(attribute_names(tariffs))
    found = {}
    for text in told or []:
        name, _, value = text.partition("=")
        value = {"true": "1", "false": "0"}.get(value, value)
        if not (name and value.isascii() and value.isdigit() and len(value) < 10):
            raise Stop(Exit.USAGE, f"--attributes {text!r}: write NAME=NUMBER or NAME=true, as in household_size=5")
        if name not in known:
            raise Stop(Exit.USAGE, f"--attributes {name}: the tariff knows {', '.join(known) or 'none'}")
        found[name] = int(value)
    return found


def _between(columns: Columns, tariff: Tariff, from_day: str | None, to_day: str | None) -> Columns:
    """Readings from the first instant of one local day up to that of another, both included."""
    from meterd.rate.columns import within
    from rating.calendar import local_calendar

    moments = []
    for text, none in ((from_day, 0), (to_day, 2**33)):
        if text is None:
            moments.append(none)
            continue
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise Stop(Exit.USAGE, f"{text!r} is no day; write YYYY-MM-DD") from None
        calendar = local_calendar(tariff.timezone, day.year, day.year + 1, tariff.clock == "standing")
        moments.append(calendar.day_start_s((day - date(1970, 1, 1)).days))
    return within(columns, moments[0], moments[1])
