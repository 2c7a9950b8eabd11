"""I/O: a whole system as real processes on this machine: daemon, payment gateway, fleet; then checker and audit.

The demo, the crash tests and the storms stand on it. Everything lives in one folder; ports are free ones of
127.0.0.1, chosen once, so that a daemon that is killed comes back where its fleet looks for it. Business time is
scaled: every process is given the same origin, start and factor.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from config.clock import ScaledClock
from simulators.fleet import instant_of, prepare
from simulators.fleet_keys import write_keys
from simulators.ports import free_ports, listens

DAY_S: Final = 86_400
_POLL_REAL_S: Final = 0.05


class RigFailed(Exception):
    """A part did not come up, or did not end as it should; the message says which and where its log is."""


@dataclass(frozen=True, slots=True)
class Story:
    """What is simulated."""

    meters: int = 2000
    days: int = 30
    seed: int = 7
    start: str = "2026-07-01T00:00:00+08:00"
    faults: str = "none"
    gateway_faults: str = ""
    interval_s: int = 900
    factor: float = 60_000.0  # business seconds in a real one
    partitions: int = 16
    signed: bool = True  # with faults, every second concentrator signs what it sends
    fleet_keepalive_real_s: int = 60
    lead_real_s: float = 8.0  # business time stands still for so long, while the parts come up
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # section -> key -> value, on top


def end_process(process: subprocess.Popen[Any], deadline_real_s: float) -> None:
    """Ask it to end, and kill it when it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(deadline_real_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


class Rig:
    """Prepare once; start, kill and restart parts; wait for quiet; check and audit."""

    def __init__(self, folder: Path, story: Story) -> None:
        self.folder, self.story = folder, story
        self.config = folder / "meterd.toml"
        self.data = folder / "data"
        self.book = folder / "gateway-book.db"
        self.truth = folder / "truth.db"
        self.outbox = folder / "outbox.db"
        self.registry = folder / "registry"
        self.keys = folder / "signing.toml" if story.signed and story.faults != "none" else None
        self.deadline_real_s = 300.0  # of a command, and of a daemon's start
        self.own_sessions = False  # Ctrl-C does not reach the parts: who holds the rig ends them in order
        self.start_s = instant_of(story.start)
        self.origin_unix = 0.0
        self.daemon: subprocess.Popen[bytes] | None = None
        self.gateway: subprocess.Popen[bytes] | None = None
        self.fleet: subprocess.Popen[bytes] | None = None
        self.fleet_lines: list[dict[str, Any]] = []
        self._lines_before = 0  # of fleets that ran before this one
        self.mqtt_port, _, self._http, self._pay = free_ports(4)
        self._secret = secrets.token_hex(16)

    # -- preparation -----------------------------------------------------------------------------------------
    def prepare(self) -> None:
        """Registry, settings and the first import; business time begins `lead_real_s` from now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        source = self.folder / "city"
        story = self.story
        self.meterd(
            "registry", "generate", str(source), "--meters", str(story.meters), "--seed", str(story.seed),
            "--start", story.start[:10],
        )  # fmt: skip
        self.furnish(source)
        prepare(
            source,
            self.registry,
            seed=story.seed,
            start_s=self.start_s,
            days=story.days,
            interval_s=story.interval_s,
            faults=story.faults,
        )
        if self.keys is not None:
            write_keys(self.registry, self.keys, story.seed)
        (self.folder / "gateway.secret").write_text(self._secret)
        self.origin_unix = ScaledClock.starting_in(story.lead_real_s, self.start_s, story.factor).origin_unix
        self.config.write_text(self._settings())
        self.meterd("registry", "import", str(self.registry), "--config", str(self.config))

    def furnish(self, source: Path) -> None:
        """For tests to override: change the generated city's CSV files before they are imported."""

    def _settings(self) -> str:
        story, factor = self.story, self.story.factor

        def real_s(seconds: float) -> int:
            return max(1, int(seconds * factor))

        sections: dict[str, dict[str, object]] = {
            "": {"data_dir": str(self.data), "partitions": story.partitions},
            "clock": {
                "kind": "scaled", "origin_unix": self.origin_unix, "start_s": self.start_s, "factor": factor,
            },
            "mqtt": {"port": self.mqtt_port},
            "http": {"port": self._http},
            "ingest": {"tick_interval_s": real_s(0.06), "resend_after_s": real_s(1.0), "resend_times": 20},
            "archive": {"age_max_s": real_s(3.0)},
            "autopay": {"person_after_s": 90 * DAY_S},
            "notices": {"file": "notices.jsonl"},
            "gateways.simulated": {
                "url": f"http://127.0.0.1:{self._pay}", "secret": self._secret, "deadline_real_s": 1.0,
                "key_lifetime_s": 90 * DAY_S, "settlement_horizon_s": real_s(1.0),
            },
        }  # fmt: skip
        if self.keys is not None:
            sections["signing"] = {"keys_file": self.keys.name}
        for name, values in story.settings.items():
            sections.setdefault(name, {}).update(values)
        lines = []
        for name, values in sections.items():
            lines += [f"[{name}]"] if name else []
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        return "\n".join(lines) + "\n"

    # -- parts -----------------------------------------------------------------------------------------------
    def start_gateway(self, *, kill_at: str = "") -> None:
        """The payment gateway with its own book; the same book after a restart. `kill_at`: as of the daemon."""
        arguments = [
            "-m", "simulators.gateway", "--port", str(self._pay), "--book", str(self.book),
            "--secret-file", str(self.folder / "gateway.secret"), "--seed", str(self.story.seed),
            "--webhook", f"http://127.0.0.1:{self._http}/webhooks/simulated", "--hang-real-s", "1.5",
            "--slow-real-s", "0.2", "--late-real-s", "0.5", "--key-lifetime-s", str(90 * DAY_S),
            "--clock", self.clock,
        ]  # fmt: skip
        if self.story.gateway_faults:
            arguments += ["--faults", self.story.gateway_faults]
        gateway = self.gateway = self._start("gateway", arguments, _dying(kill_at))
        self._await(lambda: listens(self._pay) or gateway.poll() is not None, 20, "gateway")
        if gateway.poll() is not None and not kill_at:
            raise RigFailed(f"the gateway ended with {gateway.poll()}: see {self.folder / 'gateway.log'}")

    def start_daemon(
        self,
        *,
        kill_at: str = "",
        wait: bool = True,
        program: Sequence[str] = ("-m", "meterd.cli"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """The daemon; `kill_at` names a step (config.steps) at which it kills itself.

        `program`: what stands in the place of the CLI, and `environment`: what is added to ours, for a daemon that
        runs among faults of the machine.
        """
        more = {**(environment or {}), **_dying(kill_at)}
        self.daemon = self._start("daemon", [*program, "run", "--config", str(self.config)], more)
        if wait:
            daemon, deadline_real_s = self.daemon, self.deadline_real_s
            self._await(lambda: self.endpoint() is not None or daemon.poll() is not None, deadline_real_s, "daemon")
            if daemon.poll() is not None and not kill_at:
                raise RigFailed(f"the daemon ended with {daemon.returncode}: see {self.folder / 'daemon.log'}")

    def start_fleet(self, *, kill_at: str = "") -> None:
        """The fleet; its progress lines gather in `fleet_lines`, change-outs are imported as they come."""
        story = self.story
        self._lines_before = len(self.fleet_lines)
        self.fleet = self._start(
            "fleet",
            [
                "-m", "simulators.fleet", "--registry", str(self.registry), "--port", str(self.mqtt_port),
                "--mqtt-version", "5", "--truth", str(self.truth), "--outbox", str(self.outbox),
                "--seed", str(story.seed), "--from", story.start, "--days", str(story.days),
                "--interval", str(story.interval_s), "--faults", story.faults, "--clock", self.clock,
                "--changeouts", str(self.folder / "changed"), "--resend-after", "3", "--deadline", "180",
                "--report", str(self.folder / "fleet.json"), "--keepalive", str(story.fleet_keepalive_real_s),
                *(("--keys", str(self.keys)) if self.keys is not None else ()),
            ],
            _dying(kill_at),
            pipe=True,
        )  # fmt: skip
        fleet = self.fleet
        threading.Thread(target=self._follow, args=(fleet,), daemon=True).start()

    def _follow(self, fleet: subprocess.Popen[bytes]) -> None:
        assert fleet.stdout is not None
        for text in fleet.stdout:
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                self.fleet_lines.append(line)
                if line.get("event") == "changeout":
                    self._import(line["directory"])

    def _import(self, directory: str) -> None:
        done = self.meterd("registry", "import", directory, "--config", str(self.config), check=False)
        with (self.folder / "imports.log").open("ab") as log:
            log.write(b"%s: %d\n%s%s" % (directory.encode(), done.returncode, done.stdout, done.stderr))

    @property
    def clock(self) -> str:
        return f"{self.origin_unix!r},{self.start_s},{self.story.factor}"

    def endpoint(self) -> dict[str, Any] | None:
        """endpoint.json of the daemon that runs now."""
        try:
            found: dict[str, Any] = json.loads((self.data / "endpoint.json").read_text())
        except (OSError, ValueError):
            return None
        return found if self.daemon is not None and found["pid"] == self.daemon.pid else None

    # -- ends ------------------------------------------------------------------------------------------------
    def part(self, name: str) -> subprocess.Popen[bytes]:
        """The process of "daemon", "fleet" or "gateway", as it was started last."""
        found = {"daemon": self.daemon, "fleet": self.fleet, "gateway": self.gateway}[name]
        assert found is not None, f"the {name} was never started"
        return found

    def wait_dead(self, deadline_real_s: float, part: str = "daemon") -> int:
        """Until a part has ended by itself; its return code."""
        try:
            return self.part(part).wait(deadline_real_s)
        except subprocess.TimeoutExpired:
            raise RigFailed(f"the {part} did not end in {deadline_real_s} s") from None

    def end_fleet(self) -> None:
        """No new rounds: the fleet ends once what it has sent is held."""
        fleet = self.fleet
        assert fleet is not None
        # It has told something once its handlers stand.
        self._await(lambda: len(self.fleet_lines) > self._lines_before or fleet.poll() is not None, 60, "fleet")
        fleet.send_signal(signal.SIGUSR1)

    def wait_fleet(self, deadline_real_s: float) -> int:
        """Until everything is sent and held."""
        assert self.fleet is not None
        try:
            return self.fleet.wait(deadline_real_s)
        except subprocess.TimeoutExpired:
            raise RigFailed(f"the fleet was not quiet after {deadline_real_s} s: {self.last_words()}") from None

    def last_words(self) -> str:
        """What the parts said last, for whoever has to find out why."""
        code = "runs" if self.daemon is None or self.daemon.poll() is None else f"ended with {self.daemon.returncode}"
        log = (self.folder / "daemon.log").read_text(errors="replace").splitlines()[-20:]
        return "\n".join([f"{self.fleet_lines[-1:]}; the daemon {code}, and said last", *log])

    def wait_quiet(self, deadline_real_s: float) -> dict[str, Any]:
        """Until the log is rated and every outbox is empty (simulators.quiet); what is left otherwise."""
        from simulators.quiet import quiet_of

        until = time.monotonic() + deadline_real_s
        state = quiet_of(self.data)
        while not state["quiet"] and time.monotonic() < until:
            time.sleep(0.2)
            state = quiet_of(self.data)
        return state

    def kill_daemon(self) -> None:
        """SIGKILL, without a word."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait(10)

    def stop_daemon(self, deadline_real_s: float = 40.0) -> int:
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGTERM)
        return self.daemon.wait(deadline_real_s)

    def stop(self) -> None:
        """End whatever still runs."""
        for process in (self.fleet, self.daemon, self.gateway):
            if process is not None:
                end_process(process, 15.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- verdicts --------------------------------------------------------------------------------------------
    def check(self) -> dict[str, Any]:
        """The separate checker's result: bills and credits against the truth books."""
        done = self._run(
            "-m", "simulators.checker", "--truth", str(self.truth), "--data-dir", str(self.data),
            "--gateway-book", str(self.book), "--outbox", str(self.outbox), "--json",
        )  # fmt: skip
        return _json(done, "checker")

    def audit(self) -> dict[str, Any]:
        """The auditor's report."""
        done = self.meterd(
            "audit", "--config", str(self.config), "--gateway-book", str(self.book), "--jobs", "2", "--json",
            check=False,
        )  # fmt: skip
        return _json(done, "audit")

    def meterd(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """A command of the CLI, to its end."""
        done = self._run("-m", "meterd.cli", *arguments)
        if check and done.returncode != 0:
            raise RigFailed(
                f"meterd {' '.join(arguments)} ended with {done.returncode}: {done.stderr.decode()[-2000:]}"
            )
        return done

    # -- helpers ---------------------------------------------------------------------------------------------
    def _run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                [sys.executable, *arguments],
                capture_output=True,
                check=False,
                timeout=self.deadline_real_s,
                env=_environment({}),
            )
        except subprocess.TimeoutExpired:
            raise RigFailed(f"{' '.join(arguments[:4])} did not end in {self.deadline_real_s:g} s") from None

    def _start(
        self, name: str, arguments: list[str], environment: Mapping[str, str] | None = None, *, pipe: bool = False
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else log,
                stderr=log,
                env=_environment(environment or {}),
                start_new_session=self.own_sessions,
            )

    def _await(self, ready: Any, deadline_real_s: float, what: str) -> None:
        until = time.monotonic() + deadline_real_s
        while not ready():
            if time.monotonic() > until:
                raise RigFailed(f"the {what} is not up after {deadline_real_s} s: see {self.folder / what}.log")
            time.sleep(_POLL_REAL_S)


def _dying(kill_at: str) -> dict[str, str]:
    return {"METERD_KILL_AT": kill_at} if kill_at else {}


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("METERD_")}
    return {**clean, **more}


def _json(done: subprocess.CompletedProcess[bytes], what: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise RigFailed(f"{what} ended with {done.returncode}: {done.stderr.decode()[-2000:]}") from None
    return found
