"""I/O: HTTP calls that end: one deadline over look-up, connecting, sending, headers and body, and a limit on bytes.

A time-out of every socket operation is no deadline: a server that drips a byte now and then, of its headers or of
its body, holds such a call for as long as it likes. So calls run on an event loop, where they can be cancelled
wherever they are; one thread a client, started by its first call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Final

import httpx

SLACK_REAL_S: Final = 1.0  # for a cancelled call to let go; after it the caller is released all the same


class CallFailed(RuntimeError):
    """No whole answer came within the deadline and the limit; what the other side did with the call is unknown."""

    retriable = True


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. `body` is as it was sent: compressed bodies are not asked for and not unpacked."""

    status: int
    body: bytes


class DeadlineClient:
    """`request` may be called from several threads; `close` at the end."""

    def __init__(
        self, deadline_real_s: float, *, headers: Mapping[str, str] | None = None, connections_max: int = 16
    ) -> None:
        self._deadline_real_s = deadline_real_s
        self._headers = {"Accept-Encoding": "identity"} | dict(headers or {})
        self._limits = httpx.Limits(max_connections=connections_max)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def request(
        self, method: str, url: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None,
        body_max: int = 1 << 16,
    ) -> Reply:  # fmt: skip
        """The whole answer, or CallFailed; never longer than the deadline and a moment."""
        try:
            asked = httpx.Request(method, url, content=content, headers=self._headers | dict(headers or {}))
        except httpx.InvalidURL as fault:
            raise CallFailed(f"{url!r} is no address: {fault}") from fault
        loop = self._started()
        call = asyncio.run_coroutine_threadsafe(self._one(asked, body_max), loop)
        try:
            return call.result(self._deadline_real_s + SLACK_REAL_S)
        except (TimeoutError, FutureTimeout):
            call.cancel()
            raise CallFailed(f"no answer within {self._deadline_real_s} s") from None
        except FutureCancelled:
            raise CallFailed("the client was closed meanwhile") from None
        except (httpx.HTTPError, OSError) as fault:
            raise CallFailed(f"{type(fault).__name__}: {fault}") from fault

    async def _one(self, asked: httpx.Request, body_max: int) -> Reply:
        assert self._client is not None
        parts, size = [], 0
        async with asyncio.timeout(self._deadline_real_s):
            response = await self._client.send(asked, stream=True)
            try:
                async for part in response.aiter_raw():
                    size += len(part)
                    if size > body_max:
                        raise CallFailed(f"status {response.status_code} with more than {body_max} bytes")
                    parts.append(part)
            finally:
                await response.aclose()
        return Reply(response.status_code, b"".join(parts))

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise CallFailed("the client is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                timeout = httpx.Timeout(self._deadline_real_s)
                self._client = httpx.AsyncClient(timeout=timeout, limits=self._limits, trust_env=False)
                self._thread = threading.Thread(target=self._loop.run_forever, name="http-calls", daemon=True)
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """Let go of the connections and end the thread; calls under way fail."""
        with self._lock:
            self._closed = True
            loop, client, thread = self._loop, self._client, self._thread
            self._loop = None
        if loop is None or client is None or thread is None:
            return
        ending = asyncio.run_coroutine_threadsafe(_end(client), loop)
        try:
            ending.result(SLACK_REAL_S)
        except (TimeoutError, FutureTimeout):
            ending.cancel()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SLACK_REAL_S)
        if not thread.is_alive():
            loop.close()


async def _end(client: httpx.AsyncClient) -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await client.aclose()
