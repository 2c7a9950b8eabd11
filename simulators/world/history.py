"""I/O (a folder of files): one history of the simulated world, from its seed: who does what when, deaths, restarts.

    rounds: every INTERVAL_S the fleet reads its meters; before each, what was due meanwhile happens in order of time;
    in each, the passes of fleet, broker and daemon take turns in an order that the dice decide, until nothing moves.

All of it runs on one thread, and every choice comes from one generator: the same seed is the same history. Whatever
a pass raises is the death of the daemon; deaths that nobody meant are findings.
"""

from __future__ import annotations

import heapq
import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import OperationalError

from config.clock import ManualClock
from config.settings import Paths
from config.steps import watched
from ledger.backup import backup, restore
from ledger.port import LedgerFailed, StartRefused
from registry.staged import mark_staged
from simulators.concentrator import Outbox
from simulators.fleet_run import Limits, Run
from simulators.gateway_book import Book
from simulators.truth import TruthBook
from simulators.world.bank import NAME, Bank
from simulators.world.disk import Death, Disk
from simulators.world.lines import Broker, DaemonEnd, FleetEnd
from simulators.world.people import Lanes, Telephone
from simulators.world.port import Around, NodeMaker, NodePort
from simulators.world.rules import Finding, Rules
from simulators.world.scene import DAY_S, INTERVAL_S, Scene
from simulators.world.weather import calm, draw

TURNS_MAX: Final = 8  # of everybody in a round
QUIET_ROUNDS: Final = 80  # of INTERVAL_S / 2 each, after the faults have stopped
STARTS_MAX: Final = 50  # in a row that end at once
DOWN_S: Final = (1, 1, 60, 600, 3600, 8 * 3600, 30 * 3600)
IDLE_PASSES: Final = 0.05  # of autopay and the outbox, when nobody has woken them
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


@dataclass(slots=True)
class Outcome:
    """What became of a history."""

    seed: int
    events: int
    digest: str  # of the whole trace
    counts: Counter[str]
    finding: str = ""  # the rule that was broken, and how
    step: int = 0
    trace: list[str] = field(default_factory=list)


