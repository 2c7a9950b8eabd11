"""I/O (reads the ledger): people look after the exceptions queue: what a late registry version left, they release.

A meter that was hung up before its version came into force has sent readings that were refused as unknown. Its next
ones make most of that good, since registers count on; what nothing follows, they cannot. So once a version is in
force, somebody has every such reading of a meter that it knows judged again; what is refused again is left there.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final

from config.reasons import Reason
from config.settings import Paths
from registry.address import address_text
from simulators.world.daemon import AGAIN_S, Daemon
from simulators.world.findings import version_of

if TYPE_CHECKING:
    from simulators.world.port import NodePort
    from simulators.world.world import World

_OPEN: Final = "SELECT id, meter FROM exception WHERE state = 'open' AND reason = ? AND meter IS NOT NULL ORDER BY id"


class Queue:
    """Of one world."""

    def __init__(self, world: World, daemon: Daemon) -> None:
        self._world, self._daemon = world, daemon
        self._judged: set[tuple[str, int]] = set()  # (version in force, row): its outcome is known

    def look(self) -> None:
        """Somebody does; who gets no answer looks again."""
        if not self.released():
            self._world.after(AGAIN_S, "queue looked at", self.look)

    def released(self) -> bool:
        """Have judged again what the version in force knows; False: some of it has no outcome yet."""
        waiting = self._waiting()
        if waiting:
            self._daemon.ask(partial(self._release, waiting))
            waiting = self._waiting()
        return waiting == []

    def forget(self) -> None:
        """The ledger is another one."""
        self._judged.clear()

    def _waiting(self) -> list[int] | None:
        """Rows that are to be judged again; None when nobody can say: the daemon is down, or between two versions."""
        world, node = self._world, self._daemon.node
        digest = node.registry_digest() if node is not None else ""
        if not digest:
            return None
        with closing(sqlite3.connect(f"file:{Paths(world.data).ledger}?mode=ro", uri=True)) as db:
            found = db.execute(_OPEN, (Reason.UNKNOWN_METER.value,)).fetchall()
        found = [(number, meter) for number, meter in found if (digest, number) not in self._judged]
        if not found:
            return []
        partitions = version_of(world.registry, digest).image.partitions
        known = {address_text(meter) for partition in partitions for meter in partition.list_meter.tolist()}
        return [number for number, meter in found if meter in known]

    def _release(self, numbers: list[int], node: NodePort) -> None:
        digest = node.registry_digest()
        answered = node.release(numbers)
        self._judged |= {(digest, number) for number in answered}
        self._world.counts["people:release"] += len(answered)
        self._world.note(f"released {len(answered)} of {len(numbers)}")
