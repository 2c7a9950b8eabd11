"""I/O: the command `python -m simulators.fleet`: a registry directory's meters as real MQTT clients.

Progress is JSON lines on standard output; the last is `{"event": "end", ...}`. Exit 0 when every message was
sent and held, 1 when the deadline passed first or the run was stopped, 2 for wrong arguments. SIGUSR1 ends the
run early and well: no new rounds, and what was taken is still sent until it is held. A run that was killed goes
on when it is started again with the same arguments, outbox and truth book.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from config.clock import Clock, RealClock, ScaledClock
from ingest.wire import FORMATS, down_subscription
from simulators import fleet_shapes
from simulators.concentrator import Link, Outbox
from simulators.faults import BadFaults, Plan, draw, parse_rates
from simulators.fleet_keys import read_keys
from simulators.fleet_load import Load, build, rollover_openings
from simulators.fleet_registry import BadFleet, Fleet, read_fleet, write_changeouts, write_rollover
from simulators.fleet_run import Limits, Run
from simulators.truth import TruthBook

DAY_S = 86_400
FORMATS_MIXED = "arrow=0.7,json=0.1,senml-json=0.1,senml-cbor=0.1"


@dataclass(frozen=True, slots=True)
class World:
    """Fleet, plan and load of a run: all of it follows from the directory, the seed and the span."""

    fleet: Fleet
    plan: Plan
    load: Load


def plan_of(registry: Path, seed: int, start_s: int, days: int, interval_s: int, faults: str) -> tuple[Fleet, Plan]:
    """The fleet and what goes wrong with it."""
    fleet = read_fleet(registry, start_s, start_s + days * DAY_S)
    intervals = days * DAY_S // interval_s
    plan = draw(parse_rates(faults), seed, fleet.channels, len(fleet.shards), intervals, interval_s)
    return fleet, plan


def prepare(
    source: Path, target: Path, *, seed: int, start_s: int, days: int, interval_s: int = 900, faults: str = "all"
) -> Plan:
    """Copy a registry directory to `target` with the openings that the plan's rollovers need; import that one."""
    fleet, plan = plan_of(source, seed, start_s, days, interval_s, faults)
    write_rollover(source, target, rollover_openings(fleet.channels, plan))
    return plan


def world(
    registry: Path, *, seed: int, start_s: int, days: int, interval_s: int, faults: str, offset_s: int = 28_800
) -> World:
    """Everything about a run but its clients."""
    fleet, plan = plan_of(registry, seed, start_s, days, interval_s, faults)
    zone = timezone(timedelta(seconds=offset_s))
    at_text = {
        c.interval: datetime.fromtimestamp(start_s + (c.interval + 1) * interval_s, zone).isoformat()
        for c in plan.changeouts
    }
    intervals = days * DAY_S // interval_s
    load = build(fleet.channels, plan, fleet_shapes.load(), seed, start_s, intervals, interval_s, offset_s, at_text)
    return World(fleet, plan, load)


def formats_of(text: str, concentrators: int) -> list[str]:
    """Each concentrator's format from "arrow" or "arrow=0.7,json=0.3"; ValueError when it is neither."""
    shares = {}
    for part in text.split(","):
        name, equals, share = part.strip().partition("=")
        if name not in FORMATS:
            raise ValueError(f"no format {name!r}; there are {', '.join(FORMATS)}")
        shares[name] = float(share) if equals else 1.0
    total = sum(shares.values())
    found = []
    for place in range(concentrators):
        mark, name = (place + 0.5) / concentrators * total, next(iter(shares))
        for name in shares:
            if mark < shares[name]:
                break
            mark -= shares[name]
        found.append(name)
    return found


def clock_of(text: str | None) -> Clock:
    """ "origin,start,factor" is a scaled clock; without it the machine's own."""
    if text is None:
        return RealClock()
    origin, start, factor = text.split(",")
    return ScaledClock(float(origin), int(start), float(factor))


