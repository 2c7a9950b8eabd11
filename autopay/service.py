"""I/O: the autopay owner: gathers rows, lets the policy decide, lets gateways charge, and writes what came of it.

One `step` is one bounded pass. HTTP calls run in a small pool for each gateway, each with its adapter's deadline, and
are collected by this or a later step, so a slow gateway holds up nobody else. The order of every payment is fixed:

    order.created    order row and caps, one transaction with the decision
    order.submitted  compare-and-swap under our epoch; the gateway has not heard
    (the call)
    order.answered   the gateway answered, the database does not know
    order.succeeded  state, credit and notices, one transaction

Whoever dies in between finds `submitted` orders of an older epoch at the next start and asks about them first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Integer, bindparam, exists, or_, select, text, update

from autopay import waits
from autopay.answers import apply_answer, take_webhook
from autopay.by_hand import settle_by_hand
from autopay.calls import Call, Calls, PoolMaker
from autopay.deciding import Desk, Lives, decide_all, look, submit_one
from autopay.gateways.port import GatewayPort, pages_of
from autopay.orders import Answer, NotFound, State, Unknown, reference_of
from autopay.policy import Live, Order
from autopay.reconcile import RESTORED, ReconcileReport, obstacles, reconcile
from autopay.records import (
    HOLD,
    OrderRow,
    Store,
    accounts_of,
    order_by_id,
    orders,
    orders_of,
    set_switch,
    switch_row,
)
from autopay.settle import Book, call_overdue, settle
from config.clock import Clock
from config.settings import AutopaySettings
from config.steps import reach
from ledger.port import Fenced
from ledger.schema import event, order, owner, wait

T = TypeVar("T")
ROLE: Final = "autopay"
BATCH_MAX: Final = 128  # events or waits decided in one pass
HOUR_S: Final = 3600
STOP_REAL_S: Final = 10.0  # how long `stop` waits for answers that are under way
REASON_MAX: Final = 1000  # of HOLD, however often it is set
# What an idle pass asks is made once: making a statement takes five times as long as running it.
_MOST: Final = bindparam("most", type_=Integer)
_FRESH: Final = (
    select(event.c.id, event.c.kind, event.c.account).where(text("decided = 0")).order_by(event.c.id).limit(_MOST)
)
_ALL_CREATED: Final = select(order).where(order.c.state == State.CREATED.value).order_by(order.c.id)
_OF_OTHERS: Final = _ALL_CREATED.where(order.c.gateway.not_in(bindparam("known", expanding=True))).limit(_MOST)
_CREATED: Final = _ALL_CREATED.where(order.c.gateway == bindparam("of_gateway")).limit(_MOST)
_AT: Final = order.c.next_action_at_s
_NOW: Final[Any] = bindparam("now")
_UNKNOWN_DUE: Final = (
    order.c.state == State.UNKNOWN.value,
    or_(_AT.is_(None), _AT <= _NOW, bindparam("far") < _AT),
)
_UNKNOWN: Final = (
    select(order)
    .where(*_UNKNOWN_DUE)
    .where(order.c.gateway == bindparam("of_gateway"), order.c.id.not_in(bindparam("busy", expanding=True)))
    .order_by(_AT, order.c.id)
    .limit(_MOST)
)
_PAID_DUE: Final = (
    or_(*(order.c.state == state.value for state in (State.SUCCEEDED, State.SUCCEEDED_LATE))),  # in_: made each time
    _AT <= _NOW,
)
_DUE: Final = select(
    or_(
        exists().where(text("event.decided = 0")).select_from(event),
        exists().where(wait.c.at_s <= _NOW),
        exists().where(wait.c.at_s > bindparam("far_wait")),
    ),
    exists().where(order.c.state == State.CREATED.value),
    exists().where(*_UNKNOWN_DUE),
    exists().where(*_PAID_DUE),
)
_EPOCH: Final = select(owner.c.epoch).where(owner.c.role == bindparam("of_role"))


class AutopayService:
    """The owner of autopay. `start` takes the role over; then call `step` again and again from one thread.

    `webhook` may be called from other threads. `answers_real_s` is how long a step waits for its calls. Without
    `lives` it decides on the balances of the events.
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
        lives: Lives | None = None,
        pool: PoolMaker = ThreadPoolExecutor,
    ) -> None:
        self._store, self._gateways, self._clock, self._settings = store, dict(gateways), clock, settings
        self._zone, self._holder, self._answers_real_s = zone, holder, answers_real_s
        self._book = Book(zone, notices_enabled, settings.person_after_s)
        self._partition_of, self._lives = partition_of, lives
        self._calls = Calls(concurrency, pool)
        self._stopping = False
        self._created: deque[int] = deque()  # when orders were created, the last hour, for the breaker
        self._epoch = 0

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> int:
        """Take autopay over (fencing whoever had it) and adopt what a dead owner left; returns the epoch."""
        self._epoch = self._store.take_over(ROLE, self._holder)
        now_s = self._clock.now_s()
        self._write(lambda connection: self._adopt(connection, now_s))
        with self._store.reader() as connection:
            recent = select(order.c.created_at_s).where(order.c.created_at_s > now_s - HOUR_S)
            self._created = deque(sorted(connection.scalars(recent)))
        return self._epoch

    def _adopt(self, connection: Connection, now_s: int) -> None:
        """Orders that a dead owner had submitted: nobody knows what became of them, so ask first.

        And what waits for other terms is looked at again: the settings may be new.
        """
        waits.wake(connection, now_s, waits.ON_TERMS)
        left = orders(
            connection, order.c.state == State.SUBMITTED.value, order.c.epoch < self._epoch, limit=1_000_000
        )
        for row in left:
            settle(connection, self._book, row, Unknown("the owner ended before the answer"), "restart", now_s)
        connection.execute(
            update(order).where(order.c.id.in_([row.id for row in left])).values(next_action_at_s=now_s)
        )

    def stop(self, deadline_real_s: float = STOP_REAL_S) -> None:
        """Write the answers that come within the deadline, and end; the next start asks about the others."""
        self._stopping = True
        self._collect(deadline_real_s)
        self._calls.stop()

    def step(self) -> int:
        """One bounded pass; returns how many things it did (0: nothing was due)."""
        if not self._epoch:
            self.start()
        done = self._collect(0.0)
        decide, submit, ask, overdue = self._due()
        if decide:
            done += self._decide()
        if submit or decide:
            done += self._submit()
        if ask:
            done += self._ask()
        if overdue:
            done += self._overdue()
        return done + self._collect(self._answers_real_s)

    def _due(self) -> tuple[bool, bool, bool, bool]:
        """Whether there may be something to decide, to submit, to ask about, or to tell a person: one question."""
        now_s = self._clock.now_s()
        times = {"now": now_s, "far": self._far_s(now_s), "far_wait": now_s + waits.WAIT_MAX_S}
        with self._store.reader() as connection:
            decide, submit, ask, overdue = connection.execute(_DUE, times).one()
        return bool(decide), bool(submit), bool(ask), bool(overdue)

    def _far_s(self, now_s: int) -> int:
        """A time of asking that no schedule sets: a clock was set back since."""
        horizon_s = max((port.settlement_horizon_s for port in self._gateways.values()), default=0)
        return now_s + max(self._settings.ask_after_s, default=60) + horizon_s

    # -- deciding --------------------------------------------------------------------------------------------

    def _decide(self) -> int:
        now_s = self._clock.now_s()
        with self._store.reader() as connection:
            fresh = list(connection.execute(_FRESH, {"most": BATCH_MAX}))
            due = waits.due(connection, now_s, BATCH_MAX)
            if not fresh and not due:
                return 0
            ids = {row[0]: str(row[2]) for row in fresh if row[1] == "low_balance"} | accounts_of(connection, due)
            seen = look(connection, self._lives, ids.values())
        others = {row[0]: (str(row[1]), str(row[2])) for row in fresh if row[1] != "low_balance"}
        while self._created and self._created[0] <= now_s - HOUR_S:
            self._created.popleft()
        count = len(self._created)
        # The time is asked inside the transaction, behind a credit that was written meanwhile: an order does not
        # begin before the one before it ended.
        clock = self._clock
        for decision in self._write(lambda c: decide_all(c, self._desk(), seen, ids, others, count, clock.now_s())):
            if isinstance(decision, Order):
                self._created.append(now_s)
                reach("order.created")
        return len(fresh) + len(due)

    def _desk(self) -> Desk:
        return Desk(self._book, self._settings, frozenset(self._gateways), self._epoch)

    # -- submitting ------------------------------------------------------------------------------------------

    def _submit(self) -> int:
        known = list(self._gateways)
        with self._store.reader() as connection:
            waiting = orders_of(connection, _OF_OTHERS, {"known": known, "most": BATCH_MAX})  # to be cancelled
            for gateway in known:
                free = self._calls.free(gateway, "charge")
                waiting += orders_of(connection, _CREATED, {"of_gateway": gateway, "most": free})
            if not waiting:
                return 0
            lives = look(connection, self._lives, [row.account for row in waiting]).lives
        now_s = self._clock.now_s()
        submitted = self._write(
            lambda c: [submit_one(c, self._desk(), row.id, lives.get(row.account), now_s) for row in waiting]
        )
        for item in submitted:
            if item is not None:
                row, token = item
                if token is not None:
                    reach("order.submitted")
                    self._charge(row, token)
        return sum(item is not None for item in submitted)

    def _charge(self, row: OrderRow, token: str) -> None:
        charge = self._gateways[row.gateway].charge
        reference = reference_of(row.account, row.arm, row.attempt)
        self._calls.start(row.id, row.gateway, "charge", charge, row.key, token, row.amount_fen, reference)

    # -- asking ----------------------------------------------------------------------------------------------

    def _ask(self) -> int:
        """Ask about unknown orders that are due, the longest waiting first; a clock set back makes them due."""
        now_s = self._clock.now_s()
        far_s = self._far_s(now_s)
        rows: list[OrderRow] = []
        with self._store.reader() as connection:
            for gateway in self._gateways:
                free, busy = self._calls.free(gateway, "lookup"), self._calls.orders(gateway)
                asked = {"now": now_s, "far": far_s, "of_gateway": gateway, "busy": busy, "most": free}
                rows += orders_of(connection, _UNKNOWN, asked)
        for row in rows:
            self._calls.start(row.id, row.gateway, "lookup", self._gateways[row.gateway].lookup, row.key)
        return len(rows)

    def _overdue(self) -> int:
        now_s = self._clock.now_s()
        return self._write(lambda connection: call_overdue(connection, self._book, now_s, BATCH_MAX))

    # -- answers ---------------------------------------------------------------------------------------------

    def _collect(self, real_s: float) -> int:
        """Write the answers that are there; wait up to `real_s` for those that are not."""
        until = self._clock.monotonic_s() + real_s
        count = 0
        while len(self._calls):
            done = self._calls.done(until - self._clock.monotonic_s())
            if not done:
                break
            for call in done:
                if self._stopping and call.future.exception() is not None:
                    self._calls.close(call)  # it has stopped us already, or will at the next start: asked about then
                    continue
                self._answered(call, call.future.result())  # GatewayBroken stops us here, on purpose
                count += 1
        return count

    def _answered(self, call: Call, answer: Answer) -> None:
        reach("order.answered")
        now_s = self._clock.now_s()
        port = self._gateways[call.gateway]
        live = self._live_of(call.order_id) if isinstance(answer, NotFound) else None
        row, again = self._write(
            lambda c: apply_answer(
                c, self._desk(), port, call.order_id, call.kind, answer, live, now_s, may_charge=not self._stopping
            )
        )
        self._calls.close(call)  # only now: a write that failed is tried again by the next step
        self._after(row)
        if again is not None:
            self._charge(row, again)

    def _live_of(self, order_id: int) -> Live | None:
        with self._store.reader() as connection:
            account = order_by_id(connection, order_id).account
            return look(connection, self._lives, [account]).lives.get(account)

    def _after(self, row: OrderRow) -> None:
        """What memory must know once the transaction is durable."""
        if row.state in (State.SUCCEEDED, State.SUCCEEDED_LATE):
            reach("order.succeeded")

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
        reach("webhook.taken")
        if row is not None:
            self._after(row)
        return 200

    def set_hold(self, reason: str) -> None:
        """Stop submitting; asking, webhooks and credits go on. What a restore put on hold stays so."""
        now_s = self._clock.now_s()

        def work(connection: Connection) -> None:
            on, why, since_s = switch_row(connection, HOLD)
            restored = on and why.startswith(RESTORED)  # only a reconciled book lifts that, whatever came later
            told, at_s = (f"{why}; {reason}"[:REASON_MAX], since_s) if restored else (reason, now_s)
            set_switch(connection, HOLD, told, at_s, on=True)

        self._store.write(work)

    def lift_hold(self, reason: str, *, force: bool = False) -> list[str]:
        """Lift HOLD, or say what stands against it (after a restore: gateways not reconciled since)."""
        now_s = self._clock.now_s()

        def work(connection: Connection) -> list[str]:
            against = [] if force else obstacles(connection, list(self._gateways))
            if not against:
                set_switch(connection, HOLD, reason, now_s, on=False)
                waits.wake(connection, now_s, waits.ON_HOLD)
            return against

        return self._write(work)

    def settle_by_hand(self, order_id: int, charged: str | None, why: str, who: str) -> tuple[OrderRow, str]:
        """A person's word about an order (`autopay.by_hand`); KeyError, NotSettled, Fenced."""
        now_s = self._clock.now_s()
        row, word = self._write(lambda c: settle_by_hand(c, self._book, order_id, charged, why, who, now_s))
        self._after(row)
        return row, word

    def reconcile(self, gateway: str) -> ReconcileReport:
        """Compare the gateway's book with our orders and credit what we did not know; raises GatewayDown."""
        pages = pages_of(self._gateways[gateway])
        return reconcile(self._write, self._book, gateway, pages, self._clock, self._partition_of)

    # -- helpers ---------------------------------------------------------------------------------------------

    def _write(self, work: Callable[[Connection], T]) -> T:
        """A write under our epoch, or Fenced and nothing."""

        def fenced(connection: Connection) -> T:
            epoch = connection.scalar(_EPOCH, {"of_role": ROLE})
            if epoch != self._epoch:
                raise Fenced(ROLE, epoch=self._epoch, owner_epoch=epoch)
            return work(connection)

        return self._store.write(fenced)
