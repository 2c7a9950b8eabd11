"""I/O: a storm over a rig: its processes are killed and put to sleep, at random moments and at named steps.

Which part is struck, how and after how long is drawn from a seed; what it was doing just then is the machine's, so a
seed repeats the plan and not the moment. After every death of the daemon `look` is called, while all files lie still.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from config.steps import ACK_ORDER, STEPS
from simulators.rig import Rig, RigFailed

UP_REAL_S: Final = 2.0  # at most so long does a part live between two strikes
START_REAL_S: Final = 3.0  # a daemon that is killed while it starts is so far at most
STEP_REAL_S: Final = 8.0  # a step that is not passed by then is not waited for
PASSES_MAX: Final = 20  # of a step of the ack order, before the daemon dies at it; of the others a tenth
KINDS: Final = {  # what happens, and how often of all
    "daemon": 0.40,
    "daemon, starting": 0.15,
    "daemon, at a step": 0.20,
    "fleet": 0.10,
    "gateway": 0.10,
    "daemon, asleep": 0.02,
    "fleet, asleep": 0.015,
    "gateway, asleep": 0.015,
}
ASLEEP: Final = tuple(kind for kind in KINDS if kind.endswith("asleep"))


def plan(kills: int, dice: random.Random) -> list[str]:
    """What happens, in order: every kind once at least, then as the dice fall; `kills` of them are deaths."""
    deaths = [kind for kind in KINDS if kind not in ASLEEP]
    if kills < len(deaths):
        raise ValueError(f"a storm has {len(deaths)} kinds of death: {kills} kills are too few")
    found, left = list(KINDS), kills - len(deaths)
    while left:
        kind = dice.choices(list(KINDS), list(KINDS.values()))[0]
        found.append(kind)
        left -= kind not in ASLEEP
    dice.shuffle(found)
    return found


class Storm:
    """Strikes the parts of one rig that is up; whoever died comes back."""

    def __init__(self, rig: Rig, dice: random.Random, look: Callable[[], None], *, asleep_real_s: float) -> None:
        """`asleep_real_s`: how long a part sleeps; longer than the keep-alive, or nobody notices."""
        self.rig, self.dice, self.look, self.asleep_real_s = rig, dice, look, asleep_real_s
        self.counts: Counter[str] = Counter()  # kinds, and "at STEP"

    def strike(self, kind: str) -> None:
        """One of `KINDS`."""
        part, _, how = kind.partition(", ")
        process = self._process(part)
        if process.poll() is not None:
            raise RigFailed(f"the {part} ended by itself with {process.returncode}")
        if how == "asleep":
            self._sleep(process)
        elif how == "starting":
            self._end()
            self.rig.start_daemon(wait=False)
            time.sleep(self.dice.uniform(0, START_REAL_S))
            self._end()
            self.rig.start_daemon()
        elif how == "at a step":
            self._end()
            self._at_step(self.dice.choice(STEPS))
            self.rig.start_daemon()
        else:
            time.sleep(self.dice.uniform(0, UP_REAL_S))
            self._kill(part)
        self.counts[kind] += 1

    def _process(self, part: str) -> subprocess.Popen[bytes]:
        found = {"daemon": self.rig.daemon, "fleet": self.rig.fleet, "gateway": self.rig.gateway}[part]
        assert found is not None, f"the {part} was never started"
        return found

    def _kill(self, part: str) -> None:
        if part == "daemon":
            self._end()
            self.rig.start_daemon()
            return
        process = self._process(part)
        process.kill()
        process.wait(10)
        (self.rig.start_fleet if part == "fleet" else self.rig.start_gateway)()

    def _end(self) -> None:
        """The daemon dies here, unless it was faster."""
        process = self._process("daemon")
        if process.poll() is not None:
            raise RigFailed(f"the daemon ended by itself with {process.returncode}")
        self.rig.kill_daemon()
        self.look()

    def _at_step(self, step: str) -> None:
        passes = self.dice.randint(1, PASSES_MAX if step in ACK_ORDER else PASSES_MAX // 10)
        self.rig.start_daemon(kill_at=f"{step}:{passes}", wait=False)
        try:
            code = self.rig.wait_dead(STEP_REAL_S)
        except RigFailed:
            self.counts["at no step in time"] += 1
            self._end()
            return
        if code != -signal.SIGKILL:
            raise RigFailed(f"the daemon ended with {code} before it came to {step}")
        self.counts[f"at {step}"] += 1
        self.look()

    def _sleep(self, process: subprocess.Popen[bytes]) -> None:
        time.sleep(self.dice.uniform(0, UP_REAL_S))
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(self.asleep_real_s)
        finally:
            process.send_signal(signal.SIGCONT)
