"""I/O: a storm over a rig: its processes are killed and put to sleep, at random moments and at named steps.

Which part is struck, how and after how long is drawn from a seed; what it was doing just then is the machine's, so a
seed repeats the plan and not the moment. After every death of the daemon `look` is called, while all files lie still.

Daemon and fleet sleep until the broker has closed their connections, as it does when a keep-alive has passed. A
gateway has no keep-alive: it sleeps for longer than the daemon waits for an answer.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final

from config.steps import ACK_ORDER, CHARGE_ORDER, OUTBOX_ORDER, STEPS
from simulators.ports import lines
from simulators.rig import Rig, RigFailed

UP_REAL_S: Final = 2.0  # at most so long does a part live between two strikes
START_REAL_S: Final = 3.0  # a daemon that is killed while it starts is so far at most
STEP_REAL_S: Final = 8.0  # a step that is not passed by then is not waited for
PASSES_MAX: Final = 20  # of a step of the ack order or of an outbox, before a part dies at it; of the others a tenth
LINE_REAL_S: Final = 60.0  # a line comes, or goes, in that time
TRIES: Final = 4  # to put a part to sleep that holds a line
STEPS_OF: Final = {"daemon": STEPS, "fleet": OUTBOX_ORDER, "gateway": CHARGE_ORDER}
KINDS: Final = {  # what happens, and how often of all
    "daemon": 0.35,
    "daemon, starting": 0.13,
    "daemon, at a step": 0.20,
    "fleet": 0.07,
    "fleet, at a step": 0.07,
    "gateway": 0.06,
    "gateway, at a step": 0.07,
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
        """`asleep_real_s`: how long a part sleeps at least; longer than the daemon waits for a gateway's answer."""
        self.rig, self.dice, self.look, self.asleep_real_s = rig, dice, look, asleep_real_s
        self.counts: Counter[str] = Counter()  # kinds, "at STEP", "line lost" and "call ran out" of sleeping parts

    def strike(self, kind: str) -> None:
        """One of `KINDS`."""
        part, _, how = kind.partition(", ")
        process = self.rig.part(part)
        if process.poll() is not None:
            raise RigFailed(f"the {part} ended by itself with {process.returncode}")
        if how == "asleep":
            self._sleep(part)
        elif how == "starting":
            self._end("daemon")
            self.rig.start_daemon(wait=False)
            time.sleep(self.dice.uniform(0, START_REAL_S))
            self._end("daemon")
            self._start("daemon")
        elif how == "at a step":
            self._end(part)
            self._die_at_step(part, self.dice.choice(STEPS_OF[part]))
            self._start(part)
        else:
            time.sleep(self.dice.uniform(0, UP_REAL_S))
            self._end(part)
            self._start(part)
        self.counts[kind] += 1

    def _start(self, part: str, kill_at: str = "") -> None:
        if part == "daemon":
            self.rig.start_daemon(kill_at=kill_at, wait=not kill_at)
        elif part == "fleet":
            self.rig.start_fleet(kill_at=kill_at)
        else:
            self.rig.start_gateway(kill_at=kill_at)

    def _end(self, part: str) -> None:
        """The part dies here, unless it was faster."""
        process = self.rig.part(part)
        if process.poll() is not None:
            raise RigFailed(f"the {part} ended by itself with {process.returncode}")
        process.kill()
        process.wait(10)
        if part == "daemon":
            self.look()

    def _die_at_step(self, part: str, step: str) -> None:
        passes = self.dice.randint(1, PASSES_MAX if step in ACK_ORDER + OUTBOX_ORDER else PASSES_MAX // 10)
        self._start(part, f"{step}:{passes}")
        try:
            code = self.rig.wait_dead(STEP_REAL_S, part)
        except RigFailed:
            self.counts["at no step in time"] += 1
            self._end(part)
            return
        if code != -signal.SIGKILL:
            raise RigFailed(f"the {part} ended with {code} before it came to {step}")
        self.counts[f"at {step}"] += 1
        if part == "daemon":
            self.look()

    def _sleep(self, part: str) -> None:
        process, listening = self.rig.part(part), self.rig.mqtt_port
        time.sleep(self.dice.uniform(0, UP_REAL_S))
        if part == "gateway":
            ran_out = self._calls_that_ran_out()
            with self._stopped(process):
                self.counts["call ran out"] += self._calls_that_ran_out() > ran_out
            return
        for _ in range(TRIES):
            self._until(lambda: lines(process.pid, listening) > 0, LINE_REAL_S)
            with self._stopped(process):
                if self._until(lambda: lines(process.pid, listening) == 0, LINE_REAL_S / TRIES):
                    self.counts["line lost"] += 1
                    return
            # It fell asleep before it had said who it is, or was asked once a second for what is missing: the broker
            # counts what it sends as a sign of life, too. It lives for a while, and says what it was asked for.
            time.sleep(UP_REAL_S)
        raise RigFailed(f"the broker keeps the line of a {part} that sleeps")

    @contextmanager
    def _stopped(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """It sleeps, has slept for a while, and wakes at the end."""
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(self.asleep_real_s)
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def _until(self, ready: Callable[[], bool], deadline_real_s: float) -> bool:
        until = time.monotonic() + deadline_real_s
        while not ready():
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def _calls_that_ran_out(self) -> int:
        """How often the daemon has written that a gateway did not answer in time."""
        said = "SELECT count(*) FROM order_step WHERE evidence LIKE '%no answer within%' OR evidence LIKE '%Timeout%'"
        with closing(sqlite3.connect(f"file:{self.rig.data / 'ledger.db'}?mode=ro", uri=True, timeout=10)) as db:
            return int(db.execute(said).fetchone()[0])
