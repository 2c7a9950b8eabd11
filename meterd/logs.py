"""I/O (stderr): structured logs, as lines for people or JSON for machines, stamped by the clock that is passed in.

Our own events go through structlog; what libraries log through the standard library comes out the same way.
Tracebacks never show local variables and values under secret-sounding keys are masked, as logs get copied.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from config.clock import Clock

_SECRET_WORDS: Final = ("secret", "password", "token", "authorization", "api_key")
_QUIET: Final = ("httpx", "httpcore", "uvicorn.access", "alembic", "asyncio", "numba", "matplotlib", "apprise")


def configure(level: str, *, as_json: bool, clock: Clock, stream: TextIO | None = None) -> None:
    """Set up logging for this process: `level` is debug, info, warning or error; `stream` is stderr by default.

    May be called again (tests do); the last call counts. A scaled clock stamps business time, and the
    real time beside it is the log collector's business.
    """
    out = stream if stream is not None else sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _stamper(clock),
        _mask_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(out, as_json)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _renderers(out: TextIO, as_json: bool) -> list[Processor]:
    if as_json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    plain = structlog.dev.plain_traceback  # the pretty one prints local variables
    return [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)]


def _stamper(clock: Clock) -> Processor:
    def stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["timestamp"] = datetime.fromtimestamp(clock.now_s(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return event

    return stamp


def _mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = "********"
    return event


def logger(name: str) -> Any:
    """The structured logger of a role: logger("ingest").info("shard connected", shard="0")."""
    return structlog.stdlib.get_logger(name)
