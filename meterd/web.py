"""I/O: the HTTP server of a daemon: uvicorn in a thread of its own, on a loopback port."""

from __future__ import annotations

import socket
import threading

import uvicorn

from ledger.port import StartRefused
from meterd.port import DaemonPort


class WebServer:
    """Bound at `start`, so that `url` is known when it returns."""

    def __init__(self, daemon: DaemonPort) -> None:
        self._daemon = daemon
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.url = ""

    def start(self) -> None:
        from meterd.http import create_app

        settings = self._daemon.settings.http
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
        except OSError as error:
            raise StartRefused(
                f"HTTP port {settings.port} cannot be had: {error}", "Free it, or set http.port"
            ) from error
        port = listening.getsockname()[1]
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{port}"
        config = uvicorn.Config(
            create_app(self._daemon),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_keep_alive=5,
            limit_concurrency=64,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="http", daemon=True
        )
        self._thread.start()

    def stop(self, deadline_real_s: float) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(deadline_real_s)
