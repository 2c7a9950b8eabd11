"""I/O: the HTTP interface of the daemon, on loopback: health, metrics, webhooks, and the commands of the CLI.

Commands need the token of endpoint.json; webhooks are authentic by the gateway's signature; health and metrics
tell nothing about people. A command answers 200 with its outcome once it is applied, 202 with its inbox id when
that took longer than was waited: it is durable then and will be applied. Errors are
`{"error": ..., "what_to_do": ...}`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DatabaseError
from starlette.exceptions import HTTPException

from autopay.gateways.port import GatewayDown
from ledger.database import disk_failed, waiting_helps
from ledger.inbox import AMOUNT_MAX_FEN
from ledger.port import Fenced, KeyConflict, LedgerFailed
from meterd.attempts import IDS_MAX, Released, Word
from meterd.guard import Guard
from meterd.operations import Done, Operations
from meterd.port import DaemonPort
from meterd.rejected import Rejected
from meterd.releases import Bulk

PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
_log = structlog.get_logger("http")

Id = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9._:-]+$")]
Why = Annotated[str, Field(min_length=1, max_length=500)]
Ids = Annotated[list[Annotated[int, Field(ge=1, lt=2**63)]], Field(min_length=1, max_length=IDS_MAX)]
AmountFen = Annotated[int, Field(gt=0, le=AMOUNT_MAX_FEN)]


class Command(BaseModel):
    """Strict: unknown fields are refused, and text is no number. `wait_s`: how long to wait for the outcome."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    wait_s: Annotated[float, Field(ge=0)] | None = None


class TopUp(Command):
    account: Id
    amount_fen: AmountFen
    reference: Id
    gateway: Id = "counter"


class Reversal(Command):
    account: Id
    amount_fen: AmountFen
    reference: Id
    of: Annotated[str, Field(min_length=1, max_length=120)]


class Activation(Command):
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]


class Rebaseline(Command):
    """`value` in thousandths of the register's unit."""

    meter: Annotated[str, Field(min_length=1, max_length=32)]
    register_name: Annotated[str, Field(min_length=1, max_length=12, alias="register")]
    value: Annotated[int, Field(ge=0, lt=2**62)]
    at_s: Annotated[int, Field(gt=0, lt=2**32)]
    why: Why


class Supply(Command):
    meter: Annotated[str, Field(min_length=1, max_length=32)]
    register_name: Annotated[str, Field(min_length=1, max_length=12, alias="register")]
    state: Literal["disconnected", "connected"]
    why: Why


class Release(Command):
    """All of it for whole messages only; `trust` needs `why` and `by`, who says so."""

    as_format: Literal["json", "senml-json", "senml-cbor", "arrow"] | None = Field(None, alias="as")
    source: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    trust: bool = False
    why: Why | None = None
    by: Annotated[str, Field(min_length=1, max_length=80)] | None = None


class ReleaseMany(Release):
    ids: Ids


class Discard(Command):
    why: Why


class DiscardMany(Discard):
    ids: Ids


class Hold(Command):
    value: bool
    reason: Why


class SettleOrder(Command):
    """`charged`: the gateway's transaction id; None: a person says that nothing was charged."""

    charged: Annotated[str, Field(min_length=1, max_length=120)] | None
    why: Why
    who: Annotated[str, Field(min_length=1, max_length=80)]


class Reconcile(Command):
    gateway: Id


def create_app(daemon: DaemonPort) -> FastAPI:
    """The ASGI application; the caller serves it on a loopback address."""
    app = FastAPI(title="meterd", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, body_max=daemon.settings.http.body_max)
    _errors(app)
    _watching(app, daemon)
    _commands(app, daemon)
    _autopay(app, daemon)
    return app


def _problem(status: int, error: str, what_to_do: str, **more: Any) -> JSONResponse:
    return JSONResponse({"error": error, "what_to_do": what_to_do, **more}, status)


