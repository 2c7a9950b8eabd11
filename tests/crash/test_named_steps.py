"""kill -9 of the real daemon at every named step of the ack order, the checkpoint and the order machine.

Two runs, each of one small city: the daemon is started again and again, every time told to kill itself at the
next step, while the fleet goes on sending and the gateway goes on charging. What the files say between a death
and the next start must fit the step; at the end checker and audit are at zero.
"""

import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from config.steps import ACK_ORDER, CHECKPOINT_ORDER, PAYMENT_ORDER, STEPS

LOG_STEPS = ACK_ORDER + CHECKPOINT_ORDER
DEATH_DEADLINE_S = 45.0
FASTER = 15_000.0  # business seconds in a real one: a day in six seconds
SETTINGS = {"autopay": {"cooldown_s": 0, "cap_day_count": 1000, "cap_day_fen": 10**7, "cap_month_fen": 10**8}}
OFTEN_ARCHIVED = {"archive": {"records_per_file": 16, "keep_records": 0, "age_max_s": int(FASTER)}}


@dataclass
class Death:
    """How one daemon ended, and what the files said then."""

    code: int
    after: object


@dataclass
class Storm:
    """One run's deaths by step, and its end."""

    deaths: dict[str, Death] = field(default_factory=dict)
    end: dict = field(default_factory=dict)


def storm(crash, rig, steps):
    """Die at each of the steps once, come back, and end well."""
    found = Storm()
    with rig:
        rig.prepare()
        rig.start_gateway()
        for step in steps:
            rig.start_daemon(kill_at=step if not step.startswith("ack") else f"{step}:3")
            if rig.fleet is None:
                rig.start_fleet()
            code = rig.wait_dead(DEATH_DEADLINE_S)
            assert code == -signal.SIGKILL, (step, code, (rig.folder / "daemon.log").read_text()[-2000:])
            found.deaths[step] = Death(code, crash.moment(rig))
        rig.start_daemon()
        found.end = crash.ends_at_zero(rig)
    return found


@pytest.fixture(scope="module")
def storms(crash, tmp_path_factory):
    """Both runs, side by side: the deaths of log and checkpoint; those of the order machine, with a gateway that
    misbehaves as gateways do."""
    same = {"meters": 40, "days": 400, "seed": 11, "factor": FASTER, "partitions": 4, "lead_real_s": 3.0}
    faults = "duplicate_webhook=0.2,early_webhook=0.1,late_webhook=0.2,slow=0.1,timeout_after=0.05"
    told = {
        "log": crash.story(**same, settings=SETTINGS | OFTEN_ARCHIVED),
        "payment": crash.story(**same, settings=SETTINGS, gateway_faults=faults),
    }
    rigs = {name: crash.city(tmp_path_factory.mktemp(name), story) for name, story in told.items()}
    with ThreadPoolExecutor(len(rigs)) as pool:
        steps = {"log": LOG_STEPS, "payment": PAYMENT_ORDER}
        running = {name: pool.submit(storm, crash, rig, steps[name]) for name, rig in rigs.items()}
        return {name: run.result() for name, run in running.items()}


# What the files must say when the daemon has died at a step.
EVIDENCE = {
    "ack.received": lambda now: now.waiting - now.logged,
    "ack.decoded": lambda now: now.waiting - now.logged,
    "ack.log_written": lambda now: now.waiting & now.logged,  # durable, and nobody has been told
    "ack.sent": lambda now: now.waiting & now.logged,
    "ack.held": lambda now: now.marks,
    "ack.handed_over": lambda now: now.logged,
    "checkpoint.gathered": lambda now: lags(now),
    "checkpoint.before_commit": lambda now: lags(now),
    "checkpoint.committed": lambda now: now.checkpoints,
    "archive.file_written": lambda now: now.files - now.named,
    "archive.named": lambda now: now.named,
    "archive.pruned": lambda now: max(now.log_first.values()) > 1,
    "order.created": lambda now: now.in_state("created"),
    "order.submitted": lambda now: now.in_state("submitted") - set(now.charged),
    "order.answered": lambda now: now.in_state("submitted", "unknown") | set(now.charged),
    "order.succeeded": lambda now: now.credited,
    "order.credited": lambda now: now.in_state("credited"),
    "notice.sending": lambda now: now.pending,
    "notice.sent": lambda now: now.pending & set(now.told),  # it is out, and the outbox does not know
}


def lags(now):
    """Partitions whose log holds more than has been rated."""
    return {partition for partition, last in now.log_last.items() if now.rated.get(partition, 0) < last}


def test_every_named_step_is_here():
    assert set(EVIDENCE) == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_killed_at(step, storms, crash):
    """The daemon reached the step, died there of its own SIGKILL, and left what it should have left."""
    death = storms["payment" if step in PAYMENT_ORDER else "log"].deaths[step]
    assert death.code == -signal.SIGKILL
    assert EVIDENCE[step](death.after), f"nothing in the files shows that {step} was reached"
    crash.holds(death.after)


@pytest.mark.parametrize("name", ["log", "payment"])
def test_nothing_is_lost_and_nothing_is_done_twice(name, storms):
    """Both runs ended with checker and audit at zero; see `agrees` in conftest for all that was compared."""
    end = storms[name].end
    assert end["checked"]["used_wh"] == end["checked"]["billed_wh"] > 0
    assert end["audited"]["counts"]["charges"] == end["audited"]["counts"]["credits"] > 0
    assert end["now"].told
