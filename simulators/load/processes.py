"""I/O (reads /proc once a second): processor, memory and writes of the daemon, the broker and others, each by itself.

The embedded broker is a child process of the daemon; any broker on this machine is the process that listens on its
port. What cannot be measured is said in words, not guessed: a broker on another machine, one of another user, or one
that is a part of the daemon's own process.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from config.clock import Clock
from config.proc import children, memory, name_of, processor_s, sockets, there, written

EVERY_S: Final = 1.0
_LISTENS: Final = "0A"
DAEMON: Final = "daemon"
BROKER: Final = "broker"


@dataclass(slots=True)
class Sample:
    """Of a process and its children: processor seconds, resident bytes and bytes written so far."""

    at_s: float
    name: str
    cpu_s: float
    rss: int
    written: int


@dataclass(slots=True)
class Usage:
    """Samples with their time on the monotonic clock; `daemon`, `broker`: which process, or why none was measured."""

    samples: list[Sample] = field(default_factory=list)
    broker: str = ""
    daemon: str = ""


class Sampler:
    """A thread of its own. `named`: process ids; `broker`: host, port and, when somebody gave it, its process id."""

    def __init__(self, named: Mapping[str, int], host: str, port: int, broker: int | None, clock: Clock) -> None:
        self._named, self._host, self._port, self._given, self._clock = dict(named), host, port, broker, clock
        self.usage = Usage(daemon=_daemon_said(self._named.get(DAEMON)))
        self._broker: int | None = None
        self._had_broker = False
        self._find()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> Usage:
        self._stopping.set()
        if self._thread.is_alive():  # it may not have come to a start
            self._thread.join(10.0)
        return self.usage

    def _find(self) -> None:
        found, said = broker_of(self._host, self._port, self._given, self._named.get(DAEMON))
        self._broker = found
        if found is not None or not self._had_broker:  # one that has ended was measured while it ran
            self.usage.broker = said
        self._had_broker |= found is not None

    def _run(self) -> None:
        stopping = False
        while not stopping:
            self._look()
            stopping = self._stopping.wait(EVERY_S)
        self._look()

    def _look(self) -> None:
        if self._had_broker and (self._broker is None or not there(self._broker)):
            self._find()  # it may have been started anew
        now_s, own = self._clock.monotonic_s(), set(tree(self._broker)) if self._broker is not None else set()
        for name, pid in self._named.items():
            self.usage.samples.append(_sample(now_s, name, [one for one in tree(pid) if one not in own]))
        if own:
            self.usage.samples.append(_sample(now_s, BROKER, sorted(own)))


def broker_of(host: str, port: int, given: int | None, daemon: int | None) -> tuple[int | None, str]:
    """(process, which it is) or (None, why it cannot be measured)."""
    if given is not None:
        if not there(given):
            return None, f"not measured: there is no process {given}"
        found: int | None = given
    elif not here(host):
        return None, f"not measured: {host} is another machine; look at it there"
    else:
        found = listener(host, port)
    if found is None:
        return None, f"not measured: no process that this user may look at listens on port {port} (--broker-pid)"
    if found == daemon:
        return None, "not measured: it is a part of the daemon's process, whose figures have both"
    return found, f"process {found}, {name_of(found)}"


def _daemon_said(pid: int | None) -> str:
    if pid is None:
        return "not measured: nobody said which process it is (--daemon-pid, or --data-dir with its endpoint.json)"
    return f"process {pid}, {name_of(pid)}" if there(pid) else f"not measured: there is no process {pid}"


def here(host: str) -> bool:
    """Whether the name is one of this machine's addresses: only such an address can be bound."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, _, _, address in found:
        try:
            with socket.socket(family, kind) as probe:
                probe.bind(address)
                return True
        except OSError:
            continue
    return False


def listener(host: str, port: int) -> int | None:
    """The process that listens there, as far as this user may see."""
    addresses = {ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in socket.getaddrinfo(host, port)}
    wanted = set()
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            local, _, local_port = fields[1].partition(":")
            if fields[3] == _LISTENS and int(local_port, 16) == port and _takes(local, addresses):
                wanted.add(fields[9])
    for pid in sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()):
        if wanted & sockets(pid):
            return pid
    return None


def _takes(local: str, addresses: set[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> bool:
    """Whether a socket bound to `local` (as in /proc/net/tcp) is reached at one of these addresses."""
    words = [bytes.fromhex(local[at : at + 8])[::-1] for at in range(0, len(local), 8)]
    bound = ipaddress.ip_address(b"".join(words))
    mapped = bound.ipv4_mapped if isinstance(bound, ipaddress.IPv6Address) else None
    return bound.is_unspecified or bound in addresses or mapped in addresses


def tree(pid: int) -> list[int]:
    """A process, its children and theirs."""
    found = [pid]
    for one in found:
        found += [child for child in children(one) if child not in found]
    return found


def _sample(at_s: float, name: str, pids: list[int]) -> Sample:
    """What has ended counts no more."""
    alive = [pid for pid in pids if there(pid)]
    return Sample(at_s, name, sum(map(processor_s, alive)), sum(map(memory, alive)), sum(map(written, alive)))
