"""Fixtures: a village of three meters, imported, rated for a month and a half, and a small daemon on top of it."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import uvicorn
from sqlalchemy import insert, select

from config.clock import ManualClock
from config.settings import LedgerSettings, Paths, RatingSettings, Settings
from ingest.archive import write_archive
from ingest.log_sqlite import SqliteLog
from ingest.wire import decode_frames, encode_readings
from ledger.effects import InboxRow
from ledger.inbox import pending, submit
from ledger.schema import archive_file, cap_use, decision, event, inbox_applied, order, order_step
from ledger.store import LedgerStore
from ledger.versions import register_version
from meterd.city import City
from meterd.endpoint import remove_endpoint, write_endpoint
from meterd.http import create_app
from meterd.mandates import sync_mandates
from rating.engine import PartitionEngine
from rating.readings import Readings, Record, RecordKind
from rating.state import ARRAYS
from registry.importer import stage
from registry.store import RegistryReader

PARTITIONS = 2
TOKEN = "a-token-of-the-test"
METERS = {"440100000001": "a1", "440100000002": "a2", "WX-77.a": "a3"}
CSV = {
    "parties": "party,name,language,notify\nli,李伟,zh,\nwang,王芳,zh,\nann,Ann Lee,en,\n",
    "points": "metering_point,commodity,timezone\np1,electricity,\np2,electricity,\np3,electricity,\n",
    "concentrators": "concentrator,shard\nc1,0\n",
    "meters": "meter,metering_point,concentrator,position,from,to,digits,multiplier,power_max_w\n"
    "440100000001,p1,c1,1,2026-01-01,,6,1,13200\n440100000002,p2,c1,0,2026-01-01,,6,1,13200\n"
    "WX-77.a,p3,c1,2,2026-01-01,,5,2,13200\n",
    "registers": "meter,register,role,resolution,unit\n440100000001,1.8.0,bill,0.01,kWh\n"
    "440100000002,1.8.0,bill,0.01,kWh\nWX-77.a,1.8.0,bill,0.001,kWh\n",
    "opening_registers": "meter,register,value,read_at,quality\n440100000001,1.8.0,1000.73,2026-07-01,A\n"
    "440100000002,1.8.0,50,2026-07-01,A\nWX-77.a,1.8.0,7.001,2026-07-01,A\n",
    "accounts": "account,party,metering_point,from,to\na1,li,p1,2026-01-01,\n"
    "a2,wang,p2,2026-01-01,\na3,ann,p3,2026-02-01,\n",
    "tariffs": "account,tariff,from,to\na1,guangzhou-residential,2026-01-01,\n"
    "a2,guangzhou-residential-tou,2026-01-01,\na3,guangzhou-residential,2026-02-01,\n",
    "opening_accounts": "account,balance,arrears,cycle_energy\na1,85.00,0,12.5\na2,-3.20,4.05,0\na3,1000,0,0\n",
    "mandates": "mandate,payer,account,gateway,token,priority,trigger,amount,target,cap_charge,cap_day,cap_month,"
    "cap_day_count,cooldown_s,window_from,window_to,valid_from,valid_to\n"
    "m1,ann,a1,simulated,tok-ann,1,20.00,100.00,,100.00,,500.00,,,,,2026-01-01,\n",
}
DAY_WH = {"440100000001": 8_330, "440100000002": 11_110, "WX-77.a": 10_001}  # the last counts twice


def seconds(text: str) -> int:
    """UTC seconds of local ISO text."""
    return int(datetime.fromisoformat(text + "+08:00").timestamp())


class Village:
    """Log, ledger, engines and registry of one data directory, driven by hand. Also a `meterd.port.DaemonPort`."""

    def __init__(self, root: Path, tariffs: Path | None = None, now: str = "2026-08-12T13:00") -> None:
        self.root = root
        self.settings = Settings(
            data_dir=root / "data", partitions=PARTITIONS, rating=RatingSettings(tariffs_dir=tariffs)
        )
        self.paths = Paths(self.settings.data_dir)
        self.config = root / "meterd.toml"
        own = f'[rating]\ntariffs_dir = "{tariffs}"\n' if tariffs else ""
        self.config.write_text(f'data_dir = "{self.settings.data_dir}"\npartitions = {PARTITIONS}\n{own}')
        self.clock = ManualClock(seconds(now))
        self.token = TOKEN
        self.log = SqliteLog(self.paths.log)
        self.store = LedgerStore.open(
            self.paths.ledger, settings=LedgerSettings(), clock=self.clock, log_id=self.log.log_id,
            partitions=PARTITIONS, arrays=ARRAYS,
        )  # fmt: skip
        self.lock = threading.Lock()
        self.held: list[tuple[bool, str]] = []
        self.obstacles: list[str] = []
        self.webhooks: list[tuple[str, bytes]] = []
        self.well, self.slow = True, False
        self.city: City | None = None
        self.epochs = [self.store.take_over(f"partition:{p}", "test") for p in range(PARTITIONS)]
        self.engines = [
            PartitionEngine(
                p, rating=self.settings.rating, autopay=self.settings.autopay, currency="CNY", decode=decode_frames
            )
            for p in range(PARTITIONS)
        ]
        self.sequence = 0
        self.csv = CSV

    # -- what a test does --------------------------------------------------------------------------------------
    def import_(self) -> str:
        folder = self.root / "csv"
        folder.mkdir(exist_ok=True)
        for name, text in self.csv.items():
            (folder / f"{name}.csv").write_text(text, encoding="utf-8")
        staged = stage(
            folder, self.paths.registry, partitions=PARTITIONS, timezone=self.settings.timezone,
            previous_digest=None, tariffs_known=None, now_s=self.clock.now_s(), alert_fen=3000,
            trigger_fen_default=2000,
        )  # fmt: skip
        return staged.digest

    @property
    def home(self) -> int:
        """The partition of concentrator c1: all three meters are neighbours there."""
        return self.registry().find_account("a1")[0]  # type: ignore[union-attr]

    def read(
        self,
        rows: list[tuple[str, int, str]],
        *,
        received: str | None = None,
        quality: int = 4,
        register: int = 1,
    ) -> None:
        """One frame of (meter, thousandths, local ISO time) through log and engine."""
        from registry.address import address

        frame = Readings(
            np.array([address(m) for m, _, _ in rows], np.uint64), np.array([v for _, v, _ in rows], np.int64),
            np.array([seconds(t) for _, _, t in rows], np.uint32), np.full(len(rows), register, np.uint8),
            np.full(len(rows), quality, np.uint8),
        )  # fmt: skip
        at_s = seconds(received) if received else int(frame.read_at_s.max())
        self.record(RecordKind.READINGS, at_s, encode_readings(frame))

    def record(self, kind: RecordKind, at_s: int, body: bytes = b"", detail: str = "") -> None:
        self.sequence += 1
        numbered = kind is not RecordKind.TICK
        source, stream = ("c1", "s") if numbered else ("", "")
        made = Record(kind, self.home, at_s, source, stream, self.sequence if numbered else -1, body, detail)
        self.engines[self.home].apply(self.log.append([made]))

    def checkpoint(self) -> None:
        changed = [engine for engine in self.engines if engine.changed]
        made = [e.checkpoint(epoch=self.epochs[e.partition], log_id=self.log.log_id) for e in changed]
        self.store.commit(made)

    def archive(self, last: int) -> None:
        """The records that the log still has up to `last` into a file, and out of the log."""
        first = self.log.bounds(self.home)[0]
        records = self.log.read(self.home, first - 1, last - first + 1)
        made = write_archive(self.paths.archive, self.home, records)
        values = {name: getattr(made, name) for name in made.__slots__}
        self.store.write(lambda connection: connection.execute(insert(archive_file).values(values)))
        self.log.prune(self.home, last + 1)

    def live(self) -> None:
        """A month and a half of quarter days for three homes, a late and two bad readings, a broken message."""
        value = {"440100000001": 1_000_730, "440100000002": 50_000, "WX-77.a": 7_001}
        for day in range(42):
            for hour in (6, 12, 18, 24):
                month, first = (7, day + 1) if day < 31 else (8, day - 30)
                at = (
                    f"2026-{month:02d}-{first:02d}T{hour:02d}:15"
                    if hour < 24
                    else f"2026-{month:02d}-{first:02d}T23:45"
                )
                for meter, wh in DAY_WH.items():
                    step = wh // 4 + (1000 * (day % 5) if hour == 18 else 0)
                    value[meter] += step - step % (1 if meter == "WX-77.a" else 10)
                self.read([(meter, value[meter], at) for meter in DAY_WH])
            if day == 9:
                self.read([("440100000001", value["440100000001"] - 500, at)], received=at)  # conflict
                self.read([("440100000001", 999_999_990, "2026-07-10T23:50")])  # impossible
                self.record(RecordKind.REJECT, seconds(at), b"\x00{oops", "malformed: not JSON")
            if day == 12:
                self.read([("440100000001", 1_000_900, "2026-07-02T03:00")], received="2026-07-13T23:50")  # late
            if day == 35:
                self.record(RecordKind.TICK, seconds("2026-08-05T12:00"))
            if day % 10 == 0:
                self.checkpoint()
        self.record(RecordKind.TICK, seconds("2026-08-12T12:59"))
        self.checkpoint()

    def pay(self) -> int:
        """An order of account a1 that went its way to credited, with the decision behind it."""
        partition, now_s = self.home, self.clock.now_s()

        def work(connection: Any) -> int:
            asked = select(event.c.id).where(event.c.kind == "low_balance", event.c.account == "a1")
            event_id = connection.execute(asked.order_by(event.c.id)).scalars().first()
            assert event_id is not None, "the village's first home never fell low"
            values = {
                "account": "a1", "partition": partition, "event_id": event_id, "arm": 1, "attempt": 1,
                "mandate": "m1", "payer": "ann", "gateway": "simulated", "key": "k1", "amount_fen": 10_000,
                "state": "succeeded", "created_at_s": now_s, "epoch": 1, "gateway_txn": "tx-1",
            }  # fmt: skip
            order_id = int(connection.execute(insert(order).values(values).returning(order.c.id)).scalar_one())
            day = f"{datetime.fromtimestamp(now_s, ZoneInfo('Asia/Shanghai')):%Y-%m-%d}"
            held = [
                f"{who}:{per}" for who in ("payer:ann", "mandate:m1") for per in (f"day:{day}", f"month:{day[:7]}")
            ]
            connection.execute(insert(cap_use), [{"scope": s, "amount_fen": 10_000, "count": 1} for s in held])
            for old, new in pairwise(("", "created", "submitted", "succeeded")):
                step = {"order_id": order_id, "at_s": now_s, "from_state": old, "to_state": new}
                connection.execute(insert(order_step).values(**step, evidence='{"kind": "answer"}'))
            told = {"event_id": event_id, "account": "a1", "at_s": now_s, "outcome": "order", "mandate": "m1"}
            figures = json.dumps({"balance_fen": 1990})
            connection.execute(insert(decision).values(**told, reason="low", order_id=order_id, detail=figures))
            return order_id

        order_id = self.store.write(work)
        body = {"account": "a1", "amount_fen": 10_000, "gateway": "simulated", "order_id": order_id}
        self.submit("credit", f"order:{order_id}:1", body, partition)
        return order_id

    def close(self) -> None:
        self.store.close()
        self.log.close()

    # -- meterd.port.DaemonPort --------------------------------------------------------------------------------
    def registry(self) -> RegistryReader | None:
        return self.city.reader if self.city is not None else None

    def submit(self, kind: str, key: str, body: dict[str, Any], partition: int | None) -> int:
        now_s = self.clock.now_s()
        row = self.store.write(lambda c: submit(c, kind=kind, key=key, body=body, partition=partition, now_s=now_s))
        self.apply()
        return row

    def apply(self) -> None:
        """What the rating loop does with the inbox."""
        with self.lock:
            for engine in self.engines:
                with self.store.reader() as connection:
                    waiting = pending(connection, engine.partition, 100)
                for row in waiting:
                    self._apply(engine, row)
            self.checkpoint()

    def _apply(self, engine: PartitionEngine, row: InboxRow) -> None:
        if row.kind != "registry":
            engine.apply_inbox(row)
            return
        if self.city is None or self.city.digest != row.body["digest"]:
            self.city = City(self.paths.registry, row.body["digest"], self.settings.rating)
        city = self.city
        names = city.names(engine.partition)
        engine.activate(row, city.image.partitions[engine.partition], city.book, names)

    def activate_registry(self, digest: str) -> int:
        reader = RegistryReader(self.paths.registry, digest)
        now_s = self.clock.now_s()
        rows = reader.mandates(self.settings.autopay)
        self.store.write(lambda c: (register_version(c, digest, {}, now_s), sync_mandates(c, rows, now_s)))
        return self.submit("registry", f"registry:{digest}", {"digest": digest}, None)

    def wait_applied(self, inbox_id: int, deadline_s: float) -> str | None:
        if self.slow:
            return None
        with self.store.reader() as connection:
            found = select(inbox_applied.c.outcome).where(inbox_applied.c.inbox_id == inbox_id)
            outcomes = connection.execute(found).scalars().all()
        return "; ".join(sorted({text for text in outcomes if text})) if outcomes else None

    def webhook(self, gateway: str, headers: Mapping[str, str], body: bytes) -> int:
        if gateway != "simulated":
            return 404
        if headers.get("x-signature") != "good":
            return 401
        self.webhooks.append((gateway, body))
        return 200

    def hold(self, value: bool, reason: str) -> list[str]:
        if not value and self.obstacles:
            return self.obstacles
        self.held.append((value, reason))
        return []

    def settle_order(self, order_id: int, charged: str | None, why: str, who: str) -> dict[str, Any]:
        from autopay.by_hand import settle_by_hand
        from autopay.settle import Book

        book, now_s = Book(ZoneInfo(self.settings.timezone), notices=True), self.clock.now_s()
        row, word = self.store.write(lambda c: settle_by_hand(c, book, order_id, charged, why, who, now_s))
        return {"order": row.id, "state": row.state.value, "outcome": word}

    def reconcile(self, gateway: str) -> dict[str, Any]:
        return {"gateway": gateway, "credited": 0}

    def health(self) -> dict[str, Any]:
        return {"ok": self.well, "ready": self.well and self.city is not None, "failed": None, "parts": {}}

    def metrics(self) -> bytes:
        return b"# TYPE meterd_acks_total counter\nmeterd_acks_total 1.0\n"


@pytest.fixture(scope="module")
def village(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    """Imported, rated, paid; shared by a module: a test that adds to it uses references of its own."""
    made = Village(tmp_path_factory.mktemp("village"))
    made.activate_registry(made.import_())
    made.live()
    made.pay()
    made.archive(60)
    yield made
    made.close()


@pytest.fixture
def own_village(tmp_path: Path) -> Iterator[Village]:
    """Nothing imported, and a test's own."""
    made = Village(tmp_path)
    yield made
    made.close()


