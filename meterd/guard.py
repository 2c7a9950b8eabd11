"""I/O: what every HTTP request passes first: loopback only, a body within its limit and its deadline.

The body is read whole here and handed on, so that no route ever waits for a slow sender.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
BODY_DEADLINE_REAL_S: Final = 10.0


class Refused(Exception):
    """Answered here, before any route."""

    def __init__(self, status: int, error: str, what_to_do: str) -> None:
        super().__init__(error)
        self.status, self.error, self.what_to_do = status, error, what_to_do


class Guard:
    """ASGI middleware; websockets are refused."""

    def __init__(self, app: App, *, body_max: int, deadline_real_s: float = BODY_DEADLINE_REAL_S) -> None:
        self._app, self._body_max, self._deadline_real_s = app, body_max, deadline_real_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":  # the server's own start and stop
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        try:
            if not _is_loopback(scope):
                raise Refused(403, "only this machine may ask", "Call from the machine that the daemon runs on")
            async with asyncio.timeout(self._deadline_real_s):
                body = await self._body(scope, receive)
        except Refused as refused:
            await _answer(send, refused)
            return
        except TimeoutError:
            told = Refused(408, f"the body did not come within {self._deadline_real_s} s", "Send it again")
            await _answer(send, told)
            return
        await self._app(scope, _replayed(body, receive), send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        too_big = Refused(413, f"the body is larger than {self._body_max} bytes", "Send less at a time")
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or len(announced) > 12 or int(announced) > self._body_max:
            raise too_big
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise Refused(400, "the sender went away", "Send it again")
            size += len(message.get("body", b""))
            if size > self._body_max:
                raise too_big
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)


def _is_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(send: Send, refused: Refused) -> None:
    text = json.dumps({"error": refused.error, "what_to_do": refused.what_to_do}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    await send(
        {
            "type": "http.response.start",
            "status": refused.status,
            "headers": [*headers, (b"connection", b"close")],
        }
    )
    await send({"type": "http.response.body", "body": text})
