"""I/O (simulated): the payment gateways of the simulated world.

A call goes out, reaches its gateway a little later, and its answer comes back later still, or never; what the
gateway did stands in its own book (`simulators.gateway_book`), which the auditor reads. A call that was on the wire
when its process died may still arrive. Webhooks come when they come, to whoever lives then.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Final

from autopay.gateways.port import BookPage, Charge, GatewayBroken, GatewayDown, WebhookEvent
from autopay.gateways.signing import HEADER, authentic, sign
from autopay.orders import Answer, Declined, NotFound, Outcome, Succeeded, Unknown
from config.clock import Clock
from simulators.gateway_book import Book, KeyReused, Result
from simulators.world.weather import Weather

SECRET: Final = b"of the simulated world"
DAY_S: Final = 86_400
GATEWAYS: Final = {"simulated": DAY_S, "other": 6 * 3600}  # name: how long a key names a charge; then it is another
At = Callable[[int, str, Callable[[], None]], None]  # so many seconds from now, under that name


class Bank:
    """A `GatewayPort`, its wire (`calls`) and its webhooks."""

    replays_errors = True
    settlement_horizon_s = 7200

    def __init__(
        self,
        name: str,
        folder: Path,
        clock: Clock,
        dice: random.Random,
        weather: Weather,
        counts: Counter[str],
        at: At,
    ) -> None:
        self.name, self.key_lifetime_s, self.file = name, GATEWAYS[name], folder / f"{name}.db"
        self.ledger = Book(self.file, self.key_lifetime_s, synchronous="OFF")
        self._clock, self._dice, self.weather, self._counts, self._at = clock, dice, weather, counts, at
        self._wires: list[Wire] = []  # of the life of now
        self.out = False  # of order
        self.storm = False  # everything is declined
        self.deliver: Callable[[str, Mapping[str, str], bytes], bool] = lambda _name, _headers, _body: False
        self.after_all: set[str] = set()  # transactions of what was declined before
        self._asked_at_s: dict[str, int] = {}  # key -> when it came here first
        self.amounts: dict[str, set[int]] = {}  # key -> amounts that were asked for: one, or we are broken

    # -- the wire ----------------------------------------------------------------------------------------------
    def wire(self) -> Executor:
        """A pool of calls for one life of the daemon."""
        self._wires.append(Wire(self))
        return self._wires[-1]

    def lose_daemon(self) -> None:
        """The process is gone: what is on its wires may still arrive, and what comes back reaches nobody."""
        for wire in self._wires:
            wire.shutdown()
        self._wires.clear()

    def after_restore(self) -> None:
        """Of what the lost ledger asked for, only what came here names an amount: nobody knows of the rest."""
        self.amounts = {key: asked for key, asked in self.amounts.items() if self.ledger.lookup(key) is not None}

    def later(self, most_s: int, what: str, call: Callable[[], None]) -> None:
        self._at(self._dice.randrange(most_s), what, call)

    def happens(self, rate: float, what: str) -> bool:
        if self._dice.random() >= rate:
            return False
        self._counts[what] += 1
        return True

    # -- the port ----------------------------------------------------------------------------------------------
    def charge(self, key: str, token: str, amount_fen: int, reference: str) -> Outcome:
        self.amounts.setdefault(key, set()).add(amount_fen)
        weather = self.weather
        self._asked_at_s.setdefault(key, self._clock.now_s())
        if self.out or self.happens(weather.timeout_before, "bank:timeout before"):
            return Unknown("no answer")
        error = self.happens(weather.error, "bank:error")
        if error and self._dice.random() < 0.5:
            return Unknown("status 500")
        decline = self.storm or self.happens(weather.decline, "bank:decline")
        try:
            result = self.ledger.charge(
                key, token, amount_fen, reference, self._clock.now_s(),
                decline="insufficient_funds" if decline else None, refuse_first=0,
            )  # fmt: skip
        except KeyReused as reused:
            raise GatewayBroken(str(reused)) from reused
        self._webhooks(result)
        if result.status == "declined" and self.happens(weather.change_of_mind, "bank:change of mind"):
            self.later(2 * DAY_S, "bank charges after all", lambda: self._after_all(key, reference))
        if error or self.happens(weather.timeout_after, "bank:timeout after"):
            return Unknown("no answer")
        return _outcome(result)

    def lookup(self, key: str) -> Answer:
        if self.out or self.happens(self.weather.timeout_before, "bank:deaf"):
            return Unknown("no answer")
        result = self.ledger.lookup(key)
        if key in self._asked_at_s and self._clock.now_s() >= self._asked_at_s[key] + self.key_lifetime_s:
            del self._asked_at_s[key]  # its order is open, and from now on it would name another charge
            self._counts["bank:key expired"] += 1
        return NotFound() if result is None else _outcome(result)

    def book(self, after: str = "", limit: int = 1000) -> BookPage:
        if self.out:
            raise GatewayDown("no answer")
        lines, last = self.ledger.page(int(after or 0), limit)
        return BookPage([Charge(**line) for line in lines], str(last) if len(lines) == limit else "")

    def verify(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent | None:
        if not authentic(SECRET, headers, body, self._clock.now_s()):
            return None
        told: dict[str, Any] = json.loads(body)
        outcome: Outcome = (
            Succeeded(told["txn"], told["amount_fen"]) if told["status"] == "succeeded" else Declined(told["code"])
        )
        return WebhookEvent(told["event"], told["key"], outcome)

    # -- what the gateway does by itself -------------------------------------------------------------------------
    def _after_all(self, key: str, reference: str) -> None:
        result = self.ledger.charge_after_all(key, self._clock.now_s(), reference)
        if result is not None:
            self.after_all.add(result.txn)
            self._webhooks(result)

    def _webhooks(self, result: Result) -> None:
        event = {"event": f"evt-{result.key}-{result.txn or result.code}"} | result.body()
        body = json.dumps(event, sort_keys=True).encode()
        weather = self.weather
        if self.happens(weather.webhook_forged, "webhook:forged"):
            forged = json.dumps(event | {"event": f"{event['event']}-x", "status": "succeeded", "txn": "x"}).encode()
            self.later(3600, "forged webhook", lambda: self._send(forged, b"somebody else's", 1))
        if self.happens(weather.webhook_lost, "webhook:lost"):
            return
        if self.happens(weather.webhook_early, "webhook:early"):
            self._send(body, SECRET, 0)  # overtakes the answer
        most_s = 2 * DAY_S if self.happens(weather.webhook_late, "webhook:late") else 60
        for _ in range(2 if self.happens(weather.webhook_twice, "webhook:twice") else 1):
            self.later(most_s, "webhook", lambda: self._send(body, SECRET, 8))

    def _send(self, body: bytes, secret: bytes, tries: int) -> None:
        """Again, ever later, until somebody takes it."""
        taken = self.deliver(self.name, {HEADER: sign(secret, body, self._clock.now_s())}, body)
        if not taken and tries > 1:
            self.later(3 * 3600, "webhook again", lambda: self._send(body, secret, tries - 1))


def _outcome(result: Result) -> Outcome:
    return Succeeded(result.txn, result.amount_fen) if result.status == "succeeded" else Declined(result.code)


class Wire(Executor):
    """Calls under way in one life of the daemon."""

    def __init__(self, bank: Bank) -> None:
        self._bank, self._alive = bank, True

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The future has its answer when the world's clock says so."""
        bank, future = self._bank, Future[Any]()
        future.set_running_or_notify_cancel()
        slow = bank.happens(bank.weather.slow, "bank:slow")

        def arrives() -> None:
            if not self._alive and bank.happens(0.5, "bank:call lost with its process"):
                return
            try:
                answer = fn(*args, **kwargs)
            except GatewayBroken as broken:
                future.set_exception(broken)
                return
            bank.later(1800 if slow else 3, "answer", lambda: future.set_result(answer))

        bank.later(3, "call", arrives)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        del wait, cancel_futures
        self._alive = False
