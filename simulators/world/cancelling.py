"""I/O (reads the ledger): a mandate is cancelled while an order of it is in flight, because somebody means it to be.

The scene's last registry version lacks one mandate (`Scene.cancels`). Whenever autopay has done something and an
order of that mandate is on its way, the dice may say that the version comes now, long before its day. Whether the
order was still in flight when the mandate was gone is looked at then, and counted.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from config.settings import Paths

if TYPE_CHECKING:
    from simulators.world.world import World

CANCELLED: Final = "registry:mandate cancelled, order in flight"
_ASKED: Final = (
    "SELECT m.cancelled_at_s IS NOT NULL, count(o.id) FROM mandate m LEFT JOIN order_ o"
    " ON o.mandate = m.id AND o.state IN ('created', 'submitted', 'unknown') WHERE m.id = ? GROUP BY m.id"
)


class Cancelling:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._awaited = False  # the version was asked for; the mandate is not gone yet

    def now(self) -> bool:
        """Whether the dice say that the mandate is to go, with an order of it in flight."""
        gone, flying = self._look()
        if gone or not flying or not self._world.happens(self._world.weather.cancel, "registry:cancels a mandate"):
            return False
        self._awaited = True
        return True

    def after_step(self) -> None:
        """When it has gone: was an order of it in flight?"""
        if not self._awaited:
            return
        gone, flying = self._look()
        if gone:
            self._awaited = False
            self._world.counts[CANCELLED] += flying > 0

    def _look(self) -> tuple[bool, int]:
        """(it is cancelled, so many orders of it in flight)."""
        world = self._world
        with closing(sqlite3.connect(f"file:{Paths(world.data).ledger}?mode=ro", uri=True)) as db:
            found = db.execute(_ASKED, (world.scene.cancels,)).fetchone()
        return (bool(found[0]), int(found[1])) if found else (False, 0)
