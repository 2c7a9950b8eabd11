"""I/O (reads certificates): what a generator process is told, and how it comes to its broker."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from simulators.load.session import Broker


@dataclass(slots=True)
class Orders:
    """What a generator process is told. Times are seconds on the machine's monotonic clock, `start_unix` is UTC."""

    wish: dict[str, Any]
    registry: str
    out: str
    dues: str
    run: str
    start_s: float
    start_unix: int
    begin_s: int
    wait_s: float
    part: int = 0
    of: int = 1
    connections: int = 8
    format: str = "arrow"
    numbers: str = "properties"  # where a message's stream and number stand; or "topic"
    host: str = "127.0.0.1"
    port: int = 1883
    user: str = ""
    password: str = ""
    cafile: str = ""
    cert: str = ""
    key: str = ""
    thirsty: list[str] = field(default_factory=list)
    faults: dict[str, float] = field(default_factory=dict)

    def broker(self) -> Broker:
        tls = None
        if self.cafile or self.cert:
            tls = ssl.create_default_context(cafile=self.cafile or None)
            if self.cert:
                tls.load_cert_chain(self.cert, self.key or None)
        return Broker(self.host, self.port, self.user, self.password, tls)
