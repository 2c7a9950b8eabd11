"""The simulated gateway: its book survives kill -9, keys charge once, faults are seeded, webhooks are signed."""

from __future__ import annotations

import json
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from autopay.gateways.http import HttpGateway
from autopay.orders import Declined, NotFound, Succeeded, Unknown
from config.settings import GatewaySettings
from simulators.gateway import parse_faults
from simulators.gateway_book import Book, KeyReused

SECRET = "s3cret"


@pytest.fixture
def start(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    processes = []

    def launch(*more):
        command = [sys.executable, "-m", "simulators.gateway", "--book", str(tmp_path / "book.db")]
        command += ["--secret-file", str(tmp_path / "secret"), "--seed", "7", *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        url = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        return process, url

    yield launch
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stdout.close()


def client(url, deadline=5.0):
    return HttpGateway(GatewaySettings(url=url, secret=SECRET, deadline_real_s=deadline))


@pytest.fixture
def sink():
    got = queue.Queue()

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.put((dict(self.headers), body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Sink)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield got, f"http://127.0.0.1:{server.server_address[1]}/webhooks/bank"
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_the_book_survives_kill_9(start, tmp_path):
    process, url = start()
    gateway = client(url)
    first = [gateway.charge(f"k{n}", "tok", 100 + n, f"a/1/{n}") for n in range(5)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert isinstance(gateway.charge("k9", "tok", 1, "a/1/9"), Unknown)
    gateway.close()
    _, url = start()
    gateway = client(url)
    assert [gateway.charge(f"k{n}", "tok", 100 + n, f"a/1/{n}") for n in range(5)] == first
    assert [charge.txn for charge in gateway.book().charges] == [result.txn for result in first]
    assert gateway.lookup("k9") == NotFound()
    gateway.close()
    with sqlite3.connect(tmp_path / "book.db") as db:
        assert db.execute("SELECT sum(amount_fen), count(*) FROM charge").fetchone() == (510, 5)


def test_time_outs_before_and_after_the_charge(start):
    _, url = start("--faults", "timeout_after=1", "--hang-real-s", "1")
    gateway = client(url, deadline=0.3)
    assert isinstance(gateway.charge("k1", "tok", 100, "a/1/1"), Unknown)
    assert gateway.lookup("k1") == Succeeded("gw-00000001", 100)
    gateway.close()
    _, url = start("--faults", "timeout_before=1", "--hang-real-s", "0.1")
    gateway = client(url)
    assert isinstance(gateway.charge("k2", "tok", 100, "a/1/2"), Unknown)
    assert gateway.lookup("k2") == NotFound()
    gateway.close()


def test_errors_are_unknown_and_the_same_key_settles_them(start):
    _, url = start("--faults", "error=0.5")
    gateway = client(url)
    keys = [f"k{n}" for n in range(12)]
    errors = 0
    for key in keys:
        for _ in range(40):
            outcome = gateway.charge(key, "tok", 100, "a/1/1")
            if isinstance(outcome, Succeeded):
                break
            errors += 1
    assert errors > 0
    assert sorted(charge.key for charge in gateway.book().charges) == sorted(keys)
    gateway.close()


def test_a_token_is_declined_so_many_times(start):
    _, url = start("--decline-token", "card:1:2")
    gateway = client(url)
    kinds = [type(gateway.charge(f"k{n}", "card:1", 100, "a/1/1")) for n in range(4)]
    assert kinds == [Declined, Declined, Succeeded, Succeeded]
    gateway.close()


def test_webhooks_are_signed_told_twice_and_early(start, sink):
    got, url = sink
    process, gateway_url = start("--webhook", url, "--faults", "duplicate_webhook=1,early_webhook=1")
    gateway = client(gateway_url)
    outcome = gateway.charge("k1", "tok", 100, "a/1/1")
    assert not got.empty()  # it was there before the answer
    told = [got.get(timeout=10), got.get(timeout=10)]
    events = [gateway.verify(headers, body) for headers, body in told]
    assert events[0] == events[1]
    assert events[0] is not None
    assert (events[0].key, events[0].outcome) == ("k1", outcome)
    assert gateway.verify(told[0][0], told[0][1] + b" ") is None
    gateway.close()
    process.terminate()
    assert process.wait(10) == 0


def test_nobody_charges_without_the_secret(start):
    _, url = start()
    body = {"key": "k", "token": "t", "amount_fen": 1, "reference": "a/1/1"}
    assert httpx.post(f"{url}/charges", json=body).status_code == 401
    allowed = {"Authorization": f"Bearer {SECRET}"}
    for bad in ({}, body | {"amount_fen": True}, body | {"amount_fen": -1}, body | {"key": ""}, [1]):
        assert httpx.post(f"{url}/charges", json=bad, headers=allowed).status_code == 400
    assert httpx.post(f"{url}/charges", content=b"{" * 1000, headers=allowed).status_code == 400
    assert httpx.get(f"{url}/book").json() == {"charges": [], "next": ""}


def test_past_its_lifetime_a_key_is_a_new_charge(tmp_path):
    book = Book(tmp_path / "book.db", key_lifetime_s=100)
    charges = [
        book.charge("k", "t", 5, "a/1/1", now_s, decline=None, refuse_first=0).txn for now_s in (0, 99, 100, 199, 200)
    ]
    assert len(set(charges)) == 3
    assert charges[0] == charges[1]
    assert len(book.charges()) == 3
    with pytest.raises(KeyReused):
        book.charge("k", "t", 6, "a/1/1", 201, decline=None, refuse_first=0)
    assert len(book.charges()) == 3
    book.close()


def test_the_same_seed_draws_the_same_faults(tmp_path, start):
    def run(name):
        _, url = start("--faults", "decline=0.5", "--book", str(tmp_path / name))
        gateway = client(url)
        kinds = [type(gateway.charge(f"k{n}", "tok", 100, "a/1/1")) for n in range(20)]
        gateway.close()
        return kinds

    assert run("one.db") == run("two.db")
    assert {Succeeded, Declined} == set(run("three.db"))


@pytest.mark.parametrize("text", ["nonsense=0.1", "decline=2", "decline", "decline=x"])
def test_faults_that_do_not_exist_are_refused(text):
    with pytest.raises(ValueError, match=r"no fault|could not convert"):
        parse_faults(text)
