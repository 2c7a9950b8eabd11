"""One city that is treated badly: SIGTERM under load, two of them; daemon and fleet that sleep past their keep-alive,
a gateway that sleeps past the daemon's wait for it; kill -9 of broker, fleet and gateway. Each comes
back, and nothing is lost."""

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest

from simulators.ports import lines

FASTER = 15_000.0
KEEPALIVE_S = 2
SETTINGS = {
    "autopay": {"cooldown_s": 0, "cap_day_count": 1000, "cap_day_fen": 10**7, "cap_month_fen": 10**8},
    "mqtt": {"keepalive_real_s": KEEPALIVE_S},
    # What a sleeping gateway has in its socket is charged when it wakes: "not found" is no answer before.
    "gateways.simulated": {"settlement_horizon_s": int(300 * FASTER)},
}


@dataclass
class Story:
    """What happened, in order."""

    term_code: int = -1
    after_term: object = None
    twice_code: int = -1
    twice_real_s: float = -1.0
    after_twice: object = None
    asleep: object = None
    awake: object = None
    fleet_awake: object = None
    ran_out: set[str] = field(default_factory=set)  # keys of calls that a sleeping gateway did not answer in time
    gateway_awake: object = None
    broker_code: int = -1
    after_broker: object = None
    streams: list[dict] = field(default_factory=list)  # of every concentrator, before the fleet's death and after
    numbers: list[dict] = field(default_factory=list)  # next number of every stream, likewise
    end: dict = field(default_factory=dict)


SLEEP_DEADLINE_S = 120.0


def wait_until(what, deadline_real_s=60.0):
    until = time.monotonic() + deadline_real_s
    while not what():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def story(crash, tmp_path_factory):
    found = Story()
    told = crash.story(meters=40, days=400, seed=12, factor=FASTER, partitions=4, lead_real_s=3.0, settings=SETTINGS)
    told = replace(told, fleet_keepalive_real_s=KEEPALIVE_S)

    def logged():
        return len(crash.moment(rig).logged)

    def on_the_line(process):
        return lines(process.pid, rig.mqtt_port)

    def ran_out():
        slow = "s.evidence LIKE '%no answer within%' OR s.evidence LIKE '%Timeout%'"
        asked = f"SELECT DISTINCT o.key FROM order_step s JOIN order_ o ON o.id = s.order_id WHERE {slow}"
        return {key for (key,) in crash.asked(rig.data / "ledger.db", asked)}

    @contextmanager
    def asleep(process):
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def streams():
        return crash.asked(rig.outbox, "SELECT concentrator, stream, next_sequence FROM stream")

    def note_streams():
        rows = streams()
        found.streams.append({name: stream for name, stream, _ in rows})
        found.numbers.append({name: number for name, _, number in rows})

    with crash.city(tmp_path_factory.mktemp("signals"), told) as rig:
        rig.prepare()
        rig.start_gateway()
        rig.start_daemon()
        rig.start_fleet()
        wait_until(lambda: rig.outbox.exists() and logged() > 20)

        found.term_code = rig.stop_daemon()
        found.after_term = crash.moment(rig)

        rig.start_daemon()
        enough = logged() + 20
        wait_until(lambda: logged() > enough)
        started = time.monotonic()
        rig.daemon.send_signal(signal.SIGTERM)
        time.sleep(0.1)  # two at once would be one to the kernel
        rig.daemon.send_signal(signal.SIGTERM)
        found.twice_code = rig.wait_dead(10)
        found.twice_real_s = time.monotonic() - started
        found.after_twice = crash.moment(rig)

        rig.start_daemon()
        enough = logged() + 20  # both have their lines
        wait_until(lambda: logged() > enough)
        with asleep(rig.daemon):
            found.asleep = crash.moment(rig)
            wait_until(lambda: not on_the_line(rig.daemon), SLEEP_DEADLINE_S)
        enough = len(found.asleep.logged) + 20
        wait_until(lambda: logged() > enough)
        found.awake = crash.moment(rig)

        with asleep(rig.fleet):
            wait_until(lambda: not on_the_line(rig.fleet), SLEEP_DEADLINE_S)
            enough = logged() + 20
        wait_until(lambda: logged() > enough)
        found.fleet_awake = crash.moment(rig)

        before = ran_out()
        with asleep(rig.gateway):
            wait_until(lambda: ran_out() - before, SLEEP_DEADLINE_S)
            found.ran_out = ran_out() - before
        enough = len(crash.moment(rig).credited)
        wait_until(lambda: len(crash.moment(rig).credited) > enough)
        found.gateway_awake = crash.moment(rig)

        task = Path(f"/proc/{rig.daemon.pid}/task/{rig.daemon.pid}/children")
        for child in task.read_text().split():  # the embedded broker is its only one
            os.kill(int(child), signal.SIGKILL)
        found.broker_code = rig.wait_dead(40)
        found.after_broker = crash.moment(rig)
        rig.start_daemon()

        note_streams()
        rig.fleet.kill()
        rig.fleet.wait(10)
        rig.start_fleet()
        rig.gateway.kill()
        rig.gateway.wait(10)
        rig.start_gateway()
        wait_until(lambda: all(number > found.numbers[0][name] + 20 for name, _, number in streams()))
        note_streams()
        found.end = crash.ends_at_zero(rig)
    return found


def test_sigterm_ends_well(story, crash):
    assert story.term_code == 0
    crash.holds(story.after_term)
    assert story.after_term.held, "the city was not under load"


def test_second_sigterm_leaves_at_once(story, crash):
    assert story.twice_code == 130
    assert story.twice_real_s < 5
    crash.holds(story.after_twice)


def test_sleeping_past_the_keep_alive(story, crash):
    """The broker has given the session up; the daemon that wakes takes it up again and goes on."""
    crash.holds(story.awake)
    assert story.awake.logged > story.asleep.logged or len(story.awake.logged) > len(story.asleep.logged)
    assert sum(story.awake.marks.values()) > sum(story.asleep.marks.values())


def test_a_fleet_that_slept_goes_on(story, crash):
    """Its line was closed under it; it comes back to its session, and sends what was not held."""
    crash.holds(story.fleet_awake)
    assert len(story.fleet_awake.logged) > len(story.awake.logged)


def test_a_gateway_that_slept_charges_once(story):
    """The daemon did not hear in time, and asked again: one charge for a key all the same, and its credit."""
    assert story.ran_out
    end = story.end["now"]
    assert len(end.charged) == len(set(end.charged))
    assert story.ran_out <= end.credited


def test_daemon_without_its_broker_ends_loudly(story, crash):
    """Code 70: whoever supervises it starts it again; it does not stay up deaf."""
    assert story.broker_code == 70
    crash.holds(story.after_broker)


def test_fleet_goes_on_with_its_streams(story):
    before, after = story.streams
    assert before == after, "a restarted fleet must keep its streams"
    for earlier, later in pairwise(story.numbers):
        assert all(later[name] > number for name, number in earlier.items()), "a sequence was started again"


def test_nothing_is_lost(story):
    assert story.end["checked"]["used_wh"] == story.end["checked"]["billed_wh"] > 0
    assert story.end["audited"]["counts"]["charges"] > 0
