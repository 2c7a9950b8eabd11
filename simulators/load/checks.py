"""I/O (reads a daemon's files, starts an audit): are every meter's energy and every balance right; exceptions.

Of a daemon of our own once it has ended; of one that runs in a snapshot that is given up after a while, so that its
files do not grow without end behind a reader. What cannot be checked is said in words, with its reason.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from config.settings import Paths
from registry.address import addresses
from simulators.fleet_ledger import NotReadable, billed_wh, counters
from simulators.load.asked import LoadFailed, Target, Test
from simulators.load.host import DEADLINE_A_METER_S, Host
from simulators.load.population import NoPopulation, csv_table
from simulators.quiet import unrated
from simulators.rig import RigFailed

if TYPE_CHECKING:
    from simulators.load.run import Result

SNAPSHOT_S: Final = 120.0  # six million meters take 20
RATED_S: Final = 60.0  # for what is held to be rated
AUDIT_S: Final = 300.0  # at least
NO_FILES: Final = "without --data-dir or --config the daemon's files are not known"
NO_BOOK: Final = "they need --gateway-book (of simulators.gateway) and --config with a notices file"
_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Before:
    """What a running daemon's ledger held before the load: our concentrators, their rows by reason, its counters."""

    sources: Collection[str] = ()
    exceptions: Mapping[str, int] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)


def before(target: Target) -> Before | None:
    """None: its files are not known. `NoPopulation`: meters of ours have used energy there."""
    if target.data is None:
        return None
    is_watchable(target.data)
    ours = frozenset(csv_table(target.registry / "concentrators.csv")["concentrator"].to_pylist())
    try:
        billed = billed_wh(target.data, SNAPSHOT_S)
    except (sqlite3.Error, NotReadable) as wrong:
        raise LoadFailed(f"{target.data} cannot be read: {wrong}") from None
    meters = addresses(csv_table(target.registry / "meters.csv")["meter"].combine_chunks())
    used = sum(bool(billed.get(address)) for address in meters.tolist())
    if used:
        raise NoPopulation(
            f"{used} of the {len(meters)} meters of {target.registry} have used energy in {target.data}: what a load"
            " test sends begins at their opening registers, and is not true. Take a fresh data directory"
        )
    return Before(ours, exceptions_of(target.data, ours), counters(target.data))


def unseen(target: Target) -> dict[str, str]:
    """What is not measured of a daemon that is not ours, and why."""
    found = {"reading_to_balance": NO_FILES} if target.data is None else {}
    return found | ({"reading_to_order, reading_to_notice": NO_BOOK} if target.book is None else {})


def is_watchable(data: Path) -> None:
    """`LoadFailed` at once, not when all is sent."""
    for path in (Paths(data).ledger, Paths(data).log):
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as wrong:
            why = f"{path} cannot be read ({wrong})" if path.exists() else f"there is no {path.name}"
            raise LoadFailed(f"{data} is no data directory of a daemon that can be watched: {why}") from None


def check_balances(result: Result, host: Host, test: Test) -> None:
    """After the daemon of our own has ended: energy billed = energy sent, and the audit; into the verdict."""
    _energy(result, billed_wh(host.data))
    _exceptions(result, exceptions_of(host.data), test)
    _unmoved(result, counters(host.data))
    if test.audit:
        _audit(result, host.audit)
    else:
        result.verdict["audit"] = "not asked for"
        _unchecked(result, "balances", "--no-audit")


def check_running(result: Result, target: Target, test: Test, earlier: Before | None) -> None:
    """The same of a daemon that goes on running, as far as its files can be read; into the verdict."""
    if target.data is None or earlier is None:
        for name in ("energy", "exceptions"):
            _unchecked(result, name, NO_FILES)
        _unchecked(result, "balances", f"{NO_FILES}; run `meterd audit` where it runs")
    else:
        try:
            _ledger(result, target.data, test, earlier)
        except (sqlite3.Error, NotReadable) as wrong:
            _unchecked(result, "energy and exceptions", f"{target.data} cannot be read: {wrong}")
            result.verdict["good"] = False
        except KeyboardInterrupt:
            _unchecked(result, "energy and exceptions", "interrupted")
            result.verdict |= {"interrupted": True, "good": False}
        if test.audit:
            _audit(result, lambda: _audit_there(target, test))
        else:
            _unchecked(result, "balances", "--no-audit")
    if unseen(target):
        result.verdict["not_measured"] = unseen(target)


