"""I/O: `meterd load`: a load test, open loop; exit 1 when an objective is missed, or anything is lost or wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterd.exits import Exit, Stop

if TYPE_CHECKING:
    from simulators.load.asked import Target, Test
    from simulators.load.run import Result

INTERRUPTED = 130  # 128 + SIGINT, as shells count
# Of a daemon and a broker that are there already
DataDir = Annotated[
    Path | None, typer.Option(metavar="DIR", help="With --broker: of a daemon here: watched, checked.")
]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With --broker: that daemon's settings (--data-dir, too).")
]
Books = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="With --broker: a gateway's own book; once for each.")
]
Numbers = Annotated[
    str, typer.Option(help="Where a message's number stands: properties; topic, for a daemon of MQTT 3.1.1.")
]
BrokerPid = Annotated[
    int | None, typer.Option(min=1, help="With --broker: its process here, if its port does not tell.")
]
DaemonPid = Annotated[
    int | None, typer.Option(min=1, help="With --broker: the daemon's process here, to be measured.")
]


def load(
    meters: Annotated[int, typer.Option(min=1, max=10_000_000, help="Simulated meters.")] = 100_000,
    rate: Annotated[float, typer.Option(min=0.001, help="Readings a second, on average.")] = 6667.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long readings are due.")] = 60.0,
    pattern: Annotated[str, typer.Option(help="steady, ramp, morning, midnight, backfill, reconnect.")] = "steady",
    per_message: Annotated[int, typer.Option(min=1, help="Meters of a concentrator; 1: lone meters.")] = 100,
    format_: Annotated[str, typer.Option("--format", help="arrow, json, senml-json, senml-cbor.")] = "arrow",
    connections: Annotated[int, typer.Option(min=1, max=10_000, help="MQTT connections of each process.")] = 8,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Generator processes.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same city and schedule.")] = 1,
    faults: Annotated[str, typer.Option(metavar="NAME=RATE,...", help="duplicate, reorder, bad, drop.")] = "",
    objective: Annotated[
        list[str] | None, typer.Option(metavar="NAME.pN=TIME", help="Such as reading_to_balance.p99=100ms.")
    ] = None,
    report: Annotated[Path, typer.Option(metavar="DIR", help="Where report.html and report.json go.")] = Path(
        "load-out"
    ),
    wait: Annotated[float, typer.Option(min=0, help="Seconds after the last message for all to be held.")] = 60.0,
    audit: Annotated[bool, typer.Option(help="Recompute every balance; six million accounts take a while.")] = True,
    broker: Annotated[str, typer.Option(metavar="HOST:PORT", help="Of yours; without: a daemon of our own.")] = "",
    registry: Annotated[Path | None, typer.Option(metavar="DIR", help="With --broker: its registry's CSV.")] = None,
    data_dir: DataDir = None,
    config: Config = None,
    gateway_book: Books = None,
    numbers: Numbers = "properties",
    user: Annotated[str, typer.Option(help="MQTT user name.")] = "",
    password_file: Annotated[Path | None, typer.Option(metavar="FILE", help="MQTT password.")] = None,
    cafile: Annotated[Path | None, typer.Option(metavar="FILE", help="TLS: who signed the broker.")] = None,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="TLS: our certificate.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="TLS: its key.")] = None,
    broker_pid: BrokerPid = None,
    daemon_pid: DaemonPid = None,
) -> None:
    """Load a daemon or any broker by a schedule, and measure from when each message was due; exit 1 on a miss."""
    from simulators.load.asked import Target, Test
    from simulators.load.figures import Objective
    from simulators.load.schedule import Wish

    _known(format_, numbers)
    theirs = (data_dir, config, gateway_book, user, password_file, cafile, cert, key, broker_pid, daemon_pid)
    _belong_together(broker, registry, any(theirs))
    _in_pairs(user, password_file, cert, key)
    _files(password_file, cafile, cert, key, config, *(gateway_book or ()))
    with _said():
        test = Test(
            Wish(pattern, meters, per_message, rate, seconds, seed), format_, connections, processes, wait,
            _rates(faults), [Objective.parse(text) for text in objective or ()], audit, numbers,
        )  # fmt: skip
        test.check()
        target = None
        if registry is not None:
            password = password_file.read_text().strip() if password_file is not None else ""
            ca, own, secret = (str(path) if path is not None else "" for path in (cafile, cert, key))
            target = Target(
                *_address(broker), registry, data_dir, None, None, user, password, ca, own, secret, broker=broker_pid
            )
            _daemon_of(target, test, config, gateway_book or [], daemon_pid)
            _can_be_met(test, target)
        _tested(test, target, report)


def _daemon_of(target: Target, test: Test, config: Path | None, books: list[Path], pid: int | None) -> None:
    """What is known of the daemon behind a broker of somebody else's: its files, its process, its gateways' books."""
    from simulators.load.observe import can_watch
    from simulators.load.processes import DAEMON

    if config is not None:
        from meterd.commands.config import settings_or_stop

        settings = settings_or_stop(config)
        target.config, target.data = config, target.data or settings.data_dir
        if settings.mqtt.version != "5":
            test.numbers = "topic"  # its session hears no properties
        if settings.notices.file is not None:
            target.notices = target.data / settings.notices.file
    if books and target.data is None:
        raise Stop(Exit.USAGE, "--gateway-book goes with --data-dir or --config: it is compared with that ledger")
    target.books = books
    if len(books) == 1 and target.notices is not None and can_watch(books[0]):
        target.book = books[0]
    if pid is not None:
        target.processes[DAEMON] = pid


def _can_be_met(test: Test, target: Target) -> None:
    """An objective for what this test cannot see would be missed after an hour, whatever happened in it."""
    from simulators.load.checks import unseen

    for name, why in unseen(target).items():
        for one in test.objectives:
            if one.measure in name.split(", "):
                raise Stop(Exit.USAGE, f"--objective {one.text}: {one.measure} is not measured here: {why}")


def _tested(test: Test, target: Target | None, report: Path) -> None:
    from simulators.load import report as pages

    if report.exists() and not report.is_dir():
        raise Stop(Exit.USAGE, f"--report {report}: that is a file, and a folder is wanted")
    report.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="meterd-load-") as name:
        folder = Path(name)
        try:
            result = _there(test, target, folder) if target is not None else _here(test, folder)
        except BaseException:
            _keep_logs(folder, report)
            raise
        if not result.verdict["good"]:
            _keep_logs(folder, report)
    pages.write(report, test, result)
    _tell(result, pages.resources(result), report)
    if result.verdict.get("interrupted"):
        raise KeyboardInterrupt
    if not result.good:
        raise typer.Exit(Exit.NO)


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """What goes wrong is said in a line; SIGTERM is a Ctrl-C: whoever gets either ends what he has started."""
    from simulators.load.asked import LoadFailed
    from simulators.load.figures import NoObjective
    from simulators.load.population import NoPopulation
    from simulators.load.schedule import NoSchedule
    from simulators.rig import RigFailed

    before = {number: signal.signal(number, _end_early) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except (NoSchedule, NoObjective, NoPopulation, OSError) as wrong:
        raise Stop(Exit.USAGE, str(wrong)) from None
    except (LoadFailed, RigFailed) as failed:
        raise Stop(Exit.NO, str(failed)) from None
    except KeyboardInterrupt:
        _say("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_early(_number: int, _frame: FrameType | None) -> None:
    """It may come in the middle of a line that is being written, so it does not go through the same buffer."""
    os.write(2, b"ending early; once more: at once\n")
    raise KeyboardInterrupt


def _keep_logs(folder: Path, report: Path) -> None:
    """What the daemon, the gateway and the generators said, when something was not as it should be."""
    for path in folder.rglob("*.log"):
        if path.stat().st_size:
            shutil.copyfile(path, report / path.name)
            _say(f"{report / path.name}: what it said")


def _files(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.is_file():
            raise Stop(Exit.USAGE, f"there is no file {path}")


def _known(format_: str, numbers: str) -> None:
    from ingest.wire import FORMATS
    from simulators.load.packets import NUMBERS

    if numbers not in NUMBERS:
        raise Stop(Exit.USAGE, f"--numbers {numbers!r}: {' or '.join(NUMBERS)}")

    if format_ not in FORMATS:
        raise Stop(Exit.USAGE, f"there is no format {format_!r}; there are {', '.join(FORMATS)}")


def _belong_together(broker: str, registry: Path | None, theirs: bool) -> None:
    if broker and registry is None:
        raise Stop(Exit.USAGE, "--broker needs --registry: the directory whose meters are sent for")
    if not broker and (registry is not None or theirs):
        raise Stop(
            Exit.USAGE,
            "--registry, --data-dir, --config, --gateway-book, --user, --broker-pid, --daemon-pid and TLS go with"
            " --broker HOST:PORT",
        )


def _in_pairs(user: str, password_file: Path | None, cert: Path | None, key: Path | None) -> None:
    if bool(cert) != bool(key):
        raise Stop(Exit.USAGE, "--cert and --key go together")
    if password_file and not user:
        raise Stop(Exit.USAGE, "--password-file goes with --user")


def _rates(text: str) -> dict[str, float]:
    from simulators.load.sender import RATES

    found: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, rate = part.partition("=")
        try:
            found[name] = float(rate)
        except ValueError:
            found[name] = -1.0
        if name not in RATES or not 0.0 <= found[name] <= 1.0:
            raise Stop(Exit.USAGE, f"--faults {part!r}: a name of {', '.join(RATES)}, and a rate from 0 to 1")
    return found


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise Stop(Exit.USAGE, f"--broker {text!r}: as in localhost:8883")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _there(test: Test, target: Target, folder: Path) -> Result:
    """Against a broker that is there already, and the daemon behind it as far as it is known."""
    from simulators.load.checks import before, check_running
    from simulators.load.run import load as run

    earlier = before(target)
    result = run(test, target, folder, lambda told: _say(_second(told, test)))
    if target.data is not None:
        _say("comparing every meter's energy" + ("; auditing" if test.audit else ""))
    check_running(result, target, test, earlier)
    return result


def _here(test: Test, folder: Path) -> Result:
    """Against a daemon, a gateway and a city of our own, which end with the test."""
    from simulators.load.checks import check_balances
    from simulators.load.host import Host
    from simulators.load.run import load as run

    _say("making a city")
    with Host(folder / "rig", test.wish) as host:
        host.prepare()
        _say("starting the daemon")
        target = host.begin()
        result = run(test, target, folder, lambda told: _say(_second(told, test)), host.thirsty)
        _say("stopping the daemon; comparing every meter's energy" + ("; auditing" if test.audit else ""))
        if host.stop_daemon() != 0:
            result.verdict["good"] = False
            result.verdict["daemon"] = "did not end well"
        check_balances(result, host, test)
        return result


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _second(told: dict[str, Any], test: Test) -> str:
    at_s = max(0.0, told["t"])  # generators begin to speak a little before the run does
    share = min(100.0, 100.0 * at_s / test.wish.seconds)
    return (
        f"{at_s:6.0f} s {share:4.0f} %  due {told['due']:,}  sent {told['sent']:,}"
        f"  acknowledged {told['acked']:,}  held {told['held']:,}  behind {told['behind']:,}"
    )


def _tell(result: Result, resources: dict[str, dict[str, float]], report: Path) -> None:
    from meterd import output
    from simulators.load import report as pages
    from simulators.load.figures import table

    rows = table(result.figures.histograms)
    output.table(rows[0], rows[1:], title="from when a message was due")
    output.record({name: told for name, told in result.verdict.items() if name not in pages.MISSING})
    for text in pages.missing(result.verdict):
        typer.echo(text)
    for name, one in resources.items():
        typer.echo(f"{name}: {one['cores']:.2f} cores, {one['rss_most'] / 1e6:,.0f} MB at most")
    typer.echo(f"the daemon: {result.usage.daemon}")
    typer.echo(f"the broker: {result.usage.broker}")
    for one in result.objectives:
        typer.echo(f"{'met' if one['met'] else 'MISSED'}: {one['objective']}, measured {one['measured_ms']} ms")
    typer.echo(f"{report / 'report.html'}")
