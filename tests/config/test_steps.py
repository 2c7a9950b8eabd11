"""Dying on request: the process ends by SIGKILL at the n-th passing of the named step, and only then."""

import os
import signal
import subprocess
import sys

import pytest

from config.steps import ASKED, OUTSIDE_STEPS, STEPS, reach, reach_outside, watched

SCRIPT = "from config.steps import reach\nfor n in range(3):\n    reach('ack.sent')\n    print(n, flush=True)\n"


def run(asked: str | None) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if name != "METERD_KILL_AT"}
    if asked is not None:
        environ["METERD_KILL_AT"] = asked
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("asked", "code", "passed"),
    [
        (None, 0, 3),
        ("ack.sent", -signal.SIGKILL, 0),
        ("ack.sent:1", -signal.SIGKILL, 0),
        ("ack.sent:3", -signal.SIGKILL, 2),
        ("ack.sent:4", 0, 3),
        ("ack.held", 0, 3),
    ],
)
def test_the_process_dies_at_the_step_that_was_asked_for(asked: str | None, code: int, passed: int) -> None:
    ended = run(asked)
    assert (ended.returncode, len(ended.stdout.split())) == (code, passed)


def test_a_step_that_does_not_exist_is_refused() -> None:
    ended = run("ack.sentt")
    assert ended.returncode == 1
    assert "no step 'ack.sentt'" in ended.stderr


def test_step_names_are_distinct() -> None:
    names = STEPS + ASKED + OUTSIDE_STEPS
    assert len(names) == len(set(names))


def test_no_world_is_told_of_what_stands_around_the_daemon() -> None:
    seen: list[str] = []
    with watched(seen.append):
        reach("ack.sent")
        reach_outside("fleet.held")
    assert seen == ["ack.sent"]
