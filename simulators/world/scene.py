"""I/O: the cities of the simulated world, made once a process: registry versions, tariffs, fleet, and what it uses.

Some homes at two partitions, two concentrators on two shards. Version 1 is where a history begins; version 2 brings
change-outs, a bigger household and a change of tariff; version 3 a move and the end of a mandate; version 4 the end
of another one, while an order of it is in flight when the dice say so. They arrive while the daemon runs. A daughter
and a son each pay for homes in both partitions, within caps that do not reach for both on one day; others pay for
themselves.
"""

from __future__ import annotations

import csv
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Final

from config.settings import Paths, Settings
from config.tariff_files import tariff_texts
from ledger.database import migrate, writer_engine
from registry.address import partition_of
from registry.generate import generate
from registry.importer import stage_with
from registry.staged import mark_staged
from simulators.faults import RATES_ALL, Plan, draw
from simulators.fleet import instant_of
from simulators.fleet_keys import write_keys
from simulators.fleet_load import Load, build, rollover_openings
from simulators.fleet_registry import Fleet, read_fleet, write_changeouts, write_rollover
from simulators.fleet_shapes import load as shapes
from simulators.world.bank import GATEWAYS, SECRET
from simulators.world.drawn import drawn

# A month; Berlin's clocks go back (10-25); a short month, and they go forward (03-28); a cycle's end in each of them.
STARTS: Final = ("2026-07-01", "2026-10-12", "2027-02-24", "2026-04-10")
CITIES: Final = 3 * len(STARTS)  # those behind the first bill under tariffs that are drawn (simulators.world.drawn)
PARTITIONS: Final = 2
DAY_S: Final = 86_400
USED: Final = ("guangzhou-residential", "guangzhou-residential-tou", "guangzhou-residential-flat", "berlin-tou")
PAYERS: Final = ("daughter", "son")  # who pay for more than one home; the others pay for their own
CANCEL_DAYS: Final = 2  # before the end, a mandate is cancelled in any case
Rows = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Size:
    """Of a world. Rounds of 25 hours drift through the day, so that registers are read at every time of it."""

    meters: int
    days: int
    interval_s: int

    @property
    def intervals(self) -> int:
        return self.days * DAY_S // self.interval_s


SIZES: Final = {  # by name; the first is the default: as small as it can be and still have everything
    "smallest": Size(6, 35, 25 * 3600),
    "village": Size(12, 40, 8 * 3600),
    "town": Size(40, 70, 6 * 3600),
}
SMALLEST: Final = next(iter(SIZES.values()))


@dataclass(frozen=True, slots=True)
class Scene:
    """One city. `versions`: digests in the order in which they must come into force, with the day from which on."""

    number: int
    size: Size
    folder: Path
    start_s: int
    fleet: Fleet
    plan: Plan
    load: Load
    versions: tuple[tuple[str, int], ...]
    keys: dict[str, bytes]
    accounts: tuple[str, ...]
    cancels: str  # the mandate that the last version lacks

    def settings(self, data_dir: Path) -> Settings:
        """Of a daemon in this city."""
        return settings_of(self.folder, data_dir)

    def first(self, days: int) -> Scene:
        """The same city, whose meters and versions end after so many days."""
        rounds, end_s = days * DAY_S // self.size.interval_s, self.start_s + days * DAY_S
        load = self.load
        changes = tuple(change for change in load.changes if change.at_s < load.end_s(rounds - 1))
        cut = replace(
            load, true=load.true[:, :rounds], shown=load.shown[:rounds], alive=load.alive[:rounds], changes=changes
        )
        return replace(self, load=cut, versions=tuple(v for v in self.versions if v[1] < end_s))

    def plan_of(self, seed: int, strength: float) -> Plan:
        """This city's meters with the frames' faults of a seed."""
        rates = {name: min(1.0, 6 * rate * strength) for name, rate in RATES_ALL.items()} if strength else {}
        shards = len(self.fleet.shards)
        drawn = draw(rates, seed, self.fleet.channels, shards, self.size.intervals, self.size.interval_s)
        return replace(self.plan, frames=drawn.frames, skew=drawn.skew)


def settings_of(folder: Path, data_dir: Path) -> Settings:
    """Small files and quick notices, so that a history of a month sees everything happen."""
    return Settings.model_validate(
        {
            "data_dir": data_dir,
            "partitions": PARTITIONS,
            "mqtt": {"embedded": False, "shards": ["0", "1"]},
            "signing": {"keys": tomllib.loads((folder / "keys.toml").read_text())},
            "ingest": {"tick_interval_s": 1800, "resend_after_s": 1800, "resend_times": 3},
            "log": {"group_max": 6},  # less than what is in flight, so that some of that is durable and some is not
            "archive": {"records_per_file": 64, "age_max_s": 2 * DAY_S, "keep_records": 16},
            "rating": {"tariffs_dir": folder / "tariffs", "horizon_from_year": 2026, "horizon_to_year": 2028},
            "ledger": {"checkpoint_idle_real_s": 0.001, "checkpoint_busy_real_s": 900.0, "delta_bytes_max": 4096},
            "autopay": {
                "retry_after_s": [3600, 6 * 3600],
                "cap_day_fen": 6000,
                "cap_month_fen": 30_000,
                "hysteresis_fen": 600,
            },
            "gateways": {name: {"url": "http://127.0.0.1:9", "secret": SECRET.decode()} for name in GATEWAYS},
            "notices": {"retry_after_s": [60, 3600], "attempts_max": 1000},
        }
    )


