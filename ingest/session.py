"""I/O (threads): which connection of a session is the one of now, and what is acknowledged over it.

A *generation* is one connection of the session: an acknowledgement that was earned under an older one is dropped,
because the packet id may by then belong to another message; the broker sends the message again and it is acknowledged
then. `ingest.link.Link` is a session with a real broker; the simulated world's daemon has its own on this rule.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Session(ABC):
    """Generation and lock are shared by the worker's thread and the network's."""

    def __init__(self) -> None:
        self.connected = False
        self.generation = 0
        self._lock = threading.Lock()

    def acknowledge(self, generation: int, mids: list[int]) -> int:
        """Acknowledge in order; returns how many (none when the connection is not the one they came over)."""
        with self._lock:
            if generation != self.generation or not mids or not self._send_acks(mids):
                return 0
            return len(mids)

    @abstractmethod
    def _send_acks(self, mids: list[int]) -> bool:
        """Over the connection of now; False when there is none. The lock is held."""

    def _next_generation(self) -> None:
        with self._lock:
            self.generation += 1
            self.connected = False
