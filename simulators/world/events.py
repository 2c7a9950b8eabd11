"""I/O (files of backups): what happens in a round beside the fleet's readings: connections, clocks, bank, people."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from config.settings import Paths
from ledger.backup import backup, restore
from registry.staged import mark_staged
from simulators.world import tally
from simulators.world.bank import Bank
from simulators.world.cancelling import Cancelling
from simulators.world.daemon import AGAIN_S, Daemon
from simulators.world.disk import Death
from simulators.world.port import NodePort
from simulators.world.queue import Queue
from simulators.world.rules import Rules
from simulators.world.scene import DAY_S
from simulators.world.world import World

VERSIONS: Final = 4  # of a scene that is whole


class Events:
    """Draws them, and brings the registry's versions into force."""

    def __init__(self, world: World, daemon: Daemon, rules: Rules) -> None:
        self._world, self._daemon, self._rules = world, daemon, rules
        self.cancelling, self.queue = Cancelling(world), Queue(world, daemon)
        self._backups: list[Path] = []
        self._top_ups = 0

    def of_the_round(self, interval: int) -> None:
        weather = self._world.weather
        tally.of_the_round(self._world, interval)
        for end in self._world.broker.fleet:
            if self._world.happens(weather.cut_fleet, "line:fleet cut"):
                end.cut()
        if self._world.happens(weather.cut_daemon, "line:daemon cut"):
            self._world.broker.cut_daemon()
        if self._world.happens(weather.broker_restart, "line:broker restart"):
            self._world.broker.restart(forget=self._world.happens(weather.broker_forgets, "line:broker forgets"))
        for bank in self._world.banks.values():
            if self._world.happens(weather.bank_outage, "bank:outage"):
                self._out(bank, self._world.dice.choice((3600, 12 * 3600, 3 * DAY_S)))
            if self._world.happens(weather.decline_storm, "bank:decline storm"):
                self._storm(bank, self._world.dice.choice((3600, 2 * DAY_S)))
        # What a slow clock refuses as a reading of the future is made good by the next one, so there must be one.
        last = interval + 1 == self._world.scene.load.intervals
        if self._world.happens(0.0 if last else weather.clock_step, "clock:wrong"):
            self._world.daemon_clock.wrong_s = self._world.dice.choice(
                (-7200, -1800, 1800, 7200, 9 * 3600, 400 * DAY_S)
            )
            self._world.after(self._world.dice.choice((600, 7200)), "clock right", self._clock_right)
        if self._world.dice.random() < weather.top_up:
            self._world.after(self._world.dice.randrange(self._world.scene.size.interval_s), "top-up", self._top_up)
        if self._daemon.node is not None and self._world.happens(weather.hold, "people:hold"):
            self._daemon.ask(lambda node: node.hold(value=True, reason="a test"))
            self._world.after(self._world.dice.randrange(2 * DAY_S), "hold lifted", self.lift)
        self.registry()
        self._backup_or_restore(interval)

    def _out(self, bank: Bank, seconds: int) -> None:
        def back() -> None:
            bank.out = False

        bank.out = True
        self._world.after(seconds, "bank is back", back)

    def _storm(self, bank: Bank, seconds: int) -> None:
        def over() -> None:
            bank.storm = False

        bank.storm = True
        self._world.after(seconds, "decline storm over", over)

    def _clock_right(self) -> None:
        self._world.daemon_clock.wrong_s = 0

    def lift(self) -> None:
        """A person lifts HOLD; after a restore, the gateway's book is compared first."""

        def work(node: NodePort) -> None:
            for name in self._world.banks:
                node.reconcile(name)
            node.hold(value=False, reason="a test")

        if any(bank.out for bank in self._world.banks.values()) or not self._daemon.ask(work):
            self._world.after(AGAIN_S, "hold lifted", self.lift)

    def _top_up(self) -> None:
        """At the counter; and now and then it is taken back."""
        account = self._world.dice.choice(self._world.scene.accounts)
        self._top_ups += 1
        self._counter(account, self._world.dice.choice((1000, 2500, 5000)), self._top_ups)

    def _counter(self, account: str, amount: int, number: int) -> None:
        """One receipt; who got no answer hands the same one in again."""

        def work(node: NodePort) -> None:
            home = node.home_of(account)
            if home is None:  # an account of a version that is not in force yet
                return
            body = {"account": account, "amount_fen": amount, "gateway": "counter", "reference": f"R{number}"}
            node.submit("credit", f"topup:R{number}", body, home)
            self._world.counts["people:top-up"] += 1
            if self._world.happens(self._world.weather.reversal, "people:reversal"):
                back = {"account": account, "amount_fen": amount, "of": f"topup:R{number}"}
                node.submit("reversal", f"reversal:R{number}", back, home)

        if not self._daemon.ask(work):
            self._world.after(AGAIN_S, "top-up", lambda: self._counter(account, amount, number))

    def registry(self) -> None:
        """The next version, once it is due; after a restore, once more."""
        if self._daemon.node is None:
            return
        digests = [digest for digest, _ in self._world.scene.versions]
        now = self._daemon.node.registry_digest()
        following = digests.index(now) + 1 if now in digests else 0
        if following < len(digests) and self._world.scene.versions[following][1] <= self._world.clock.now_s():
            if following and self._world.dice.random() < 0.5:
                return  # a working day later
            self._activate(following)

    def _activate(self, number: int) -> None:
        digest = self._world.scene.versions[number][0]
        mark_staged(Paths(self._world.data).registry, digest)
        if self._daemon.ask(lambda node: node.activate_registry(digest)):
            self._world.note(f"registry {number + 1}")
            self._world.counts["registry versions"] += 1
            self._world.after(self._world.dice.randrange(600, DAY_S), "queue looked at", self.queue.look)

    def cancel(self) -> None:
        """The last version, which lacks a mandate, while an order of it is in flight, if the dice say so."""
        versions = self._world.scene.versions
        if self._daemon.node is None or len(versions) < VERSIONS or not self._world.weather.cancel:
            return
        if self._daemon.node.registry_digest() == versions[-2][0] and self.cancelling.now():
            self._activate(VERSIONS - 1)

    def _backup_or_restore(self, interval: int) -> None:
        if self._world.weather.restore and interval % 6 == 5 and self._daemon.node is not None:
            target = self._world.folder / f"backup{interval}"

            def made() -> bool:
                backup(Paths(self._world.data), target, clock=self._world.daemon_clock)
                return True

            if not self._daemon.lives("in a backup", made):
                return
            self._backups = [*self._backups[-1:], target]
        if self._backups and self._world.happens(self._world.weather.restore, "restore"):
            self._daemon.drop()
            while not self._restored(self._backups[-1]):
                pass
            self._world.restored = True
            self._rules.after_restore()
            self.queue.forget()
            self._world.after(1, "start", self._daemon.start)
            self._world.after(self._world.dice.randrange(600, DAY_S), "hold lifted", self.lift)

    def _restored(self, source: Path) -> bool:
        """Onto an empty disk; False: it was killed, and whoever restores begins again."""
        shutil.rmtree(self._world.data)
        try:
            restore(source, Paths(self._world.data), clock=self._world.daemon_clock)
        except Death as death:
            self._world.note(f"killed in a restore: {death}")
            return False
        return True
