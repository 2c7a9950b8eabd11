"""I/O: `e2e.*`: a real daemon on a city, a publisher beside it, and a bare paho client for comparison.

    publisher (process) --MQTT--> broker --> meterd run (process): log, fsync, ack, rate, checkpoint, fsync
                                    \\--> bare client (process): ack, and nothing else         the baseline

The time runs from the publisher's first byte to the moment when the ledger's checkpoints cover every reading:
decoded, durable in the log, acknowledged, rated and committed. The baseline's ends with the last message received;
it uses the same broker, publisher and frames, under as many other shards, while the daemon idles. One round goes
ahead, unmeasured, so that both start warm. Afterwards every home's charge is compared with what numpy says. All of
it, city and daemon anew, RUNS times.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import func, select

from benchmarks.e2e_city import NOW_S, Homes, build, found_digest
from benchmarks.e2e_publish import write_sessions
from benchmarks.harness import Benchmark, Result, repeated, result
from benchmarks.mosquitto import Mosquitto
from config.load import load
from config.settings import Paths, Settings
from ingest.wire import reads_topic, subscription
from ledger.database import reader_engine, snapshot
from ledger.reads import counters
from ledger.schema import checkpoint

METERS: Final = 1_000_000
ROUNDS: Final = 12
RUNS: Final = 3
MORE_ROUNDS: Final = 4  # after them, for the memory alone
JSON_MESSAGES: Final = 40_000
JSON_METERS: Final = 20_000
SESSIONS: Final = 4
SHARDS: Final = ("0", "1", "2", "3")  # as many sessions: the embedded broker keeps 100 messages of each in flight
BARE: Final = "b"  # before a shard's name: as many shards, since the broker keeps so much of each and no more
_ROOT: Final = Path(__file__).parents[1]
_POLL_S: Final = 0.02
_DEADLINE_S: Final = 120.0
T = TypeVar("T")
Messages = list[tuple[int, str, bytes]]  # session, topic, payload


@dataclass(frozen=True, slots=True)
class Run:
    """What one end-to-end run measured."""

    per_s: float
    bare_per_s: float
    rss_start_bytes: int
    rss_end_bytes: int


class Stage:
    """One folder, one broker, one daemon."""

    def __init__(self, folder: Path, meters: int, mosquitto_port: int | None) -> None:
        self.folder = folder
        config = folder / "meterd.toml"
        mqtt = "port = 0" if mosquitto_port is None else f"embedded = false\nport = {mosquitto_port}"
        config.write_text(
            f'data_dir = "{folder / "data"}"\nlog_level = "warning"\n[mqtt]\nshards = {list(SHARDS)!r}\n{mqtt}\n'
            f'[http]\nport = 0\n[clock]\nkind = "scaled"\nfactor = 1.0\nstart_s = {NOW_S}\n'
            f"origin_unix = {time.time() + 5.0!r}\n",  # noqa: TID251 - what the scaled clock is set by
            encoding="utf-8",
        )
        self.config = config
        self.settings: Settings = load(config, {}).settings
        self.paths = Paths(self.settings.data_dir)
        self.homes: Homes = build(self.settings, folder, meters)
        self.daemon: subprocess.Popen[bytes] | None = None

    # -- processes -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        """The daemon, from ready to stopped; gives the broker's port."""
        command = [sys.executable, "-m", "meterd.cli", "run", "--config", str(self.config)]
        with (self.folder / "daemon.log").open("wb") as log:
            self.daemon = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            _await(self.paths.endpoint.exists, self._alive, "the daemon is not ready")
            endpoint = json.loads(self.paths.endpoint.read_text(encoding="utf-8"))
            yield int(endpoint["mqtt"]["port"])
            self.daemon.send_signal(signal.SIGTERM)
            assert self.daemon.wait(60) == 0, self._tail()
        finally:
            if self.daemon.poll() is None:
                self.daemon.kill()
                self.daemon.wait(10)

    def activate(self) -> None:
        """A first life of the daemon, in which it takes the city over; the next one starts with it."""
        with self.running():
            engine = reader_engine(self.paths.ledger)
            partitions = self.settings.partitions

            def done() -> bool:
                with snapshot(engine) as connection:
                    return counters(connection).get("inbox.registry", 0) == partitions

            _await(done, self._alive, "the registry is not active")
            engine.dispose()

    def _alive(self) -> bool:
        assert self.daemon is not None
        assert self.daemon.poll() is None, f"the daemon ended\n{self._tail()}"
        return True

    def _tail(self) -> str:
        return (self.folder / "daemon.log").read_text(encoding="utf-8", errors="replace")[-2000:]

    def rss_bytes(self) -> int:
        assert self.daemon is not None
        pages = Path(f"/proc/{self.daemon.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def publish(self, port: int, name: str, messages: Messages, covered: Callable[[], float]) -> float:
        """Seconds from the first byte sent to the moment that `covered` returns (monotonic seconds)."""
        files = write_sessions(self.folder, name, messages, SESSIONS)
        publisher = _Helper("benchmarks.e2e_publish", str(port), str(len(messages)), *map(str, files))
        with publisher:
            end = publisher.go(covered)
            told = publisher.told()
        for file in files:
            file.unlink()
        assert told["acknowledged"] == len(messages)
        return end - float(told["began"])

    def through_daemon(self, port: int, name: str, messages: Messages, readings: int) -> float:
        """Publish and wait until the checkpoints hold `readings` in all."""
        engine = reader_engine(self.paths.ledger)
        try:

            def covered() -> float:
                seen = 0

                def done() -> bool:
                    nonlocal seen
                    with snapshot(engine) as connection:
                        newest = connection.scalar(select(func.max(checkpoint.c.id))) or 0
                        if newest == seen:  # nothing new: the look costs next to nothing
                            return False
                        seen = newest
                        return counters(connection).get("readings", 0) >= readings

                _await(done, self._alive, "the ledger does not cover what was published")
                return time.monotonic()

            return self.publish(port, name, messages, covered)
        finally:
            engine.dispose()

    def through_bare(self, port: int, messages: Messages) -> float:
        """The same through a client that only acknowledges."""
        topics = [subscription(BARE + shard) for shard in SHARDS]
        version, count = self.settings.mqtt.version, str(len(messages))
        with _Helper("benchmarks.e2e_bare", str(port), version, count, *topics) as bare:
            return self.publish(port, "bare", messages, lambda: float(bare.go(bare.told)["last"]))

    def check(self, readings: int) -> None:
        """Accepted = published, all distinct, and every home's charge is what it must be."""
        engine = reader_engine(self.paths.ledger)
        with snapshot(engine) as connection:
            found = counters(connection)
        engine.dispose()
        verdicts = {name: count for name, count in found.items() if name.startswith(("verdict.", "exception."))}
        assert verdicts == {"verdict.accepted": readings}, verdicts
        assert found_digest(self.settings) == self.homes.expected_digest(), "charges are not what the tariffs say"


class _Helper:
    """A process of this folder that says `ready`, waits for a line, and tells one JSON object."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> _Helper:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def go(self, then: Callable[[], T]) -> T:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()
        return then()

    def told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "a helper ended without a word"
        told: dict[str, Any] = json.loads(line)
        return told

    def __exit__(self, *_: object) -> None:
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


def _await(done: Callable[[], bool], alive: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + _DEADLINE_S
    while not done():
        alive()
        assert time.monotonic() < until, what
        time.sleep(_POLL_S)


# -- what is published -----------------------------------------------------------------------------------------------


def _moved(messages: Messages) -> Messages:
    """The same messages under the bare client's shards."""
    head = "meters/v1/"
    return [(session, head + BARE + topic.removeprefix(head), body) for session, topic, body in messages]


def _frames(homes: Homes) -> Messages:
    """One round: a frame of every concentrator."""
    at_s = homes.next_round()
    return [
        (
            number % SESSIONS,
            reads_topic(SHARDS[number % len(SHARDS)], homes.concentrator(number), "arrow", "a", homes.rounds),
            body,
        )
        for number, body in enumerate(homes.frames(at_s))
    ]


def _envelopes(homes: Homes) -> Messages:
    """One round: every reading a message of its own, as a gateway for people's meters sends it."""
    at_s = homes.next_round()
    size = homes.concentrator_size
    out: Messages = []
    for place, (meter, value) in enumerate(zip(homes.address.tolist(), homes.value.tolist(), strict=True)):
        number, sequence = place // size, (homes.rounds - 1) * size + place % size + 1
        name = homes.concentrator(number)
        read = {
            "meter": f"{meter:012d}",
            "register": "1.8.0",
            "ts": at_s,
            "value": f"{value // 1000}.{value % 1000:03d}",
            "unit": "kWh",
            "quality": "A",
        }
        body = {
            "concentrator": name,
            "boot": 1,
            "sequence": sequence,
            "stream": "a",
            "sent_at": at_s,
            "reads": [read],
        }
        topic = reads_topic(SHARDS[number % len(SHARDS)], name, "json", "a", sequence)
        out.append((number % SESSIONS, topic, json.dumps(body, separators=(",", ":")).encode()))
    return out


# -- the runs --------------------------------------------------------------------------------------------------------


def measure(
    folder: Path,
    meters: int,
    rounds: int,
    make: Callable[[Homes], Messages],
    mosquitto_port: int | None = None,
    more: int = MORE_ROUNDS,
) -> Run:
    """One round unmeasured, the bare client, then the daemon, `rounds` rounds each; `more` rounds for the memory."""
    stage = Stage(folder, meters, mosquitto_port)
    homes = stage.homes
    stage.activate()
    with stage.running() as port:
        stage.through_daemon(port, "warm", make(homes), meters)
        messages = [message for _ in range(rounds) for message in make(homes)]
        bare_s = stage.through_bare(port, _moved(messages))
        daemon_s = stage.through_daemon(port, "daemon", messages, meters * (rounds + 1))
        rss_start_bytes = stage.rss_bytes()
        messages = [message for _ in range(more) for message in make(homes)]
        stage.through_daemon(port, "more", messages, meters * (rounds + more + 1))
        rss_end_bytes = stage.rss_bytes()
    stage.check(meters * (rounds + more + 1))
    return Run(meters * rounds / daemon_s, meters * rounds / bare_s, rss_start_bytes, rss_end_bytes)


def _results(name: str, once: Callable[[Path], Run]) -> list[Result]:
    def run() -> Run:
        with tempfile.TemporaryDirectory(prefix="meterd-e2e-") as folder:
            return once(Path(folder))

    runs = repeated(RUNS, run)
    memory = [(run.rss_end_bytes, run.rss_start_bytes) for run in runs]
    return [
        result(name, "readings/s", "a bare paho client", [r.per_s for r in runs], [r.bare_per_s for r in runs]),
        result(f"{name}.rss", "bytes", "itself, four rounds before", *zip(*memory, strict=True), paired=True),
    ]


def embedded() -> list[Result]:
    """Frames of 1,000 readings on the embedded broker."""
    return _results("e2e.embedded", lambda folder: measure(folder, METERS, ROUNDS, _frames))


def mosquitto() -> list[Result]:
    """The same on Mosquitto."""

    def once(folder: Path) -> Run:
        with Mosquitto() as broker:
            return measure(folder, METERS, ROUNDS, _frames, broker.port)

    return _results("e2e.mosquitto", once)


def json_single() -> list[Result]:
    """One reading a message, on the embedded broker."""
    rounds = JSON_MESSAGES // JSON_METERS
    return _results("e2e.json_single", lambda folder: measure(folder, JSON_METERS, rounds, _envelopes))


WHY: Final = {
    "e2e.embedded": "the baseline receives and throws away; all else is durable, rated and committed under one GIL",
    "e2e.embedded.rss": "memory after four more rounds against before: flat",
    "e2e.mosquitto": "the same over Mosquitto, whose larger window keeps ingest busy",
    "e2e.mosquitto.rss": "memory after four more rounds against before: flat",
    "e2e.json_single": "paho makes 8 system calls a message (5 to read, 2 to send, 1 to wait); the daemon reads"
    " 256 kB at once and acknowledges a group in one packet: some tens of messages a call",
    "e2e.json_single.rss": "memory after four more rounds against before: flat",
}
BENCHMARKS: dict[str, Benchmark] = {
    "e2e.embedded": embedded,
    "e2e.mosquitto": mosquitto,
    "e2e.json_single": json_single,
}