@pytest.fixture
def make_village() -> Iterator[Callable[..., Village]]:
    """Villages of a test's own, in which nothing has happened yet; `replaced`: old text -> new text of the CSV."""
    made: list[Village] = []

    def make(root: Path, replaced: Mapping[str, str] = MappingProxyType({}), **of_village: Any) -> Village:
        root.mkdir(parents=True, exist_ok=True)
        made.append(Village(root, **of_village))
        for old, new in replaced.items():
            made[-1].csv = {name: text.replace(old, new) for name, text in made[-1].csv.items()}
        made[-1].activate_registry(made[-1].import_())
        return made[-1]

    yield make
    for village in made:
        village.close()


@pytest.fixture
def served(village: Village) -> Iterator[Village]:
    """The village behind uvicorn, found by its endpoint.json."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(create_app(village), log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    facts = {"http": url, "token": village.token, "pid": os.getpid(), "mqtt": {"host": "127.0.0.1", "port": 1}}
    write_endpoint(village.paths.endpoint, facts)
    yield village
    remove_endpoint(village.paths.endpoint)
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def empty_village(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    """Nothing imported."""
    made = Village(tmp_path_factory.mktemp("empty"))
    yield made
    made.close()


@pytest.fixture
def told(village: Village, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command on the village: (exit code, JSON value or text on stdout, text on stderr)."""
    from meterd import cli

    def run(*arguments: str, json_: bool = True, config: Path | None = None) -> tuple[int, Any, str]:
        more = ["--config", str(config or village.config), *(["--json"] if json_ else [])]
        code = cli.run([*arguments, *more])
        shown = capsys.readouterr()
        return code, json.loads(shown.out) if json_ and shown.out else shown.out, shown.err

    return run
