"""I/O (a folder of files): one history of the simulated world, from its seed: who takes turns, and how it ends.

    rounds: every interval the fleet reads its meters; before each, what was due meanwhile happens in order of time;
    in each, the passes of fleet, broker and daemon take turns in an order that the dice decide, until nothing moves.

All of it runs on one thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from config.steps import watched
from simulators.world import tally
from simulators.world.daemon import Daemon
from simulators.world.ending import Ending
from simulators.world.events import Events
from simulators.world.findings import Finding
from simulators.world.port import NodeMaker
from simulators.world.rules import Rules
from simulators.world.scene import DAY_S, Scene
from simulators.world.weather import WHOLE, Cut
from simulators.world.world import World

STEPS_MAX: Final = 2_000  # for each round of a history: a hundred are usual
TURNS_MAX: Final = 8  # of everybody in a round
QUIET_TURNS: Final = 500  # the same when the faults have stopped: a broker may hold thousands of messages sent again
QUIET_ROUNDS: Final = 80  # of half an interval each, after the faults have stopped
LOOK_AGAIN_S: Final = (31, 61, 301, 901, 3601)
IDLE_PASSES: Final = 0.05  # of rating, autopay and the outbox, when nobody has woken them


@dataclass(slots=True)
class Outcome:
    """What became of a history."""

    seed: int
    turns: int  # of everybody, most of them idle; the number of the last step
    events: int  # turns that did something, and what fell due between them
    digest: str  # of the whole trace
    counts: Counter[str]
    days: int  # that it lasted
    rule: str = ""  # that was broken; "" none
    how: str = ""
    trace: list[str] = field(default_factory=list)

    @property
    def finding(self) -> str:
        """The rule that was broken, and how; "" when none was."""
        return f"{self.rule}: {self.how}" if self.rule else ""


class History:
    """`run` once."""

    def __init__(
        self,
        scene: Scene,
        seed: int,
        maker: NodeMaker,
        folder: Path,
        *,
        cut: Cut = WHOLE,
        keep: int | None = 0,
    ) -> None:
        """`keep`: so many of the trace's last lines are kept; None: all."""
        self._maker = maker
        shown = scene if cut.days is None else scene.first(cut.days)
        self.world = World(shown, seed, folder, without=cut.without, keep=keep)
        self.rules, self.ending = Rules(self.world), Ending(self.world)
        self.daemon = Daemon(self.world, self.rules, maker)
        self.events = Events(self.world, self.daemon, self.rules)
        self._asked_again = False

    # -- the run -----------------------------------------------------------------------------------------------
    def run(self) -> Outcome:
        rule = how = ""
        try:
            with watched(self.daemon.passed):
                self.daemon.start()
                for interval in range(self.world.scene.load.intervals):
                    end_s = self.world.scene.load.end_s(interval)
                    self._go_to(end_s + self.world.dice.randrange(60, 1800))
                    self.events.of_the_round(interval)
                    self._turns(TURNS_MAX)
                self._end()
            self.rules.close()
            self._books()
            tally.at_end(self.world)
        except Finding as found:
            rule, how = found.rule, found.how
            self.world.note(str(found))
        finally:
            self.daemon.drop()
            self.rules.close()
            self.world.close()
        world = self.world
        days = -(-(world.clock.now_s() - world.scene.start_s) // DAY_S)
        trace = list(world.trace)
        return Outcome(world.seed, world.step, world.acts, world.digest, world.counts, days, rule, how, trace)

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
                self._put_away,
            ]
            self.world.dice.shuffle(actors)
            for actor in actors:
                moved |= self._one(actor)
            waits = self.daemon.node is not None and (self.daemon.pays or self.daemon.tells)
            if not moved and not waits:
                return

    def _one(self, actor: Callable[[], bool]) -> bool:
        """One pass, its trace, and what must be true after it."""
        self.world.step += 1
        if self.world.step > STEPS_MAX * self.world.scene.size.intervals:
            raise Finding("it comes to an end", f"{self.world.step} steps, and there is still something to do")
        moved = self.daemon.lives(actor.__name__, actor) is not False  # also when it died of it
        self.world.acts += moved
        self.world.note(f"{actor.__name__} {moved}")
        self.rules.after_step()
        self.events.cancelling.after_step()
        return moved

    def _go_to(self, at_s: int) -> None:
        """Everything that is due before, in order."""
        world = self.world
        while (due := world.next_s()) is not None and due <= at_s:
            world.clock.set(max(due, world.clock.now_s()))
            world.happen()
            self._turns(2)
        world.clock.set(max(at_s, world.clock.now_s()))

    # -- who takes turns ---------------------------------------------------------------------------------------
    def _fleet(self) -> bool:
        before = self.world.fleet.counts["published"]
        self.world.fleet.step()
        self.world.clock.advance(1)  # the fleet commits its outbox some time after it took a round
        self.world.fleet.step()
        return self.world.fleet.counts["published"] != before

    def _broker(self) -> bool:
        return self.world.broker.pump()

    def _ingest(self) -> bool:
        if self.daemon.node is None:
            return False
        waiting = any(end.waiting for end in self.world.broker.daemon.values())
        self.daemon.rates |= self.daemon.node.ingest()
        return waiting

    def _rate(self) -> bool:
        if self.daemon.node is None or not (self.daemon.rates or self.world.dice.random() < IDLE_PASSES):
            return False
        self.daemon.rates = self.daemon.node.rate()
        return self.daemon.rates

    def _flush(self) -> bool:
        moved = self.daemon.node is not None and self.world.disk.writers[-1].flush()
        self.daemon.rates |= moved
        return moved

    def _pay(self) -> bool:
        if self.daemon.node is None or not (self.daemon.pays or self.world.dice.random() < IDLE_PASSES):
            return False
        self.daemon.pays = done = self.daemon.node.pay() > 0
        if done:
            self.daemon.rates = self.daemon.tells = True
            self._look_again()
            self.events.cancel()
        return done

    def _look_again(self) -> None:
        """What autopay did may be due again soon, long before the next round: it is asked whether it is."""
        if not self._asked_again:
            self._asked_again = True
            self.world.after(self.world.dice.choice(LOOK_AGAIN_S), "autopay looks again", self._wake)

    def _wake(self) -> None:
        self._asked_again = False
        self.daemon.wake()

    def _tell(self) -> bool:
        if self.daemon.node is None or not (self.daemon.tells or self.world.dice.random() < IDLE_PASSES):
            return False
        self.daemon.tells = done = self.daemon.node.tell() > 0
        return done

    def _put_away(self) -> bool:
        return self.daemon.node is not None and self.world.dice.random() < 0.1 and self.daemon.node.keep() > 0

    # -- the end -----------------------------------------------------------------------------------------------
    def _end(self) -> None:
        """Faults stop; everything must come to rest within a bounded time."""
        self._calm()
        for _ in range(QUIET_ROUNDS):
            self._go_to(self.world.clock.now_s() + self.world.scene.size.interval_s // 2)
            self.events.registry()
            self._turns(QUIET_TURNS)
            if self.events.queue.released() and self._at_rest():
                break
        else:
            raise Finding("it does not come to rest", self.ending.unrest(self.daemon.node))
        assert self.daemon.node is not None
        self.daemon.wake()
        self._turns(QUIET_TURNS)
        self.daemon.lives("when all is put away", partial(self.daemon.node.keep, force=True))

    def _books(self) -> None:
        """What the files say when all is over. Books that nobody can read are none."""
        world = self.world
        try:
            self.ending.at_end(lambda batch: self._maker.differences(world.settings, world.registry, batch))
        except Finding:
            raise
        except Exception as error:
            raise Finding("the books can be read", repr(error)) from error

    def _calm(self) -> None:
        self.world.calm_down()
        self.daemon.start()
        self.events.lift()

    def _at_rest(self) -> bool:
        digests = [digest for digest, _ in self.world.scene.versions]
        return (
            self.daemon.node is not None
            and self.daemon.node.registry_digest() == digests[-1]
            and self.world.fleet.quiet()
            and not self.daemon.node.waits()
            and self.ending.quiet()
        )