class History:
    """`run` once."""

    def __init__(self, scene: Scene, seed: int, maker: NodeMaker, folder: Path, *, keep: int = 0) -> None:
        self.scene, self.seed, self.folder, self._maker = scene, seed, folder, maker
        self.dice = random.Random(seed)
        self.weather = draw(self.dice)
        self.counts: Counter[str] = Counter()
        self.step = 0
        self._hash = blake2b(digest_size=16)
        self._keep, self.trace = keep, list[str]()
        self.clock = ManualClock(scene.start_s)
        self.daemon_clock = DaemonClock(self.clock)
        self._agenda: list[tuple[int, int, str, Callable[[], None]]] = []
        self._number = 0
        self.data = folder / "data"
        self._lay_out()
        self.settings = scene.settings(self.data)
        self.disk = Disk(self.dice, self.weather, self.counts)
        self.broker = Broker(self.clock, self.dice, self.weather, self.counts)
        self.book = Book(folder / "bank.db", synchronous="OFF")
        self.bank = Bank(self.book, self.clock, self.dice, self.weather, self.counts, self.after)
        self.bank.deliver = self._webhook
        self.telephone = Telephone(self.disk)
        self.node: NodePort | None = None
        self._woken = True
        self._refused = 0
        self._accept = False
        self._backups: list[Path] = []
        self._topped: list[str] = []
        self.restored = False
        self._wire_fleet()
        self.rules = Rules(self)

    # -- the world is made -------------------------------------------------------------------------------------
    def _lay_out(self) -> None:
        registry = self.scene.folder / "data" / "registry"
        self.data.mkdir(parents=True)
        shutil.copytree(registry, self.data / "registry", copy_function=_linked)

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
        if self._keep:
            self.trace.append(line)
            del self.trace[: -self._keep]

    def happens(self, rate: float, what: str) -> bool:
        if self.dice.random() >= rate:
            return False
        self.counts[what] += 1
        self.note(what)
        return True

    def _go_to(self, at_s: int) -> None:
        """Everything that is due before, in order."""
        while True:
            due = self._agenda[0][0] if self._agenda else at_s + 1
            arrives = self.broker.next_s
            due = min(due, arrives if arrives is not None else due)
            if due > at_s:
                break
            self.clock.set(max(due, self.clock.now_s()))
            while self._agenda and self._agenda[0][0] <= self.clock.now_s():
                _, _, what, call = heapq.heappop(self._agenda)
                self.note(what)
                self.counts[f"event:{what}"] += 1
                call()
            self._turns(2)
        self.clock.set(at_s)

    # -- the run -----------------------------------------------------------------------------------------------
    def run(self) -> Outcome:
        finding = ""
        try:
            with watched(self._passed):
                self._start()
                for interval in range(self.scene.load.intervals):
                    end_s = self.scene.load.end_s(interval)
                    self._go_to(end_s + self.dice.randrange(60, 1800))
                    self._weather_of_the_round(interval)
                    self._turns(TURNS_MAX)
                self._end()
            registry = self.scene.folder / "data" / "registry"
            self.rules.at_end(lambda batch: self._maker.differences(self.settings, registry, batch))
        except Finding as found:
            finding = str(found)
            self.note(finding)
        finally:
            self._drop()
            self.rules.close()
            self.outbox.close()
            self.truth.close()
            self.book.close()
        return Outcome(self.seed, self.step, self._hash.hexdigest(), self.counts, finding, self.step, self.trace)

    def _turns(self, most: int) -> None:
        """Everybody takes turns, in an order that the dice decide, until nobody has anything to do."""
        for _ in range(most):
            moved = False
            actors = [
                self._fleet,
                self._broker,
                self._ingest,
                self._rate,
                self._flush,
                self._pay,
                self._tell,
                self._keep_,
            ]
            self.dice.shuffle(actors)
            for actor in actors:
                moved |= self._one(actor)
            if not moved:
                return

    def _one(self, actor: Callable[[], bool]) -> bool:
        """One pass, its trace, and what must be true after it."""
        self.step += 1
        try:
            moved = actor()
        except Death as death:
            self._died(f"killed: {death}")
            moved = True
        except Finding:
            raise
        except Exception as error:
            if not _meant(error):
                raise Finding("the daemon died", f"{actor.__name__}: {error!r}") from error
            self._died(f"ended: {type(error).__name__}")
            moved = True
        self.note(f"{actor.__name__} {moved}")
        self.rules.after_step()
        return moved

    # -- who takes turns ---------------------------------------------------------------------------------------
    def _fleet(self) -> bool:
        before = self.fleet.counts["published"]
        self.fleet.step()
        self.clock.advance(1)  # the fleet commits its outbox some time after it took a round
        self.fleet.step()
        return self.fleet.counts["published"] != before

    def _broker(self) -> bool:
        return self.broker.pump()

    def _ingest(self) -> bool:
        if self.node is None:
            return False
        waiting = any(end.waiting for end in self.broker.daemon.values())
        self.node.ingest()
        return waiting

    def _rate(self) -> bool:
        return self.node is not None and self.node.rate()

    def _flush(self) -> bool:
        return self.node is not None and self.disk.writers[-1].flush()

    def _pay(self) -> bool:
        if self.node is None or not (self._woken or self.dice.random() < IDLE_PASSES):
            return False
        done = self.node.pay() > 0
        self._woken |= done
        return done

    def _tell(self) -> bool:
        if self.node is None or not (self._woken or self.dice.random() < IDLE_PASSES):
            return False
        done = self.node.tell() > 0
        self._woken = done
        return done

    def _keep_(self) -> bool:
        return self.node is not None and self.dice.random() < 0.1 and self.node.keep() > 0

    # -- lives of the daemon -----------------------------------------------------------------------------------
    def _around(self) -> Around:
        return Around(
            log=self.disk.log,
            writer=self.disk.writer,
            calls=self.bank.wire,
            lanes=Lanes,
            gateways={NAME: self.bank},
            channels=[self.telephone],
            registry=self.scene.folder / "data" / "registry",
            link=lambda shard, into: DaemonEnd(self.broker, shard, into),
            pause=self._pause,
            told=self._told,
        )

    def _pause(self, real_s: float) -> bool:
        """The daemon waits; meanwhile the disk goes on."""
        self.clock.advance(max(1, int(real_s)))
        self.disk.writers[-1].flush()
        return False

    def _told(self) -> None:
        self._woken = True

    def _start(self) -> None:
        """A new life on the same files."""
        if self.node is not None:
            return
        try:
            self.node = self._maker(self.settings, self.daemon_clock, self._around())
            self.node.start(accept_clock=self._accept)
        except Death as death:
            self._died(f"killed at its start: {death}")
        except StartRefused as refused:
            self._on_refused(refused)
        except Exception as error:
            if not _meant(error):
                raise Finding("the daemon died", f"at its start: {error!r}") from error
            self._died(f"ended at its start: {type(error).__name__}")
        else:
            self.counts["lives"] += 1
            self._refused, self._accept = 0, False
            self._woken = True
            self.note("up")

    def _on_refused(self, refused: StartRefused) -> None:
        if "clock" not in str(refused):
            raise Finding("a start was refused", str(refused))
        self.counts["start refused: clock"] += 1
        self._refused += 1
        if self._refused > STARTS_MAX:
            raise Finding("a start was refused", f"{self._refused} times: {refused}")
        self._died("refused: the clock")
        self._accept = self.daemon_clock.wrong_s == 0  # it is right, and was wrong before: a person says so
        self.daemon_clock.wrong_s = 0

    def _died(self, why: str) -> None:
        self.counts["deaths"] += 1
        self.note(why)
        self._drop()
        self.rules.after_death()
        self.after(self.dice.choice(DOWN_S), "start", self._start)

    def _drop(self) -> None:
        """Files stay as they are; what was in memory is gone."""
        if self.node is not None:
            node, self.node = self.node, None
            node.drop()
        self.broker.lose_daemon()

    def _passed(self, step: str) -> None:
        """The daemon passes a named step: it may die here."""
        if self.node is not None and self.dice.random() < self.disk.weather.crash:
            self.counts[f"killed at {step}"] += 1
            raise Death(step)

    # -- what happens in a round -------------------------------------------------------------------------------
    def _weather_of_the_round(self, interval: int) -> None:
        weather = self.weather
        for end in self.broker.fleet:
            if self.happens(weather.cut_fleet, "line:fleet cut"):
                end.cut()
        if self.happens(weather.cut_daemon, "line:daemon cut"):
            self.broker.cut_daemon()
        if self.happens(weather.broker_restart, "line:broker restart"):
            self.broker.restart(forget=self.happens(weather.broker_forgets, "line:broker forgets"))
        if self.happens(weather.bank_outage, "bank:outage"):
            self.bank.out = True
            self.after(self.dice.choice((3600, 12 * 3600, 3 * DAY_S)), "bank is back", self._bank_back)
        if self.happens(weather.decline_storm, "bank:decline storm"):
            self.bank.storm = True
            self.after(self.dice.choice((3600, 2 * DAY_S)), "decline storm over", self._storm_over)
        if self.happens(weather.clock_step, "clock:wrong"):
            self.daemon_clock.wrong_s = self.dice.choice((-7200, -1800, 1800, 7200, 9 * 3600, 400 * DAY_S))
            self.after(self.dice.choice((600, 7200)), "clock right", self._clock_right)
        if self.dice.random() < weather.top_up:
            self.after(self.dice.randrange(INTERVAL_S), "top-up", self._top_up)
        if self.node is not None and self.happens(weather.hold, "people:hold"):
            self._ask(lambda node: node.hold(value=True, reason="a test"))
            self.after(self.dice.randrange(2 * DAY_S), "hold lifted", self._lift)
        self._registry()
        self._backup_or_restore(interval)

    def _bank_back(self) -> None:
        self.bank.out = False

    def _storm_over(self) -> None:
        self.bank.storm = False

    def _clock_right(self) -> None:
        self.daemon_clock.wrong_s = 0

    def _lift(self) -> None:
        """A person lifts HOLD; after a restore, the gateway's book is compared first."""

        def work(node: NodePort) -> None:
            node.reconcile(NAME)
            node.hold(value=False, reason="a test")

        if self.bank.out or not self._ask(work):
            self.after(6 * 3600, "hold lifted", self._lift)

    def _top_up(self) -> None:
        """At the counter; and now and then it is taken back."""
        account = self.dice.choice(self.scene.accounts)
        number = len(self._topped) + 1
        amount = self.dice.choice((1000, 2500, 5000))

        def work(node: NodePort) -> None:
            home = node.home_of(account)
            if home is None:  # an account of a version that is not in force yet
                return
            body = {"account": account, "amount_fen": amount, "gateway": "counter", "reference": f"R{number}"}
            node.submit("credit", f"topup:R{number}", body, home)
            self._topped.append(f"topup:R{number}")
            self.counts["people:top-up"] += 1
            if self.happens(self.weather.reversal, "people:reversal"):
                back = {"account": account, "amount_fen": amount, "of": f"topup:R{number}"}
                node.submit("reversal", f"reversal:R{number}", back, home)

        if not self._ask(work):
            self.after(3600, "top-up", self._top_up)

    def _registry(self) -> None:
        """The next version, once it is due; after a restore, once more."""
        if self.node is None:
            return
        digests = [digest for digest, _ in self.scene.versions]
        now = self.node.registry_digest()
        following = digests.index(now) + 1 if now in digests else 0
        if following < len(digests) and self.scene.versions[following][1] <= self.clock.now_s():
            if following and self.dice.random() < 0.5:
                return  # a working day later
            mark_staged(Paths(self.data).registry, digests[following])
            if self._ask(lambda node: node.activate_registry(digests[following])):
                self.note(f"registry {following + 1}")
                self.counts["registry versions"] += 1

    def _backup_or_restore(self, interval: int) -> None:
        if self.weather.restore and interval % 6 == 3 and self.node is not None:
            target = self.folder / f"backup{interval}"
            try:
                backup(Paths(self.data), target, clock=self.daemon_clock)
            except Death as death:
                self._died(f"killed in a backup: {death}")
                return
            self._backups = [*self._backups[-1:], target]
        if self._backups and self.happens(self.weather.restore, "restore"):
            self._drop()
            shutil.rmtree(self.data)
            restore(self._backups[-1], Paths(self.data), clock=self.daemon_clock)
            self.restored = True
            self.rules.after_restore()
            self.after(1, "start", self._start)
            self.after(self.dice.randrange(600, DAY_S), "hold lifted", self._lift)

    def _webhook(self, headers: Mapping[str, str], body: bytes) -> bool:
        status: list[int] = []
        asked = self._ask(lambda node: status.append(node.webhook(NAME, headers, body)))
        return asked and status[0] in (200, 401)

    def _ask(self, work: Callable[[NodePort], Any]) -> bool:
        """Something is asked of the daemon; False: it was down, or died of it, or could not."""
        if self.node is None:
            return False
        try:
            work(self.node)
        except Death as death:
            self._died(f"killed: {death}")
            return False
        except LedgerFailed:
            return False
        except Exception as error:
            if not _meant(error):
                raise Finding("the daemon died", f"asked by people: {error!r}") from error
            self._died(f"ended: {type(error).__name__}")
            return False
        self._woken = True
        return True

    # -- the end -----------------------------------------------------------------------------------------------
    def _end(self) -> None:
        """Faults stop; everything must come to rest within a bounded time."""
        self._calm()
        for _ in range(QUIET_ROUNDS):
            self._go_to(self.clock.now_s() + INTERVAL_S // 2)
            self._registry()
            self._turns(TURNS_MAX)
            if self._at_rest():
                break
        else:
            raise Finding("it does not come to rest", self.rules.unrest())
        assert self.node is not None
        self._woken = True
        self._turns(TURNS_MAX)
        self.node.keep(force=True)

    def _calm(self) -> None:
        self.note("calm")
        for part in (self.disk, self.broker, self.bank):
            part.weather = calm()
        self.weather = calm()
        self.bank.out = self.bank.storm = False
        self.daemon_clock.wrong_s = 0
        self._start()
        self._lift()

    def _at_rest(self) -> bool:
        digests = [digest for digest, _ in self.scene.versions]
        return (
            self.node is not None
            and self.node.registry_digest() == digests[-1]
            and self.fleet.quiet()
            and not self.node.waits()
            and self.rules.quiet()
        )


def _linked(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _meant(error: Exception) -> bool:
    """Whether the world did that: a full or broken disk, or a clock that leapt."""
    if isinstance(error, LedgerFailed):
        return error.retriable  # only a start: it ends, and whoever supervises it tries again
    if isinstance(error, OperationalError):
        return "disk I/O error" in str(error)
    return type(error).__name__ == "ClockLeapt"
