"""The writing commands against a real server on a free port, and what they say when there is none."""

from __future__ import annotations

import json
import os
import pwd
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from sqlalchemy import select

from ledger import reads
from ledger.schema import inbox, inbox_applied, registry_version
from meterd import cli, client
from meterd.commands import registry
from meterd.exits import Exit, Stop
from meterd.http import create_app
from rating.readings import RecordKind
from rating.refusals import FINAL_READ
from rating.state import ARRAYS


def _posted(village: Any, account: str) -> int:
    partition, slot = village.registry().find_account(account)
    with village.store.reader() as connection:
        return int(reads.balances(connection, partition, ARRAYS).posted_fen[slot])


def test_top_up_and_reversal_from_the_command_line(served: Any, told: Any) -> None:
    before = _posted(served, "a2")
    code, shown, _ = told("topup", "a2", "12.3", "--reference", "C-1")
    assert (code, shown["applied"], shown["amount"]) == (Exit.OK, True, "12.30")
    assert told("topup", "a2", "12.30", "--reference", "C-1")[1]["inbox_id"] == shown["inbox_id"]
    assert _posted(served, "a2") == before + 1230
    code, _, error = told("topup", "a2", "12.31", "--reference", "C-1", json_=False)
    assert code == Exit.NO
    assert "new reference" in error
    assert told("reverse", "a2", "2.30", "--reference", "C-2", "--of", "C-1")[0] == Exit.OK
    assert _posted(served, "a2") == before + 1000
    assert told("reverse", "a2", "10.01", "--reference", "C-3", "--of", "C-1", json_=False)[0] == Exit.NO
    _, facts, _ = told("statement", "a2")
    references = [money["reference"] for money in facts["cycles"][-1]["money"]]
    assert references == ["topup:C-1", "reversal:C-2"]
    assert facts["agrees"] is True


@pytest.mark.parametrize("amount", ["0", "1.234", "1e3", "nan", "１", "", "0.00", "9" * 31])
def test_odd_amounts_never_leave_the_command(served: Any, told: Any, amount: str) -> None:
    before = _posted(served, "a2")
    assert told("topup", "a2", amount, "--reference", "odd", json_=False)[0] == Exit.USAGE
    assert _posted(served, "a2") == before


def test_exceptions_autopay_and_rebaseline_from_the_command_line(served: Any, told: Any) -> None:
    served.held.clear()
    _, rows, _ = told("exceptions", "list")
    by_reason = {row["reason"]: row["id"] for row in rows}
    assert told("exceptions", "release", str(by_reason["implausible"]), json_=False)[0] == Exit.NO
    code, shown, _ = told("exceptions", "discard", str(by_reason["implausible"]), "--why", "sent by mistake")
    assert (code, shown["state"]) == (Exit.OK, "discarded")
    _, facts, _ = told("exceptions", "show", str(by_reason["implausible"]))
    assert (facts["state"], facts["resolved_why"]) == ("discarded", "sent by mistake")
    assert told("autopay", "hold", "--why", "storm")[0] == Exit.OK
    assert told("autopay", "resume", "--why", "over")[0] == Exit.OK
    assert served.held == [(True, "storm"), (False, "over")]
    at = ["--at", "2026-08-12T13:00", "--why", "board"]
    assert told("rebaseline", "440100000001", "1.8.0", "5000.5", *at)[0] == Exit.OK
    _, facts, _ = told("account", "show", "a1")
    assert facts["registers"][0]["last_value"] == "5000.500"
    assert told("supply", "mark", "440100000001", "1.8.0", "disconnected", "--why", "debt")[0] == Exit.OK
    assert told("supply", "mark", "440100000001", "1.8.0", "connected", "--why", "paid")[0] == Exit.OK
    assert told("supply", "mark", "440100000001", "1.8.0", "off", "--why", "w", json_=False)[0] == Exit.USAGE
    assert told("rebaseline", "440100000001", "1.8.0", "5000.5555", *at, json_=False)[0] == Exit.USAGE
    assert (
        told("rebaseline", "440100000001", "1.8.0", "1", "--at", "noon", "--why", "w", json_=False)[0] == Exit.USAGE
    )


