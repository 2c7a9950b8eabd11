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
from functools import partial
from typing import Any, Final

import structlog

from autopay.gateways.http import HttpGateway
from config.clock import Clock, ClockLeapt
from config.settings import Paths, Settings
from ingest.broker import BrokerFailed, EmbeddedBroker
from ledger.port import StartRefused
from meterd.clock_watch import WatchedClock, note_leap
from meterd.endpoint import remove_endpoint, write_endpoint
from meterd.loops import Loop
from meterd.observe import Observer
from meterd.parts import Outside, Parts
from meterd.web import WebServer
from rating.readings import StoredRecord

_POLL_REAL_S: Final = 0.02
_ACTIVATION_REAL_S: Final = 120.0
_BROKER_REAL_S: Final = 20.0
_log = structlog.get_logger("daemon")


class Daemon(Parts):
    """`start`, then wait on `failed()` or a signal, then `stop`. Implements meterd.port.DaemonPort for HTTP."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        note = partial(note_leap, Paths(settings.data_dir).clock_leap)
        self.watch = WatchedClock(clock, settings.ingest.clock_leap_max_real_s, note)
        self.token = secrets.token_urlsafe(24)
        super().__init__(settings, self.watch, Outside())
        clock = self.watch
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
        self.check_clock(accept=accept_clock)
        self.rating.recover()
        staged = self.activate_staged()
        if self.settings.autopay.enabled:
            self.autopay.start()
        self.rating.start()
        if staged is not None:  # readings are not taken in before their meters are known
            self._await_activation(staged)
        port = self.settings.mqtt.port
        if self.settings.mqtt.embedded:
            self.broker = self._started_broker()
            port = self.broker.port
        self.shell = self.made_shell(port)
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
            if isinstance(gateway, HttpGateway):
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
    def handed_over(self, stored: list[StoredRecord]) -> None:
        del stored
        self.rating.wake()

    def on_commit(self, told: bool) -> None:
        if told:  # woken at each of 40 checkpoints a second they took a quarter of a core to find nothing
            self.loops["autopay"].wake()
            self.loops["notices"].wake()

    def on_inbox(self) -> None:
        self.rating.wake(inbox_too=True)

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

    # -- meterd.port.DaemonPort ------------------------------------------------------------------------------
    def wait_applied(self, inbox_id: int, deadline_s: float) -> str | None:
        """Outcome ("" is good) of an inbox row once all its partitions have committed it; None past the deadline."""
        until = self.clock.monotonic_s() + deadline_s
        waiting = threading.Event()
        while True:
            outcome = self.rating.outcome(inbox_id)
            if outcome is not None or self.clock.monotonic_s() >= until:
                return outcome
            waiting.wait(_POLL_REAL_S)

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
            self.metrics_set.broker_memory.set(self.broker.memory_bytes if self.broker is not None else 0)
            return self._observer.text()


def _settle_memory() -> None:
    """What has been made by now stays: the collector need not look at a city's registry again and again.

    A full collection stops every thread; with a million accounts' names in memory they took a tenth of the time of
    ingest and of rating. Our own objects hold no circles, so the collector may come rarely.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
