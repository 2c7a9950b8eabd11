"""I/O: `meterd tariff ...`: look at tariff files, those of the settings or any other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption, settings_or_stop
from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from meterd.views.tariffs import DayPicture
    from rating.tariff.model import Tariff

FILE_BYTES_MAX: Final = 1 << 20
FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="A tariff file, or the id of a tariff in use.")]
YEARS: Final = (1971, 2100)
SHADES: Final = " ░▒▓█"


def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Tariff files (TOML).")],
    json: JsonOption = False,
) -> None:
    """Check tariff files: every fault with its line; exit 0 or 1."""
    from rating.tariff.reading import TariffFaults, parse_tariffs

    faults: list[tuple[str, str]] = []
    for file in files:
        try:
            parse_tariffs(_texts_of(file))
        except TariffFaults as wrong:
            faults += [(str(file), fault) for fault in wrong.faults]
        except (OSError, ValueError) as wrong:
            faults.append((str(file), str(wrong)))
    if faults or json:
        output.table(("file", "fault"), faults, json=json)
    else:
        output.line(f"ok: {len(files)} tariff file{'s' if len(files) > 1 else ''}")
    if faults:
        raise typer.Exit(Exit.NO)


def listed(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the tariffs that the settings name, or those that are shipped."""
    from meterd.views.tariffs import listed as told

    rows = [told(tariff) for tariff in tariffs_in(_in_use(config))]
    output.table(tuple(rows[0]), [tuple(row.values()) for row in rows], json=json)


