"""I/O: the autopay owner: gathers rows, lets the policy decide, lets gateways charge, and writes what came of it.

One `step` is one bounded pass. HTTP calls run in a small pool, each with its adapter's deadline, and are collected
by this or a later step, so a slow gateway holds up nobody else. The order of every payment is fixed:

    order.created    order row and caps, one transaction with the decision
    order.submitted  compare-and-swap under our epoch; the gateway has not heard
    (the call)
    order.answered   the gateway answered, the database does not know
    order.succeeded  state, credit and notices, one transaction

Whoever dies in between finds `submitted` orders of an older epoch at the next start and asks about them first.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, or_, select, text, update

from autopay import caps
from autopay.answers import apply_answer, take_webhook
from autopay.gateways.port import GatewayPort
from autopay.orders import Answer, State, Unknown, reference_of
from autopay.policy import Decision, LowBalance, Order, Switches, Wait, decide, limits_of, window_opens
from autopay.reconcile import ReconcileReport, obstacles, reconcile
from autopay.records import (
    HOLD,
    OrderRow,
    Store,
    create_order,
    low_balance,
    mandates_of,
    open_waits,
    order_by_id,
    orders,
    past_orders,
    recovered_since,
    set_switch,
    switch_row,
    transition,
    write_decision,
)
from autopay.settle import Book, cancel, settle
from config.clock import Clock
from config.settings import AutopaySettings
from config.steps import reach
from ledger.port import Fenced
from ledger.schema import event, order, owner

T = TypeVar("T")
ROLE: Final = "autopay"
BATCH_MAX: Final = 128  # events or waits decided in one pass
HOUR_S: Final = 3600


class AutopayService:
    """The owner of autopay. `start` takes the role over; then call `step` again and again from one thread.

    `webhook` may be called from other threads. `answers_real_s` is how long a step waits for its calls.
    """

    def __init__(
        self,
        store: Store,
        gateways: Mapping[str, GatewayPort],
        clock: Clock,
        settings: AutopaySettings,
        zone: ZoneInfo,
        *,
        holder: str = "meterd",
        notices_enabled: bool = True,
        concurrency: int = 8,
        answers_real_s: float = 0.1,
        partition_of: Callable[[str], int | None] | None = None,
    ) -> None:
        self._store, self._gateways, self._clock, self._settings = store, dict(gateways), clock, settings
        self._zone, self._holder, self._answers_real_s = zone, holder, answers_real_s
        self._book = Book(zone, notices_enabled)
        self._partition_of = partition_of
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="autopay")
        self._calls_max = concurrency
        self._calls: dict[int, tuple[str, Future[Any]]] = {}  # order id -> (charge or lookup, its Answer)
        self._waits: list[tuple[int, int]] = []  # heap of (retry_at_s, event id)
        self._waits_lock = threading.Lock()
        self._created: deque[int] = deque()  # when orders were created, the last hour, for the breaker
        self._epoch = 0

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> int:
        """Take autopay over (fencing whoever had it) and adopt what a dead owner left; returns the epoch."""
        self._epoch = self._store.take_over(ROLE, self._holder)
        now_s = self._clock.now_s()
        self._write(lambda connection: self._adopt(connection, now_s))
        with self._store.reader() as connection:
            waits = open_waits(connection)
            recent = select(order.c.created_at_s).where(order.c.created_at_s > now_s - HOUR_S)
            self._created = deque(sorted(connection.scalars(recent)))
        with self._waits_lock:
            self._waits = waits
            heapq.heapify(self._waits)
        return self._epoch

    def _adopt(self, connection: Connection, now_s: int) -> None:
        """Orders that a dead owner had submitted: nobody knows what became of them, so ask first."""
        left = orders(
            connection, order.c.state == State.SUBMITTED.value, order.c.epoch < self._epoch, limit=1_000_000
        )
        for row in left:
            settle(connection, self._book, row, Unknown("the owner ended before the answer"), "restart", now_s)
        connection.execute(
            update(order).where(order.c.id.in_([row.id for row in left])).values(next_action_at_s=now_s)
        )

    def stop(self) -> None:
        """Let calls under way end (each has its deadline), write their answers, and end the pool."""
        self._collect(None)
        self._pool.shutdown(wait=True)

    def step(self) -> int:
        """One bounded pass; returns how many things it did (0: nothing was due)."""
        if not self._epoch:
            self.start()
        done = self._collect(0.0)
        done += self._decide()
        done += self._submit()
        done += self._ask()
        return done + self._collect(self._answers_real_s)

    # -- deciding --------------------------------------------------------------------------------------------

    def _decide(self) -> int:
        now_s = self._clock.now_s()
        due = self._due_waits(now_s)
        with self._store.reader() as connection:
            undecided = select(event.c.id, event.c.kind).where(text("decided = 0")).order_by(event.c.id)
            fresh = list(connection.execute(undecided.limit(BATCH_MAX)))
        if not fresh and not due:
            return 0
        while self._created and self._created[0] <= now_s - HOUR_S:
            self._created.popleft()
        ids = [row[0] for row in fresh if row[1] == "low_balance"] + due
        others = [row[0] for row in fresh if row[1] != "low_balance"]  # recovered, alert: only looked up later
        try:
            made = self._write(lambda connection: self._decide_all(connection, ids, others, now_s))
        except BaseException:
            for event_id in due:  # nothing was written: they are as due as before
                self._wait(now_s, event_id)
            raise
        for low, decision in made:
            if isinstance(decision, Wait):
                self._wait(decision.until_s, low.id)
            elif isinstance(decision, Order):
                self._created.append(now_s)
                reach("order.created")
        return len(fresh) + len(due)

    def _decide_all(
        self, connection: Connection, ids: list[int], others: list[int], now_s: int
    ) -> list[tuple[LowBalance, Decision]]:
        connection.execute(update(event).where(event.c.id.in_(others)).values(decided=1))
        made: list[tuple[LowBalance, Decision]] = []
        for event_id in ids:
            count = len(self._created) + sum(isinstance(decision, Order) for _, decision in made)
            low = low_balance(connection, event_id)
            made.append((low, self._decide_one(connection, low, count, now_s)))
        return made

    def _decide_one(self, connection: Connection, low: LowBalance, charges: int, now_s: int) -> Decision:
        mandates = mandates_of(connection, low.account)
        scopes = [x.scope for m in mandates for x in limits_of(m, now_s, self._zone, self._settings)]
        held = switch_row(connection, HOLD)[0]
        made = decide(
            low,
            mandates,
            caps.used(connection, scopes),
            past_orders(connection, low.account, low.arm),
            now_s,
            self._zone,
            Switches(held, charges, frozenset(self._gateways)),
            self._settings,
        )
        order_id = None
        if isinstance(made, Order):
            full = caps.reserve(connection, made.limits, made.amount_fen)
            if full is not None:  # the database is the judge of caps
                made = Wait(now_s + 60, f"cap {full}"[:60], made.detail)
            else:
                order_id = create_order(connection, low, made, self._epoch, now_s)
        if isinstance(made, Wait) and made.reason == "breaker" and not held:
            set_switch(connection, HOLD, f"breaker: {charges} charges within an hour", now_s, on=True)
        write_decision(connection, low, made, now_s, order_id)
        return made

    # -- submitting ------------------------------------------------------------------------------------------

    def _submit(self) -> int:
        free = self._calls_max - len(self._calls)
        with self._store.reader() as connection:
            waiting = [row.id for row in orders(connection, order.c.state == State.CREATED.value, limit=max(0, free))]
        if not waiting:
            return 0
        now_s = self._clock.now_s()
        submitted = self._write(lambda c: [self._submit_one(c, order_id, now_s) for order_id in waiting])
        for item in submitted:
            if item is not None:
                row, token = item
                reach("order.submitted")
                self._charge(row, token)
        return sum(item is not None for item in submitted)

    def _submit_one(self, connection: Connection, order_id: int, now_s: int) -> tuple[OrderRow, str] | None:
        row = order_by_id(connection, order_id)
        if row.state is not State.CREATED or switch_row(connection, HOLD)[0]:
            return None
        mandate = next((m for m in mandates_of(connection, row.account) if m.id == row.mandate), None)
        why = None
        if recovered_since(connection, row.account, row.event_id):
            why = "recovered"
        elif mandate is None or (mandate.cancelled_at_s or now_s + 1) <= now_s or mandate.valid_until_s <= now_s:
            why = "mandate_ended"
        elif row.gateway not in self._gateways:
            why = "gateway_unknown"
        elif window_opens(mandate, now_s, self._zone) is not None:
            why = "window"  # it was created in the window and held up past its end
        if why is not None or mandate is None:
            cancel(connection, self._book, row, why or "mandate_ended", now_s)
            low = low_balance(connection, row.event_id)
            write_decision(connection, low, Wait(now_s, "cancelled", {"order_id": row.id, "why": why}), now_s)
            self._wait(now_s, row.event_id)
            return None
        told = {"epoch": self._epoch}
        row = transition(connection, row, State.SUBMITTED, told, now_s, submitted_at_s=now_s, epoch=self._epoch)
        return row, mandate.token

    def _charge(self, row: OrderRow, token: str) -> None:
        gateway = self._gateways[row.gateway]
        reference = reference_of(row.account, row.arm, row.attempt)
        call = self._pool.submit(gateway.charge, row.key, token, row.amount_fen, reference)
        self._calls[row.id] = ("charge", call)

    # -- asking ----------------------------------------------------------------------------------------------

    def _ask(self) -> int:
        free = self._calls_max - len(self._calls)
        now_s = self._clock.now_s()
        due = (
            order.c.state == State.UNKNOWN.value,
            or_(order.c.next_action_at_s.is_(None), order.c.next_action_at_s <= now_s),
        )
        with self._store.reader() as connection:
            rows = orders(connection, *due, order.c.id.not_in(list(self._calls)), limit=max(0, free))
        for row in rows:
            if row.gateway in self._gateways:
                self._calls[row.id] = ("lookup", self._pool.submit(self._gateways[row.gateway].lookup, row.key))
        return len(rows)

    # -- answers ---------------------------------------------------------------------------------------------

    def _collect(self, real_s: float | None) -> int:
        """Write the answers that are there; wait up to `real_s` for those that are not (None: for all)."""
        deadline = None if real_s is None else self._clock.monotonic_s() + real_s
        count = 0
        while self._calls:
            left = None if deadline is None else max(0.0, deadline - self._clock.monotonic_s())
            done, _ = wait([call for _, call in self._calls.values()], left, FIRST_COMPLETED)
            if not done:
                break
            for order_id, (kind, call) in list(self._calls.items()):
                if call in done:
                    self._answered(order_id, kind, call.result())  # GatewayBroken stops us here, on purpose
                    count += 1
        return count

    def _answered(self, order_id: int, kind: str, answer: Answer) -> None:
        reach("order.answered")
        now_s = self._clock.now_s()
        row, again = self._write(
            lambda c: apply_answer(
                c, self._book, self._gateways, self._settings, order_id, kind, answer, self._epoch, now_s
            )
        )
        del self._calls[order_id]  # only now: a write that failed is tried again by the next step
        self._after(row)
        if again is not None:
            self._charge(row, again)

    def _after(self, row: OrderRow) -> None:
        """What memory must know once the transaction is durable."""
        if row.state in (State.SUCCEEDED, State.SUCCEEDED_LATE):
            reach("order.succeeded")
        elif row.state is State.DECLINED:
            self._wait(self._clock.now_s(), row.event_id)

    # -- webhooks, hold, reconciliation ----------------------------------------------------------------------

    def webhook(self, gateway: str, headers: Mapping[str, str], body: bytes) -> int:
        """The HTTP status to answer: 401 forged (and nothing is kept), 404 no such gateway, 200 taken or known.

        503 when this process does not own autopay: the gateway will come again.
        """
        port = self._gateways.get(gateway)
        if port is None:
            return 404
        told = port.verify(headers, body)
        if told is None:
            return 401
        if not self._epoch:
            return 503
        now_s = self._clock.now_s()
        try:
            row = self._write(lambda c: take_webhook(c, self._book, gateway, told, body, now_s))
        except Fenced:
            return 503
        if row is not None:
            self._after(row)
        return 200

    def set_hold(self, reason: str) -> None:
        """Stop submitting; asking, webhooks and credits go on."""
        now_s = self._clock.now_s()
        self._store.write(lambda connection: set_switch(connection, HOLD, reason, now_s, on=True))

    def lift_hold(self, reason: str, *, force: bool = False) -> list[str]:
        """Lift HOLD, or say what stands against it (after a restore: gateways not reconciled since)."""
        now_s = self._clock.now_s()

        def work(connection: Connection) -> list[str]:
            against = [] if force else obstacles(connection, list(self._gateways))
            if not against:
                set_switch(connection, HOLD, reason, now_s, on=False)
            return against

        return self._write(work)

    def reconcile(self, gateway: str) -> ReconcileReport:
        """Compare the gateway's book with our orders and credit what we did not know; raises GatewayDown."""
        charges = self._gateways[gateway].book()
        return reconcile(self._write, self._book, gateway, charges, self._clock, self._partition_of)

    @property
    def oldest_wait_s(self) -> int | None:
        """When the wait that is due first is due; None: nothing waits."""
        with self._waits_lock:
            return self._waits[0][0] if self._waits else None

    # -- helpers ---------------------------------------------------------------------------------------------

    def _write(self, work: Callable[[Connection], T]) -> T:
        """A write under our epoch, or Fenced and nothing."""

        def fenced(connection: Connection) -> T:
            epoch = connection.scalar(select(owner.c.epoch).where(owner.c.role == ROLE))
            if epoch != self._epoch:
                raise Fenced(ROLE, epoch=self._epoch, owner_epoch=epoch)
            return work(connection)

        return self._store.write(fenced)

    def _wait(self, at_s: int, event_id: int) -> None:
        with self._waits_lock:
            heapq.heappush(self._waits, (at_s, event_id))

    def _due_waits(self, now_s: int) -> list[int]:
        due: list[int] = []
        with self._waits_lock:
            while self._waits and self._waits[0][0] <= now_s and len(due) < BATCH_MAX:
                event_id = heapq.heappop(self._waits)[1]
                if event_id not in due:
                    due.append(event_id)
        return due
