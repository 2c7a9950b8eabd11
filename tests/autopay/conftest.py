"""A ledger in memory, a fake gateway and a world to drive them in: one process's autopay, restartable."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, create_engine, func, insert, select
from sqlalchemy.pool import StaticPool

from autopay.gateways.fake import FakeGateway
from autopay.policy import Live
from autopay.service import AutopayService
from config.clock import ManualClock
from config.settings import AutopaySettings
from ledger import inbox as inbox_module
from ledger.effects import Applied
from ledger.schema import cap_use, decision, event, inbox, mandate, metadata, notice, order, order_step, owner

T = TypeVar("T")
NOON_S = 1_782_878_400  # 2026-07-01 12:00 in Shanghai
SHANGHAI = ZoneInfo("Asia/Shanghai")
MANDATE: dict[str, Any] = {
    "id": "m1",
    "payer": "daughter",
    "account": "a1",
    "gateway": "bank",
    "token": "tok-1",
    "priority": 1,
    "trigger_fen": 2000,
    "amount_fen": 10_000,
    "target_fen": 0,
    "cap_charge_fen": 0,
    "cap_day_fen": 0,
    "cap_month_fen": 0,
    "cap_day_count": 0,
    "cooldown_s": 0,
    "window_from": "07:00",
    "window_to": "22:00",
    "valid_from_s": 0,
    "valid_until_s": 2**40,
}


class MemoryStore:
    """What autopay needs of the ledger, on SQLite in memory, one lock for all."""

    def __init__(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        metadata.create_all(self.engine)
        self._lock = threading.RLock()

    def write(self, work: Callable[[Connection], T]) -> T:
        with self._lock, self.engine.begin() as connection:
            return work(connection)

    @contextlib.contextmanager
    def reader(self) -> Iterator[Connection]:
        with self._lock, self.engine.connect() as connection:
            yield connection

    def take_over(self, role: str, holder: str) -> int:
        def work(connection: Connection) -> int:
            epoch = connection.scalar(select(owner.c.epoch).where(owner.c.role == role)) or 0
            connection.execute(owner.delete().where(owner.c.role == role))
            connection.execute(insert(owner).values(role=role, epoch=epoch + 1, holder=holder))
            return int(epoch) + 1

        return self.write(work)


class World:
    """One fleet's autopay with everything around it."""

    def __init__(self, settings: AutopaySettings | None = None) -> None:
        self.store, self.clock = MemoryStore(), ManualClock(NOON_S)
        self.gateway = FakeGateway(self.clock)
        self.settings = settings or AutopaySettings()
        self.lives: dict[str, Live] = {}  # by account; the event's own balance where there is none
        self.service = self.restart()

    def restart(self) -> AutopayService:
        """A new owner on the same data, as after a death."""
        self.service = AutopayService(
            self.store, {"bank": self.gateway}, self.clock, self.settings, SHANGHAI, answers_real_s=10.0,
            lives=lambda connection, accounts: {a: self.lives[a] for a in accounts if a in self.lives},
        )  # fmt: skip
        return self.service

    def mandate(self, **changes: Any) -> None:
        self.store.write(lambda c: c.execute(insert(mandate).values(MANDATE | changes)))

    def event(self, kind: str = "low_balance", account: str = "a1", arm: int = 1, balance_fen: int = 1900) -> int:
        values = {"partition": 0, "kind": kind, "account": account, "arm": arm, "balance_fen": balance_fen}
        values["as_of_s"] = self.clock.now_s() + self.scalar(select(func.count()).select_from(event))
        return self.store.write(lambda c: int(c.execute(insert(event).values(values)).inserted_primary_key[0]))

    def run(self, steps: int = 20) -> None:
        """Step until nothing is due."""
        for _ in range(steps):
            if not self.service.step():
                return

    def later(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.run()

    def apply_credits(self) -> None:
        """What rating and the ledger do with the inbox."""

        def work(connection: Connection) -> None:
            for row in inbox_module.pending(connection, 0, 1000):
                applied = [Applied(row.id, 1, "", row.body.get("order_id"))]
                inbox_module.stamp(
                    connection, applied, partition=0, partitions=1, checkpoint_id=1, now_s=self.clock.now_s()
                )

        self.store.write(work)

    def scalar(self, query: Any) -> Any:
        with self.store.reader() as connection:
            return connection.scalar(query)

    def rows(self, table: Any, *where: Any) -> list[Any]:
        with self.store.reader() as connection:
            return [dict(row) for row in connection.execute(select(table).where(*where)).mappings()]

    def orders(self) -> list[Any]:
        return self.rows(order)

    def states(self) -> list[str]:
        return [row["state"] for row in self.orders()]

    def steps(self) -> list[tuple[str, str]]:
        return [(row["from_state"], row["to_state"]) for row in self.rows(order_step) if row["from_state"]]

    def reasons(self) -> list[tuple[str, str]]:
        return [(row["outcome"], row["reason"]) for row in self.rows(decision)]

    def credits(self) -> list[Any]:
        return self.rows(inbox, inbox.c.kind == "credit")

    def caps(self) -> dict[str, tuple[int, int]]:
        return {row["scope"]: (row["amount_fen"], row["count"]) for row in self.rows(cap_use)}

    def notices(self) -> list[tuple[str, str]]:
        return [(row["template"], row["party"]) for row in self.rows(notice)]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def new_world() -> type[World]:
    return World


class Beats:
    """Counts its own waits of 50 ms, so that a call's length is told in what this process gets done meanwhile."""

    REAL_S = 0.05

    def __init__(self) -> None:
        self.count = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self.REAL_S):
            self.count += 1

    @contextlib.contextmanager
    def fewer_than(self, real_s: float) -> Iterator[None]:
        """What happens inside ends before so many beats have come: a machine that stalls stalls both."""
        before = self.count
        yield
        assert self.count - before < round(real_s / self.REAL_S)

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def beats() -> Iterator[Beats]:
    made = Beats()
    yield made
    made.close()
