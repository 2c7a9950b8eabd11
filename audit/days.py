"""Pure: the auditor's own reading of a tariff's calendar: which type a local day has."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

_WEEK: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_YEARS: Final = range(2000, 2051)


class Days:
    """Types of days under one `[calendar]`; `files` are the texts of the files of days by name."""

    def __init__(self, told: Mapping[str, Any], files: Mapping[str, str]) -> None:
        self.weekend = [_WEEK.index(name) for name in told["weekend"]]
        self.known: dict[date, str] = {}
        counted = told.get("counts", [])
        if told["library"] == "chinese-calendar":
            from chinese_calendar import constants

            self.known |= {on: "adjusted" for on, name in constants.workdays.items() if str(name) in counted}
            self.known |= {on: "holiday" for on, name in constants.holidays.items() if str(name) in counted}
        elif told["library"] == "holidays":
            self.known |= dict.fromkeys(_holidays(told), "holiday")
        if "days_file" in told:
            rows = csv.DictReader(files[told["days_file"]].splitlines())
            self.known |= {date.fromisoformat(row["date"]): row["type"] for row in rows}

    def type_of(self, on: date) -> str:
        """weekday, weekend, holiday, adjusted or special."""
        if on in self.known:
            return self.known[on]
        return "weekend" if on.weekday() in self.weekend else "weekday"


def _holidays(told: Mapping[str, Any]) -> list[date]:
    """Dates of the library's holidays that the tariff counts, by their plain or their full names."""
    import holidays

    kind = getattr(holidays, told["country"])
    found = []
    for category in kind.supported_categories:  # one by one: the engine's reading asks for all at once
        days = kind(
            subdiv=told.get("subdivision"),
            years=_YEARS,
            observed=told["observed"],
            categories=category,
            language="en_US" if "en_US" in kind.supported_languages else None,
        )
        found += [
            on
            for on, names in days.items()
            if any(n in told["counts"] or n.rsplit(" (", 1)[0] in told["counts"] for n in names.split("; "))
        ]
    return found
