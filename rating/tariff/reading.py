"""Pure: texts of tariff files into tariffs, or every fault of all of them with file, line and key."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

from pydantic import ValidationError

from config.tariff_files import DAYS
from config.toml_lines import Place, key_lines, line_of
from config.units import CURRENCIES
from rating.tariff.coherence import faults_of
from rating.tariff.fields import DAY_TYPES, PRICE_DIGITS
from rating.tariff.model import ListedDay, Tariff

_EPOCH: Final = date(1970, 1, 1)
_AT_LINE: Final = re.compile(r" \(at line (\d+), column \d+\)$")
_DAY_COLUMNS: Final = ["date", "type", "name"]


class TariffFaults(ValueError):
    """Everything that is wrong with the files, one line a fault: `file:line: key: what`."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def _text_of(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "(file)"


def _shape_faults(fault: ValidationError) -> list[tuple[Place, str]]:
    errors = fault.errors()
    places = [e["loc"] for e in errors]
    return [  # a list is "too short" only because its one item is at fault: that is said already
        (e["loc"], e["msg"].removeprefix("Value error, "))
        for e in errors
        if not (e["type"] == "too_short" and any(p[: len(e["loc"])] == e["loc"] != p for p in places))
    ]


def _told(file: str, text: str, faults: Sequence[tuple[Place, str]]) -> list[str]:
    lines = key_lines(text)
    placed = [(line_of(lines, place) or 1, f"{_text_of(place)}: {what}") for place, what in faults]
    return [f"{file}:{line}: {what}" for line, what in sorted(placed)]


def parse_days(file: str, text: str) -> tuple[ListedDay, ...]:
    """Rows of a file of days (`date,type,name`), in order of date; raise `TariffFaults` with all faults."""
    faults: list[str] = []
    days: dict[int, ListedDay] = {}
    rows = list(csv.reader(text.splitlines()))
    if not rows or rows[0] != _DAY_COLUMNS:
        raise TariffFaults([f"{file}:1: the first line must be {','.join(_DAY_COLUMNS)}"])
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        try:
            on, kind, told = row
            day = (date.fromisoformat(on) - _EPOCH).days
        except ValueError:
            faults.append(f"{file}:{line}: write YYYY-MM-DD,type,name")
            continue
        if kind not in DAY_TYPES:
            faults.append(f"{file}:{line}: {kind!r} is no day type; there are {', '.join(DAY_TYPES)}")
        elif day in days:
            faults.append(f"{file}:{line}: {on} stands here twice")
        else:
            days[day] = ListedDay(day=day, kind=DAY_TYPES[kind], name=told)
    if faults:
        raise TariffFaults(faults)
    return tuple(days[day] for day in sorted(days))


def _context(told: Mapping[str, Any], days: Mapping[str, tuple[ListedDay, ...]]) -> dict[str, Any]:
    currency = CURRENCIES.get(str(told.get("currency")))
    return {"price_digits": currency.price_digits if currency else PRICE_DIGITS, "days": days}


def parse_tariff(name: str, text: str, days: Mapping[str, tuple[ListedDay, ...]]) -> Tariff:
    """The tariff of `{name}.toml`; raise `TariffFaults` with all faults."""
    file = f"{name}.toml"
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        found = _AT_LINE.search(str(fault))
        line, what = (found.group(1), _AT_LINE.sub("", str(fault))) if found else ("1", str(fault))
        raise TariffFaults([f"{file}:{line}: {what}"]) from None
    try:
        tariff = Tariff.model_validate(told, context=_context(told, days))
    except ValidationError as fault:
        raise TariffFaults(_told(file, text, _shape_faults(fault))) from None
    faults = list(faults_of(tariff))
    if tariff.calendar and tariff.calendar.days_file and tariff.calendar.days_file not in days:
        faults.append((("calendar", "days_file"), f"there is no {tariff.calendar.days_file}{DAYS}"))
    if tariff.id != name:
        faults.append((("id",), f"{tariff.id!r} must be the name of the file"))
    if faults:
        raise TariffFaults(_told(file, text, faults))
    return tariff


def parse_tariffs(texts: Mapping[str, str]) -> tuple[Tariff, ...]:
    """Tariffs of the files in `texts` (as `config.tariff_files` reads them), in order of name.

    Raises `TariffFaults` with all faults of all files.
    """
    faults: list[str] = []
    days: dict[str, tuple[ListedDay, ...]] = {}
    for file in sorted(name for name in texts if name.endswith(DAYS)):
        name = file.removesuffix(DAYS)
        try:
            days[name] = parse_days(file, texts[file])
        except TariffFaults as wrong:
            faults += wrong.faults
            days[name] = ()
    tariffs: list[Tariff] = []
    for name in sorted(name for name in texts if not name.endswith(DAYS)):
        try:
            tariffs.append(parse_tariff(name, texts[name], days))
        except TariffFaults as wrong:
            faults += wrong.faults
    if faults:
        raise TariffFaults(faults)
    return tuple(tariffs)
