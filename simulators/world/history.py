"""I/O (a folder of files): one history of the simulated world, from its seed: who takes turns, and how it ends.

    rounds: every INTERVAL_S the fleet reads its meters; before each, what was due meanwhile happens in order of time;
    in each, the passes of fleet, broker and daemon take turns in an order that the dice decide, until nothing moves.

All of it runs on one thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from config.steps import watched
from simulators.world.daemon import Daemon
from simulators.world.events import Events
from simulators.world.port import NodeMaker
from simulators.world.rules import Finding, Rules
from simulators.world.scene import INTERVAL_S, Scene
from simulators.world.world import World

TURNS_MAX: Final = 8  # of everybody in a round
QUIET_TURNS: Final = 500  # the same when the faults have stopped: a broker may hold thousands of messages sent again
QUIET_ROUNDS: Final = 80  # of INTERVAL_S / 2 each, after the faults have stopped
IDLE_PASSES: Final = 0.05  # of autopay and the outbox, when nobody has woken them


@dataclass(slots=True)
class Outcome:
    """What became of a history."""

    seed: int
    events: int
    digest: str  # of the whole trace
    counts: Counter[str]
    finding: str = ""  # the rule that was broken, and how
    trace: list[str] = field(default_factory=list)


class History:
    """`run` once."""

    def __init__(self, scene: Scene, seed: int, maker: NodeMaker, folder: Path, *, keep: int = 0) -> None:
        self._maker = maker
        self.world = World(scene, seed, folder, keep=keep)
        self.rules = Rules(self.world)
        self.daemon = Daemon(self.world, self.rules, maker)
        self.events = Events(self.world, self.daemon, self.rules)

    # -- the run -----------------------------------------------------------------------------------------------
    def run(self) -> Outcome:
        finding = ""
        try:
            with watched(self.daemon.passed):
                self.daemon.start()
                for interval in range(self.world.scene.load.intervals):
                    end_s = self.world.scene.load.end_s(interval)
                    self._go_to(end_s + self.world.dice.randrange(60, 1800))
                    self.events.of_the_round(interval)
                    self._turns(TURNS_MAX)
                self._end()
            world = self.world
            self.rules.at_end(lambda batch: self._maker.differences(world.settings, world.registry, batch))
        except Finding as found:
            finding = str(found)
            self.world.note(finding)
        finally:
            self.daemon.drop()
            self.rules.close()
            self.world.close()
        world = self.world
        return Outcome(world.seed, world.step, world.digest, world.counts, finding, world.trace)

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
            if not moved:
                return

    def _one(self, actor: Callable[[], bool]) -> bool:
        """One pass, its trace, and what must be true after it."""
        self.world.step += 1
        moved = self.daemon.lives(actor.__name__, actor) is not False  # also when it died of it
        self.world.note(f"{actor.__name__} {moved}")
        self.rules.after_step()
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
        self.daemon.node.ingest()
        return waiting

    def _rate(self) -> bool:
        return self.daemon.node is not None and self.daemon.node.rate()

    def _flush(self) -> bool:
        return self.daemon.node is not None and self.world.disk.writers[-1].flush()

    def _pay(self) -> bool:
        if self.daemon.node is None or not (self.daemon.woken or self.world.dice.random() < IDLE_PASSES):
            return False
        done = self.daemon.node.pay() > 0
        self.daemon.woken |= done
        return done

    def _tell(self) -> bool:
        if self.daemon.node is None or not (self.daemon.woken or self.world.dice.random() < IDLE_PASSES):
            return False
        done = self.daemon.node.tell() > 0
        self.daemon.woken = done
        return done

    def _put_away(self) -> bool:
        return self.daemon.node is not None and self.world.dice.random() < 0.1 and self.daemon.node.keep() > 0

    # -- the end -----------------------------------------------------------------------------------------------
    def _end(self) -> None:
        """Faults stop; everything must come to rest within a bounded time."""
        self._calm()
        for _ in range(QUIET_ROUNDS):
            self._go_to(self.world.clock.now_s() + INTERVAL_S // 2)
            self.events.registry()
            self._turns(QUIET_TURNS)
            if self._at_rest():
                break
        else:
            raise Finding("it does not come to rest", self.rules.unrest(self.daemon.node))
        assert self.daemon.node is not None
        self.daemon.woken = True
        self._turns(QUIET_TURNS)
        self.daemon.node.keep(force=True)

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
            and self.rules.quiet()
        )
