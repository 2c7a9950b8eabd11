"""I/O: the parts of a daemon, made once and tied together, without the threads that drive them.

`meterd.daemon.Daemon` adds threads, broker and HTTP; `meterd.node.Node` drives the same parts from one thread for the
simulated world. What the two have around them is `Outside`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection

from autopay.calls import PoolMaker
from autopay.channels import Channel
from autopay.gateways.http import HttpGateway
from autopay.gateways.port import GatewayPort
from autopay.notices import Party
from autopay.outbox import NoticeDispatcher, channels_of
from autopay.service import AutopayService
from config.clock import Clock
from config.settings import NoticeSettings, Paths, Settings
from config.steps import reach
from ingest.link import LinkMaker
from ingest.log_sqlite import SqliteLog
from ingest.port import IngestLog
from ingest.routing import HashRoutes, Routes
from ingest.shell import MqttShell
from ingest.tail import TailedLog
from ledger.inbox import submit
from ledger.port import MAKE_ROOM, StartRefused
from ledger.reads import cursors
from ledger.recover import RESTORE
from ledger.store import LedgerStore, take_lock
from ledger.versions import register_version
from ledger.writer import Writer, WriterMaker
from meterd.city import City
from meterd.clock_watch import check_clock, newest_s
from meterd.live import LiveBalances
from meterd.loops import ArchivePass
from meterd.metrics import Metrics
from meterd.rating_loop import CityMaker, RatingLoop
from meterd.thinning import ThinPass
from rating.readings import LogFailed, StoredRecord
from rating.state import ARRAYS
from registry.staged import staged_digest
from registry.store import RegistryReader

_log = structlog.get_logger("daemon")


def _sqlite_log(paths: Paths, settings: Settings) -> IngestLog:
    return SqliteLog(
        paths.log, size_max_bytes=settings.log.size_max_bytes, busy_timeout_real_s=settings.log.busy_timeout_real_s
    )


def _http_gateways(settings: Settings) -> Mapping[str, GatewayPort]:
    return {name: HttpGateway(gateway) for name, gateway in settings.gateways.items()}


@dataclass(frozen=True, slots=True)
class Outside:
    """What is around the parts: files, threads, network, people. As it stands here: a daemon's."""

    log: Callable[[Paths, Settings], IngestLog] = _sqlite_log
    writer: WriterMaker = Writer
    calls: PoolMaker = ThreadPoolExecutor  # to gateways
    lanes: PoolMaker = ThreadPoolExecutor  # of notices
    gateways: Callable[[Settings], Mapping[str, GatewayPort]] = _http_gateways
    channels: Callable[[NoticeSettings, Path], Sequence[Channel]] = channels_of
    city: CityMaker = City
    link: LinkMaker | None = None  # None: MQTT
    pause: Callable[[float], bool] | None = None  # None: really wait
    answers_real_s: float = 0.1  # how long a step of autopay waits for its calls; one of the outbox, twice as long


