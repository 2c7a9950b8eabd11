"""I/O: TCP ports of this machine: free ones for parts that come back, and who is still connected."""

from __future__ import annotations

import contextlib
import random
import secrets
import socket
from pathlib import Path
from typing import Final

PORTS: Final = (20_000, 32_000)
_ESTABLISHED: Final = "01"  # as /proc/net/tcp writes it


class NoPorts(OSError):
    """No neighbouring free ports were found."""


def free_ports(count: int) -> list[int]:
    """That many neighbouring free ports (the embedded broker's second listener is the next one).

    Below the range that the system gives to outgoing connections: a port in it may be taken by anyone's client
    between two lives of a daemon.
    """
    draw = random.Random(secrets.randbits(64))
    for _ in range(500):
        first = draw.randrange(*PORTS)
        with contextlib.ExitStack() as stack:
            try:
                for offset in range(count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", first + offset))
            except OSError:
                continue
            return list(range(first, first + count))
    raise NoPorts("no neighbouring free ports")


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def lines(pid: int, port: int) -> int:
    """How many connections of a process to a port of this machine stand on both sides.

    One that the other side has closed does not count, also while the process sleeps and does not know it yet.
    """
    own = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            own.add(str(entry.readlink()))
    count = 0
    for row in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = row.split()
        remote, state, inode = fields[2], fields[3], fields[9]
        to_it = int(remote.partition(":")[2], 16) == port
        count += to_it and state == _ESTABLISHED and f"socket:[{inode}]" in own
    return count
