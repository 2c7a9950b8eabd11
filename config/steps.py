"""I/O (only when asked to die): the named steps of every order that must survive a kill.

The ack order, the checkpoint, the order machine and what people and gateways ask for are written once, here, as
names; the code calls `reach(step)` as it passes. Tests set METERD_KILL_AT=<step>[:n] and the process ends itself with
SIGKILL the n-th time it gets there. A simulated world is told of every step (`watched`) and may raise there, which
ends the simulated process. Without either, `reach` is a dictionary look-up.

What stands around the daemon in a test dies in the same way: the concentrators at a step of their outbox, the
simulated gateway at one of a charge. They call `reach_outside`, of which no world is told.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

ACK_ORDER: Final = (
    "ack.received",  # a message is in the queue, nothing is durable
    "ack.decoded",
    "ack.log_written",  # durable in the log, the broker does not know
    "ack.sent",  # PUBACK handed to the network thread
    "ack.held",  # held published
    "ack.handed_over",  # rating was given the records in memory
)
CHECKPOINT_ORDER: Final = (
    "checkpoint.gathered",  # effects computed, nothing written
    "checkpoint.before_commit",  # everything written inside the transaction
    "checkpoint.committed",
    "archive.file_written",  # Parquet file durable, not named in the database
    "archive.named",
    "archive.pruned",
)
PAYMENT_ORDER: Final = (
    "order.created",
    "order.submitted",  # the database knows, the gateway does not
    "order.answered",  # the gateway answered, the database does not know
    "order.succeeded",  # credit inserted into the inbox
    "order.credited",
    "notice.sending",
    "notice.sent",  # delivered, the outbox does not know
)
STEPS: Final = ACK_ORDER + CHECKPOINT_ORDER + PAYMENT_ORDER  # what a daemon passes by itself
ASKED: Final = (  # what it passes when it is asked to; a backup and a restore are processes of their own
    "webhook.taken",  # kept and its order moved; the gateway is not answered
    "inbox.submitted",  # a top-up, a reversal, a release is durable; whoever asked does not know
    "registry.submitted",  # a version's inbox row is durable
    "registry.in_force",  # every partition stands on it, its mandates are in the ledger; routes are the old
    "book.compared",  # a piece of the gateway's book is credited, the rest is not; HOLD stays
    "backup.copied",  # ledger and log are copied, archive and registry are not
    "backup.described",  # everything is there but the manifest
    "restore.copied",  # everything is there but the ledger
    "restore.held",  # the ledger is there, in HOLD, under another name
)
OUTBOX_ORDER: Final = (  # of a concentrator
    "fleet.taken",  # readings are numbered messages in memory
    "fleet.truth_written",  # the truth book knows them, the outbox does not
    "fleet.outbox_written",  # durable in the outbox, nothing of it is published
    "fleet.published",  # handed to the broker, which has not acknowledged
    "fleet.held",  # told that they are held; they are still in the outbox
    "fleet.forgotten",  # deleted from the outbox
)
CHARGE_ORDER: Final = (  # of the simulated gateway
    "gateway.heard",  # a charge was asked for, nothing is durable
    "gateway.charged",  # durable in its book, nobody has been told
    "gateway.replying",  # the webhook is planned, the answer is not written
    "gateway.replied",
    "gateway.webhook",  # about to be sent
)
OUTSIDE_STEPS: Final = OUTBOX_ORDER + CHARGE_ORDER
_ALL: Final = STEPS + ASKED + OUTSIDE_STEPS


def _armed() -> dict[str, int]:
    asked = os.environ.get("METERD_KILL_AT", "")
    if not asked:
        return {}
    step, _, times = asked.partition(":")
    if step not in _ALL:
        raise SystemExit(f"METERD_KILL_AT: no step {step!r}; there are {', '.join(_ALL)}")
    return {step: int(times or "1")}


_LEFT: Final = _armed()


_WATCHERS: Final[list[Callable[[str], None]]] = []  # of a simulated world: empty in a daemon


@contextmanager
def watched(watcher: Callable[[str], None]) -> Iterator[None]:
    """Call `watcher` with every step that this process passes meanwhile; what it raises goes through the step."""
    _WATCHERS.append(watcher)
    try:
        yield
    finally:
        _WATCHERS.remove(watcher)


def reach(step: str) -> None:
    """Pass `step`; die here when a test asked for it."""
    for watcher in _WATCHERS:
        watcher(step)
    reach_outside(step)


def reach_outside(step: str) -> None:
    """Pass a step of something that stands around the daemon; die here when a test asked for it."""
    if step in _LEFT:
        _LEFT[step] -= 1
        if _LEFT[step] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
