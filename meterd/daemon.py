"""I/O: the composition root of `meterd run`: every part made once, started in order, stopped in the other order.

Start:  lock and ledger -> log -> recovery -> autopay owner -> rating -> broker -> ingest -> archive, notices -> HTTP
Stop:   ingest finishes its group and acknowledges -> autopay takes the answers that came -> rating applies what is
        left in the inbox and writes the last checkpoint -> the others end

Threads: ingest worker and one network thread a shard, rating, the ledger's writer, archive, autopay, notices, HTTP.
A thread that ends with an error takes the daemon down: `failed()` says which, and a restart loses nothing.
"""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
from prometheus_client import CollectorRegistry

from autopay.gateways.http import HttpGateway
from autopay.notices import Party
from autopay.outbox import NoticeDispatcher, channels_of
from autopay.service import AutopayService
from config.clock import Clock
from config.settings import Paths, Settings
from ingest.broker import BrokerFailed, EmbeddedBroker
from ingest.log_sqlite import SqliteLog
from ingest.routing import HashRoutes
from ingest.shell import MqttShell
from ingest.tail import TailedLog
from ledger.inbox import submit
from ledger.port import StartRefused
from ledger.reads import cursors
from ledger.recover import RESTORE
from ledger.store import LedgerStore, take_lock
from ledger.versions import register_version
from meterd.city import City
from meterd.clock_watch import ClockLeapt, WatchedClock, check_clock, newest_s, note_leap
from meterd.endpoint import remove_endpoint, write_endpoint
from meterd.live import LiveBalances
from meterd.loops import ArchivePass, Loop
from meterd.metrics import Metrics
from meterd.observe import Observer
from meterd.rating_loop import RatingLoop
from meterd.thinning import ThinPass
from meterd.web import WebServer
from rating.readings import LogFailed, StoredRecord
from rating.state import ARRAYS
from registry.staged import staged_digest
from registry.store import RegistryReader

_POLL_REAL_S: Final = 0.02
_ACTIVATION_REAL_S: Final = 120.0
_BROKER_REAL_S: Final = 20.0
_log = structlog.get_logger("daemon")