def _errors(app: FastAPI) -> None:
    @app.exception_handler(Rejected)
    async def rejected(_request: Request, why: Rejected) -> Response:
        return _problem(why.status, why.error, why.what_to_do)

    @app.exception_handler(KeyConflict)
    async def conflict(_request: Request, why: KeyConflict) -> Response:
        return _problem(409, str(why), "Use the same contents again, or a new reference")

    @app.exception_handler(LedgerFailed)
    async def failed(_request: Request, why: LedgerFailed) -> Response:
        todo = "Send the same again" if why.retriable else "Look at the account before you send the same again"
        return _problem(503, str(why), todo)

    @app.exception_handler(DatabaseError)
    async def refused(request: Request, why: DatabaseError) -> Response:
        if not (waiting_helps(why) or disk_failed(why)):
            raise why  # to `defect`
        _log.warning("the ledger took nothing for a request", path=request.url.path, error=str(why.orig))
        first = "Look at" if disk_failed(why) else "Make room on"
        return _problem(503, f"the ledger takes nothing: {why.orig}", f"{first} its disk, then send the same again")

    @app.exception_handler(Fenced)
    async def fenced(_request: Request, _why: Fenced) -> Response:
        return _problem(409, "autopay does not run here", "Set autopay.enabled and start again, or ask its owner")

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, why: RequestValidationError) -> Response:
        faults = [f"{'.'.join(map(str, fault['loc'][1:])) or 'body'}: {fault['msg']}" for fault in why.errors()]
        return _problem(422, "; ".join(faults), "Correct these fields")

    @app.exception_handler(HTTPException)
    async def http(_request: Request, why: HTTPException) -> Response:
        return _problem(why.status_code, str(why.detail), "docs/operating.md lists what there is")

    @app.exception_handler(Exception)
    async def defect(request: Request, _why: Exception) -> Response:
        _log.error("a request failed by our own defect", path=request.url.path)  # the server logs the traceback
        return _problem(500, "a defect in meterd", "Look at the daemon's log, and report the traceback")