def instant_of(text: str) -> int:
    """UTC seconds of an ISO instant; one without an offset is UTC."""
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulators.fleet", description=__doc__)
    parser.add_argument("--registry", type=Path, required=True, help="directory as it was imported at first")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--mqtt-version", choices=("3.1.1", "5"), default="5", help="the daemon's")
    parser.add_argument("--keys", type=Path, help='TOML of concentrator = "hexadecimal key": these sign (MQTT 5)')
    parser.add_argument("--clients", type=int, default=2, help="MQTT sessions that share the concentrators")
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--outbox", type=Path, required=True)
    parser.add_argument("--changeouts", type=Path, help="where the registry with replaced meters is written")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--from", dest="start_s", type=instant_of, required=True, help="ISO instant")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--interval", type=int, default=900)
    parser.add_argument("--offset", type=int, default=28_800, help="seconds east of UTC, for the load's calendar")
    parser.add_argument("--faults", default="none")
    parser.add_argument("--formats", help=f"e.g. {FORMATS_MIXED} (the default with faults; else arrow)")
    parser.add_argument("--clock", help="origin,start,factor of a scaled clock")
    parser.add_argument("--as-fast-as-possible", action="store_true")
    parser.add_argument("--window", type=int, default=500, help="unacknowledged messages of a session")
    parser.add_argument("--keepalive", type=int, default=60, help="real seconds of silence before a PING")
    parser.add_argument("--unheld-max", type=int, default=50_000)
    parser.add_argument("--resend-after", type=float, default=10.0, help="real seconds without `held`")
    parser.add_argument("--deadline", type=float, default=120.0, help="real seconds for all to be held at the end")
    parser.add_argument("--report", type=Path)
    found = parser.parse_args(argv)
    for name in ("days", "interval", "clients", "window", "unheld_max", "keepalive"):
        if getattr(found, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    if found.keys is not None and found.mqtt_version != "5":
        parser.error("--keys needs --mqtt-version 5: MQTT 3.1.1 carries no signature")
    if DAY_S % found.interval:
        parser.error("--interval must divide a day")
    return found


def _run(args: argparse.Namespace, clock: Clock, stopped: list[int], ended: list[int]) -> dict[str, Any]:
    setting = world(
        args.registry,
        seed=args.seed,
        start_s=args.start_s,
        days=args.days,
        interval_s=args.interval,
        faults=args.faults,
        offset_s=args.offset,
    )
    names = list(setting.load.lists)
    formats = formats_of(args.formats or ("arrow" if args.faults == "none" else FORMATS_MIXED), len(names))
    outbox, truth = Outbox(args.outbox), TruthBook(args.truth)
    token = uuid.uuid4().hex[:8]
    streams = outbox.streams({name: f"{token}.{place}" for place, name in enumerate(names)})
    truth.begin(
        setting.load,
        {"start_s": args.start_s, "interval_s": args.interval, "intervals": setting.load.intervals}
        | {"seed": args.seed, "faults": args.faults, "registry": str(args.registry)},
    )
    links = _links(args, setting.fleet.shards, names, min(s.stream for s in streams), clock)
    run = Run(
        setting.load,
        setting.plan,
        setting.fleet.shards,
        formats,
        clock,
        outbox,
        truth,
        streams,
        links,
        Limits(args.unheld_max, args.resend_after, args.deadline),
        _tell,
        paced=not args.as_fast_as_possible,
        keys=read_keys(args.keys) if args.keys is not None else None,
    )
    changed, target = 0, args.changeouts or args.truth.parent / "changeouts"
    try:
        while not stopped and run.step():
            if ended:
                run.finish()
            if setting.load.changes and run.position:
                changed = _write_changeouts_due(setting.load, run.position, args.registry, target, changed)
        return {
            "event": "end",
            "quiet": run.quiet(),
            "outbox_left": outbox.count(),
            "meters": len({c.meter for c in setting.load.channels}),
            "concentrators": len(names),
            "changeouts": len(setting.load.changes),
            **run.figures(),
        }
    finally:
        for link in links:
            link.close()
        outbox.close()
        truth.close()


def _write_changeouts_due(load: Load, position: int, registry: Path, target: Path, done: int) -> int:
    """Write the registry with the meters replaced so far, when there are more than `done`; how many there are."""
    past_s = load.end_s(position - 1)
    changes = [change for change in load.changes if change.at_s <= past_s]
    if len(changes) > done:
        write_changeouts(registry, target, changes)
        meters = [[change.old_meter, change.new_meter] for change in changes]
        _tell({"event": "changeout", "directory": str(target), "meters": meters, "at_s": changes[-1].at_s})
    return len(changes)


def _links(
    args: argparse.Namespace, shards: dict[str, str], names: list[str], first: str, clock: Clock
) -> list[Link]:
    """The MQTT sessions that share the concentrators, named after the first stream so that a restart finds them."""
    count = min(args.clients, len(names))
    return [
        Link(
            args.host,
            args.port,
            f"fleet-{first}-{number}",
            [down_subscription(shards[name], name) for name in names[number::count]],
            clock,
            version=args.mqtt_version,
            window=args.window,
            keepalive_s=args.keepalive,
        )
        for number in range(count)
    ]


def _tell(report: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Run the fleet; see the module's head for the exit codes."""
    args = _arguments(argv)
    stopped: list[int] = []
    ended: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _frame: ended.append(number))
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    signal.signal(signal.SIGINT, lambda number, _frame: stopped.append(number))
    try:
        report = _run(args, clock_of(args.clock), stopped, ended)
    except (BadFleet, BadFaults, ValueError) as wrong:
        sys.stderr.write(f"fleet: {wrong}\n")
        return 2
    _tell(report)
    if args.report is not None:
        args.report.write_text(json.dumps(report) + "\n", encoding="utf-8")
    return 0 if report["quiet"] else 1


if __name__ == "__main__":
    sys.exit(main())