class Daemon:
    """`start`, then wait on `failed()` or a signal, then `stop`. Implements meterd.port.DaemonPort for HTTP."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.paths = Paths(settings.data_dir)
        note = partial(note_leap, self.paths.clock_leap)
        self.watch = clock = WatchedClock(clock, settings.ingest.clock_leap_max_real_s, note)
        self.settings, self.clock = settings, clock
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.metrics_set = Metrics(CollectorRegistry(), partitions=settings.partitions)
        self.token = secrets.token_urlsafe(24)
        lock = take_lock(self.paths.lock)  # before anything is opened: a second daemon touches nothing
        self.log = TailedLog(_opened_log(self.paths, settings), settings.log.tail_max_bytes)
        self.store = LedgerStore.open(
            self.paths.ledger,
            settings=settings.ledger,
            clock=clock,
            log_id=self.log.log_id,
            partitions=settings.partitions,
            arrays=ARRAYS,
            lock=lock,
        )
        self.store.check_log(self.log)
        self.rating = RatingLoop(
            settings,
            self.store,
            self.log,
            clock,
            self.metrics_set,
            on_city=self._on_city,
            on_commit=self._on_commit,
        )
        self.shell = MqttShell(settings, self.log, HashRoutes(), clock, self._handed_over)
        self.gateways = {name: HttpGateway(gateway) for name, gateway in settings.gateways.items()}
        self.autopay = AutopayService(
            self.store,
            self.gateways,
            clock,
            settings.autopay,
            ZoneInfo(settings.timezone),
            partition_of=self._partition_of,
            lives=LiveBalances(lambda: self.rating.city),
        )
        channels = channels_of(settings.notices, settings.data_dir)
        self.dispatcher = NoticeDispatcher(self.store, channels, self._party, clock, settings.notices)
        self.archive = ArchivePass(settings, self.store, self.log, clock, self.metrics_set)
        keep_s = settings.ledger.checkpoints_keep_s
        self.thinning = ThinPass(self.store, settings.data_dir, keep_s, self.metrics_set)
        idle = max(_POLL_REAL_S, min(1.0, clock.real_seconds(60)))
        self.loops = {
            "archive": Loop("archive", self._archive_step, clock, idle_real_s=1.0),
            "autopay": Loop("autopay", self._autopay_step, clock, idle_real_s=idle),
            "notices": Loop("notices", self.dispatcher.step, clock, idle_real_s=idle),
        }
        self.broker: EmbeddedBroker | None = None
        self.web = WebServer(self)
        self._observer = Observer(self)
        self._observing = threading.Lock()
        self._ready = False

    # -- life ------------------------------------------------------------------------------------------------
    def start(self, *, accept_clock: bool = False) -> None:
        """Returns when readings are taken in and commands are answered; raises StartRefused."""
        self._check_clock(accept=accept_clock)
        self.rating.recover()
        staged = self._activate_staged()
        if self.settings.autopay.enabled:
            self.autopay.start()
        self.rating.start()
        if staged is not None:  # readings are not taken in before their meters are known
            self._await_activation(staged)
        port = self.settings.mqtt.port
        if self.settings.mqtt.embedded:
            self.broker = self._started_broker()
            port = self.broker.port
        self.shell = MqttShell(self.settings, self.log, self.shell.routes, self.clock, self._handed_over, port=port)
        self.shell.start()
        for loop in self.loops.values():
            loop.start()
        self.web.start()
        write_endpoint(
            self.paths.endpoint,
            {
                "http": self.web.url,
                "token": self.token,
                "pid": os.getpid(),
                "mqtt": {"host": self.settings.mqtt.host, "port": port},
            },
        )
        _settle_memory()
        self._ready = True
        _log.info("ready", http=self.web.url, mqtt_port=port, partitions=self.settings.partitions)

    def _check_clock(self, *, accept: bool) -> None:
        with self.store.reader() as connection:
            rated = [as_of_s for _, as_of_s in cursors(connection).values()]
        try:
            newest = newest_s(self.log, rated, self.settings.partitions)
        except LogFailed as error:
            raise StartRefused(f"The reading log cannot be read: {error}", RESTORE) from error
        check_clock(self.clock, newest, self.settings.ingest, self.paths.clock_leap, accept=accept)

    def _started_broker(self) -> EmbeddedBroker:
        """The former daemon's broker may need a moment to give its ports back after a kill."""
        until = self.clock.monotonic_s() + _BROKER_REAL_S
        while True:
            try:
                return EmbeddedBroker(self.settings.mqtt).start()
            except BrokerFailed as failed:
                if not failed.retriable or self.clock.monotonic_s() > until:
                    raise StartRefused(str(failed), "Free its port and the next one, or set mqtt.port") from failed
                _log.warning("the broker does not start yet", error=str(failed))
                threading.Event().wait(_POLL_REAL_S * 10)

    def _activate_staged(self) -> int | None:
        """A version that was imported while no daemon ran: its inbox row, if there is one."""
        digest = staged_digest(self.paths.registry)
        active = {engine.registry_digest for engine in self.rating.engines}
        return self.activate_registry(digest) if digest is not None and active != {digest} else None

    def _await_activation(self, inbox_id: int) -> None:
        until = self.clock.monotonic_s() + _ACTIVATION_REAL_S
        while self.wait_applied(inbox_id, 1.0) is None:
            if self.rating.failure is not None:
                raise StartRefused(f"The registry cannot be activated: {self.rating.failure!r}", "See the log")
            if self.clock.monotonic_s() > until:
                raise StartRefused(
                    f"The registry was not active after {_ACTIVATION_REAL_S:.0f} s", "Start again; the log says why"
                )

    def stop(self, deadline_real_s: float = 30.0) -> bool:
        """Finish what is in hand, lose nothing. False when something had to be left to the next start."""
        self._ready = False
        until = self.clock.monotonic_s() + deadline_real_s

        def left() -> float:
            return max(0.1, until - self.clock.monotonic_s())

        remove_endpoint(self.paths.endpoint)
        self.web.stop(min(5.0, left()))
        done = self.shell.stop(left())
        done &= self.loops["autopay"].stop(left())  # charges nobody any more, before rating takes the last credits
        if self.settings.autopay.enabled:
            with contextlib.suppress(ClockLeapt):  # an answer of this moment: the next start asks for it
                self.autopay.stop()
        done &= self.rating.stop(left())
        for loop in self.loops.values():
            done &= loop.stop(left())
        self.dispatcher.stop(min(5.0, left()))
        for gateway in self.gateways.values():
            gateway.close()
        if self.broker is not None:
            self.broker.stop()
        self.store.close()
        self.log.close()
        _log.info("stopped", clean=done)
        return done

    def failed(self) -> str | None:
        """The first part that ended by itself, with its error; None while all is well."""
        if self.shell.failure is not None:
            return f"ingest: {self.shell.failure!r}"
        if self.rating.failure is not None:
            return f"rating: {self.rating.failure!r}"
        for name, loop in self.loops.items():
            if loop.failure is not None:
                return f"{name}: {loop.failure!r}"
        if self.broker is not None and not self.broker.alive:
            return "the embedded broker ended"
        return None

    # -- between the parts -----------------------------------------------------------------------------------
    def _handed_over(self, stored: list[StoredRecord]) -> None:
        del stored  # the tail keeps them in memory; rating reads it
        self.rating.wake()

    def _on_city(self, city: City) -> None:
        routes = self.shell.routes = city.reader.routes()
        unread = sorted(set(routes.shard.values()) - set(self.settings.mqtt.shards))
        if unread:  # the broker acknowledges what they send, and nobody ever sees it
            _log.error("concentrators publish to shards that mqtt.shards does not name", shards=unread[:20])

    def _on_commit(self, told: bool) -> None:
        if told:  # woken at each of 40 checkpoints a second they took a quarter of a core to find nothing
            self.loops["autopay"].wake()
            self.loops["notices"].wake()

    def _archive_step(self) -> int:
        done = self.archive.step()
        self.thinning.step()  # not counted: one transaction a pass, and checkpoints have the writer until the next
        return done

    def _autopay_step(self) -> int:
        if not self.settings.autopay.enabled:
            return 0
        done = self.autopay.step()
        if done:
            self.rating.wake(inbox_too=True)
            self.loops["notices"].wake()
        return done

    def _partition_of(self, account: str) -> int | None:
        return self.rating.city.partition_of(account) if self.rating.city is not None else None

    def _party(self, party: str, account: str) -> Party | None:
        if self.rating.city is None:
            return None
        reader = self.rating.city.reader
        try:
            found = reader.party(party or reader.holder(account))
        except KeyError:
            return None
        return Party(found.id, found.name, found.language, found.notify or None)

    # -- meterd.port.DaemonPort ------------------------------------------------------------------------------
    def registry(self) -> RegistryReader | None:
        return self.rating.city.reader if self.rating.city is not None else None

    def submit(self, kind: str, key: str, body: dict[str, Any], partition: int | None) -> int:
        """An inbox row through the writer; rating is woken."""
        now_s = self.clock.now_s()
        row = self.store.write(lambda c: submit(c, kind=kind, key=key, body=body, partition=partition, now_s=now_s))
        self.rating.wake(inbox_too=True)
        return row

    def activate_registry(self, digest: str) -> int:
        """Register a staged version and put its one inbox row; every partition applies it."""
        reader = RegistryReader(self.paths.registry, digest)
        counts = reader.version.get("counts", {})
        now_s = self.clock.now_s()

        def work(connection: Any) -> int:
            number = register_version(connection, digest, counts, now_s)
            key = f"registry:{number}:{digest[:16]}"
            return submit(connection, kind="registry", key=key, body={"digest": digest}, partition=None, now_s=now_s)

        row = self.store.write(work)
        self.rating.wake(inbox_too=True)
        return row

    def wait_applied(self, inbox_id: int, deadline_s: float) -> str | None:
        """Outcome ("" is good) of an inbox row once all its partitions have committed it; None past the deadline."""
        until = self.clock.monotonic_s() + deadline_s
        waiting = threading.Event()
        while True:
            outcome = self.rating.outcome(inbox_id)
            if outcome is not None or self.clock.monotonic_s() >= until:
                return outcome
            waiting.wait(_POLL_REAL_S)

    def webhook(self, gateway: str, headers: Mapping[str, str], body: bytes) -> int:
        status = self.autopay.webhook(gateway, headers, body)
        self.rating.wake(inbox_too=True)
        return status

    def hold(self, value: bool, reason: str) -> list[str]:
        """Stop or resume submitting payments; returns what stands against resuming."""
        if value:
            self.autopay.set_hold(reason)
            return []
        return self.autopay.lift_hold(reason)

    def settle_order(self, order_id: int, charged: str | None, why: str, who: str) -> dict[str, Any]:
        """A person's word about an order: charged under a transaction id, or (None) not charged."""
        row, word = self.autopay.settle_by_hand(order_id, charged, why, who)
        self.rating.wake(inbox_too=True)
        return {"order": row.id, "state": row.state.value, "outcome": word}

    def reconcile(self, gateway: str) -> dict[str, Any]:
        """Compare a gateway's book with our orders; what we did not know is credited."""
        report = self.autopay.reconcile(gateway)
        self.rating.wake(inbox_too=True)
        return {name: getattr(report, name) for name in report.__slots__}

    def health(self) -> dict[str, Any]:
        """`ok`: no part has ended; `ready`: readings are taken in and rated."""
        failed = self.failed()
        now = self.clock.monotonic_s()
        parts: dict[str, Any] = {
            "ingest": {"state": self.shell.state, "connected": self.shell.connected, "queue": self.shell.queue_depth},
            "rating": {"alive": self.rating.alive, "idle_s": round(now - self.rating.beat_real_s, 1)},
        }
        for name, loop in self.loops.items():
            parts[name] = {"alive": loop.alive, "idle_s": round(now - loop.beat_real_s, 1)}
        if self.broker is not None:
            parts["broker"] = {"alive": self.broker.alive}
        ready = self._ready and failed is None and self.shell.connected and self.shell.state == "running"
        ready = ready and self.rating.city is not None
        return {"ok": failed is None, "ready": ready, "failed": failed, "parts": parts}

    def metrics(self) -> bytes:
        with self._observing:
            return self._observer.text()


def _settle_memory() -> None:
    """What has been made by now stays: the collector need not look at a city's registry again and again.

    A full collection stops every thread; with a million accounts' names in memory they took a tenth of the time of
    ingest and of rating. Our own objects hold no circles, so the collector may come rarely.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _opened_log(paths: Paths, settings: Settings) -> SqliteLog:
    """The reading log, or a refused start: the ledger beside it must not go on with another one."""
    try:
        return SqliteLog(
            paths.log,
            size_max_bytes=settings.log.size_max_bytes,
            busy_timeout_real_s=settings.log.busy_timeout_real_s,
        )
    except LogFailed as error:
        raise StartRefused(f"The reading log cannot be opened: {error}", RESTORE) from error
