"""I/O: a Mosquitto of one's own on a free port of the loopback, with its limits set on purpose.

Mosquitto's defaults (20 in flight, 1,000 queued) drop acknowledged messages in silence when the subscriber is
slower than that. In-flight is set to what ingest asks for; the queue holds all that a benchmark or test sends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final

INFLIGHT_MAX: Final = 1000
QUEUED_MAX: Final = 200_000
_DEADLINE_S: Final = 10.0


def program() -> str | None:
    """Path of the broker's program; None when the Debian package is missing (`make services` installs it)."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class Mosquitto:
    """Start it with `with`; `port` speaks MQTT 3.1.1 and 5."""

    def __init__(self, *more: str) -> None:
        """`more`: further lines of its configuration, such as those of a second listener."""
        self._more = more
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="meterd-mosquitto-")

    def __enter__(self) -> Mosquitto:
        found = program()
        assert found is not None, "no mosquitto on this machine: run `make services`"
        folder = Path(self._folder.name)
        config = folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "persistence false",
            f"max_inflight_messages {INFLIGHT_MAX}",
            f"max_queued_messages {QUEUED_MAX}",
            "max_queued_bytes 0",
            "set_tcp_nodelay true",
            "log_dest file " + str(folder / "mosquitto.log"),
            "log_type error",
            *self._more,
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # the folder is ours alone
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._process = subprocess.Popen([found, "-c", str(config)], stdin=subprocess.DEVNULL)
        self._await()
        return self

    def _await(self) -> None:
        assert self._process is not None
        until = time.monotonic() + _DEADLINE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self._process.poll() is None, f"mosquitto ended with {self._process.returncode}"
            assert time.monotonic() < until, "mosquitto does not listen"
            time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
        self._folder.cleanup()
