"""The HTTP interface on a village: who may ask, what is refused, and that every command counts once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import func, insert, select
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from autopay.gateways.port import GatewayDown
from config.settings import GatewaySettings
from ledger import reads
from ledger.schema import entry, exception, inbox, order
from meterd.http import create_app
from rating.state import ARRAYS

LOCAL = ("127.0.0.1", 40_000)


@pytest.fixture
def http(village: Any) -> Iterator[TestClient]:
    headers = {"Authorization": f"Bearer {village.token}"}
    app = create_app(village)
    with TestClient(app, client=LOCAL, headers=headers, raise_server_exceptions=False) as client:
        yield client


def _posted(village: Any, account: str) -> int:
    partition, slot = village.registry().find_account(account)
    with village.store.reader() as connection:
        return int(reads.balances(connection, partition, ARRAYS).posted_fen[slot])


def _count(village: Any, query: Any) -> int:
    with village.store.reader() as connection:
        return int(connection.execute(query).scalar_one())


def _is_problem(answer: Any, status: int) -> bool:
    told = answer.json()
    return answer.status_code == status and bool(told["error"]) and bool(told["what_to_do"])


def test_health_ready_and_metrics_need_no_token(village: Any, http: TestClient) -> None:
    http.headers.clear()
    assert http.get("/healthz").status_code == 200
    assert http.get("/readyz").status_code == 200
    metrics = http.get("/metrics")
    assert metrics.text.endswith("meterd_acks_total 1.0\n")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    village.well = False
    try:
        assert http.get("/healthz").status_code == 503
        assert http.get("/readyz").status_code == 503
    finally:
        village.well = True


COMMANDS = [
    ("/v1/topups", {"account": "a3", "amount_fen": 1, "reference": "x"}),
    ("/v1/reversals", {"account": "a3", "amount_fen": 1, "reference": "x", "of": "y"}),
    ("/v1/registry", {"digest": "0" * 64}),
    ("/v1/rebaselines", {"meter": "1", "register": "1.8.0", "value": 1, "at_s": 1, "why": "w"}),
    ("/v1/supply", {"meter": "1", "register": "1.8.0", "state": "connected", "why": "w"}),
    ("/v1/exceptions/1/release", {}),
    ("/v1/exceptions/1/discard", {"why": "w"}),
    ("/v1/autopay/hold", {"value": True, "reason": "r"}),
    ("/v1/autopay/reconcile", {"gateway": "g"}),
]


@pytest.mark.parametrize(("path", "body"), COMMANDS)
@pytest.mark.parametrize("token", ["", "Bearer ", "Bearer wrong", "Basic a-token-of-the-test", "Bearer ä"])
def test_every_command_needs_the_token(village: Any, http: TestClient, path: str, body: Any, token: str) -> None:
    before, held = _count(village, select(func.count()).select_from(inbox)), list(village.held)
    http.headers.clear()
    answer = http.post(path, json=body, headers={"Authorization": token.encode()})
    assert _is_problem(answer, 401)
    assert _count(village, select(func.count()).select_from(inbox)) == before
    assert village.held == held


@pytest.mark.parametrize("client", [("10.0.0.7", 1), ("testclient", 1), ("192.168.1.2", 1)])
def test_only_this_machine_may_ask(village: Any, client: tuple[str, int]) -> None:
    with TestClient(create_app(village), client=client) as far:
        assert _is_problem(far.get("/healthz"), 403)


def test_bodies_have_a_limit_announced_or_not(village: Any, http: TestClient) -> None:
    big = b"x" * (village.settings.http.body_max + 1)
    assert _is_problem(http.post("/webhooks/simulated", content=big), 413)
    assert _is_problem(http.post("/webhooks/simulated", content=iter([big[:-10], big[:20]])), 413)
    assert village.webhooks == []


def test_a_slow_body_is_not_waited_for(village: Any) -> None:
    import asyncio

    from meterd.guard import Guard

    async def app(*_: Any) -> None:
        raise AssertionError("reached the app")

    async def never() -> Any:
        await asyncio.sleep(30)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "client": LOCAL, "headers": []}
    asyncio.run(Guard(app, body_max=10, deadline_real_s=0.01)(scope, never, send))
    assert sent[0]["status"] == 408


@pytest.mark.parametrize(
    "body",
    [
        {"account": "a3", "amount_fen": 1},
        {"account": "a3", "amount_fen": 1, "reference": "x", "surprise": 1},
        {"account": "a3", "amount_fen": "100", "reference": "x"},
        {"account": "a3", "amount_fen": 1.5, "reference": "x"},
        {"account": "a3", "amount_fen": True, "reference": "x"},
        {"account": "a3", "amount_fen": 0, "reference": "x"},
        {"account": "a3", "amount_fen": -5, "reference": "x"},
        {"account": "a3", "amount_fen": 10**18, "reference": "x"},
        {"account": "a3", "amount_fen": 1, "reference": "a\x00b"},
        {"account": "a3", "amount_fen": 1, "reference": ""},
        {"account": "a3", "amount_fen": 1, "reference": "x" * 81},
        [],
    ],
)
def test_what_is_no_top_up_is_refused_and_nothing_stored(village: Any, http: TestClient, body: Any) -> None:
    before = _count(village, select(func.count()).select_from(inbox))
    assert _is_problem(http.post("/v1/topups", json=body), 422)
    assert _count(village, select(func.count()).select_from(inbox)) == before


def test_unknown_paths_methods_and_accounts_are_problems(http: TestClient) -> None:
    assert _is_problem(http.get("/nowhere"), 404)
    assert _is_problem(http.get("/v1/topups"), 405)
    assert _is_problem(http.get("/docs"), 404)
    body = {"account": "nobody", "amount_fen": 1, "reference": "n1"}
    assert _is_problem(http.post("/v1/topups", json=body), 404)


def test_a_top_up_counts_once_by_reference(village: Any, http: TestClient) -> None:
    before = _posted(village, "a3")
    body = {"account": "a3", "amount_fen": 1234, "reference": "T-1"}
    first = http.post("/v1/topups", json=body)
    assert (first.status_code, first.json()["applied"], first.json()["outcome"]) == (200, True, "")
    again = http.post("/v1/topups", json=body)
    assert again.json() == first.json()
    assert _posted(village, "a3") == before + 1234
    assert _is_problem(http.post("/v1/topups", json=body | {"amount_fen": 1235}), 409)
    assert _is_problem(http.post("/v1/topups", json=body | {"account": "a2"}), 409)
    assert _posted(village, "a3") == before + 1234
    assert _count(village, select(func.count()).where(entry.c.reference == "topup:T-1")) == 1


def test_a_reversal_takes_back_at_most_what_the_credit_gave(village: Any, http: TestClient) -> None:
    before = _posted(village, "a3")
    http.post("/v1/topups", json={"account": "a3", "amount_fen": 500, "reference": "T-2", "gateway": "bank"})
    body = {"account": "a3", "amount_fen": 300, "reference": "R-1", "of": "T-2"}
    assert http.post("/v1/reversals", json=body).status_code == 200
    assert http.post("/v1/reversals", json=body).status_code == 200  # the same one again
    assert _posted(village, "a3") == before + 200
    too_much = http.post("/v1/reversals", json=body | {"reference": "R-2", "amount_fen": 201})
    assert _is_problem(too_much, 409)
    assert "only 2.00 yuan are left" in too_much.json()["error"]
    assert _is_problem(http.post("/v1/reversals", json=body | {"reference": "R-3", "account": "a2"}), 409)
    assert _is_problem(http.post("/v1/reversals", json=body | {"reference": "R-4", "of": "T-404"}), 404)
    assert http.post("/v1/reversals", json=body | {"reference": "R-5", "amount_fen": 200}).status_code == 200
    assert _posted(village, "a3") == before
    with village.store.reader() as connection:
        assert reads.trial_balance(connection).get("clearing:bank", 0) == 0


def test_a_credit_is_taken_back_once_whatever_it_is_called(village: Any, http: TestClient) -> None:
    """A top-up has two names: its own reference, and the key by which the statement shows it."""
    http.post("/v1/topups", json={"account": "a3", "amount_fen": 500, "reference": "T-7", "gateway": "bank"})
    before = _posted(village, "a3")
    body = {"account": "a3", "amount_fen": 300}
    assert http.post("/v1/reversals", json=body | {"reference": "N-1", "of": "T-7"}).status_code == 200
    assert _is_problem(http.post("/v1/reversals", json=body | {"reference": "N-2", "of": "topup:T-7"}), 409)
    rest = {"amount_fen": 200, "reference": "N-3", "of": "topup:T-7"}
    assert http.post("/v1/reversals", json=body | rest).status_code == 200
    answer = http.post("/v1/reversals", json=body | {"amount_fen": 1, "reference": "N-4", "of": "T-7"})
    assert _is_problem(answer, 409)
    assert "taken back whole" in answer.json()["error"]
    assert _posted(village, "a3") == before - 500


def test_a_command_that_is_not_applied_in_time_is_told_as_stored(village: Any, http: TestClient) -> None:
    village.slow = True
    try:
        answer = http.post("/v1/topups", json={"account": "a3", "amount_fen": 1, "reference": "T-9", "wait_s": 0})
    finally:
        village.slow = False
    assert (answer.status_code, answer.json()["applied"]) == (202, False)
    assert answer.json()["inbox_id"] > 0


def test_a_reading_is_released_judged_again_or_discarded(village: Any, http: TestClient) -> None:
    with village.store.reader() as connection:
        not_later = select(exception.c.reason, exception.c.id).where(exception.c.reason != "future")
        ids = {row.reason: row.id for row in connection.execute(not_later)}
    refused = http.post(f"/v1/exceptions/{ids['conflict']}/release", json={})
    assert refused.json()["outcome"].startswith("judged again")  # later readings have come: it stays open
    key = inbox.c.key
    of_it = select(func.count()).where(key.startswith(f"release:{ids['conflict']}:"))
    assert _count(village, of_it) == 1
    http.post(f"/v1/exceptions/{ids['conflict']}/release", json={})
    assert _count(village, of_it) == 2  # tried again, under a key of its own
    assert _is_problem(http.post(f"/v1/exceptions/{ids['malformed']}/release", json={}), 422)
    assert http.post(f"/v1/exceptions/{ids['malformed']}/discard", json={"why": "noise"}).status_code == 200
    assert _is_problem(http.post(f"/v1/exceptions/{ids['malformed']}/discard", json={"why": "noise"}), 409)
    assert _is_problem(http.post("/v1/exceptions/999/release", json={}), 404)
    left = select(func.count()).where(exception.c.state == "open", exception.c.id.in_(ids.values()))
    assert _count(village, left) == 2  # conflict and implausible


def test_a_released_reading_that_is_good_now_moves_the_register(village: Any, http: TestClient) -> None:
    """A reading from the future waits until its time has come."""
    _, before = _register(village, "WX-77.a")
    village.read([("WX-77.a", before + 1000, "2026-08-12T14:00")], received="2026-08-12T13:01")
    village.checkpoint()
    with village.store.reader() as connection:
        row = connection.execute(select(exception.c.id).where(exception.c.reason == "future")).scalar_one()
    village.read([("440100000002", _register(village, "440100000002")[1], "2026-08-12T14:01")])
    answer = http.post(f"/v1/exceptions/{row}/release", json={})
    assert answer.json()["outcome"] == ""
    assert _register(village, "WX-77.a")[1] == before + 1000
    assert _count(village, select(func.count()).where(exception.c.id == row, exception.c.state == "released")) == 1


def _register(village: Any, meter: str) -> tuple[int, int]:
    from registry.address import address

    part = village.engines[village.home].part
    (slot,) = [i for i, m in enumerate(part.image.channels["meter"]) if int(m) == address(meter)]
    return slot, int(part.channel["value"][slot])


def test_a_rebaseline_moves_the_register_and_charges_nothing(village: Any, http: TestClient, told: Any) -> None:
    meter, before = "440100000002", _posted(village, "a2")
    _, value = _register(village, meter)
    at_s = int(village.engines[village.home].as_of_s)
    body = {"meter": meter, "register": "1.8.0", "value": value + 5_000_000, "at_s": at_s, "why": "exchanged board"}
    answer = http.post("/v1/rebaselines", json=body)
    assert (answer.status_code, answer.json()["outcome"]) == (200, "")
    assert _register(village, meter)[1] == value + 5_000_000
    assert _posted(village, "a2") == before
    assert _is_problem(http.post("/v1/rebaselines", json=body | {"meter": "999999999999"}), 404)
    assert _is_problem(http.post("/v1/rebaselines", json=body | {"register": "9.9.9"}), 422)
    assert http.post("/v1/rebaselines", json=body | {"at_s": 1_000}).json()["outcome"]  # told why it changed nothing
    code, facts, _ = told("explain", "a2", "2026-08-12")  # which counts on over it
    assert code == 0
    assert [point["note"] for point in facts["channels"][0]["readings"]][-1] == "re-baselined"
    assert facts["channels"][0]["agrees"] is True


def test_autopay_is_held_and_resumed_unless_something_stands_against_it(village: Any, http: TestClient) -> None:
    village.held.clear()
    assert http.post("/v1/autopay/hold", json={"value": True, "reason": "storm"}).status_code == 200
    village.obstacles = ["simulated was not reconciled"]
    resume = {"value": False, "reason": "over"}
    assert _is_problem(http.post("/v1/autopay/hold", json=resume), 409)
    village.obstacles = []
    assert http.post("/v1/autopay/hold", json=resume).status_code == 200
    assert village.held == [(True, "storm"), (False, "over")]
    assert _is_problem(http.post("/v1/autopay/reconcile", json={"gateway": "nobody"}), 404)


def test_a_person_settles_an_order_once_and_under_its_own_transaction(village: Any, http: TestClient) -> None:
    with village.store.reader() as connection:
        paid = connection.execute(select(order.c.id).where(order.c.key == "k1")).scalar_one()
        event_id = connection.execute(select(order.c.event_id).where(order.c.id == paid)).scalar_one()
    values = {
        "account": "a1", "partition": village.home, "event_id": event_id, "arm": 1, "attempt": 2, "mandate": "m1",
        "payer": "ann", "gateway": "simulated", "key": "k2", "amount_fen": 700, "state": "unknown",
        "created_at_s": village.clock.now_s(), "epoch": 1,
    }  # fmt: skip
    number = village.store.write(lambda c: c.execute(insert(order).values(values).returning(order.c.id)).scalar_one())
    body = {"charged": "tx-1", "why": "the bank's console", "who": "op"}
    taken = http.post(f"/v1/orders/{number}/settle", json=body)
    assert _is_problem(taken, 409)
    assert "tx-1 already stands for another order" in taken.json()["error"]
    body = body | {"charged": "tx-2"}
    for outcome in ("moved to succeeded", "nothing new"):
        answer = http.post(f"/v1/orders/{number}/settle", json=body)
        assert answer.json() == {"order": number, "state": answer.json()["state"], "outcome": outcome}
    once = select(func.count()).where(inbox.c.key == f"order:{number}:2")
    assert _count(village, once) == 1
    assert _is_problem(http.post(f"/v1/orders/{number}/settle", json=body | {"charged": None}), 409)
    assert _is_problem(http.post("/v1/orders/999/settle", json=body), 404)
    assert _is_problem(http.post(f"/v1/orders/{number}/settle", json={"why": "x", "who": "op"}), 422)
    village.apply()


def test_a_gateway_that_is_down_is_no_defect_of_ours(
    village: Any, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(_gateway: str) -> None:
        raise GatewayDown("book of http://127.0.0.1:1: connection refused")

    gateways = {"simulated": GatewaySettings(url="http://127.0.0.1:1", secret=SecretStr("s"))}
    monkeypatch.setattr(village, "settings", village.settings.model_copy(update={"gateways": gateways}))
    monkeypatch.setattr(village, "reconcile", down)
    answer = http.post("/v1/autopay/reconcile", json={"gateway": "simulated"})
    assert _is_problem(answer, 502)
    assert "connection refused" in answer.json()["error"]


@pytest.mark.parametrize(
    ("gateway", "signature", "status"),
    [("simulated", "good", 200), ("simulated", "bad", 401), ("other", "good", 404)],
)
def test_webhooks_are_the_gateway_s_to_prove(
    village: Any, http: TestClient, gateway: str, signature: str, status: int
) -> None:
    http.headers.clear()
    village.webhooks.clear()
    answer = http.post(f"/webhooks/{gateway}", content=b'{"e": 1}', headers={"X-Signature": signature})
    assert answer.status_code == status
    assert village.webhooks == ([("simulated", b'{"e": 1}')] if status == 200 else [])


def test_a_registry_version_is_activated_by_its_digest(village: Any, http: TestClient) -> None:
    assert http.post("/v1/registry", json={"digest": village.city.digest}).json()["outcome"] == ""
    assert _is_problem(http.post("/v1/registry", json={"digest": "0" * 64}), 404)
    assert _is_problem(http.post("/v1/registry", json={"digest": "../../etc"}), 422)


def test_a_defect_is_told_without_its_inside(village: Any, http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(village, "health", broken)
    answer = http.get("/healthz")
    assert _is_problem(answer, 500)
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("code", "status", "todo"),
    [
        (sqlite3.SQLITE_FULL, 503, "Make room on its disk"),
        (sqlite3.SQLITE_IOERR_FSYNC, 503, "Look at its disk"),
        (sqlite3.SQLITE_READONLY, 503, "Look at its disk"),
        (sqlite3.SQLITE_CORRUPT, 500, "the daemon's log"),
    ],
)
def test_a_ledger_that_takes_nothing_is_not_our_defect_when_its_disk_does(
    village: Any, http: TestClient, monkeypatch: pytest.MonkeyPatch, code: int, status: int, todo: str
) -> None:
    """A gateway comes again with its webhook, a person with their top-up."""

    def refuses(*_: Any) -> Any:
        driver = sqlite3.OperationalError("database or disk is full")
        driver.sqlite_errorcode = code
        raise OperationalError("INSERT", {}, driver)

    monkeypatch.setattr(village, "webhook", refuses)
    monkeypatch.setattr(village.store, "write", refuses)
    body = {"account": "a3", "amount_fen": 1, "reference": "full"}
    for answer in (http.post("/webhooks/simulated", content=b"{}"), http.post("/v1/topups", json=body)):
        assert _is_problem(answer, status)
        assert "INSERT" not in answer.text
        assert todo in answer.text


def test_without_a_registry_money_has_nowhere_to_go(empty_village: Any) -> None:
    headers = {"Authorization": f"Bearer {empty_village.token}"}
    with TestClient(create_app(empty_village), client=LOCAL, headers=headers) as client:
        body = {"account": "a1", "amount_fen": 1, "reference": "x"}
        assert _is_problem(client.post("/v1/topups", json=body), 409)
        assert client.get("/readyz").status_code == 503
