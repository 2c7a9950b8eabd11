"""I/O (through the node): the lives of the simulated daemon: starts, deaths, what is asked of it in between.

Whatever a pass or a question raises is the end of a life; deaths that nobody meant are findings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from sqlalchemy.exc import OperationalError

from config.clock import ClockLeapt
from config.steps import ASKED
from ledger.port import LedgerFailed, StartRefused
from rating.readings import LogFailed
from simulators.world.disk import Death
from simulators.world.findings import Finding
from simulators.world.lines import DaemonEnd
from simulators.world.people import Lanes
from simulators.world.port import Around, NodeMaker, NodePort
from simulators.world.rules import Rules
from simulators.world.weather import LIMIT
from simulators.world.world import World

OFTEN: Final = 20  # times as often a process ends at a step that is passed only when somebody asks for it
SHAKEN: Final = 3  # steps after its connections were cut in the middle of one: what cuts them often kills it, too
AGAIN_S: Final = 6 * 3600  # after which whoever got no answer asks again
STARTS_MAX: Final = 50  # in a row that end at once
T = TypeVar("T")
DOWN_S: Final = (1, 1, 60, 600, 3600, 8 * 3600, 30 * 3600)


class Daemon:
    """`node` is the life of now; None while it is down."""

    def __init__(self, world: World, rules: Rules, maker: NodeMaker) -> None:
        self._world, self._rules, self._maker = world, rules, maker
        self.node: NodePort | None = None
        self.rates = self.pays = self.tells = (
            True  # rating, autopay and the outbox have, or may have, something to do
        )
        self._refused = self._shaken = 0
        self._accept = False
        for bank in world.banks.values():
            bank.deliver = self._webhook

    def _around(self) -> Around:
        return Around(
            log=self._world.disk.log,
            writer=self._world.disk.writer,
            calls=lambda _size, name: self._world.banks[name.removeprefix("autopay-")].wire(),
            lanes=Lanes,
            gateways=self._world.banks,
            channels=[self._world.telephone],
            registry=self._world.registry,
            link=lambda shard, into: DaemonEnd(self._world.broker, shard, into),
            pause=self._pause,
            told=self.wake,
        )

    def _pause(self, real_s: float) -> bool:
        """The daemon waits; meanwhile the disk goes on."""
        self._world.clock.advance(max(1, int(real_s)))
        self._world.disk.writers[-1].flush()
        return False

    def wake(self) -> None:
        """There may be something for everybody."""
        self.rates = self.pays = self.tells = True

    def start(self) -> None:
        """A new life on the same files."""
        if self.node is not None or not self.lives("at its start", self._begins):
            return
        self._world.counts["lives"] += 1
        self._refused, self._accept = 0, False
        self.wake()
        self._world.note("up")

    def _begins(self) -> bool:
        try:
            self.node = self._maker(self._world.settings, self._world.daemon_clock, self._around())
            self.node.start(accept_clock=self._accept)
        except StartRefused as refused:
            self._on_refused(refused)
            return False
        return True

    def lives(self, doing: str, work: Callable[[], T]) -> T | None:
        """What `work` gives; None: the daemon died of it, as the world meant it to. Any other death is a finding."""
        try:
            return work()
        except Death as death:
            why = f"killed {doing}: {death}"
        except Finding:
            raise
        except Exception as error:
            if not _meant(error):
                raise Finding("the daemon died", f"{doing}: {error!r}") from error
            why = f"ended {doing}: {type(error).__name__}"
        self.died(why)
        return None

    def _on_refused(self, refused: StartRefused) -> None:
        if "clock" not in str(refused):
            raise Finding("a start was refused", str(refused))
        self._world.counts["start refused: clock"] += 1
        self._refused += 1
        if self._refused > STARTS_MAX:
            raise Finding("a start was refused", f"{self._refused} times: {refused}")
        self.died("refused: the clock")
        self._accept = self._world.daemon_clock.wrong_s == 0  # it is right, and was wrong before: a person says so
        self._world.daemon_clock.wrong_s = 0

    def died(self, why: str) -> None:
        self._world.counts["deaths"] += 1
        self._world.note(why)
        self.drop()
        self._rules.after_death()
        self._world.after(self._world.dice.choice(DOWN_S), "start", self.start)

    def drop(self) -> None:
        """Files stay as they are; what was in memory is gone."""
        if self.node is not None:
            node, self.node = self.node, None
            node.drop()
        self._world.broker.lose_daemon()
        for bank in self._world.banks.values():
            bank.lose_daemon()

    def passed(self, step: str) -> None:
        """The daemon passes a named step: it may die here, or its connections be others before it goes on."""
        weather = self._world.weather
        if self.node is None and not step.startswith("restore."):
            return
        often = OFTEN if step in ASKED or self._shaken else 1
        self._shaken = max(0, self._shaken - 1)
        if self._world.happens(min(LIMIT, often * weather.crash), f"killed at {step}"):
            raise Death(step)
        if step == "ack.log_written" and self._world.happens(weather.stale_ack, "line:cut before an ack"):
            self._shaken = SHAKEN
            self._world.broker.cut_daemon()
            self._world.broker.pump()  # what was in flight comes again, and more behind it

    def ask(self, work: Callable[[NodePort], Any]) -> bool:
        """Something is asked of the daemon; False: it was down, or died of it, or could not."""
        node = self.node
        if node is None:
            return False

        def done() -> bool:
            try:
                work(node)
            except LedgerFailed:
                return False
            return True

        if not self.lives("asked by people", done):
            return False
        self.wake()
        return True

    def _webhook(self, gateway: str, headers: Mapping[str, str], body: bytes) -> bool:
        status: list[int] = []
        asked = self.ask(lambda node: status.append(node.webhook(gateway, headers, body)))
        return asked and status[0] in (200, 401)


def _meant(error: Exception) -> bool:
    """Whether the world did that: a full or broken disk, or a clock that leapt."""
    if isinstance(error, LogFailed):
        return "disk I/O error" in str(error) and not error.retriable  # else ingest waits, and tries again
    if isinstance(error, LedgerFailed):
        return error.retriable  # only a start: it ends, and whoever supervises it tries again
    if isinstance(error, OperationalError):
        return "disk I/O error" in str(error)
    return isinstance(error, ClockLeapt)