def show(
    file: FileArgument,
    year: Annotated[int, typer.Option("--year", min=YEARS[0], max=YEARS[1], help="The local year.")],
    attributes: Annotated[
        list[str] | None, typer.Option("--attribute", metavar="NAME=NUMBER", help="Of the account, for the ladder.")
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Also draw it into this file.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show a tariff over a year: the price by hour and day, and the ladder."""
    from meterd.views.tariffs import Year, charges_told, days_told, ladder_told, rungs

    tariff = one_tariff(file, config)
    looked = Year(tariff, year)
    ladder = list(rungs(tariff, year, _attributes(attributes)))
    pictures, charges = looked.pictures(), charges_told(tariff, year)
    if png is not None:
        from meterd.views.tariff_plot import heat_map

        png.write_bytes(heat_map(tariff, year, looked.prices(), ladder))
    if json:
        told = {"days": days_told(tariff, pictures), "ladder": ladder_told(ladder)}
        output.record({"tariff": tariff.id, "year": year, **told, "charges": charges}, json=True)
        return
    _print_days(tariff, pictures)
    if charges:
        output.table(tuple(charges[0]), [tuple(one.values()) for one in charges], title="beside the energy")
    if ladder:
        columns = ("from", "tier", "above", "up to", *(name for name, _ in ladder[0].prices))
        rows = [
            (r.from_day, r.tier, r.above, "" if r.upto is None else r.upto, *(p for _, p in r.prices)) for r in ladder
        ]
        output.table(
            columns, rows, title=f"{tariff.currency} per {tariff.unit}, by {tariff.unit} used in a tier cycle"
        )


def diff(
    one: FileArgument,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The other file or id.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show where two tariff files differ; exit 1 when they do."""
    from meterd.views.tariffs import differences

    found = differences(_text(one, config), _text(other, config))
    output.table(("key", one, other), found, json=json)
    if found:
        raise typer.Exit(Exit.NO)


def schema() -> None:
    """Print the JSON Schema of a tariff file, for editors."""
    from rating.tariff.schema import tariff_schema

    output.record(tariff_schema(), json=True)


def _texts_of(file: Path) -> dict[str, str]:
    """The text of a tariff file, and the files of days beside it."""
    from config.tariff_files import DAYS

    if file.suffix != ".toml":
        raise ValueError("a tariff file ends in .toml")
    texts = {}
    for path in (file, *sorted(file.parent.glob(f"*{DAYS}"))):
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ValueError(f"{path.name}: larger than {FILE_BYTES_MAX} bytes")
        texts[path.name.removesuffix(".toml")] = path.read_text(encoding="utf-8")
    return texts


def tariffs_in(directory: Path | None) -> tuple[Tariff, ...]:
    """Those of a directory, or those that are shipped; a fault in any of the files ends the command (exit 1)."""
    return _parsed(_texts_in(directory))


def _texts_in(directory: Path | None) -> dict[str, str]:
    from config.tariff_files import tariff_texts

    try:
        return tariff_texts(directory)
    except (OSError, ValueError) as wrong:
        raise Stop(Exit.NO, str(wrong)) from None


def _in_use(config: Path | None) -> Path | None:
    """The directory that the settings name; without settings that of the shipped tariffs."""
    return None if config is None else settings_or_stop(config).rating.tariffs_dir


def _parsed(texts: dict[str, str]) -> tuple[Tariff, ...]:
    from rating.tariff.reading import TariffFaults, parse_tariffs

    try:
        return parse_tariffs(texts)
    except TariffFaults as wrong:
        raise Stop(Exit.NO, str(wrong)) from None


def one_tariff(file: str, config: Path | None) -> Tariff:
    """The tariff of that id in the settings (or of those shipped), or of a file that ends in .toml; else `Stop`."""
    from config.tariff_files import DAYS

    if not file.endswith(".toml"):
        texts = _texts_in(_in_use(config))
        if file not in texts:
            names = ", ".join(name for name in texts if not name.endswith(DAYS))
            raise Stop(Exit.NO, f"there is no tariff {file!r}; there are {names}, or name a file that ends in .toml")
        return _parsed({name: text for name, text in texts.items() if name == file or name.endswith(DAYS)})[0]
    try:
        return _parsed(_texts_of(Path(file)))[0]
    except (OSError, ValueError) as wrong:
        raise Stop(Exit.NO, f"{file}: {wrong}") from None


def _text(file: str, config: Path | None) -> str:
    """The text of a tariff that has no faults."""
    name = one_tariff(file, config).id
    return (_texts_of(Path(file)) if file.endswith(".toml") else _texts_in(_in_use(config)))[name]


def _attributes(told: list[str] | None) -> dict[str, int]:
    found = {}
    for text in told or []:
        name, _, value = text.partition("=")
        if not (name and value.isascii() and value.isdigit() and len(value) < 10):
            raise Stop(Exit.USAGE, f"--attribute {text!r}: write NAME=NUMBER, as in household_size=5")
        found[name] = int(value)
    return found


def _print_days(tariff: Tariff, pictures: list[DayPicture]) -> None:
    """A row for each look of a day: half hours, darker where dearer; then what each period costs."""
    from meterd.views.tariffs import clock_text, period_prices, price_text

    firsts = {
        (p.version, name): period_prices(tariff.version[p.version])[name][0]
        for p in pictures
        for _, _, name in p.spans
    }
    levels = sorted(set(firsts.values()))
    shade = {
        price: SHADES[1 + place * (len(SHADES) - 2) // max(len(levels) - 1, 1)] for place, price in enumerate(levels)
    }
    rows = []
    for p in pictures:
        hours = "".join(
            shade[firsts[p.version, name]] * (-(-end // 30) - start // 30) for start, end, name in p.spans
        )
        told = ", ".join(f"{clock_text(start)} {name}" for start, _, name in p.spans)
        rows.append((p.first, p.last, p.kind, p.days, hours, told))
    output.table(("from", "to", "day type", "days", "half hours", "periods"), rows, title=f"{tariff.id}")
    prices = {(price_text(tariff, price), name): shade[price] for (_, name), price in firsts.items()}
    output.table(
        ("shade", "period", f"{tariff.currency} per {tariff.unit}"),
        [(mark, name, price) for (price, name), mark in sorted(prices.items())],
    )
