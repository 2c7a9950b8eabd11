"""Texts, the outbox and its channels: retries, de-duplication over restarts, and what payers never see."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import insert

import autopay.channels as outbox_channels
import autopay.outbox as outbox_module
from autopay.channels import ChannelFailed, FileChannel
from autopay.gateways.signing import HEADER, authentic
from autopay.notices import FIELDS, TEXTS, NoSuchTemplate, Party, render, yuan
from autopay.outbox import NoticeDispatcher, channels_of
from autopay.records import add_notice
from config.settings import NoticeSettings
from ledger.schema import notice, notice_delivery

PEOPLE = {
    "": Party("parents", "父母", "zh"),
    "daughter": Party("daughter", "Daughter", "en"),
}


class Flaky:
    name = "flaky"

    def __init__(self, failures):
        self.failures = failures
        self.sent = []

    def addresses(self, party):
        return ("",)

    def close(self):
        pass

    def send(self, message, address):
        if self.failures:
            self.failures -= 1
            raise ChannelFailed("flaky: not now")
        self.sent.append(message.key)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def dispatcher(world, channels, **settings):
    return NoticeDispatcher(
        world.store,
        channels,
        lambda party, account: PEOPLE.get(party),
        world.clock,
        NoticeSettings(**settings),
        wait_real_s=10.0,
    )


def put(world, key="k1", template="charged", party="", **params):
    params = {"amount_fen": 10_000} | params
    world.store.write(lambda c: add_notice(c, key, template, party, "a1", params, world.clock.now_s()))


def test_the_storys_words():
    assert "电表账户余额不足，已自动缴费100元" in render("charged", "zh", "a1", {"amount_fen": 10_000})
    assert "100.50 yuan" in render("charged", "en", "a1", {"amount_fen": 10_050})


@pytest.mark.parametrize(("fen", "text"), [(10_000, "100"), (5, "0.05"), (-5, "-0.05"), (-1900, "-19"), (0, "0")])
def test_yuan(fen, text):
    assert yuan(fen) == text


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("template", FIELDS)
def test_no_text_holds_load_data(language, template):
    load = {"energy_wh": 777_001, "register": 777_002, "readings": [777_003], "power_w": 777_004}
    told = {"amount_fen": 100, "balance_fen": 200, "code": "x", "why": "w", "order_id": 1, "gateway": "g"}
    text = render(template, language, "a1", told | load)
    assert "77700" not in text
    assert not set(FIELDS[template]) & set(load)
    assert "{" not in text


@pytest.mark.parametrize("language", TEXTS)
def test_the_holder_is_told_that_nothing_came_without_the_payer_s_affairs(language):
    told = {"amount_fen": 777_001, "code": "insufficient_funds", "payer": "daughter", "balance_fen": 777_002}
    text = render("nothing_came", language, "a1", told)
    assert "7770" not in text
    assert "insufficient" not in text
    assert "余额不足，自动缴费未成功" in text or "did not go through" in text


def test_payers_are_not_even_told_the_balance():
    assert "balance_fen" not in FIELDS["charged"] + FIELDS["charge_failed"]


def test_a_reversal_has_its_own_words_and_an_unknown_template_none():
    assert render("credited", "zh", "a", {"amount_fen": 1, "kind": "reversal"}) != render(
        "credited", "zh", "a", {"amount_fen": 1}
    )
    with pytest.raises(NoSuchTemplate):
        render("poem", "zh", "a", {})


def test_both_are_told_once(world, tmp_path):
    path = tmp_path / "notices.jsonl"
    world.mandate()
    world.event()
    world.run()
    sender = dispatcher(world, [FileChannel(path)])
    assert sender.step() == 2
    assert sender.step() == 0
    assert [(line["party"], line["language"]) for line in lines(path)] == [("daughter", "en"), ("parents", "zh")]
    assert "已自动缴费100元" in lines(path)[1]["text"]
    assert sender.counts == {"sent": 2, "failed": 0, "retried": 0}


def test_of_a_decline_the_payer_is_told_each_time_and_the_holder_once_for_each_low_balance(world, tmp_path):
    """What is sent to whom: the table in docs/autopay.md."""
    path = tmp_path / "notices.jsonl"
    world.mandate()
    world.gateway.script.extend(["declined"] * 2)
    world.event()
    world.run()
    world.later(3600)
    world.later(6 * 3600)
    assert world.states() == ["declined", "declined", "succeeded"]
    world.apply_credits()
    sender = dispatcher(world, [FileChannel(path)])
    sender.step()
    assert [(line["party"], line["template"]) for line in lines(path)] == [
        ("daughter", "charge_failed"),
        ("parents", "nothing_came"),
        ("daughter", "charge_failed"),
        ("daughter", "charged"),
        ("parents", "charged"),
    ]


def test_a_line_whose_sync_failed_is_written_once(world, tmp_path, monkeypatch):
    """What the disk took of it goes before it is written again."""
    path, real, fails = tmp_path / "n", outbox_channels.os.fsync, [True, True]

    def sync(number):
        if fails:
            fails.pop()
            raise OSError(5, "Input/output error")
        real(number)

    monkeypatch.setattr(outbox_channels.os, "fsync", sync)
    put(world)
    sender = dispatcher(world, [FileChannel(path)])
    sender.step()
    assert path.read_bytes() == b""
    for _ in range(4):
        world.clock.advance(3600)
        sender.step()
    assert [line["key"] for line in lines(path)] == ["k1"]
    assert world.rows(notice)[0]["state"] == "sent"


def test_a_holder_who_pays_is_told_once(world, tmp_path):
    put(world, "charged:x:holder", payer="parents")
    sender = dispatcher(world, [FileChannel(tmp_path / "n")])
    sender.step()
    assert lines(tmp_path / "n") == []
    assert world.rows(notice)[0]["state"] == "sent"


def test_death_after_delivery_writes_no_second_line(world, tmp_path, monkeypatch):
    class Died(BaseException):
        pass

    def reach(step):
        if step == "notice.sent":
            raise Died

    put(world)
    monkeypatch.setattr(outbox_module, "reach", reach)
    with pytest.raises(Died):
        dispatcher(world, [FileChannel(tmp_path / "n")]).step()
    monkeypatch.undo()
    assert world.rows(notice)[0]["state"] == "pending"
    dispatcher(world, [FileChannel(tmp_path / "n")]).step()
    assert len(lines(tmp_path / "n")) == 1
    assert world.rows(notice)[0]["state"] == "sent"


def test_a_torn_line_is_cut_off_and_written_again(world, tmp_path):
    path = tmp_path / "n"
    put(world)
    put(world, "k2")
    dispatcher(world, [FileChannel(path)]).step()
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    world.store.write(lambda c: c.execute(notice.update().values(state="pending", deliveries=None)))
    world.store.write(lambda c: c.execute(notice_delivery.delete()))
    dispatcher(world, [FileChannel(path)]).step()
    assert path.read_bytes() == whole


def test_retries_by_schedule_and_only_on_the_channel_that_failed(world, tmp_path):
    flaky = Flaky(2)
    put(world)
    sender = dispatcher(world, [FileChannel(tmp_path / "n"), flaky], retry_after_s=(10, 60))
    sender.step()
    for wait_s, sent in ((9, 0), (1, 0), (59, 0), (1, 1)):
        world.clock.advance(wait_s)
        sender.step()
        assert len(flaky.sent) == sent
    assert len(lines(tmp_path / "n")) == 1
    assert world.rows(notice)[0]["attempts"] == 3


def test_it_fails_for_good_after_the_last_attempt_and_is_counted(world):
    put(world)
    put(world, "k2", template="poem")
    put(world, "k3", party="nobody")
    sender = dispatcher(world, [Flaky(10**6)], attempts_max=3, retry_after_s=(10,))
    for _ in range(5):
        sender.step()
        world.clock.advance(10)
    assert [row["state"] for row in world.rows(notice)] == ["failed"] * 3
    assert sender.counts["failed"] == 3
    assert all(row["error"] for row in world.rows(notice))


def test_a_notice_key_is_written_once(world):
    put(world)
    put(world)
    assert len(world.rows(notice)) == 1
    with pytest.raises(Exception, match="UNIQUE"):
        world.store.write(lambda c: c.execute(insert(notice).values({**world.rows(notice)[0], "id": 9})))


def test_the_webhook_is_signed_and_refusals_are_retried(world, httpserver_like):
    seen, url, statuses = httpserver_like
    statuses.extend([500, 200])
    settings = NoticeSettings(webhook_url=url, webhook_secret="hush", retry_after_s=(10,))
    from pathlib import Path

    channels = channels_of(settings, Path("unused"))
    put(world)
    sender = NoticeDispatcher(
        world.store, channels, lambda p, a: PEOPLE.get(p), world.clock, settings, wait_real_s=10.0
    )
    sender.step()
    world.clock.advance(10)
    sender.step()
    assert world.rows(notice)[0]["state"] == "sent"
    assert len(seen) == 2
    headers, body, unix_s = seen[1]
    assert authentic(b"hush", {HEADER: headers[HEADER]}, body, unix_s)
    assert headers["Idempotency-Key"] == "k1"


@pytest.fixture
def httpserver_like():
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from config.clock import RealClock

    seen, statuses = [], []

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((dict(self.headers), body, RealClock().now_s()))
            self.send_response(statuses.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Sink)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield seen, f"http://127.0.0.1:{server.server_address[1]}/", statuses
    server.shutdown()
    thread.join(10)
    server.server_close()