def make(number: int, folder: Path, size: Size = SMALLEST) -> Scene:
    """The city of that number and size: registry versions staged, nothing running yet."""
    start = STARTS[number % len(STARTS)]
    start_s = instant_of(f"{start}T00:00:00+08:00")
    city = folder / "city"
    half = size.meters // 2
    generate(city, meters=size.meters, seed=number + 1, start=start, shards=("0", "1"), concentrator_size=half)
    _tariffs(folder / "tariffs", date.fromisoformat(start), Random(number) if number >= len(STARTS) else None)
    _furnish(city, start, number)
    keys = write_keys(city, folder / "keys.toml", number)
    fleet, plan = _plan(city, number, start_s, size)
    write_rollover(city, folder / "v1", rollover_openings(fleet.channels, plan))
    load = _loaded(folder / "v1", plan, number, start_s, size)
    change_s = load.changes[0].at_s if load.changes else start_s + 12 * DAY_S
    write_changeouts(folder / "v1", folder / "v2", load.changes)
    _second(folder / "v2", start)
    _third(folder / "v2", folder / "v3", start)
    cancels = _fourth(folder / "v3", folder / "v4")
    third_s = max(change_s, start_s + 20 * DAY_S)
    last_s = max(third_s, start_s + (size.days - CANCEL_DAYS) * DAY_S)
    settings = settings_of(folder, folder / "data")
    versions, before = [], None
    for name, from_s in (("v1", start_s), ("v2", change_s), ("v3", third_s), ("v4", last_s)):
        before = stage_with(settings, folder / name, previous_digest=before, now_s=from_s).digest
        versions.append((before, from_s))
    mark_staged(folder / "data" / "registry", versions[0][0])
    _empty_ledger(folder / "data")
    accounts = _rows(folder / "v3" / "accounts.csv")
    return Scene(
        number, size, folder, start_s, fleet, plan, load, tuple(versions), keys,
        tuple(row["account"] for row in accounts), cancels,
    )  # fmt: skip


def _empty_ledger(data_dir: Path) -> None:
    """Tables and nothing in them: making them takes longer than some days of a history."""
    engine = writer_engine(Paths(data_dir).ledger)
    migrate(engine)
    engine.dispose()


def _plan(city: Path, number: int, start_s: int, size: Size) -> tuple[Fleet, Plan]:
    """Which meters roll over, stand empty, die for days and are replaced: one of each."""
    fleet = read_fleet(city, start_s, start_s + size.days * DAY_S)
    meters = {name: RATES_ALL[name] for name in ("rollover", "vacant", "dead", "changeout")}
    return fleet, draw(meters, number, fleet.channels, len(fleet.shards), size.intervals, size.interval_s)


def _loaded(registry: Path, plan: Plan, number: int, start_s: int, size: Size) -> Load:
    fleet = read_fleet(registry, start_s, start_s + size.days * DAY_S)
    zone = timezone(timedelta(hours=8))
    at_text = {
        c.interval: datetime.fromtimestamp(start_s + (c.interval + 1) * size.interval_s, zone).isoformat()
        for c in plan.changeouts
    }
    return build(fleet.channels, plan, shapes(), number, start_s, size.intervals, size.interval_s, 8 * 3600, at_text)


# -- the directories -----------------------------------------------------------------------------------------------


