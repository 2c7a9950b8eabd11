"""Many rows of the exceptions queue released and discarded together on a village: by HTTP, by command, under the
audit. Most rows are readings that came an hour and more before their time (`future`) and are good an hour later."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from audit.run import audit
from ledger.port import LedgerFailed
from ledger.schema import exception, inbox
from meterd import attempts, releases
from meterd.commands import exceptions_bulk
from meterd.exits import Exit
from meterd.http import create_app
from meterd.places import place_in_list, place_of
from meterd.replay import replay
from rating.readings import RecordKind
from registry.address import address, address_text

METER, OTHER = "440100000001", "WX-77.a"


@pytest.fixture
def http(village: Any) -> Iterator[TestClient]:
    headers = {"Authorization": f"Bearer {village.token}"}
    with TestClient(create_app(village), client=("127.0.0.1", 40_000), headers=headers) as client:
        yield client


class Hours:
    """Of 13 August and the days after it; each test has some of its own."""

    def __init__(self) -> None:
        self.hour = 0

    def next(self) -> str:
        self.hour += 1
        return f"2026-08-{13 + self.hour // 24}T{self.hour % 24:02d}:00"


@pytest.fixture(scope="module")
def hours() -> Hours:
    return Hours()


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text + "+08:00").timestamp())


def register(village: Any, meter: str = METER) -> int:
    part = village.engines[village.home].part
    return int(part.channel["value"][part.image.channels["meter"] == address(meter)][0])


def early(village: Any, hours: Hours, count: int, *, meter: str = METER, due: bool = True) -> list[int]:
    """Readings of the next hours, a unit apart, which came too early; ids in the order of their times."""
    received, first = hours.next(), _newest(village)
    value = register(village, meter)
    hours.next()
    times = [hours.next() for _ in range(count)]
    for step, at in reversed(list(enumerate(times, start=1))):  # the youngest comes first: ids say nothing of age
        village.read([(meter, value + 1000 * step, at)], received=received)
    village.checkpoint()
    if due:
        village.record(RecordKind.TICK, seconds(hours.next()))
        village.checkpoint()
    with village.store.reader() as connection:
        asked = select(exception.c.id).where(exception.c.id > first).order_by(exception.c.id.desc())
        return list(connection.execute(asked).scalars())


def _newest(village: Any) -> int:
    with village.store.reader() as connection:
        return max(connection.execute(select(exception.c.id)).scalars(), default=0)


def states(village: Any, numbers: list[int]) -> list[str]:
    with village.store.reader() as connection:
        asked = select(exception.c.id, exception.c.state).where(exception.c.id.in_(numbers))
        found = dict(connection.execute(asked).all())
    return [found[number] for number in numbers]


def made(village: Any, numbers: list[int]) -> list[str]:
    """Keys of all inbox rows of these releases, in the order of their ids."""
    with village.store.reader() as connection:
        keys = connection.execute(select(inbox.c.key).order_by(inbox.c.id)).scalars().all()
    return [key for key in keys if key.startswith("release:") and int(key.split(":")[1]) in numbers]


def test_many_are_judged_the_oldest_first_whatever_their_ids(village: Any, http: TestClient, hours: Hours) -> None:
    before, numbers = register(village), early(village, hours, 4)
    assert numbers == sorted(numbers, reverse=True)
    body = {"ids": [*sorted(numbers), numbers[0], 999_999]}
    answer = http.post("/v1/exceptions/release", json=body)
    told = answer.json()["exceptions"]
    assert (answer.status_code, answer.json()["left"]) == (200, [])
    assert [one.get("state") for one in told] == ["released"] * 4 + [None]
    assert told[-1] == {"exception": 999_999, "error": "no exception 999999", "what_to_do": told[-1]["what_to_do"]}
    assert made(village, numbers) == [f"release:{n}:1:1" for n in numbers]
    assert (register(village), states(village, numbers)) == (before + 4000, ["released"] * 4)
    assert http.post("/v1/exceptions/release", json=body).json() == answer.json()  # again: the same answer
    assert len(made(village, numbers)) == 4
    single = http.post(f"/v1/exceptions/{numbers[1]}/release", json={}).json()
    assert single in told  # what it would be alone


def test_each_row_keeps_its_own_outcome(village: Any, http: TestClient, hours: Hours) -> None:
    good = early(village, hours, 2)
    gone = early(village, hours, 1, meter=OTHER)
    assert http.post("/v1/exceptions/discard", json={"ids": gone, "why": "w"}).json() == {
        "exceptions": [{"exception": gone[0], "state": "discarded"}],
        "left": [],
    }
    still = early(village, hours, 1, due=False)
    with village.store.reader() as connection:
        broken = connection.execute(select(exception.c.id).where(exception.c.reason == "malformed")).scalars().first()
    answer = http.post("/v1/exceptions/release", json={"ids": [*good, *gone, *still, broken]})
    told = {one["exception"]: one for one in answer.json()["exceptions"]}
    assert [told[n]["state"] for n in good] == ["released"] * 2
    assert told[still[0]]["refused"] == {"future": 1}
    assert (told[still[0]]["state"], told[still[0]]["outcome"]) == ("open", "judged again: future 1 of 1")
    assert "discarded already" in told[gone[0]]["error"]
    assert "is not released" in told[broken]["error"]
    assert states(village, [*good, *gone, *still, broken]) == ["released", "released", "discarded", "open", "open"]
    found = http.post("/v1/exceptions/discard", json={"ids": [*still, *gone, *good, 999_999], "why": "w"}).json()
    assert ["error" in one for one in found["exceptions"]] == [False, True, True, True, True]


@pytest.mark.parametrize("ids", [[], [0], ["1"], [True], [2**63], list(range(1, attempts.IDS_MAX + 2)), None])
@pytest.mark.parametrize("verb", ["release", "discard"])
def test_ids_are_bounded(village: Any, http: TestClient, verb: str, ids: Any) -> None:
    body = {"ids": ids} | ({"why": "w"} if verb == "discard" else {})
    assert http.post(f"/v1/exceptions/{verb}", json=body).status_code == 422


def test_what_is_too_much_for_one_request_is_left_to_the_next(
    village: Any, http: TestClient, hours: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = early(village, hours, 3)
    monkeypatch.setattr(releases, "BYTES_MAX", 50)  # two packed readings
    answer = http.post("/v1/exceptions/release", json={"ids": numbers}).json()
    assert ([one["exception"] for one in answer["exceptions"]], answer["left"]) == (numbers[1::-1], numbers[2:])
    monkeypatch.setattr(releases, "BYTES_MAX", 1)  # the first is always taken
    answer = http.post("/v1/exceptions/release", json={"ids": answer["left"]}).json()
    assert (answer["exceptions"][0]["state"], answer["left"]) == ("released", [])


def test_a_kill_while_they_are_written_leaves_none_of_them(
    village: Any, http: TestClient, hours: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, before = early(village, hours, 3), register(village)
    real = releases.submit_many

    def breaks(connection: Any, *, rows: Any, **more: Any) -> None:
        real(connection, rows=rows[:1], **more)
        raise LedgerFailed("killed, as far as the ledger can tell", retriable=True)

    with monkeypatch.context() as dying:
        dying.setattr(releases, "submit_many", breaks)
        assert http.post("/v1/exceptions/release", json={"ids": numbers}).status_code == 503
    assert made(village, numbers) == []
    with monkeypatch.context() as dying:  # and one before the rows are closed: the next request finds the attempts
        dying.setattr(releases.Releases, "_resolve", _dies)
        assert http.post("/v1/exceptions/release", json={"ids": numbers}).status_code == 503
    assert (states(village, numbers), register(village)) == (["open"] * 3, before + 3000)
    refused = http.post("/v1/exceptions/discard", json={"ids": numbers, "why": "w"}).json()["exceptions"]
    assert all("being released" in one["error"] for one in refused)
    answer = http.post("/v1/exceptions/release", json={"ids": numbers}).json()
    assert [one["state"] for one in answer["exceptions"]] == ["released"] * 3
    assert (len(made(village, numbers)), register(village)) == (3, before + 3000)


def _dies(*_: Any) -> None:
    raise LedgerFailed("killed, as far as the row can tell", retriable=True)


def test_what_is_under_way_is_waited_for(
    village: Any, http: TestClient, hours: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = early(village, hours, 2)
    with monkeypatch.context() as stuck:
        stuck.setattr(village, "apply", lambda: None)
        for _ in range(2):
            answer = http.post("/v1/exceptions/release", json={"ids": numbers, "wait_s": 0})
            assert answer.status_code == 202
            assert [(one["applied"], one["state"]) for one in answer.json()["exceptions"]] == [(False, "open")] * 2
    assert len(made(village, numbers)) == 2
    village.apply()
    answer = http.post("/v1/exceptions/release", json={"ids": numbers})
    assert (answer.status_code, states(village, numbers)) == (200, ["released"] * 2)


def test_rows_that_are_no_readings_are_told_so(village: Any, http: TestClient) -> None:
    """A row `backdated` names a meter, and its bytes are no reading."""
    row = {
        "key": "k", "reason": "backdated", "partition": 0, "offset": 1, "received_at_s": 1, "source": "registry",
        "stream": "", "sequence": -1, "meter": METER, "bytes": b'{"since_s": 1784000000}', "note": "n",
    }  # fmt: skip
    number = village.store.write(lambda c: c.execute(exception.insert().values(row)).inserted_primary_key[0])
    for path in (f"/v1/exceptions/{number}/release", "/v1/exceptions/release"):
        body = {"ids": [number]} if path.endswith("s/release") else {}
        told = http.post(path, json=body).json()
        assert "is no reading" in (told if "error" in told else told["exceptions"][0])["error"]
    village.store.write(
        lambda c: c.execute(exception.delete().where(exception.c.id == number))
    )  # the audit would ask


def test_a_place_is_found_in_a_list_as_in_all_of_them(village: Any) -> None:
    reader = village.registry()
    for meter in (METER, OTHER, "440199999999"):
        assert place_in_list(reader, address(meter), 1, "c1") == place_of(reader, address(meter), 1)
    assert place_in_list(reader, address(METER), 1, "c9") is None
    assert place_in_list(reader, address(METER), 9, "c1") is None


def test_a_filter_is_counted_agreed_to_and_carried_out(served: Any, told: Any, hours: Hours) -> None:
    mine = ("--reason", "future", "--source", "c1", "--meter", OTHER)
    numbers = early(served, hours, 3, meter=OTHER)
    code, _, error = told("exceptions", "release", *mine, json_=False)
    assert (code, "3 rows would be released: future 3. Say --yes" in error) == (Exit.USAGE, True)
    assert told("exceptions", "release", *mine, "--dry-run")[:2] == (Exit.OK, {"rows": 3, "reasons": {"future": 3}})
    assert states(served, numbers) == ["open"] * 3
    code, shown, _ = told("exceptions", "release", *mine, "--yes", "--limit", "2", json_=False)
    assert (code, shown.splitlines()[:3]) == (Exit.OK, ["rows\t2", "released\t2", "open\t0"])
    assert states(served, numbers) == ["released", "released", "open"]  # the two oldest
    code, shown, _ = told("exceptions", "release", *mine, "--yes")
    assert (code, shown["rows"], shown["released"], shown["not_asked"]) == (Exit.OK, 1, 1, 0)
    code, shown, _ = told("exceptions", "release", *mine, "--yes")  # nothing is left: nothing to complain of
    assert (code, shown["rows"]) == (Exit.OK, 0)


def test_on_a_terminal_a_person_is_asked(
    served: Any, told: Any, hours: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, answers = early(served, hours, 1), [False, True]
    tty = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(exceptions_bulk, "sys", SimpleNamespace(stdin=tty, stderr=tty))
    monkeypatch.setattr(exceptions_bulk.typer, "confirm", lambda *_, **__: answers.pop(0))
    discard = ("exceptions", "discard", "--meter", METER, "--reason", "future", "--why", "w")
    assert told(*discard, json_=False)[0] == Exit.NO
    assert states(served, numbers) == ["open"]
    assert told(*discard)[1]["discarded"] == 1
    assert states(served, numbers) == ["discarded"]


def test_ids_go_in_parts_and_the_sum_tells_what_stayed(
    served: Any, told: Any, hours: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "IDS_MAX", 2)
    numbers = early(served, hours, 3)
    still = early(served, hours, 1, due=False)
    code, shown, _ = told("exceptions", "release", *map(str, [*numbers, *still, 999_999]))
    assert (code, shown["released"], shown["open"], shown["refused"]) == (Exit.NO, 3, still, {"future": 1})
    assert [one["exception"] for one in shown["errors"]] == [999_999]
    code, shown, error = told("exceptions", "discard", *map(str, [*still, *numbers]), "--why", "w", json_=False)
    assert (code, shown.splitlines()) == (Exit.NO, ["rows\t4", "discarded\t1", "errors\t3", "not_asked\t0"])
    assert f"exception {numbers[0]} is released already" in error


def test_what_is_not_applied_in_time_ends_the_run(
    served: Any, told: Any, hours: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "IDS_MAX", 2)
    numbers = early(served, hours, 3)
    release = ("exceptions", "release", *map(str, numbers))
    with monkeypatch.context() as stuck:
        stuck.setattr(served, "apply", lambda: None)
        stuck.setattr(served, "slow", True)
        code, shown, error = told(*release)
    assert (code, shown["not_applied"], shown["not_asked"]) == (Exit.TIMED_OUT, sorted(numbers[:2]), 1)
    assert "ask again" in error
    served.apply()
    assert told(*release)[:2][0] == Exit.OK
    assert len(made(served, numbers)) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("release",),
        ("release", "--limit", "3", "--yes"),
        ("release", "1", "2", "--reason", "future"),
        ("release", "1", "2", "--yes"),
        ("release", "1", "--source", "c1"),
        ("release", "--reason", "boring", "--yes"),
        ("release", "--before", "yesterday", "--yes"),
        ("release", "--meter", "#!?", "--reason", "boring"),
        ("release", "--meter", "44 01", "--yes"),
        ("release", "--trust", "--why", "w", "--reason", "spoof", "--yes"),
        ("discard", "1", "2"),
        ("discard", "--why", "w"),
    ],
)
def test_what_means_nothing_is_refused_before_anything_is_done(told: Any, arguments: tuple[str, ...]) -> None:
    assert told("exceptions", *arguments, json_=False)[0] == Exit.USAGE


def test_the_list_has_the_same_filters(village: Any, told: Any) -> None:
    _, rows, _ = told("exceptions", "list", "--state", "all")
    for options, wanted in (
        (("--meter", OTHER), lambda row: row["meter"] == rows_meter(OTHER)),
        (("--meter", rows_meter(OTHER)), lambda row: row["meter"] == rows_meter(OTHER)),
        (("--source", "c1"), lambda row: row["source"] == "c1"),
        (("--before", "2026-08-01"), lambda row: row["received"] < "2026-08-01"),
    ):
        _, found, _ = told("exceptions", "list", "--state", "all", *options)
        assert found == [row for row in rows if wanted(row)]
        assert found
    assert told("exceptions", "list", "--source", "c9")[1] == []


def rows_meter(serial: str) -> str:
    return address_text(address(serial))


def test_auditor_and_replay_agree_with_all_of_it(village: Any, hours: Hours) -> None:
    village.checkpoint()
    assert audit(village.settings.data_dir).differences == []
    assert [r.differences for r in replay(village.settings, batch=7)] == [(), ()]
