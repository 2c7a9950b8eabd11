"""I/O (simulated): whom notices reach: a channel that fails now and then, and remembers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from autopay.channels import ChannelFailed, lane_of
from autopay.notices import Message, Party
from simulators.world.disk import Disk


class Telephone:
    """An `autopay.channels.Channel`: one address a party. `heard` outlives the daemon, as people do.

    A message whose sender died, failed or could not write it down may come again; what the ledger calls sent, not.
    """

    name = "telephone"

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.heard: Counter[tuple[str, str]] = Counter()  # (key, party): how often
        self.is_sent: Callable[[str, str], bool] = lambda _key, _lane: False  # as the ledger has it
        self.again: list[str] = []  # told although the ledger called them sent

    def addresses(self, party: Party) -> Sequence[str]:
        return [party.id]

    def send(self, message: Message, address: str) -> None:
        told = (message.key, address)
        if self.heard[told] and self.is_sent(message.key, lane_of(self.name, address)):
            self.again.append(message.key)
        fails = self._disk.happens(self._disk.weather.notice_fails, "notice:failed")
        if fails and self._disk.dice.random() < 0.5:
            raise ChannelFailed("nobody answers")
        self.heard[told] += 1
        if fails:  # it got through, and nobody knows
            raise ChannelFailed("the line broke")

    def close(self) -> None:
        """Nothing to close."""


class Lanes(Executor):
    """A pool that does what it is given at once, in the caller's thread."""

    def __init__(self, _size: int, _name: str) -> None:
        pass

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asks for the outcome
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing is under way."""