def _rows(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _edit(path: Path, change: Callable[[Rows], Rows]) -> None:
    rows = change(_rows(path))
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        out.writeheader()
        out.writerows(rows)


def _tariffs(target: Path, start: date, draw: Random | None) -> None:
    """The shipped ones; a new price of one inside the first cycle, and one that keeps Berlin's summer time."""
    target.mkdir(parents=True)
    texts = tariff_texts()
    plain = texts["guangzhou-residential"]
    head, version = plain.split("[[version]]", 1)
    first = version.splitlines()[1]
    later = version.replace(first, f"from = {start + timedelta(days=9)}", 1).replace('"0.5802"', '"0.6802"', 1)
    texts["guangzhou-residential"] = f"{head}[[version]]{version}\n[[version]]{later}"
    berlin = texts["guangzhou-residential-tou"].replace("guangzhou-residential-tou", "berlin-tou")
    texts["berlin-tou"] = berlin.replace(
        'timezone = "Asia/Shanghai"', 'timezone = "Europe/Berlin"\nclock = "daylight"'
    )
    for name, text in texts.items():
        changed = drawn(text, draw) if draw is not None and name in USED else text
        (target / f"{name}.toml").write_text(changed, encoding="utf-8")


def _furnish(city: Path, start: str, number: int) -> None:
    """Little money, many payers."""
    accounts = _rows(city / "accounts.csv")
    names = [row["account"] for row in accounts]
    read_by = {row["metering_point"]: row["concentrator"] for row in _rows(city / "meters.csv")}
    by_home: list[list[str]] = [[] for _ in range(PARTITIONS)]
    for row in accounts:
        by_home[partition_of(read_by[row["metering_point"]], PARTITIONS)].append(row["account"])
    both = [homes[0] for homes in by_home if homes]  # the daughter's: one in each partition
    others = [name for name in names if name not in both]
    his = [homes[1] for homes in by_home if len(homes) > 1]  # the son's
    payers = {row["account"]: row["party"] for row in accounts} | dict.fromkeys(his, "son")
    tariffs = ("guangzhou-residential-tou", "berlin-tou", "guangzhou-residential-flat")
    chosen = dict(zip(others, tariffs, strict=False))
    _edit(
        city / "tariffs.csv",
        lambda rows: [row | {"tariff": chosen.get(row["account"], row["tariff"])} for row in rows],
    )

    def balances(rows: Rows) -> Rows:
        return [row | {"balance": f"{18 + 5 * (place + number) % 40}.00"} for place, row in enumerate(rows)]

    _edit(city / "opening_accounts.csv", balances)
    _edit(city / "parties.csv", lambda rows: [*rows, rows[-1] | {"party": "son", "name": "陈家明"}])
    _edit(city / "mandates.csv", lambda rows: _mandates(rows[0], both, others, payers, start))


def _mandates(
    pattern: dict[str, str], both: list[str], others: list[str], payers: dict[str, str], start: str
) -> Rows:
    """The daughter's for `both`; the others by their own payers; for one of those she steps in, too."""
    one, other = GATEWAYS
    empty = dict.fromkeys(pattern, "") | {"gateway": one, "valid_from": start}
    hers = empty | {"payer": "daughter"}
    found = [
        hers | {"mandate": f"daughter-{name}", "account": name, "token": "tok-daughter", "amount": "40"}
        for name in both
    ]
    own = [
        {"amount": "30", "priority": "1"},
        {"target": "60", "priority": "1", "gateway": other, "window_from": "07:00", "window_to": "22:00"},
        {"amount": "20", "cap_day_count": "1", "valid_to": str(date.fromisoformat(start) + timedelta(days=24))},
        {"amount": "50", "cap_month": "100", "gateway": other},
    ]
    for name, terms in zip(others, own, strict=False):
        who = {"mandate": f"own-{name}", "account": name, "payer": payers[name], "token": f"tok-{payers[name]}"}
        found.append(empty | terms | who)
    second = {"mandate": f"second-{others[0]}", "account": others[0], "token": "tok-second", "priority": "2"}
    return [*found, hers | second | {"amount": "25"}]


def _second(target: Path, start: str) -> None:
    """Beside the change-outs: a fifth person in a home, and another home's change to time of use."""
    first = date.fromisoformat(start)
    grown = str(first + timedelta(days=14))
    accounts = [row["account"] for row in _rows(target / "accounts.csv")]
    _edit(
        target / "attributes.csv",
        lambda rows: [*rows, {"account": accounts[-1], "name": "household_size", "value": "6", "from": grown}],
    )
    at = str(first + timedelta(days=16))

    def switched(rows: Rows) -> Rows:
        old = next(row for row in reversed(rows) if row["tariff"] == "guangzhou-residential")
        new = dict(old, tariff="guangzhou-residential-tou")
        new["from"], old["to"] = at, at
        return [*rows, new]

    _edit(target / "tariffs.csv", switched)


def _third(source: Path, target: Path, start: str) -> None:
    """A move, and a mandate that is no more."""
    shutil.copytree(source, target)
    at = str(date.fromisoformat(start) + timedelta(days=21))
    leaving = _rows(target / "accounts.csv")[-2]["account"]

    def moved(rows: Rows) -> Rows:
        old = next(row for row in rows if row["account"] == leaving)
        new = dict(old, account=f"{leaving}-next")
        new["from"], old["to"] = at, at
        return [*rows, new]

    _edit(target / "accounts.csv", moved)

    def tariff(rows: Rows) -> Rows:
        old = next(row for row in reversed(rows) if row["account"] == leaving)
        new = dict(old, account=f"{leaving}-next", tariff="guangzhou-residential")
        new["from"], old["to"] = at, at
        return [*rows, new]

    _edit(target / "tariffs.csv", tariff)
    _edit(target / "mandates.csv", lambda rows: [row for row in rows if not row["mandate"].startswith("second-")])


def _fourth(source: Path, target: Path) -> str:
    """A mandate that is charged often is cancelled; which one."""
    shutil.copytree(source, target)
    cancelled = next(row["mandate"] for row in _rows(source / "mandates.csv") if row["mandate"].startswith("own-"))
    _edit(target / "mandates.csv", lambda rows: [row for row in rows if row["mandate"] != cancelled])
    return cancelled
