"""I/O: a daemon's parts driven from one thread, a bounded pass at a time: what the simulated world lets live and die.

`meterd.daemon` is the same with a thread for each pass. Nothing here waits; whatever a pass raises is the end of
this process, as it would be of the daemon, and the world drops it (`drop`) and makes another on the same files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import func, select

from config.clock import Clock
from config.settings import Paths, RatingSettings, Settings
from ledger.port import StartRefused
from ledger.schema import inbox
from meterd.attempts import Word
from meterd.city import City
from meterd.clock_watch import WatchedClock, note_leap
from meterd.loops import waiting_helps
from meterd.parts import Outside, Parts
from meterd.rejected import Rejected
from meterd.releases import Releases
from meterd.replay import replay
from rating.readings import StoredRecord
from simulators.world.port import Around

T = TypeVar("T")
_APPLIED_STEPS: Final = 200  # of rating, until an inbox row must be applied


@lru_cache(maxsize=64)
def _city(root: Path, digest: str, tariffs: Path | None, years: tuple[int, int]) -> City:
    """A version is immutable and its folder a copy of the scene's: every life of every history shares it."""
    settings = RatingSettings(tariffs_dir=tariffs, horizon_from_year=years[0], horizon_to_year=years[1])
    return City(root, digest, settings)


def city_of(scene_registry: Path) -> Callable[[Path, str, RatingSettings], City]:
    """A `meterd.rating_loop.CityMaker` that reads the scene's own folder, once."""

    def made(_root: Path, digest: str, settings: RatingSettings) -> City:
        years = settings.horizon_from_year, settings.horizon_to_year
        return _city(scene_registry, digest, settings.tariffs_dir, years)

    return made


class Node(Parts):
    """`start`, then passes in any order, then `drop`; implements simulators.world.port.NodePort."""

    def __init__(self, settings: Settings, clock: Clock, around: Around) -> None:
        note = partial(note_leap, Paths(settings.data_dir).clock_leap)
        self._around, self._handed_over = around, False
        self._releases = Releases(self, self._all_applied)
        outside = Outside(
            log=lambda paths, _settings: around.log(paths.log),
            writer=around.writer,
            calls=around.calls,
            lanes=around.lanes,
            gateways=lambda _settings: around.gateways,
            channels=lambda _settings, _folder: around.channels,
            city=city_of(around.registry),
            link=around.link,
            pause=around.pause,
            answers_real_s=0.0,
        )
        super().__init__(settings, WatchedClock(clock, settings.ingest.clock_leap_max_real_s, note), outside)

    def start(self, *, accept_clock: bool = False) -> None:
        """As `Daemon.start`; raises StartRefused."""
        self.check_clock(accept=accept_clock)
        self.rating.recover()
        staged = self.activate_staged()
        self.autopay.start()
        self.rating.begin()
        if staged is not None and not self._applied(staged):
            raise StartRefused("The registry was not activated", "Look at the log")
        self.shell = self.made_shell(0)
        self.shell.open()

    def _applied(self, inbox_id: int) -> bool:
        """Rate until it is."""
        for _ in range(_APPLIED_STEPS):
            self.rating.step()
            self._around.pause(0.1)
            if self.rating.outcome(inbox_id) is not None:
                return True
        return False

    def _all_applied(self, inbox_ids: list[int], _wait_s: float) -> None:
        for inbox_id in inbox_ids:
            self._applied(inbox_id)

    def handed_over(self, stored: list[StoredRecord]) -> None:
        self._handed_over = bool(stored)

    def on_inbox(self) -> None:
        self.rating.wake(inbox_too=True)

    def on_commit(self, told: bool) -> None:
        if told:
            self._around.told()

    # -- passes ----------------------------------------------------------------------------------------------
    def ingest(self) -> bool:
        """One group from the link to the log, and what ingest does beside it; True: there are new records."""
        self._handed_over = False
        self.shell.turn(self.shell.take(0.0))
        return self._handed_over

    def rate(self) -> bool:
        return self.rating.step()

    def pay(self) -> int:
        done = _unless_waiting_helps(self.autopay.step)
        if done:
            self.on_inbox()
        return done

    def tell(self) -> int:
        return _unless_waiting_helps(self.dispatcher.step)

    def keep(self, *, force: bool = False) -> int:
        """One pass of the archive, and one of thinning."""
        done = _unless_waiting_helps(partial(self.archive.step, force=force))
        return done + _unless_waiting_helps(self.thinning.step)

    def drop(self) -> None:
        """The process is gone: files are closed as they stand."""
        self.store.close()
        self.log.close()

    # -- for the world ---------------------------------------------------------------------------------------
    def home_of(self, account: str) -> int | None:
        return self._partition_of(account)

    def registry_digest(self) -> str:
        digests = {engine.registry_digest for engine in self.rating.engines}
        return digests.pop() if len(digests) == 1 else ""

    def release(self, exception_ids: Sequence[int]) -> list[int]:
        """As `meterd exceptions release`."""
        told = self._releases.release_many(exception_ids, Word(), 0.0).told
        return [number for number, one in told.items() if isinstance(one, Rejected) or one.applied]

    def waits(self) -> bool:
        behind = any(self.log.bounds(engine.partition)[1] > engine.offset for engine in self.rating.engines)
        if behind or any(engine.changed for engine in self.rating.engines):
            return True
        with self.store.reader() as connection:
            return bool(connection.scalar(select(func.count()).where(inbox.c.settled == 0)))


def _unless_waiting_helps(step: Callable[[], int]) -> int:
    """As `meterd.loops.Loop` has it: the same pass is tried again when that may help."""
    try:
        return step()
    except Exception as error:
        if not waiting_helps(error):
            raise
        return 0


class Nodes:
    """A `simulators.world.port.NodeMaker`."""

    def __call__(self, settings: Settings, clock: Clock, around: Around) -> Node:
        return Node(settings, clock, around)

    def forget(self) -> None:
        _city.cache_clear()

    def differences(self, settings: Settings, registry: Path, batch: int) -> list[str]:
        """What a replay from empty finds."""
        return [
            f"partition {part.partition}, batches of {batch}: {what}"
            for part in replay(settings, batch=batch, make_city=city_of(registry))
            for what in part.differences
        ]
