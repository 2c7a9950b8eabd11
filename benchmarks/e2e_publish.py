"""I/O: a process that sends messages that were packed beforehand: MQTT 5, QoS 1, many sessions, hardly any work.

    python -m benchmarks.e2e_publish PORT COUNT FILE...      one session a file of PUBLISH packets

It reads the files, connects, prints a line, and waits for one; then it writes as fast as the broker takes it and
reads the acknowledgements beside, and prints when it began and ended (monotonic seconds) and how many were
acknowledged. It must cost little, because it shares the machine with what is measured.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from simulators.load.packets import publish, varint

_PUBACK: Final = 0x40
_CHUNK: Final = 1 << 18
_DEADLINE_S: Final = 120.0


def write_sessions(folder: Path, name: str, messages: Iterable[tuple[int, str, bytes]], sessions: int) -> list[Path]:
    """Files of packets: (number of the session, topic, payload); packet ids count up in each."""
    paths = [folder / f"{name}-{number}.mqtt" for number in range(sessions)]
    counts = [0] * sessions
    files = [path.open("wb") for path in paths]
    for session, topic, payload in messages:
        files[session].write(publish(topic, payload, counts[session] % 65_535 + 1))
        counts[session] += 1
    for file in files:
        file.close()
    return paths


class _Session:
    """One connection, what is left to send, and the acknowledgements that came."""

    def __init__(self, port: int, path: Path) -> None:
        self.left = memoryview(path.read_bytes())
        self.acked = 0
        self._rest = b""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = f"publisher-{path.stem}".encode()
        body = b"\x00\x04MQTT\x05\x02\xff\xff\x00" + len(client).to_bytes(2, "big") + client  # keep-alive: 18 hours
        self.socket.sendall(b"\x10" + varint(len(body)) + body)
        answer = self.socket.recv(1024)
        assert (answer[:1], answer[3:4]) == (b"\x20", b"\0"), answer
        self.socket.settimeout(0)

    def write(self) -> None:
        sent = self.socket.send(self.left[:_CHUNK])
        self.left = self.left[sent:]

    def read(self) -> None:
        got = self.socket.recv(1 << 16)
        assert got, "the broker closed the connection"
        held, at = self._rest + got, 0
        while len(held) - at >= 2 and len(held) - at >= 2 + held[at + 1]:  # none is longer than 127 bytes
            self.acked += held[at] == _PUBACK
            at += 2 + held[at + 1]
        self._rest = held[at:]


def _send(sessions: list[_Session], count: int) -> None:
    until = time.monotonic() + _DEADLINE_S
    with selectors.DefaultSelector() as ready:
        for session in sessions:
            ready.register(session.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, session)
        while sum(s.acked for s in sessions) < count:
            assert time.monotonic() < until, "the broker does not acknowledge"
            for key, events in ready.select(1.0):
                chosen: _Session = key.data
                if events & selectors.EVENT_READ:
                    chosen.read()
                if events & selectors.EVENT_WRITE:
                    if chosen.left:
                        chosen.write()
                    if not chosen.left:
                        ready.modify(chosen.socket, selectors.EVENT_READ, chosen)


def main() -> None:
    port, count, paths = int(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
    sessions = [_Session(port, path) for path in paths]
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    _send(sessions, count)
    print(json.dumps({"began": began, "ended": time.monotonic(), "acknowledged": count}), flush=True)


if __name__ == "__main__":
    main()
