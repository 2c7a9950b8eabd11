"""The gateway port's contract, on the fake and on the HTTP adapter against the simulator's process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autopay.gateways.fake import FakeGateway
from autopay.gateways.http import HttpGateway
from autopay.gateways.port import GatewayBroken, GatewayDown, pages_of
from autopay.gateways.signing import HEADER, authentic, sign
from autopay.orders import Declined, NotFound, Succeeded, Unknown
from config.clock import ManualClock, RealClock
from config.settings import GatewaySettings


def settings(url, deadline=5.0):
    return GatewaySettings(url=url, secret="s3cret", deadline_real_s=deadline)


@pytest.fixture(scope="module")
def simulator_url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "secret").write_text("s3cret\n")
    command = [sys.executable, "-m", "simulators.gateway", "--book", folder / "book.db"]
    command += ["--secret-file", folder / "secret", "--decline-token", "poor:1000"]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
    process.terminate()
    assert process.wait(10) == 0
    process.stdout.close()


@pytest.fixture(params=["fake", "http"])
def gateway(request):
    if request.param == "fake":
        fake = FakeGateway(ManualClock(1_800_000_000))
        yield fake
    else:
        http = HttpGateway(settings(request.getfixturevalue("simulator_url")))
        yield http
        http.close()


@pytest.fixture
def key(request):
    return f"mtd-{abs(hash(request.node.name)):x}"


def test_a_key_charges_once(gateway, key):
    first = gateway.charge(key, "tok", 10_000, "a/1/1")
    assert isinstance(first, Succeeded)
    assert first.amount_fen == 10_000
    assert gateway.charge(key, "tok", 10_000, "a/1/1") == first
    assert gateway.lookup(key) == first
    (line,) = [charge for charge in gateway.book().charges if charge.key == key]
    assert (line.token, line.amount_fen, line.txn, line.reference) == ("tok", 10_000, first.txn, "a/1/1")


def test_a_decline_is_definite_and_replayed(gateway, key):
    if isinstance(gateway, FakeGateway):
        gateway.script.append("declined")
    assert gateway.charge(key, "poor", 10_000, "a/1/1") == Declined("insufficient_funds")
    assert gateway.charge(key, "poor", 10_000, "a/1/1") == Declined("insufficient_funds")
    assert gateway.lookup(key) == Declined("insufficient_funds")
    assert key not in {charge.key for charge in gateway.book().charges}


def test_what_was_never_charged_is_not_found(gateway, key):
    assert gateway.lookup(key) == NotFound()


def test_one_key_never_two_amounts(gateway, key):
    gateway.charge(key, "tok", 10_000, "a/1/1")
    with pytest.raises(GatewayBroken):
        gateway.charge(key, "tok", 10_001, "a/1/1")


def test_garbage_is_no_webhook(gateway):
    assert gateway.verify({}, b"{}") is None
    assert gateway.verify({HEADER: "t=1,v1=00"}, b"{}") is None
    assert gateway.verify({HEADER: "\uff11"}, b"\xff") is None


def test_the_book_comes_in_pages(gateway, key):
    for number in range(5):
        gateway.charge(f"{key}-{number}", "tok", 100, f"a/1/{number}")
    whole = gateway.book().charges
    after, pages = "", []
    while True:
        page = gateway.book(after, 2)
        pages.append(page.charges)
        after = page.next
        if not after:
            break
    assert [charge for page in pages for charge in page] == list(whole)
    assert max(len(page) for page in pages) == 2
    assert [charge for page in pages_of(gateway) for charge in page] == list(whole)


def test_a_gateway_that_is_not_there_is_unknown():
    http = HttpGateway(settings("http://127.0.0.1:1"))
    assert isinstance(http.charge("k", "t", 1, "r/1/1"), Unknown)
    assert isinstance(http.lookup("k"), Unknown)
    with pytest.raises(GatewayDown):
        http.book()
    http.close()


ANSWERS = [
    (200, {"status": "succeeded", "key": "k", "txn": "t1", "amount_fen": 5}, Succeeded),
    (200, {"status": "succeeded", "key": "other", "txn": "t1", "amount_fen": 5}, Unknown),
    (200, {"status": "succeeded", "key": "k", "txn": "", "amount_fen": 5}, Unknown),
    (200, {"status": "succeeded", "key": "k", "txn": "t1", "amount_fen": "5"}, Unknown),
    (200, {"status": "declined", "key": "k", "code": "x"}, Unknown),  # of a charge: contradicts its status
    (402, {"status": "declined", "key": "k", "code": "x"}, Declined),
    (422, {"status": "declined", "key": "k", "code": "x"}, Declined),
    (402, {"status": "succeeded", "key": "k", "txn": "t1", "amount_fen": 5}, Unknown),
    (402, {}, Unknown),
    (404, {"status": "not_found"}, Unknown),
    (200, None, Unknown),
    (301, {}, Unknown),
    (400, {}, Unknown),
    (401, {}, Unknown),
    (429, {}, Unknown),
    (500, {"status": "declined", "key": "k", "code": "x"}, Unknown),
    (503, None, Unknown),
]


@pytest.fixture(scope="module")
def parrot():
    class Parrot(BaseHTTPRequestHandler):
        answer: tuple[int, bytes] = (200, b"")

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(self.answer[0])
            self.send_header("Content-Length", str(len(self.answer[1])))
            self.end_headers()
            self.wfile.write(self.answer[1])

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Parrot)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield Parrot, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.mark.parametrize(("status", "body", "expected"), ANSWERS)
def test_what_each_status_means(parrot, status, body, expected):
    handler, url = parrot
    handler.answer = (status, b"<html>" if body is None else json.dumps(body).encode())
    http = HttpGateway(settings(url))
    assert type(http.charge("k", "tok", 5, "a/1/1")) is expected
    http.close()


def test_an_authentic_webhook_is_read():
    http = HttpGateway(settings("http://127.0.0.1:1"), ManualClock(1000))
    told = {"event": "e1", "status": "succeeded", "key": "k", "txn": "t1", "amount_fen": 5, "code": ""}
    body = json.dumps(told).encode()
    event = http.verify({HEADER.lower(): sign(b"s3cret", body, 900)}, body)
    assert event is not None
    assert (event.event, event.key, event.outcome) == ("e1", "k", Succeeded("t1", 5))
    assert http.verify({HEADER: sign(b"other", body, 900)}, body) is None
    assert http.verify({HEADER: sign(b"s3cret", body, 699)}, body) is None
    odd = json.dumps(told | {"status": "maybe"}).encode()
    assert http.verify({HEADER: sign(b"s3cret", odd, 900)}, odd) is None
    http.close()


@given(st.binary(max_size=60), st.text(max_size=90))
def test_no_header_text_is_authentic_or_raises(body, header):
    assert not authentic(b"k", {HEADER: header}, body, RealClock().now_s())
