"""I/O (a folder of files): what exists in one history, and its time: clocks, disk, broker, bank, people, fleet, dice.

Every choice comes from one generator, and everything that happens leaves a line in the trace: the same seed is the
same history, and the trace's digest says so.
"""

from __future__ import annotations

import heapq
import random
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Final

from config.clock import ManualClock
from config.settings import Paths
from simulators.concentrator import Outbox
from simulators.fleet_run import Limits, Run
from simulators.truth import TruthBook
from simulators.world.bank import GATEWAYS, Bank
from simulators.world.disk import Disk
from simulators.world.lines import Broker, FleetEnd
from simulators.world.people import Telephone
from simulators.world.scene import DAY_S, Scene
from simulators.world.weather import calm, draw

FORMATS: Final = ("arrow", "json", "senml-json", "senml-cbor")


class DaemonClock:
    """The daemon machine's clock: the true one, and wrong by hours now and then."""

    def __init__(self, true: ManualClock) -> None:
        self._true = true
        self.wrong_s = 0

    def now_s(self) -> int:
        return self._true.now_s() + self.wrong_s

    def monotonic_s(self) -> float:
        return self._true.monotonic_s()

    def real_seconds(self, business_seconds: float) -> float:
        return business_seconds


class World:
    """One of a seed."""

    def __init__(
        self, scene: Scene, seed: int, folder: Path, *, without: Iterable[str] = (), keep: int | None = 0
    ) -> None:
        self.scene, self.seed, self.folder = scene, seed, folder
        self.dice = random.Random(seed)
        self.look = random.Random(f"{seed}: when it is looked at")  # rules draw here: looking changes no history
        self.weather = draw(self.dice, without)
        self.counts: Counter[str] = Counter()
        self.step = 0  # turns, idle ones too
        self.acts = 0  # turns that did something, and what happened in between
        self._hash = blake2b(digest_size=16)
        self.trace: deque[str] = deque(maxlen=keep)  # the last lines; None: all of them
        self.clock = ManualClock(scene.start_s)
        self.daemon_clock = DaemonClock(self.clock)
        self._agenda: list[tuple[int, int, str, Callable[[], None]]] = []
        self._number = 0
        self.data = folder / "data"
        self._lay_out()
        self.settings = scene.settings(self.data)
        self.disk = Disk(self.dice, self.weather, self.counts)
        self.broker = Broker(self.clock, self.dice, self.weather, self.counts)
        self.banks = {
            name: Bank(name, folder, self.clock, self.dice, self.weather, self.counts, self.after)
            for name in GATEWAYS
        }
        self.telephone = Telephone(self.disk)
        self.restored = False
        self._wire_fleet()

    def _lay_out(self) -> None:
        registry = self.registry
        self.data.mkdir(parents=True)
        shutil.copytree(registry, self.data / "registry", copy_function=_linked)
        shutil.copyfile(Paths(registry.parent).ledger, Paths(self.data).ledger)

    def _wire_fleet(self) -> None:
        scene, folder = self.scene, self.folder
        plan = scene.plan_of(self.seed, self.weather.frames)
        self.outbox, self.truth = Outbox(folder / "outbox.db"), TruthBook(folder / "truth.db")
        self.truth.begin(scene.load, {"seed": self.seed})
        names = list(scene.load.lists)
        self.streams = self.outbox.streams({name: f"s{place}" for place, name in enumerate(names)})
        ends = [FleetEnd(self.broker) for _ in names]
        formats = [self.dice.choice(FORMATS) for _ in names]
        limits = Limits(resend_after_real_s=4 * 3600.0, deadline_real_s=60.0 * DAY_S)
        self.fleet = Run(
            scene.load, plan, scene.fleet.shards, formats, self.clock, self.outbox, self.truth, self.streams,
            ends, limits, lambda _event: None, paced=True, keys=scene.keys,
        )  # fmt: skip

    # -- time --------------------------------------------------------------------------------------------------
    def after(self, seconds: int, what: str, call: Callable[[], None]) -> None:
        """Something will happen."""
        self._number += 1
        heapq.heappush(self._agenda, (self.clock.now_s() + seconds, self._number, what, call))

    def note(self, what: str) -> None:
        """A line of the trace: what makes two histories the same."""
        line = f"{self.step} {self.clock.now_s()} {what}"
        self._hash.update(line.encode())
        self.trace.append(line)

    def happens(self, rate: float, what: str) -> bool:
        if self.dice.random() >= rate:
            return False
        self.counts[what] += 1
        self.note(what)
        return True

    @property
    def registry(self) -> Path:
        """Every version of the scene's registry."""
        return self.scene.folder / "data" / "registry"

    @property
    def digest(self) -> str:
        """Of everything that was noted."""
        return self._hash.hexdigest()

    def next_s(self) -> int | None:
        """When the next thing is due."""
        times = [self._agenda[0][0]] if self._agenda else []
        arrives = self.broker.next_s
        return min([*times, arrives] if arrives is not None else times, default=None)

    def happen(self) -> None:
        """What is due now, in order."""
        while self._agenda and self._agenda[0][0] <= self.clock.now_s():
            _, _, what, call = heapq.heappop(self._agenda)
            self.note(what)
            self.counts[f"event:{what}"] += 1
            self.acts += 1
            call()

    def calm_down(self) -> None:
        """Nothing goes wrong from here on."""
        self.note("calm")
        self.weather = self.disk.weather = self.broker.weather = calm()
        for bank in self.banks.values():
            bank.weather, bank.out, bank.storm = self.weather, False, False
        self.daemon_clock.wrong_s = 0

    def close(self) -> None:
        self.outbox.close()
        self.truth.close()
        for bank in self.banks.values():
            bank.ledger.close()


def _linked(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