def test_a_whole_message_is_released_from_the_command_line(served: Any, told: Any) -> None:
    read = {"meter": "440100000002", "register": "1.8.0", "ts": 1_786_500_000, "value": "99999"}
    body = json.dumps({"concentrator": "c2", "reads": [read]}).encode()
    served.record(RecordKind.REJECT, served.clock.now_s(), body, "unknown_format: no format xml")
    served.checkpoint()
    _, rows, _ = told("exceptions", "list", "--reason", "unknown_format")
    release = ["exceptions", "release", str(rows[-1]["id"])]
    code, _, error = told(*release, json_=False)
    assert (code, "--as" in error) == (Exit.NO, True)
    code, _, error = told(*release, "--as", "json", json_=False)  # the topic says c1
    assert (code, "spoof" in error, "--trust" in error) == (Exit.NO, True, True)
    usage = (["--as", "xml"], ["--trust"], ["--why", "w"], ["--source", "c1"], ["--by", "li"])
    assert [told(*release, *wrong, json_=False)[0] for wrong in usage] == [Exit.USAGE] * len(usage)
    code, facts, _ = told(*release, "--as", "json", "--trust", "--why", "renamed")
    assert code == Exit.NO  # judged, and implausible
    assert (facts["state"], facts["accepted"], facts["refused"]) == ("open", 0, {"implausible": 1})
    with served.store.reader() as connection:
        written = connection.execute(select(inbox.c.body).where(inbox.c.id == facts["inbox_ids"][0])).scalar_one()
    assert json.loads(written)["trusted"] == {"by": pwd.getpwuid(os.getuid()).pw_name, "why": "renamed"}


def test_a_stored_command_that_is_not_applied_yet_times_out(served: Any, told: Any) -> None:
    served.slow = True
    try:
        code, _, error = told("topup", "a2", "1", "--reference", "C-slow", json_=False)
    finally:
        served.slow = False
    assert code == Exit.TIMED_OUT
    assert "it will be" in error
    assert told("topup", "a2", "1", "--reference", "C-slow")[0] == Exit.OK


def test_a_refused_final_read_of_a_change_out_is_told_by_the_import(
    make_village: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version is active and its outcome good; the old register stays open, and whoever imported it hears so."""
    village, old, new = make_village(tmp_path), "440100000001", "440100000099"
    village.read([(old, 1_010_730, "2026-07-02T10:00")])
    village.checkpoint()
    dated = registry_version.update().values(activated_at_s=village.clock.now_s())  # as the rating loop does
    village.store.write(lambda connection: connection.execute(dated).rowcount)
    files = {name: text for name, text in village.csv.items() if not name.startswith("opening_acc")}
    files["meters"] = files["meters"].replace(f"{old},p1,c1,1,2026-01-01,,", f"{old},p1,c1,1,2026-01-01,2026-07-20,")
    files["meters"] += f"{new},p1,c1,1,2026-07-20,,6,1,13200\n"
    files["registers"] += f"{new},1.8.0,bill,0.01,kWh\n"
    files["changeouts"] = "metering_point,at,old_meter,old_final,new_meter,new_initial\n"
    files["changeouts"] += f"p1,2026-07-20,{old},1005.00,{new},0\n"
    (tmp_path / "next").mkdir()
    for name, text in files.items():
        (tmp_path / "next" / f"{name}.csv").write_text(text, encoding="utf-8")
    monkeypatch.setattr(registry, "activate", lambda _, digest: bool(village.activate_registry(digest)))
    code = cli.run(["registry", "import", str(tmp_path / "next"), "--config", str(village.config), "--json"])
    shown = capsys.readouterr()
    assert code == Exit.OK, shown.err
    answer = json.loads(shown.out)
    assert (answer["activated"], answer["final_reads_refused"], answer["backdated"]) == (True, 1, 0)
    assert "final_reads_refused 1. `meterd exceptions list`" in shown.err
    with village.store.reader() as connection:
        (row,) = reads.exceptions(connection)
        outcomes = set(connection.execute(select(inbox_applied.c.outcome)).scalars())
    assert (row["reason"], row["note"], outcomes) == ("negative", FINAL_READ, {""})


def test_the_registry_is_activated_through_the_daemon(served: Any) -> None:
    assert client.activate(served.settings, served.city.digest) is True
    assert client.activate_registry(served.settings, served.city.digest)["outcome"] == ""
    with pytest.raises(Stop) as stopped:
        client.activate(served.settings, "0" * 64)
    assert stopped.value.code == Exit.NO


@pytest.mark.parametrize("left", [None, "dead port", "other token", "garbage"])
def test_no_daemon_is_exit_3(village: Any, told: Any, left: str | None) -> None:
    path: Path = village.paths.endpoint
    listening = None
    if left == "dead port":
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        path.write_text(json.dumps({"http": f"http://127.0.0.1:{port}", "token": "t", "pid": 1}))
    elif left == "other token":
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(village), log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        path.write_text(json.dumps({"http": url, "token": "old", "pid": 1}))
    elif left == "garbage":
        path.write_text("{")
    try:
        code, _, error = told("topup", "a2", "1", "--reference", "C-none", json_=False)
        assert code == Exit.NOT_RUNNING, error
        if left != "garbage":
            assert client.activate(village.settings, "0" * 64) is False
    finally:
        path.unlink(missing_ok=True)
        if listening is not None:
            server.should_exit = True
            thread.join(10)
