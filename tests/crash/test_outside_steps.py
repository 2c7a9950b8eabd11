"""kill -9 of the fleet at every named step of its outbox, and of the gateway at every step of a charge.

One small city; the daemon lives on. The part that is to die is started anew, told where, dies there under load and
comes back with its own file. What the files say just then must fit the step; at the end checker and audit say zero.
"""

import signal
from dataclasses import dataclass, field

import pytest

from config.steps import CHARGE_ORDER, OUTBOX_ORDER, OUTSIDE_STEPS

DEATH_DEADLINE_S = 120.0
FASTER = 15_000.0
SETTINGS = {
    "autopay": {"cooldown_s": 0, "cap_day_count": 1000, "cap_day_fen": 10**7, "cap_month_fen": 10**8},
    # What a dead gateway had heard is asked for and charged again meanwhile; it is not called a decline.
    "gateways.simulated": {"settlement_horizon_s": int(20 * FASTER)},
}


@dataclass
class Death:
    """How one part ended, and what the files said then."""

    code: int
    now: object  # a Moment
    truth: dict[str, int] = field(default_factory=dict)  # last number of every stream in the truth book
    numbered: dict[str, int] = field(default_factory=dict)  # and in the outbox
    unanswered: set[str] = field(default_factory=set)  # keys that the gateway heard of and has no result for


def died(crash, rig, part, step):
    process = rig.part(part)
    process.kill()
    process.wait(10)
    start = rig.start_fleet if part == "fleet" else rig.start_gateway
    start(kill_at=f"{step}:3")
    code = rig.wait_dead(DEATH_DEADLINE_S, part)
    numbered = dict(crash.asked(rig.outbox, "SELECT stream, next_sequence - 1 FROM stream"))
    truth = dict(crash.asked(rig.truth, "SELECT stream, max(sequence) FROM message GROUP BY stream"))
    heard = {key for (key,) in crash.asked(rig.book, "SELECT key FROM heard EXCEPT SELECT key FROM result")}
    found = Death(code, crash.moment(rig), truth, numbered, heard)
    start()
    return found


@dataclass
class Story:
    """Deaths by step, and the end."""

    deaths: dict[str, Death] = field(default_factory=dict)
    end: dict = field(default_factory=dict)


@pytest.fixture(scope="module")
def story(crash, tmp_path_factory):
    found = Story()
    told = crash.story(meters=40, days=400, seed=13, factor=FASTER, partitions=4, lead_real_s=3.0, settings=SETTINGS)
    with crash.city(tmp_path_factory.mktemp("outside"), told) as rig:
        rig.prepare()
        rig.start_gateway()
        rig.start_daemon()
        rig.start_fleet()
        for step in OUTSIDE_STEPS:
            found.deaths[step] = died(crash, rig, "fleet" if step in OUTBOX_ORDER else "gateway", step)
        found.end = crash.ends_at_zero(rig)
    return found


def ahead(death):
    """Streams of which the truth book knows more than the outbox."""
    return {stream for stream, last in death.truth.items() if last > death.numbered[stream]}


def told(death):
    """What the log holds, and the outbox, too."""
    return {(stream, number) for stream, number in death.now.waiting if number <= death.now.marks.get(stream, 0)}


# What the files must say when a part has died at a step.
EVIDENCE = {
    "fleet.taken": lambda death: death.truth and not ahead(death),
    "fleet.truth_written": ahead,
    "fleet.outbox_written": lambda death: not ahead(death) and death.now.waiting - death.now.logged,
    "fleet.published": lambda death: death.now.waiting,
    "fleet.held": told,
    "fleet.forgotten": lambda death: any(death.now.held.values()),
    "gateway.heard": lambda death: death.unanswered,
    "gateway.charged": lambda death: set(death.now.charged) - death.now.credited,
    "gateway.replying": lambda death: set(death.now.charged) - death.now.credited,
    "gateway.replied": lambda death: death.now.charged,
    "gateway.webhook": lambda death: death.now.charged,
}


def test_every_step_is_here():
    assert list(EVIDENCE) == list(OUTBOX_ORDER + CHARGE_ORDER)


@pytest.mark.parametrize("step", OUTSIDE_STEPS)
def test_killed_at(step, story):
    death = story.deaths[step]
    assert death.code == -signal.SIGKILL
    assert EVIDENCE[step](death), f"nothing in the files shows that {step} was reached"
    assert all(number <= death.now.marks.get(stream, 0) for stream, number in death.now.held.items())


def test_nothing_is_lost_and_nothing_is_done_twice(story):
    end = story.end
    assert end["checked"]["used_wh"] == end["checked"]["billed_wh"] > 0
    assert end["audited"]["counts"]["charges"] == end["audited"]["counts"]["credits"] > 0
