"""Who uses the processor: the broker is found by its port and counted by itself, or it is said why it was not."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from config.clock import RealClock
from config.proc import children, there
from simulators.load import processes, report
from simulators.load.processes import Sample, Sampler, Usage, broker_of, here, listener

DEADLINE_S = 20.0
# A parent that sleeps; its child, started by another thread than the main one, listens and works.
CHILD = """
import socket, sys
listening = socket.create_server(("127.0.0.1", 0)); print(listening.getsockname()[1], flush=True)
kept = bytearray(50_000_000)
while True: sum(range(10_000))
"""
PARENT = """
import subprocess, sys, threading
def child():
    print(subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=sys.stdout).pid, flush=True)
    threading.Event().wait()
threading.Thread(target=child).start()
"""


@pytest.fixture
def pair() -> Iterator[tuple[int, int, int]]:
    """(parent, child, the child's port)."""
    made = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True)
    assert made.stdout is not None
    numbers = sorted(int(made.stdout.readline()) for _ in range(2))
    child = next(pid for pid in children(made.pid))
    port = next(number for number in numbers if number != child)
    yield made.pid, child, port
    for pid in (child, made.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
    made.wait(DEADLINE_S)
    made.stdout.close()


def sampled(sampler: Sampler, name: str, count: int) -> list[Sample]:
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        found = [one for one in sampler.usage.samples if one.name == name]
        if len(found) >= count:
            return found
        time.sleep(0.02)
    raise AssertionError(f"no {count} samples of {name}")


def test_a_broker_that_is_the_daemons_child_is_counted_by_itself(
    pair: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child works and has its 50 MB; nothing of that is the parent's."""
    monkeypatch.setattr(processes, "EVERY_S", 0.3)
    parent, child, port = pair
    sampler = Sampler({"daemon": parent}, "127.0.0.1", port, None, RealClock())
    sampler.start()
    sampled(sampler, "broker", 4)
    usage = sampler.stop()
    assert usage.broker.startswith(f"process {child}, ")
    of = {name: [one for one in usage.samples if one.name == name] for name in ("daemon", "broker")}
    used = {name: many[-1].cpu_s - many[0].cpu_s for name, many in of.items()}
    assert used["broker"] > used["daemon"] == 0.0
    assert of["broker"][-1].rss > 50e6 > of["daemon"][-1].rss > 0


def test_a_broker_that_ends_is_looked_for_anew_and_what_was_measured_stays(
    pair: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "EVERY_S", 0.1)
    parent, child, port = pair
    sampler = Sampler({"daemon": parent}, "127.0.0.1", port, None, RealClock())
    sampler.start()
    many = len(sampled(sampler, "broker", 2))
    os.kill(child, 9)
    until = time.monotonic() + DEADLINE_S
    while sampler._broker is not None:
        assert time.monotonic() < until
        time.sleep(0.02)
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
        again.listen()
        sampled(sampler, "broker", many + 2)
        assert sampler.stop().broker.startswith(f"process {os.getpid()}, ")


def test_a_listener_is_found_at_its_own_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        assert listener("127.0.0.1", port) == listener("localhost", port) == os.getpid()
        assert listener("127.0.0.2", port) is None
    assert listener("127.0.0.1", port) is None
    with socket.create_server(("", 0)) as everywhere:
        assert listener("127.0.0.2", everywhere.getsockname()[1]) == os.getpid()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_a_listener_on_both_families_takes_either() -> None:
    try:
        both = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    except OSError:
        pytest.skip("this machine has no IPv6 address")
    with both:
        assert listener("127.0.0.1", both.getsockname()[1]) == os.getpid()


def test_what_cannot_be_measured_is_said() -> None:
    assert here("127.0.0.1")
    assert not here("192.0.2.1")  # for documentation: nobody has it
    assert broker_of("192.0.2.1", 1883, None, None) == (
        None, "not measured: 192.0.2.1 is another machine; look at it there"
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        assert broker_of("127.0.0.1", port, None, None)[0] == os.getpid()
        found, why = broker_of("127.0.0.1", port, None, os.getpid())
        assert found is None
        assert "part of the daemon" in why
    assert "--broker-pid" in broker_of("127.0.0.1", port, None, None)[1]
    assert broker_of("192.0.2.1", 1883, os.getpid(), None)[0] == os.getpid()  # given: the person knows
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(DEADLINE_S)
    assert not there(ended.pid)
    assert str(ended.pid) in broker_of("127.0.0.1", port, ended.pid, None)[1]


def test_cores_are_what_was_used_also_by_one_that_came_anew() -> None:
    samples = [Sample(at, "broker", cpu, 10, 0) for at, cpu in ((0.0, 5.0), (1.0, 6.0), (2.0, 0.5), (3.0, 1.5))]
    result = SimpleNamespace(usage=Usage(samples), sent=SimpleNamespace(readings=1))
    assert report.resources(result)["broker"]["cores"] == round(2.0 / 3.0, 3)  # type: ignore[arg-type]