def _ledger(result: Result, data: Path, test: Test, earlier: Before) -> None:
    left = await_rated(data)
    if left:
        _unchecked(result, "energy", f"{left} records of the log were still not rated after {RATED_S:g} s")
        result.verdict["good"] = False
    else:
        _energy(result, billed_wh(data, SNAPSHOT_S))
    now = exceptions_of(data, earlier.sources)
    came = {reason: count - earlier.exceptions.get(reason, 0) for reason, count in now.items()}
    _exceptions(result, {reason: count for reason, count in came.items() if count}, test)
    _unmoved(result, counters(data), earlier.counters)


def await_rated(data: Path) -> int:
    """Until everything that the log has now is in checkpoints; records that are not when the time is over."""
    until = time.monotonic() + RATED_S
    ends: Mapping[int, int] | None = None
    while True:
        left, ends = unrated(data, ends)
        if not left or time.monotonic() > until:
            return left
        time.sleep(_POLL_S)


def _unchecked(result: Result, name: str, why: str) -> None:
    result.verdict.setdefault("not_checked", {})[name] = why


def _energy(result: Result, billed: Mapping[int, int]) -> None:
    used = dict(zip(result.sent.address.tolist(), result.sent.used.tolist(), strict=True))
    wrong = sum(billed.get(address, 0) != energy for address, energy in used.items())
    result.verdict |= {
        "energy_sent_wh": sum(used.values()),
        "energy_billed_wh": sum(billed.get(address, 0) for address in used),
        "meters_wrong": wrong,
    }
    result.verdict["good"] = result.verdict["good"] and not wrong


def _unmoved(result: Result, now: Mapping[str, int], earlier: Mapping[str, int] = MappingProxyType({})) -> None:
    """Readings by which no register moved, and which are no exceptions: rating counts them by verdict."""
    for name in ("late", "duplicate"):
        result.verdict[f"{name}_readings"] = now.get(f"verdict.{name}", 0) - earlier.get(f"verdict.{name}", 0)


def _exceptions(result: Result, found: Mapping[str, int], test: Test) -> None:
    other = sorted(set(found) - _asked_for(test))
    result.verdict |= {"exceptions": dict(found), "exceptions_not_asked_for": other}
    result.verdict["good"] = result.verdict["good"] and not other


def _asked_for(test: Test) -> set[str]:
    """Reasons of exceptions that faults explain: bytes that are no reading, and what comes after a later one."""
    kinds = {name for name, rate in test.faults.items() if rate}
    return ({"malformed"} if "bad" in kinds else set()) | ({"late"} if kinds - {"bad"} else set())


def _audit(result: Result, audit: Callable[[], Mapping[str, Any]]) -> None:
    """An audit that does not come to its end is no reason to lose what was measured."""
    try:
        told = audit()
        found: dict[str, Any] = {"audit_ok": bool(told["ok"]), "audit_difference_fen": int(told["difference_fen"])}
    except RigFailed as failed:
        found = {"audit_ok": False, "audit": str(failed)}
        _unchecked(result, "balances", str(failed))
    except KeyboardInterrupt:
        found = {"audit_ok": False, "audit": "interrupted", "interrupted": True}
        _unchecked(result, "balances", "the audit was interrupted")
    result.verdict |= found
    result.verdict["good"] = result.verdict["good"] and found["audit_ok"]


def _audit_there(target: Target, test: Test) -> Mapping[str, Any]:
    """`meterd audit` beside the running daemon, which it does not hold up."""
    command = [sys.executable, "-m", "meterd.cli", "audit", "--data-dir", str(target.data), "--jobs", "2", "--json"]
    command += ["--config", str(target.config)] if target.config is not None else []
    for book in target.books:
        command += ["--gateway-book", str(book)]
    deadline_s = max(AUDIT_S, test.wish.meters * DEADLINE_A_METER_S)
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=deadline_s)
        told: Mapping[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise RigFailed(f"the audit did not end in {deadline_s:g} s") from None
    except ValueError:
        raise RigFailed(f"the audit ended with {done.returncode}: {done.stderr.decode()[-2000:].strip()}") from None
    return told


def exceptions_of(data: Path, sources: Collection[str] | None = None) -> dict[str, int]:
    """Rows of the exceptions queue by reason, each as often as it came; of some concentrators, or (None) of all."""
    with closing(sqlite3.connect(f"file:{Paths(data).ledger}?mode=ro", uri=True, timeout=10)) as db:
        rows = db.execute(
            "SELECT reason, source, sum(1 + repeats) FROM exception GROUP BY reason, source ORDER BY reason"
        ).fetchall()
    found: dict[str, int] = {}
    for reason, source, count in rows:
        if sources is None or source in sources:
            found[str(reason)] = found.get(str(reason), 0) + int(count)
    return found
