"""Every call ends: drips of headers and bodies, floods, silence; and one gateway's troubles are not another's."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from zoneinfo import ZoneInfo

import pytest

from autopay.calls import Calls
from autopay.deadlines import CallFailed, DeadlineClient
from autopay.gateways.fake import FakeGateway
from autopay.gateways.http import HttpGateway
from autopay.gateways.port import GatewayDown
from autopay.orders import Succeeded, Unknown
from autopay.service import AutopayService
from config.clock import ManualClock, RealClock
from config.settings import AutopaySettings, GatewaySettings

NOON_S = 1_782_878_400  # 2026-07-01 12:00 in Shanghai
SHANGHAI = ZoneInfo("Asia/Shanghai")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Rude:
    """A server of one kind of rudeness; every connection in a thread of its own."""

    def __init__(self, kind):
        self._kind, self.connections, self._over = kind, 0, threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            if self._kind == "body":
                connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
            elif self._kind == "flood":
                connection.sendall(HEAD + b"Content-Length: 100000000\r\n\r\n")
                while not self._over.is_set():
                    connection.sendall(b" " * 65_536)
            while not self._over.wait(0.05):
                if self._kind != "silence":
                    connection.sendall(
                        b" " if self._kind == "body" else b"H" if self._kind == "status" else b"X: y\r\n"
                    )

    def close(self):
        self._over.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture(params=["body", "headers", "status", "silence", "flood"])
def rude(request):
    server = Rude(request.param)
    yield server
    server.close()


@pytest.fixture
def gateway(rude):
    made = HttpGateway(GatewaySettings(url=rude.url, secret="s", deadline_real_s=0.5))
    yield made
    made.close()


def test_a_call_ends_by_its_deadline_whatever_comes(gateway, beats):
    for call in (lambda: gateway.lookup("k"), lambda: gateway.charge("k", "t", 1, "a/1/1")):
        with beats.fewer_than(1.2):
            assert isinstance(call(), Unknown)
    with beats.fewer_than(1.2), pytest.raises(GatewayDown):
        gateway.book()


def test_a_body_has_a_limit(rude):
    if rude._kind != "flood":
        return
    client = DeadlineClient(30.0)
    with pytest.raises(CallFailed, match="more than 70000 bytes"):
        client.request("GET", rude.url, body_max=70_000)
    client.close()


def test_a_client_that_is_closed_while_it_calls_lets_go():
    server = Rude("silence")
    client = DeadlineClient(30.0)
    failed = []

    def call():
        try:
            client.request("GET", server.url)
        except CallFailed as fault:
            failed.append(fault)

    thread = threading.Thread(target=call)
    thread.start()
    while not server.connections:
        time.sleep(0.01)
    client.close()
    thread.join(5)
    assert not thread.is_alive()
    assert len(failed) == 1
    with pytest.raises(CallFailed):
        client.request("GET", server.url)
    server.close()


@pytest.mark.parametrize("url", ["", "ftp://x/", "http://[::1", "http://127.0.0.1:1/", "http:///x"])
def test_an_address_that_leads_nowhere_is_a_failed_call(url):
    client = DeadlineClient(1.0)
    with pytest.raises(CallFailed):
        client.request("GET", url)
    client.close()


class Stuck:
    """A gateway whose adapter breaks the contract: its calls do not end until they are let go."""

    key_lifetime_s, settlement_horizon_s, replays_errors = 86_400, 7200, True

    def __init__(self):
        self.let_go = threading.Event()
        self.calls = 0

    def charge(self, key, token, amount_fen, reference):
        self.calls += 1
        self.let_go.wait(30)
        return Unknown("stuck")

    def lookup(self, key):
        return self.charge(key, "", 0, "")


@pytest.fixture
def two(new_world):
    """A world of a stuck gateway and a good one."""
    world, stuck = new_world(), Stuck()
    world.service = AutopayService(
        world.store, {"stuck": stuck, "bank": world.gateway}, RealTime(), AutopaySettings(), SHANGHAI,
        answers_real_s=0.05,
    )  # fmt: skip
    yield world, stuck
    stuck.let_go.set()


class RealTime(ManualClock):
    """Business time stands still at noon, real time runs."""

    def __init__(self):
        super().__init__(NOON_S)
        self._real = RealClock()

    def monotonic_s(self):
        return self._real.monotonic_s()


def test_one_gateway_cannot_eat_the_calls_of_another(two):
    world, stuck = two
    for number in range(20):
        world.mandate(id=f"s{number}", account=f"s{number}", payer=f"ps{number}", gateway="stuck", token=f"s{number}")
        world.event(account=f"s{number}")
    for number in range(20):
        world.mandate(id=f"b{number}", account=f"b{number}", payer=f"pb{number}", token=f"b{number}")
        world.event(account=f"b{number}")
    for _ in range(40):
        world.service.step()
    assert len(world.gateway.book().charges) == 20
    assert stuck.calls == 6  # two of its places are kept for asking


def test_stop_returns_and_the_next_start_asks(two, beats):
    world, stuck = two
    world.mandate(gateway="stuck")
    world.event()
    world.service.step()
    world.service.step()
    assert world.states() == ["submitted"]
    with beats.fewer_than(1.0):
        world.service.stop(0.3)
    stuck.let_go.set()
    heir = AutopayService(world.store, {"stuck": FakeGateway(world.clock)}, world.clock, AutopaySettings(), SHANGHAI)
    heir.start()
    assert world.states() == ["unknown"]
    heir.stop()


def test_stop_does_not_charge_again_what_a_gateway_does_not_know(world):
    world.mandate()
    world.gateway.script.append("timeout_before")
    world.event()
    world.run()
    world.clock.advance(31)
    world.service._ask()
    world.service.stop()
    assert world.states() == ["unknown"]
    assert len(world.gateway.calls) == 1


def test_stop_after_an_adapter_s_defect_still_returns(world):
    world.mandate()
    world.gateway.charge = lambda *what: 1 / 0
    world.event()
    with pytest.raises(ZeroDivisionError):
        world.run()
    world.service.stop()


def test_charges_leave_places_for_asking():
    calls, let_go = Calls(4), threading.Event()
    for number in range(calls.free("bank", "charge")):
        calls.start(number, "bank", "charge", let_go.wait, 10)
    assert (len(calls), calls.free("bank", "charge"), calls.free("bank", "lookup")) == (2, 0, 2)
    assert calls.free("other", "charge") == 2
    assert calls.done(0.01) == []
    let_go.set()
    while len(calls):
        for call in calls.done(1.0):
            calls.close(call)
    calls.stop()


def test_a_book_that_leads_nowhere_is_down(world):
    from autopay.gateways.port import BookPage

    world.service.start()
    world.gateway.book = lambda after="", limit=5: BookPage([], "7")
    with pytest.raises(GatewayDown, match="does not go on"):
        world.service.reconcile("bank")


def test_a_book_of_many_pages_is_reconciled_and_a_failed_page_lifts_nothing(world):
    world.service.start()
    world.service.set_hold("restored from backup of 1")
    for number in range(25):
        world.mandate(id=f"m{number}", account=f"a{number}", token=f"t{number}")
        world.event(account=f"a{number}", kind="alert")
        from autopay.orders import key_of

        assert isinstance(
            world.gateway.charge_late(key_of(f"a{number}", 1, 1), f"t{number}", 100, f"a{number}/1/1"), Succeeded
        )
    whole = world.gateway.book
    world.gateway.book = lambda after="", limit=10: whole(after, 10) if after != "20" else down()

    def down():
        raise GatewayDown("page 3")

    with pytest.raises(GatewayDown):
        world.service.reconcile("bank")
    assert len(world.credits()) == 20
    assert world.service.lift_hold("go") != []
    world.gateway.book = lambda after="", limit=10: whole(after, 10)
    report = world.service.reconcile("bank")
    assert (report.charges, report.known, len(report.credited)) == (25, 20, 5)
    assert world.service.lift_hold("go") == []
