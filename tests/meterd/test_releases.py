"""Whole messages of the exceptions queue released on a village: by HTTP, by command, in attempts, under the audit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from audit.accounts import PartitionAudit
from audit.run import audit
from config.settings import SigningSettings
from config.units import decimal_text
from ingest.decoded import Limits
from ingest.pipeline import Context, Message, process, signature
from ingest.routing import HashRoutes
from ingest.sequences import Sequences
from ingest.wire import reads_topic
from ledger.port import LedgerFailed
from ledger.schema import exception, inbox
from meterd import releases
from meterd.exits import Exit
from meterd.http import create_app
from meterd.replay import replay
from rating.readings import RecordKind
from registry.address import address

METERS = ("440100000001", "440100000002", "WX-77.a")


@pytest.fixture
def http(village: Any) -> Iterator[TestClient]:
    headers = {"Authorization": f"Bearer {village.token}"}
    with TestClient(create_app(village), client=("127.0.0.1", 40_000), headers=headers) as client:
        yield client


def register(village: Any, meter: str) -> int:
    part = village.engines[village.home].part
    return int(part.channel["value"][part.image.channels["meter"] == address(meter)][0])


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text + "+08:00").timestamp())


class Clock:
    """Instants of 12 August, each a minute after the one before: the register stands before all of them."""

    def __init__(self) -> None:
        self.minute = 0

    def next(self) -> int:
        self.minute += 1
        return seconds("2026-08-12T00:00") + 60 * self.minute


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


def envelope(rows: list[tuple[str, int, int]], **head: object) -> bytes:
    reads = [{"meter": m, "register": "1.8.0", "ts": t, "value": decimal_text(v, 3)} for m, v, t in rows]
    return json.dumps({**head, "reads": reads}).encode()


def refuse(village: Any, payload: bytes, *, format_: str = "json", properties: Any = (), **more: Any) -> int:
    """Ingest refuses it, rating puts it into the queue; its number there."""
    context = replace(Context(Limits(), 2, HashRoutes()), **more)
    message = Message(reads_topic("0", "c1", format_, "s", village.sequence + 1), payload, properties=properties)
    (record,) = process([message], village.clock.now_s(), Sequences(60, 5), context).records
    assert record.kind is RecordKind.REJECT
    village.record(RecordKind.REJECT, village.clock.now_s(), record.body, record.detail)
    village.checkpoint()
    with village.store.reader() as connection:
        return int(connection.execute(select(exception.c.id).order_by(exception.c.id.desc()).limit(1)).scalar_one())


def fact(village: Any, number: int) -> Any:
    with village.store.reader() as connection:
        return connection.execute(select(exception).where(exception.c.id == number)).one()


def attempts(village: Any, number: int) -> list[tuple[str, int, dict[str, Any]]]:
    with village.store.reader() as connection:
        asked = select(inbox.c.key, inbox.c.partition, inbox.c.body).order_by(inbox.c.id)
        rows = connection.execute(asked.where(inbox.c.key.startswith(f"release:{number}:"))).all()
    return [(row.key, row.partition, json.loads(row.body)) for row in rows]


TOO_MANY = {"limits": Limits(readings_max=1)}  # a limit that has been raised since


def test_a_message_that_can_be_read_now_is_judged_and_closed(village: Any, http: TestClient, clock: Clock) -> None:
    at_s, before = clock.next(), [register(village, m) for m in METERS]
    rows = [(m, v + 1000, at_s) for m, v in zip(METERS, before, strict=True)]
    number = refuse(village, envelope(rows), **TOO_MANY)
    assert fact(village, number).reason == "oversized"
    answer = http.post(f"/v1/exceptions/{number}/release", json={})
    assert answer.status_code == 200
    told = answer.json()
    assert (told["state"], told["outcome"], told["accepted"], told["refused"]) == ("released", "", 3, {})
    assert [register(village, m) for m in METERS] == [v + 1000 for v in before]
    assert fact(village, number).resolved_why == f"inbox {told['inbox_ids'][0]}"
    ((key, partition, body),) = attempts(village, number)
    assert (key, partition) == (f"release:{number}:1:1", village.home)
    assert body == {  # the shape that a single reading's release has: the auditor reads it as it is
        "concentrator": "c1",
        "exception": number,
        "readings": [[address(m), 1, at_s, v + 1000, 4] for m, v in zip(METERS, before, strict=True)],
    }
    assert http.post(f"/v1/exceptions/{number}/release", json={}).json() == told  # again: the same answer
    assert len(attempts(village, number)) == 1


def test_what_is_refused_again_is_told_and_stays_open(village: Any, http: TestClient, clock: Clock) -> None:
    at_s = clock.next()
    first, second = (register(village, m) for m in METERS[:2])
    rows = [
        (METERS[0], first + 150, at_s),
        (METERS[1], second, at_s - 86_400),  # late
        ("440199999999", 5, at_s),  # nobody's
        (METERS[1], second + 100, at_s),
        (METERS[1], second + 100, at_s),  # twice: it stands already
    ]
    number = refuse(village, envelope(rows), **TOO_MANY)
    told = http.post(f"/v1/exceptions/{number}/release", json={}).json()
    assert (told["state"], told["accepted"], told["refused"]) == ("open", 3, {"late": 1, "unknown_meter": 1})
    assert told["outcome"] == "judged again: late 1, unknown_meter 1 of 5"
    assert (register(village, METERS[0]), register(village, METERS[1])) == (first + 150, second + 100)
    village.read([(METERS[0], first + 200, "2026-08-12T11:59")])  # the register goes on, the row is tried again
    clock.minute = 720
    told = http.post(f"/v1/exceptions/{number}/release", json={}).json()
    assert (told["state"], told["accepted"], told["refused"]) == ("open", 3, {"late": 1, "unknown_meter": 1})
    (_, _, one), (key, _, two) = attempts(village, number)
    assert key == f"release:{number}:2:1"
    assert two["readings"] == one["readings"][1:3]  # only what has no effect yet
    assert http.post(f"/v1/exceptions/{number}/discard", json={"why": "late for ever"}).status_code == 200


def test_whom_to_believe_is_a_person_s_word(village: Any, http: TestClient, clock: Clock) -> None:
    value, at_s = register(village, METERS[2]), clock.next()
    number = refuse(village, envelope([(METERS[2], value + 7, at_s)], concentrator="c7"))
    path = f"/v1/exceptions/{number}/release"
    refused = http.post(path, json={})
    assert refused.status_code == 422
    assert "--trust" in refused.json()["what_to_do"]
    for missing in ({"trust": True}, {"trust": True, "why": "w"}, {"trust": True, "by": "b"}, {"source": "c1"}):
        assert http.post(path, json=missing).status_code == 422
    assert http.post(path, json={"trust": 1, "why": "w", "by": "b"}).status_code == 422
    assert attempts(village, number) == []
    told = http.post(path, json={"trust": True, "why": "renamed in spring", "by": "li"}).json()
    assert (told["state"], register(village, METERS[2])) == ("released", value + 7)
    assert attempts(village, number)[0][2]["trusted"] == {"by": "li", "why": "renamed in spring"}
    assert fact(village, number).resolved_why.endswith("; trusted by li: renamed in spring")


def test_a_key_that_was_corrected_releases_what_it_signed(
    village: Any, http: TestClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, at_s, key = register(village, METERS[2]), clock.next(), "00112233" * 8
    payload = envelope([(METERS[2], value + 7, at_s)])
    topic = reads_topic("0", "c1", "json", "s", village.sequence + 1)
    signed = signature(bytes.fromhex(key), topic, payload)
    number = refuse(village, payload, keys={"c1": b"mistyped"}, properties=(("signature", signed),))
    path = f"/v1/exceptions/{number}/release"
    for keys in ({}, {"c1": "44556677" * 8}):
        signing = SigningSettings.model_validate({"keys": keys})
        monkeypatch.setattr(village, "settings", village.settings.model_copy(update={"signing": signing}))
        assert "[signing]" in http.post(path, json={}).json()["what_to_do"]
    signing = SigningSettings.model_validate({"keys": {"c1": key}})
    monkeypatch.setattr(village, "settings", village.settings.model_copy(update={"signing": signing}))
    assert http.post(path, json={}).json()["state"] == "released"
    assert register(village, METERS[2]) == value + 7
    assert "trusted" not in attempts(village, number)[0][2]


def test_another_concentrator_s_message_is_judged_in_its_list(village: Any, http: TestClient, clock: Clock) -> None:
    """Of an unknown one every meter is unknown; the rows are spread as ingest spreads them."""
    rows = [(f"{n:012d}", 5, clock.next()) for n in range(1, 9)]
    number = refuse(village, envelope(rows), format_="xml")
    body = {"as": "json", "source": "c9", "trust": True, "why": "its topic was mistyped", "by": "li"}
    told = http.post(f"/v1/exceptions/{number}/release", json=body).json()
    assert (told["state"], told["accepted"], told["refused"]) == ("open", 0, {"unknown_meter": 8})
    made = attempts(village, number)
    assert [partition for _, partition, _ in made] == [0, 1]
    assert sorted(r[0] for _, _, body in made for r in body["readings"]) == list(range(1, 9))
    assert {(body["concentrator"], body["as"]) for _, _, body in made} == {("c9", "json")}
    http.post(f"/v1/exceptions/{number}/discard", json={"why": "not ours"})


def test_no_inbox_row_is_larger_than_its_limit_and_all_come_together(
    village: Any, http: TestClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "ROWS_MAX", 2)
    value = register(village, METERS[0])
    rows = [(METERS[0], value + 10 * n, clock.next()) for n in range(1, 6)]
    number = refuse(village, envelope(rows), **TOO_MANY)
    real, seen = releases.submit_many, []

    def breaks(connection: Any, *, rows: Any, **more: Any) -> None:
        real(connection, rows=rows[:2], **more)
        seen.extend(rows)
        raise LedgerFailed("the disk is full", retriable=True)

    with monkeypatch.context() as broken:
        broken.setattr(releases, "submit_many", breaks)
        assert http.post(f"/v1/exceptions/{number}/release", json={}).status_code == 503
    assert len(seen) == 3
    assert attempts(village, number) == []
    told = http.post(f"/v1/exceptions/{number}/release", json={}).json()
    assert (told["state"], told["accepted"], len(told["inbox_ids"])) == ("released", 5, 3)
    assert [len(body["readings"]) for _, _, body in attempts(village, number)] == [2, 2, 1]
    assert register(village, METERS[0]) == value + 50


def test_an_attempt_under_way_is_waited_for_not_repeated(
    village: Any, http: TestClient, clock: Clock, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = register(village, METERS[1])
    number = refuse(village, envelope([(METERS[1], value + 10, clock.next())] * 2), **TOO_MANY)
    with monkeypatch.context() as stuck:
        stuck.setattr(village, "apply", lambda: None)
        for _ in range(2):
            answer = http.post(f"/v1/exceptions/{number}/release", json={"wait_s": 0})
            assert (answer.status_code, answer.json()["outcome"], answer.json()["state"]) == (202, None, "open")
        assert http.post(f"/v1/exceptions/{number}/discard", json={"why": "w"}).status_code == 409
    assert len(attempts(village, number)) == 1
    village.apply()
    answer = http.post(f"/v1/exceptions/{number}/release", json={})
    assert (answer.json()["state"], register(village, METERS[1])) == ("released", value + 10)


def test_a_kill_before_the_row_is_closed_is_made_good(
    village: Any, http: TestClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = register(village, METERS[1])
    number = refuse(village, envelope([(METERS[1], value + 10, clock.next())] * 2), **TOO_MANY)

    def fails(*_: Any) -> None:
        raise LedgerFailed("killed, as far as the row can tell", retriable=True)

    with monkeypatch.context() as dying:
        dying.setattr(releases.Releases, "_resolve", fails)
        assert http.post(f"/v1/exceptions/{number}/release", json={}).status_code == 503
    assert (fact(village, number).state, register(village, METERS[1])) == ("open", value + 10)
    assert http.post(f"/v1/exceptions/{number}/discard", json={"why": "w"}).status_code == 409
    village.read([(METERS[1], value + 20, "2026-08-12T12:40")])  # judged once more it would be late
    clock.minute = 761
    answer = http.post(f"/v1/exceptions/{number}/release", json={}).json()
    assert (answer["state"], answer["accepted"], len(attempts(village, number))) == ("released", 1 + 1, 1)


def test_options_for_messages_are_not_for_readings(village: Any, http: TestClient) -> None:
    with village.store.reader() as connection:
        asked = select(exception.c.id).where(exception.c.reason == "implausible")
        number = connection.execute(asked).scalars().first()
    assert http.post(f"/v1/exceptions/{number}/release", json={"as": "json"}).status_code == 422
    assert http.post(f"/v1/exceptions/{number}/release", json={"as": "xml"}).status_code == 422


def test_the_auditor_agrees_with_every_release(
    village: Any, http: TestClient, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the inbox rows as it reads those of single readings. The last one holds two days apart: without it
    their energy would be spread over both."""
    village.record(RecordKind.TICK, seconds("2026-08-14T12:00"))
    before = [register(village, m) for m in METERS]
    midnight = [(m, v + 9000, seconds("2026-08-13T00:00")) for m, v in zip(METERS, before, strict=True)]
    number = refuse(village, envelope(midnight), **TOO_MANY)
    assert http.post(f"/v1/exceptions/{number}/release", json={}).json()["accepted"] == 3
    village.read([(m, v + 9010, "2026-08-14T06:00") for m, v in zip(METERS, before, strict=True)])
    village.checkpoint()
    report = audit(village.settings.data_dir)
    assert report.differences == []
    assert [r.differences for r in replay(village.settings, batch=7)] == [(), ()]  # and so does a replay
    real = PartitionAudit.command
    monkeypatch.setattr(PartitionAudit, "command", lambda *a: None if a[2] == "release" else real(*a))
    assert audit(village.settings.data_dir, jobs=1).differences != []  # it would have noticed
    for account in ("a1", "a2", "a3"):
        code, facts, _ = told("explain", account, "2026-08-12")
        assert (code, facts["channels"][0]["agrees"]) == (Exit.OK, True)


def test_the_queue_shows_words_and_where_they_came_from(village: Any, told: Any, clock: Clock) -> None:
    number = refuse(village, b"{oops")
    _, rows, _ = told("exceptions", "list", "--reason", "malformed")
    assert "\n" not in rows[-1]["note"]
    assert "topic" not in rows[-1]["note"]
    _, facts, _ = told("exceptions", "show", str(number))
    assert facts["topic"] == f"meters/v1/0/c1/up/reads/json/s/{village.sequence}"
    assert (facts["format"], facts["signed"], facts["note"]) == ("json", False, rows[-1]["note"])