class Parts:
    """Log, ledger, rating, ingest, autopay, notices, archive, and who tells whom. Opening raises `StartRefused`."""

    def __init__(self, settings: Settings, clock: Clock, outside: Outside) -> None:
        self.settings, self.clock, self._outside = settings, clock, outside
        self.paths = Paths(settings.data_dir)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.metrics_set = Metrics(CollectorRegistry(), partitions=settings.partitions)
        lock = take_lock(self.paths.lock)  # before anything is opened: a second daemon touches nothing
        if self.paths.unfinished_ledger.exists():
            raise StartRefused(f"{self.paths.root} holds a restore that did not end", "Empty it and restore again")
        self.log = TailedLog(self._opened_log(), settings.log.tail_max_bytes)
        self.store = LedgerStore.open(
            self.paths.ledger,
            settings=settings.ledger,
            clock=clock,
            log_id=self.log.log_id,
            partitions=settings.partitions,
            arrays=ARRAYS,
            lock=lock,
            writer=outside.writer,
        )
        self.store.check_log(self.log)
        self.rating = RatingLoop(
            settings,
            self.store,
            self.log,
            clock,
            self.metrics_set,
            on_city=self.on_city,
            on_commit=self.on_commit,
            make_city=outside.city,
            pause=outside.pause,
        )
        self.routes: Routes = HashRoutes()
        self.shell = self.made_shell(settings.mqtt.port)
        self.gateways = dict(outside.gateways(settings))
        self.autopay = AutopayService(
            self.store,
            self.gateways,
            clock,
            settings.autopay,
            ZoneInfo(settings.timezone),
            partition_of=self._partition_of,
            lives=LiveBalances(lambda: self.rating.city),
            pool=outside.calls,
            answers_real_s=outside.answers_real_s,
        )
        channels = outside.channels(settings.notices, settings.data_dir)
        self.dispatcher = NoticeDispatcher(
            self.store,
            channels,
            self._party,
            clock,
            settings.notices,
            pool=outside.lanes,
            wait_real_s=2 * outside.answers_real_s,
        )
        self.archive = ArchivePass(settings, self.store, self.log, clock, self.metrics_set)
        keep_s = settings.ledger.checkpoints_keep_s
        self.thinning = ThinPass(self.store, settings.data_dir, keep_s, self.metrics_set)

    def _opened_log(self) -> IngestLog:
        """The reading log, or a refused start: the ledger beside it must not go on with another one."""
        try:
            return self._outside.log(self.paths, self.settings)
        except LogFailed as error:
            advice = MAKE_ROOM if error.retriable else RESTORE
            raise StartRefused(f"The reading log cannot be opened: {error}", advice) from error

    def made_shell(self, port: int) -> MqttShell:
        """Ingest, for a broker at that port."""
        return MqttShell(
            self.settings,
            self.log,
            self.routes,
            self.clock,
            self.handed_over,
            port=port,
            link=self._outside.link,
            pause=self._outside.pause,
        )

    def check_clock(self, *, accept: bool) -> None:
        """`StartRefused` when the clock cannot be right by what log and ledger have seen, unless a person says so."""
        with self.store.reader() as connection:
            rated = [as_of_s for _, as_of_s in cursors(connection).values()]
        try:
            newest = newest_s(self.log, rated, self.settings.partitions)
        except LogFailed as error:
            raise StartRefused(f"The reading log cannot be read: {error}", RESTORE) from error
        check_clock(self.clock, newest, self.settings.ingest, self.paths.clock_leap, accept=accept)

    # -- between the parts -----------------------------------------------------------------------------------
    def handed_over(self, stored: list[StoredRecord]) -> None:
        """Records are durable; the tail keeps them in memory, where rating reads them."""

    def on_commit(self, told: bool) -> None:
        """A checkpoint is durable; `told`: it has something for autopay or for people."""

    def on_inbox(self) -> None:
        """There may be rows in the inbox."""

    def on_city(self, city: City) -> None:
        """Another registry version is in force."""
        routes = self.routes = self.shell.routes = city.reader.routes()
        unread = sorted(set(routes.shard.values()) - set(self.settings.mqtt.shards))
        if unread:  # the broker acknowledges what they send, and nobody ever sees it
            _log.error("concentrators publish to shards that mqtt.shards does not name", shards=unread[:20])

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

    # -- what people and other parts ask for -----------------------------------------------------------------
    def registry(self) -> RegistryReader | None:
        return self.rating.city.reader if self.rating.city is not None else None

    def submit(self, kind: str, key: str, body: dict[str, Any], partition: int | None) -> int:
        """An inbox row through the writer; rating is woken."""
        now_s = self.clock.now_s()
        row = self.store.write(lambda c: submit(c, kind=kind, key=key, body=body, partition=partition, now_s=now_s))
        reach("inbox.submitted")
        self.on_inbox()
        return row

    def activate_registry(self, digest: str) -> int:
        """Register a staged version and put its one inbox row; every partition applies it."""
        reader = RegistryReader(self.paths.registry, digest)
        counts = reader.version.get("counts", {})
        now_s = self.clock.now_s()

        def work(connection: Connection) -> int:
            number = register_version(connection, digest, counts, now_s)
            key = f"registry:{number}:{digest[:16]}"
            return submit(connection, kind="registry", key=key, body={"digest": digest}, partition=None, now_s=now_s)

        row = self.store.write(work)
        reach("registry.submitted")
        self.on_inbox()
        return row

    def activate_staged(self) -> int | None:
        """A version that was imported while no daemon ran: its inbox row, if there is one."""
        digest = staged_digest(self.paths.registry)
        active = {engine.registry_digest for engine in self.rating.engines}
        return self.activate_registry(digest) if digest is not None and active != {digest} else None

    def webhook(self, gateway: str, headers: Mapping[str, str], body: bytes) -> int:
        status = self.autopay.webhook(gateway, headers, body)
        self.on_inbox()
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
        self.on_inbox()
        return {"order": row.id, "state": row.state.value, "outcome": word}

    def reconcile(self, gateway: str) -> dict[str, Any]:
        """Compare a gateway's book with our orders; what we did not know is credited."""
        report = self.autopay.reconcile(gateway)
        self.on_inbox()
        return {name: getattr(report, name) for name in report.__slots__}
