"""I/O: releases and discards of many rows of the exceptions queue: chosen, agreed to, asked in parts, summed up.

Rows go to the daemon some hundred a request, the oldest reading first; it writes a request's rows in one
transaction and waits once. A request that was not applied in time is the last: what it stored will be applied, and
the same command goes on from there.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from meterd import output
from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from config.settings import Settings
    from ledger.reads import Wanted

TOLD_MAX: Final = 20  # rows that are told one by one to people; JSON has all of them


@dataclass(frozen=True, slots=True)
class Filter:
    """What the options say; "" is any."""

    reason: str = ""
    source: str = ""
    meter: str = ""
    before: str = ""

    @property
    def given(self) -> bool:
        return bool(self.reason or self.source or self.meter or self.before)

    def wanted(self, settings: Settings, state: str | None) -> Wanted:
        """The same as the ledger is asked; ends the command on what is no reason, serial or time."""
        from config.reasons import Reason
        from ledger.reads import Wanted
        from meterd.commands.topup import instant

        if self.reason and self.reason not in {known.value for known in Reason}:
            known = ", ".join(known.value for known in Reason)
            raise Stop(Exit.USAGE, f"--reason {self.reason!r}: there are {known}")
        before_s = instant(settings, self.before, "--before") if self.before else None
        return Wanted(self.reason or None, state, self.source or None, _meter(self.meter), before_s)


@dataclass(frozen=True, slots=True)
class Consent:
    """How a person agrees to what a filter names: on a terminal, or by --yes."""

    verb: str
    yes: bool
    dry_run: bool
    json: bool

    def ask(self, found: list[tuple[int, str]]) -> None:
        """Returns when it is agreed; ends the command when not."""
        reasons = dict(sorted(Counter(reason for _, reason in found).items()))
        if self.dry_run:
            output.record({"rows": len(found), "reasons": reasons}, json=self.json)
            raise typer.Exit(Exit.OK)
        if self.yes or not found:
            return
        told = f"{len(found)} rows would be {_PAST[self.verb]}: " + ", ".join(f"{r} {n}" for r, n in reasons.items())
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Stop(Exit.USAGE, f"{told}. Say --yes to do it")
        if not typer.confirm(f"{told}. Go on?", err=True):
            raise Stop(Exit.NO, "nothing was done")


_PAST: Final = {"release": "released", "discard": "discarded"}


def chosen(
    config: Path | None, numbers: list[int] | None, filter_: Filter, limit: int | None, consent: Consent
) -> list[int]:
    """The ids that are meant, the oldest reading first; those of a filter are what one moment of the queue has."""
    from ledger.reads import exceptions_to_judge
    from meterd.lookup import opened

    if numbers:
        if filter_.given or limit is not None or consent.yes or consent.dry_run:
            raise Stop(Exit.USAGE, "ids, or a filter: not both")
        return list(dict.fromkeys(numbers))
    if not filter_.given:
        raise Stop(Exit.USAGE, "name ids, or a filter: --reason, --source, --meter, --before")
    with opened(config) as view:
        found = exceptions_to_judge(view.connection, filter_.wanted(view.settings, "open"), limit)
    consent.ask(found)
    return [number for number, _ in found]


@dataclass(slots=True)
class _Sum:
    """What became of the rows; `open` and `not_applied` are ids, `errors` as the daemon told them."""

    asked: int
    verb: str
    done: int = 0
    open: list[int] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    not_applied: list[int] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def add(self, told: list[dict[str, Any]]) -> None:
        for one in told:
            if "error" in one:
                self.errors.append(one)
            elif one["state"] == _PAST[self.verb]:
                self.done += 1
            elif not one["applied"]:
                self.not_applied.append(one["exception"])
            else:
                self.open.append(one["exception"])
                self.refused.update(one["refused"])

    @property
    def not_asked(self) -> int:
        return self.asked - self.done - len(self.open) - len(self.not_applied) - len(self.errors)

    def show(self, *, json: bool) -> None:
        """People and pipes get figures, and the first rows that somebody must look at on stderr; JSON gets all."""
        judged = self.verb == "release"
        lists = {"open": self.open, "not_applied": self.not_applied} if judged else {}
        told: dict[str, Any] = {"rows": self.asked, _PAST[self.verb]: self.done}
        told |= lists if json else {name: len(ids) for name, ids in lists.items()}
        if judged:
            told["refused"] = dict(sorted(self.refused.items()))
        told["errors"] = self.errors if json else len(self.errors)
        told["not_asked"] = self.not_asked
        output.record(told, json=json)
        if json:
            return
        for error in self.errors[:TOLD_MAX]:
            output.warn(f"{error['error']}. {error['what_to_do']}")
        if len(self.errors) > TOLD_MAX:
            output.warn(f"and {len(self.errors) - TOLD_MAX} more: --json has all of them")

    def end(self) -> None:
        """The exit code: 5 when something is not applied yet, 1 when something stayed open, else 0."""
        if self.not_applied:
            raise Stop(Exit.TIMED_OUT, "not all of it was applied in time: what is stored will be; ask again")
        if self.open or self.errors:
            raise typer.Exit(Exit.NO)


def release(settings: Settings, ids: list[int], said: dict[str, Any], *, json: bool) -> None:
    """Have rows judged again, in parts, and tell the sum; exit 1: some stayed open, 5: not applied in time."""
    _run(settings, "release", ids, said, json=json)


def discard(settings: Settings, ids: list[int], said: dict[str, Any], *, json: bool) -> None:
    """Close rows, in parts, and tell the sum; exit 1 when something stood against one."""
    _run(settings, "discard", ids, said, json=json)


def _run(settings: Settings, verb: str, ids: list[int], said: dict[str, Any], *, json: bool) -> None:
    from meterd import client
    from meterd.attempts import IDS_MAX

    total, left = _Sum(len(ids), verb), ids
    with output.progress(verb, len(ids)) as advance:
        while left and not total.not_applied:
            part = left[:IDS_MAX]
            try:
                told = client.call(settings, "POST", f"/v1/exceptions/{verb}", {**said, "ids": part})
            except Stop:
                if len(left) < len(ids):  # what was done before it is worth knowing
                    total.show(json=json)
                raise
            total.add(told["exceptions"])
            assert len(told["left"]) < len(part), "a request does something about its first row"
            left = told["left"] + left[IDS_MAX:]
            advance(len(part) - len(told["left"]))
    total.show(json=json)
    total.end()


def _meter(serial: str) -> str | None:
    """As the queue has it; what `exceptions list` shows for a serial that is no number may be given back."""
    from registry.address import BadSerial, address, address_text

    if not serial or serial.startswith("#"):
        return serial or None
    try:
        return address_text(address(serial))
    except BadSerial as wrong:
        raise Stop(Exit.USAGE, f"--meter: {wrong}") from None
