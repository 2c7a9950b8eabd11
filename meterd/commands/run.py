"""I/O: `meterd run`: the daemon in the foreground until SIGTERM or SIGINT; a second signal leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Annotated

import typer

from meterd.commands.config import ConfigOption, settings_or_stop
from meterd.exits import Exit, Stop

AcceptClock = Annotated[
    bool, typer.Option("--accept-clock", help="Start although the clock disagrees with the log: it is right now.")
]


def run(config: ConfigOption = None, accept_clock: AcceptClock = False) -> None:
    """Run the whole system in one process on embedded parts, until SIGTERM."""
    settings = settings_or_stop(config)
    from sqlalchemy.exc import DatabaseError

    from ledger.database import full
    from ledger.port import MAKE_ROOM, StartRefused
    from meterd.clocks import clock_of
    from meterd.logs import configure, logger

    clock = clock_of(settings.clock)
    configure(settings.log_level, as_json=settings.log_json, clock=clock)
    log = logger("run")
    stopping = threading.Event()
    asked = [0]

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        asked[0] += 1
        if asked[0] > 1:
            os._exit(130)  # what is not durable was never acknowledged; the next start replays the log
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    log.info("starting")
    from meterd.daemon import Daemon
    from meterd.warm import ensure_warm

    ensure_warm(lambda: log.info("compiling the kernel: once on a machine and version, 15 to 40 s"))

    try:
        daemon = Daemon(settings, clock)
        daemon.start(accept_clock=accept_clock)
    except StartRefused as refused:
        raise Stop(Exit.REFUSED, str(refused)) from None
    except DatabaseError as error:
        if not full(error):
            raise
        raise Stop(Exit.REFUSED, f"The ledger takes nothing: {error.orig}. {MAKE_ROOM}") from None
    failed = None
    while not stopping.wait(0.2):
        failed = daemon.failed()
        if failed is not None:
            break
    try:
        clean = daemon.stop()
    except Exception as error:  # what ended the daemon is told, not what that left of the stop
        if failed is None:
            raise
        log.error("could not stop in order", error=str(error))
        clean = False
    if daemon.watch.leapt is not None:
        raise Stop(Exit.REFUSED, daemon.watch.leapt)
    if failed is not None:
        raise Stop(Exit.DEFECT, f"a part ended by itself: {failed}")
    if not clean:
        raise Stop(Exit.TIMED_OUT, "not everything could be finished; the next start goes on from the log")