def _watching(app: FastAPI, daemon: DaemonPort) -> None:
    """What needs no token."""

    @app.get("/healthz")
    def healthz() -> Response:
        health = daemon.health()
        return JSONResponse(health, 200 if health["ok"] else 503)

    @app.get("/readyz")
    def readyz() -> Response:
        health = daemon.health()
        return JSONResponse(health, 200 if health["ready"] else 503)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(daemon.metrics(), media_type=PROMETHEUS)

    @app.post("/webhooks/{gateway}")
    async def webhook(gateway: str, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool

        body = await request.body()  # the guard has read it, within its limit
        status = await run_in_threadpool(daemon.webhook, gateway, dict(request.headers), body)
        if status < 400:
            return JSONResponse({}, status)
        return _problem(status, "not taken", "Check the gateway's name and secret" if status != 503 else "Come again")


def _bearer(daemon: DaemonPort) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if not daemon.token or not secrets.compare_digest(given, f"Bearer {daemon.token}".encode()):
            raise Rejected(401, "no or wrong token", "Use the token of endpoint.json in the data directory")

    return check


def _commands(app: FastAPI, daemon: DaemonPort) -> None:
    """What needs the token of endpoint.json."""
    run = Operations(daemon)
    guarded: Any = {"dependencies": [Depends(_bearer(daemon))]}

    def wait_s(command: Command) -> float:
        longest = daemon.settings.http.deadline_real_s
        return longest if command.wait_s is None else min(command.wait_s, longest)

    @app.post("/v1/topups", **guarded)
    def topup(asked: TopUp) -> Response:
        return _told(run.topup(asked.account, asked.amount_fen, asked.reference, asked.gateway, wait_s(asked)))

    @app.post("/v1/reversals", **guarded)
    def reverse(asked: Reversal) -> Response:
        return _told(run.reverse(asked.account, asked.amount_fen, asked.reference, asked.of, wait_s(asked)))

    @app.post("/v1/registry", **guarded)
    def activate(asked: Activation) -> Response:
        return _told(run.activate(asked.digest, wait_s(asked)))

    @app.post("/v1/rebaselines", **guarded)
    def rebaseline(asked: Rebaseline) -> Response:
        return _told(
            run.rebaseline(asked.meter, asked.register_name, asked.value, asked.at_s, asked.why, wait_s(asked))
        )

    @app.post("/v1/supply", **guarded)
    def supply(asked: Supply) -> Response:
        return _told(run.mark_supply(asked.meter, asked.register_name, asked.state, asked.why, wait_s(asked)))

    @app.post("/v1/exceptions/{exception_id}/release", **guarded)
    def release(exception_id: int, asked: Release) -> Response:
        told = run.release(exception_id, _word(asked), wait_s(asked))
        return JSONResponse(_released(exception_id, told), 200 if told.applied else 202)

    @app.post("/v1/exceptions/release", **guarded)
    def release_many(asked: ReleaseMany) -> Response:
        return _released_many(run.release_many(asked.ids, _word(asked), wait_s(asked)))

    @app.post("/v1/exceptions/{exception_id}/discard", **guarded)
    def discard(exception_id: int, asked: Discard) -> Response:
        run.discard(exception_id, asked.why)
        return JSONResponse({"exception": exception_id, "state": "discarded"})

    @app.post("/v1/exceptions/discard", **guarded)
    def discard_many(asked: DiscardMany) -> Response:
        told = [
            {"exception": number, "state": "discarded"} if against is None else _against(number, against)
            for number, against in run.discard_many(asked.ids, asked.why).items()
        ]
        return JSONResponse({"exceptions": told, "left": []})


def _autopay(app: FastAPI, daemon: DaemonPort) -> None:
    """What needs the token, too, and is about charges."""
    run = Operations(daemon)
    guarded: Any = {"dependencies": [Depends(_bearer(daemon))]}

    @app.post("/v1/autopay/hold", **guarded)
    def hold(asked: Hold) -> Response:
        against = daemon.hold(asked.value, asked.reason)
        if against:
            todo = "Reconcile first: `meterd autopay reconcile GATEWAY`"
            return _problem(409, "; ".join(against), todo)
        return JSONResponse({"hold": asked.value, "reason": asked.reason})

    @app.post("/v1/orders/{order_id}/settle", **guarded)
    def settle_order(order_id: int, asked: SettleOrder) -> Response:
        return JSONResponse(run.settle_order(order_id, asked.charged, asked.why, asked.who))

    @app.post("/v1/autopay/reconcile", **guarded)
    def reconcile(asked: Reconcile) -> Response:
        if asked.gateway not in daemon.settings.gateways:
            raise Rejected(404, f"no gateway {asked.gateway}", "Name one of the settings' [gateways]")
        try:
            return JSONResponse(jsonable_encoder(daemon.reconcile(asked.gateway)))
        except GatewayDown as down:  # not ours; what was compared before it stays compared
            return _problem(502, f"gateway {asked.gateway}: {down}", "Send the same again when the gateway answers")


def _told(done: Done) -> Response:
    applied = done.outcome is not None
    return JSONResponse(
        {"inbox_id": done.inbox_id, "applied": applied, "outcome": done.outcome}, 200 if applied else 202
    )


def _word(asked: Release) -> Word:
    return Word(asked.as_format or "", asked.source or "", asked.trust, asked.why or "", asked.by or "")


def _released(exception_id: int, told: Released) -> dict[str, Any]:
    return {
        "exception": exception_id,
        "state": told.state,
        "inbox_ids": told.inbox_ids,
        "applied": told.applied,
        "outcome": told.outcome,
        "accepted": told.accepted,
        "refused": told.refused,
    }


def _released_many(bulk: Bulk) -> Response:
    """In the order of ids; 202 when anything of it was stored and not applied in time."""
    told = [
        _against(number, one) if isinstance(one, Rejected) else _released(number, one)
        for number, one in sorted(bulk.told.items())
    ]
    applied = all(one.get("applied", True) for one in told)
    return JSONResponse({"exceptions": told, "left": bulk.left}, 200 if applied else 202)


def _against(exception_id: int, why: Rejected) -> dict[str, Any]:
    return {"exception": exception_id, "error": why.error, "what_to_do": why.what_to_do}
