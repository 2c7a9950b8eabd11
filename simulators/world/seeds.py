"""I/O (processes, a folder): many seeds: which history each asks for, and how they are played side by side.

A process makes each city once, in a folder of its own, and plays history after history in it.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from simulators.world.history import History, Outcome
from simulators.world.planted import PLANTED
from simulators.world.planting import planted
from simulators.world.port import NodeMaker
from simulators.world.scene import CITIES, SIZES, Scene, make
from simulators.world.weather import WHOLE, Cut

DEFAULT: Final = next(iter(SIZES))


@dataclass(frozen=True, slots=True)
class Ask:
    """One history: its seed, the size of its world, what is left out of it, and what is broken on purpose."""

    seed: int
    world: str = DEFAULT
    cut: Cut = WHOLE
    fault: str = ""  # of simulators.world.planted; "": none
    keep: int | None = 0  # lines of the trace; None: all

    def command(self) -> str:
        """What repeats it."""
        words = ["meterd sim", f"--seed {self.seed}"]
        words += [f"--world {self.world}"] if self.world != DEFAULT else []
        words += [f"--without {','.join(sorted(self.cut.without))}"] if self.cut.without else []
        words += [f"--days {self.cut.days}"] if self.cut.days is not None else []
        words += [f"--planted {self.fault}"] if self.fault else []
        return " ".join(words)


class Theatre:
    """Plays histories in a folder of its own, which goes with it."""

    def __init__(self, maker: NodeMaker, within: Path | None = None) -> None:
        """`within`: a folder that somebody else takes away."""
        self._maker = maker
        self._folder = Path(tempfile.mkdtemp(prefix="meterd-sim-", dir=within))
        self._scenes: dict[tuple[str, int], Scene] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def play(self, ask: Ask) -> Outcome:
        """The history that was asked for."""
        scene = self._scene(ask.world, ask.seed % CITIES)
        folder = self._folder / "history"
        folder.mkdir()
        try:
            with self._broken(ask.fault):
                return History(scene, ask.seed, self._maker, folder, cut=ask.cut, keep=ask.keep).run()
        finally:
            shutil.rmtree(folder)

    @contextmanager
    def _broken(self, fault: str) -> Iterator[None]:
        """What is remembered of tariffs was, or will be, made with the fault: it is made again."""
        if not fault:
            yield
            return
        try:
            with planted(PLANTED[fault]):
                self._maker.forget()
                yield
        finally:
            self._maker.forget()

    def _scene(self, world: str, number: int) -> Scene:
        found = self._scenes.get((world, number))
        if found is None:
            found = self._scenes[world, number] = make(number, self._folder / f"{world}-{number}", SIZES[world])
        return found


_theatre: Theatre | None = None  # of this process of a pool


def settle_memory() -> None:
    """As the daemon does: what is loaded by now stays, and the collector need not walk it after every history."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _open(maker: NodeMaker, within: Path) -> None:
    global _theatre
    _theatre = Theatre(maker, within)
    settle_memory()


def _play(ask: Ask) -> Outcome:
    assert _theatre is not None
    return _theatre.play(ask)


def play_all(asks: Iterable[Ask], maker: NodeMaker, jobs: int = 1) -> Iterator[tuple[Ask, Outcome]]:
    """Every history, in the order in which they were asked for, in so many processes."""
    if jobs == 1:
        settle_memory()
        with Theatre(maker) as theatre:
            for ask in asks:
                yield ask, theatre.play(ask)
        return
    listed = list(asks)
    with (
        tempfile.TemporaryDirectory(prefix="meterd-sim-", ignore_cleanup_errors=True) as name,
        ProcessPoolExecutor(jobs, get_context("fork"), _open, (maker, Path(name))) as pool,
    ):
        yield from zip(listed, pool.map(_play, listed), strict=True)


def traced(ask: Ask) -> Ask:
    """The same history with all of its trace."""
    return replace(ask, keep=None)
