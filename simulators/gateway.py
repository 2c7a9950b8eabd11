"""I/O: a payment gateway as its own process: charges into its own book, with seeded faults and signed webhooks.

    python -m simulators.gateway --port 0 --book gateway.db --secret-file secret --seed 7 \\
        --faults decline=0.1,timeout_before=0.05 --webhook http://127.0.0.1:8380/webhooks/bank

Faults are drawn per request from (seed, key, how often that key was heard), so a run can be repeated:

    decline            a new charge is declined           timeout_before  nothing happens, nobody answers
    timeout_after      charged, nobody answers            slow            charged, the answer comes late
    error              500, before or after the charge    duplicate_webhook, early_webhook (before the answer),
                                                          late_webhook (after --late-real-s)

It prints one JSON line {"port": ...} when it listens. SIGTERM ends it; kill -9 loses webhooks, never the book;
METERD_KILL_AT names a step of a charge at which it kills itself (config.steps).
"""

from __future__ import annotations

import argparse
import json
import queue
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx

from autopay.gateways.signing import HEADER, sign
from config.clock import Clock, RealClock, ScaledClock
from config.steps import reach_outside
from simulators.gateway_book import Book, KeyReused, Result

FAULTS: Final = (
    "decline",
    "timeout_before",
    "timeout_after",
    "slow",
    "error",
    "duplicate_webhook",
    "early_webhook",
    "late_webhook",
)
BODY_MAX: Final = 1 << 16
QUEUE_MAX: Final = 10_000
TRIES_MAX: Final = 8
PAGE_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Config:
    """What the command line said."""

    secret: bytes
    seed: int
    faults: dict[str, float]
    webhook: str | None
    refuse_first: dict[str, int]
    hang_real_s: float
    slow_real_s: float
    late_real_s: float


def parse_faults(text: str) -> dict[str, float]:
    """ "decline=0.1,slow=0.2" -> rates; ValueError for a name or rate that there is not."""
    rates: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, rate = part.partition("=")
        if name not in FAULTS or not 0.0 <= float(rate) <= 1.0:
            raise ValueError(f"no fault {part!r}; there are {', '.join(FAULTS)} with rates from 0 to 1")
        rates[name] = float(rate)
    return rates


class Webhooks:
    """Sends signed webhooks from one thread, again with back-off until taken; forgets what is left at the end."""

    def __init__(self, config: Config) -> None:
        self._config, self._wall = config, RealClock()
        self._queue: queue.PriorityQueue[tuple[float, int, int, bytes]] = queue.PriorityQueue(QUEUE_MAX)
        self._number = 0
        self._lock = threading.Lock()
        self._client = httpx.Client(timeout=5.0, trust_env=False)
        if config.webhook is not None:
            threading.Thread(target=self._run, name="webhooks", daemon=True).start()

    def plan(self, body: bytes, delay_real_s: float) -> None:
        self._put(time.monotonic() + delay_real_s, 0, body)

    def send_now(self, body: bytes) -> bool:
        """One try in the caller's thread: the early webhook overtakes the answer."""
        assert self._config.webhook is not None
        reach_outside("gateway.webhook")
        headers = {HEADER: sign(self._config.secret, body, self._wall.now_s()), "Content-Type": "application/json"}
        try:
            return self._client.post(self._config.webhook, content=body, headers=headers).status_code // 100 == 2
        except httpx.HTTPError:
            return False

    def _put(self, at: float, tries: int, body: bytes) -> None:
        with self._lock:
            self._number += 1
            number = self._number
        try:
            self._queue.put_nowait((at, number, tries, body))
        except queue.Full:
            print("webhook queue full: one dropped", file=sys.stderr)  # noqa: T201 - asking covers it

    def _run(self) -> None:
        while True:
            at, _, tries, body = self._queue.get()
            left = at - time.monotonic()
            if left > 0:  # look again soon: an earlier one may have been planned meanwhile
                time.sleep(min(left, 0.02))
                self._put(at, tries, body)
            elif not self.send_now(body) and tries + 1 < TRIES_MAX:
                self._put(time.monotonic() + 0.1 * 2**tries, tries + 1, body)


class Gateway:
    """What a request means; the HTTP handler only reads and writes."""

    def __init__(self, book: Book, clock: Clock, config: Config) -> None:
        self.book, self.config = book, config
        self._clock = clock
        self._webhooks = Webhooks(config)

    def charge(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Status and body, or None to hang up without an answer."""
        key, token, amount, reference = (body.get(name) for name in ("key", "token", "amount_fen", "reference"))
        texts = all(isinstance(text, str) and 0 < len(text) <= 200 for text in (key, token, reference))
        if not texts or type(amount) is not int or amount <= 0:
            return 400, {"status": "bad_request"}
        draw = self._draw(str(key))
        if draw["timeout_before"]:
            time.sleep(self.config.hang_real_s)
            return None
        if draw["error"] and draw["coin"]:
            return 500, {"status": "error"}
        reach_outside("gateway.heard")
        refuse_first = self.config.refuse_first.get(str(token), 0)
        decline = "insufficient_funds" if draw["decline"] else None
        try:
            result = self.book.charge(
                str(key),
                str(token),
                amount,
                str(reference),
                self._clock.now_s(),
                decline=decline,
                refuse_first=refuse_first,
            )
        except KeyReused:
            return 409, {"status": "key_reused"}
        reach_outside("gateway.charged")
        self._tell(result, draw)
        if draw["timeout_after"]:
            time.sleep(self.config.hang_real_s)
            return None
        if draw["error"]:
            return 500, {"status": "error"}
        if draw["slow"]:
            time.sleep(self.config.slow_real_s)
        reach_outside("gateway.replying")
        return (200 if result.status == "succeeded" else 402), result.body()

    def page(self, query: str) -> tuple[int, dict[str, Any]]:
        """Lines of the book after a place: `after` and `limit` of the query."""
        asked = dict(parse_qsl(query))
        after, limit = asked.get("after", "0"), asked.get("limit", str(PAGE_MAX))
        if not (after.isdecimal() and limit.isdecimal() and 0 < int(limit) <= PAGE_MAX):
            return 400, {"status": "bad_request"}
        lines, last = self.book.page(int(after), int(limit))
        return 200, {"charges": lines, "next": str(last) if len(lines) == int(limit) else ""}

    def _draw(self, key: str) -> dict[str, bool]:
        dice = random.Random(f"{self.config.seed}:{key}:{self.book.heard(key)}")
        drawn = {name: dice.random() < self.config.faults.get(name, 0.0) for name in FAULTS}
        return drawn | {"coin": dice.random() < 0.5}

    def _tell(self, result: Result, draw: dict[str, bool]) -> None:
        if self.config.webhook is None:
            return
        # The id is a function of the result: a replay under the same key tells of the same event.
        event = {"event": f"evt-{result.key}-{result.txn or result.code}"} | result.body()
        body = json.dumps(event, sort_keys=True).encode()
        sent = draw["early_webhook"] and self._webhooks.send_now(body)
        if not sent:
            self._webhooks.plan(body, self.config.late_real_s if draw["late_webhook"] else 0.01)
        if draw["duplicate_webhook"]:
            self._webhooks.plan(body, 0.05)


class Handler(BaseHTTPRequestHandler):
    """JSON over HTTP/1.1; bodies have a limit, sockets a time-out."""

    gateway: Gateway
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > BODY_MAX:
            self._answer((413, {"status": "too_large"}))
            self.close_connection = True
            return
        raw = self.rfile.read(int(length))
        if not self._allowed():
            return
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            body = None
        if self.path != "/charges" or not isinstance(body, dict):
            self._answer((404 if self.path != "/charges" else 400, {"status": "bad_request"}))
            return
        self._answer(self.gateway.charge(body))
        reach_outside("gateway.replied")

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._answer((200, {"status": "ok"}))
        elif self.path.partition("?")[0] == "/book":
            self._answer(self.gateway.page(self.path.partition("?")[2]))
        elif self.path.startswith("/charges/"):
            if self._allowed():
                result = self.gateway.book.lookup(self.path.removeprefix("/charges/"))
                self._answer((404, {"status": "not_found"}) if result is None else (200, result.body()))
        else:
            self._answer((404, {"status": "no_such_address"}))

    def _allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.gateway.config.secret.decode()}":
            return True
        self._answer((401, {"status": "unauthorized"}))
        return False

    def _answer(self, answer: tuple[int, dict[str, Any]] | None) -> None:
        if answer is None:
            self.close_connection = True
            return
        body = json.dumps(answer[1]).encode()
        try:
            self.send_response(answer[0])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:  # whoever asked has given up
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing: the book is the log."""


class Server(ThreadingHTTPServer):
    """Threads end with the process; a broken connection is not worth a traceback."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away; anything else is printed by the base class."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulators.gateway", description="A simulated payment gateway.")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--book", type=Path, required=True)
    parser.add_argument("--secret-file", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=parse_faults, default={})
    parser.add_argument("--webhook", default=None)
    parser.add_argument("--decline-token", action="append", default=[], metavar="TOKEN:N")
    parser.add_argument("--key-lifetime-s", type=int, default=86_400)
    parser.add_argument("--hang-real-s", type=float, default=10.0, help="how long a time-out hangs")
    parser.add_argument("--slow-real-s", type=float, default=0.5)
    parser.add_argument("--late-real-s", type=float, default=3.0)
    parser.add_argument("--clock", default=None, metavar="ORIGIN_UNIX,START_S,FACTOR", help="business time, scaled")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM."""
    args = _arguments(argv)
    clock: Clock = RealClock()
    if args.clock is not None:
        origin, start, factor = args.clock.split(",")
        clock = ScaledClock(float(origin), int(start), float(factor))
    refuse = {token: int(count) for token, _, count in (text.rpartition(":") for text in args.decline_token)}
    config = Config(
        args.secret_file.read_text().strip().encode(),
        args.seed,
        args.faults,
        args.webhook,
        refuse,
        args.hang_real_s,
        args.slow_real_s,
        args.late_real_s,
    )
    book = Book(args.book, args.key_lifetime_s)
    handler = type("BoundHandler", (Handler,), {"gateway": Gateway(book, clock, config)})
    server = Server(("127.0.0.1", args.port), handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(json.dumps({"port": server.server_address[1]}), flush=True)  # noqa: T201 - whoever started us reads it
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    book.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
