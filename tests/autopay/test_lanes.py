"""Deliveries: each address once, one that is down holds up no other, a death repeats at most what was in the hand."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest
from sqlalchemy import event, select

import autopay.outbox as outbox_module
from autopay.channels import AppriseChannel, ChannelFailed, FileChannel
from autopay.notices import Party
from autopay.outbox import NoticeDispatcher
from autopay.records import add_notice
from config.settings import NoticeSettings
from ledger.schema import notice, notice_delivery, notice_lane


class Post:
    """A channel with several addresses, some of which are down or slow."""

    def __init__(self, name, *addresses, down=(), slow_real_s=0.0):
        self.name, self.all, self.down, self.slow_real_s = name, addresses, set(down), slow_real_s
        self.sent, self.tried = [], []

    def addresses(self, party):
        return self.all

    def send(self, message, address):
        self.tried.append((message.key, address))
        if address in self.down:
            time.sleep(self.slow_real_s)
            raise ChannelFailed(f"{self.name}: down")
        self.sent.append((message.key, address))

    def close(self):
        pass


def sender_of(world, *channels, wait_real_s=10.0, **settings):
    someone = Party("someone", "Someone", "en")
    return NoticeDispatcher(
        world.store, channels, lambda party, account: someone, world.clock, NoticeSettings(**settings),
        wait_real_s=wait_real_s,
    )  # fmt: skip


def put(world, count, first=0):
    def work(connection):
        for number in range(first, first + count):
            add_notice(connection, f"k{number:03d}", "charged", "p", "a1", {"amount_fen": 1}, world.clock.now_s())

    world.store.write(work)


def states(world):
    return [row["state"] for row in world.rows(notice)]


def test_who_was_reached_is_not_told_again_because_another_was_not(world):
    post = Post("apprise", "operator", "daughter", down=["operator"])
    put(world, 1)
    sender = sender_of(world, post, retry_after_s=(10,), attempts_max=4)
    for _ in range(6):
        sender.step()
        world.clock.advance(10)
    assert post.sent == [("k000", "daughter")]
    assert post.tried.count(("k000", "operator")) == 4
    assert states(world) == ["failed"]
    assert [row["state"] for row in world.rows(notice_delivery)].count("sent") == 1


def test_what_was_delivered_is_known_after_a_restart(world):
    post = Post("apprise", "operator", "daughter", down=["operator"])
    put(world, 1)
    sender_of(world, post, retry_after_s=(10,)).step()
    post.down.clear()
    world.clock.advance(10)
    sender_of(world, post, retry_after_s=(10,)).step()
    assert sorted(post.sent) == [("k000", "daughter"), ("k000", "operator")]
    assert states(world) == ["sent"]


def test_a_dead_address_costs_one_try_a_pass_and_then_rests(world, beats):
    dead = Post("webhook", "", down=[""], slow_real_s=0.2)
    file = Post("file", "")
    put(world, 64)
    sender = sender_of(world, dead, file, retry_after_s=(10, 60))
    with beats.fewer_than(3.0):
        for _ in range(4):
            sender.step()
    assert len(file.sent) == 64
    assert len(dead.tried) == 1
    world.clock.advance(10)
    sender.step()
    sender.step()
    assert len(dead.tried) == 2  # it rests longer now
    dead.down.clear()
    world.clock.advance(60)
    for _ in range(10):
        sender.step()
        world.clock.advance(60)
    assert sorted(dead.sent) == [(f"k{number:03d}", "") for number in range(64)]
    assert states(world) == ["sent"] * 64


def test_a_lane_is_served_oldest_first(world):
    post = Post("webhook", "")
    put(world, 40)
    sender = sender_of(world, post)
    for _ in range(3):
        sender.step()
    assert [key for key, _ in post.sent] == [f"k{number:03d}" for number in range(40)]


def test_death_repeats_only_what_was_in_the_hand(world, monkeypatch):
    class Died(BaseException):
        pass

    passed = []

    def reach(step):
        passed.append(step)
        if passed.count("notice.sent") == 20:
            raise Died

    post = Post("webhook", "")
    put(world, 30)
    monkeypatch.setattr(outbox_module, "reach", reach)
    with pytest.raises(Died):
        sender_of(world, post).step()
    monkeypatch.undo()
    heir = sender_of(world, post)
    heir.step()
    again = [key for key, _ in post.sent if post.sent.count((key, "")) > 1]
    assert len(post.sent) == 31
    assert set(again) == {"k019"}


def test_what_hangs_in_one_channel_holds_up_no_other_and_stop_returns(world, beats):
    let_go = threading.Event()

    class Hung(Post):
        def send(self, message, address):
            self.tried.append(address)
            let_go.wait(30)
            raise ChannelFailed("let go")

    hung, file = Hung("apprise", *[f"u{number}" for number in range(10)]), Post("file", "")
    put(world, 5)
    sender = sender_of(world, hung, file, wait_real_s=0.3)
    for _ in range(3):
        sender.step()
    assert len(file.sent) == 5
    assert len(hung.tried) == 4  # its own threads, no more
    put(world, 5, first=5)
    for _ in range(3):
        sender.step()
    assert len(file.sent) == 10
    threading.Timer(0.1, let_go.set).start()
    with beats.fewer_than(2.5):
        sender.stop(2.0)


def test_an_address_that_was_changed_is_no_longer_written_to(world):
    post = Post("apprise", "old", "operator", down=["old"])
    put(world, 1)
    sender = sender_of(world, post, retry_after_s=(10,))
    sender.step()
    post.all = ("operator",)
    world.clock.advance(10)
    sender.step()
    assert states(world) == ["sent"]
    assert post.tried.count(("k000", "old")) == 1


def test_passwords_in_addresses_are_not_stored(world):
    post = Post("apprise", "mailto://user:secret@example.org")
    put(world, 1)
    sender_of(world, post).step()
    assert "secret" not in str(world.rows(notice_delivery)) + str(world.rows(notice_lane))


def test_a_clock_set_back_leaves_no_lane_behind(world):
    post = Post("webhook", "")
    put(world, 1)
    world.clock.advance(-400 * 86_400)
    sender_of(world, post).step()
    assert len(post.sent) == 1


def test_apprise_tells_each_url_by_itself(world):
    from http.server import BaseHTTPRequestHandler, HTTPServer

    got = []

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Sink)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    channel = AppriseChannel(("json://127.0.0.1:1", f"json://127.0.0.1:{server.server_port}"))
    put(world, 1)
    sender = sender_of(world, channel, retry_after_s=(10,))
    for _ in range(4):
        sender.step()
        world.clock.advance(10)
    server.shutdown()
    thread.join(10)
    server.server_close()
    assert len(got) == 1


def test_the_work_is_found_by_index(world, tmp_path):
    put(world, 2)
    sender_of(world, FileChannel(tmp_path / "n")).step()
    with world.store.reader() as connection:
        fresh = "SELECT * FROM notice WHERE state = 'pending' AND deliveries IS NULL AND template"
        for query, index in (
            (f"{fresh} <> 'low_balance' ORDER BY id", "ix_notice_fresh_money"),
            (f"{fresh} = 'low_balance' ORDER BY id", "ix_notice_fresh_bulk"),
            (
                "SELECT * FROM notice WHERE state = 'pending' AND template = 'low_balance' AND account IN ('a', 'b')",
                "ix_notice_bulk (account=?)",
            ),
        ):
            assert index in str(connection.exec_driver_sql("EXPLAIN QUERY PLAN " + query).all())
        assert connection.scalar(select(notice_lane.c.next_at_s)) is None  # nothing is left to send


def test_every_statement_of_a_pass_uses_an_index(world):
    """As they are made, and none sorts or walks through all lanes or deliveries."""
    said: dict[str, tuple] = {}
    post = Post("webhook", "")
    sender = sender_of(world, post, retry_after_s=(10,))

    def hear(connection, cursor, statement, parameters, context, many):
        if statement.startswith(("SELECT", "UPDATE")):
            said.setdefault(statement, parameters[0] if many else parameters)

    event.listen(world.store.engine, "before_cursor_execute", hear)
    for number in range(3):
        put(world, 2, first=2 * number)
        low = partial(add_notice, key=f"low{number}", template="low_balance", party="", account="a1")
        world.store.write(partial(low, params={"balance_fen": 1}, now_s=world.clock.now_s()))
        post.down = {""} if number == 1 else set()
        for _ in range(2):
            sender.step()
        world.clock.advance(10)
    event.remove(world.store.engine, "before_cursor_execute", hear)
    of_rows = {sql: values for sql, values in said.items() if "notice_lane" in sql or "notice_delivery" in sql}
    assert len(of_rows) >= 10
    with world.store.reader() as connection:
        for sql, values in of_rows.items():
            plan = [row[3] for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + sql, values)]
            assert not [step for step in plan if "SCAN notice_" in step or "TEMP B-TREE" in step], (sql, plan)
        plans = str(
            [connection.exec_driver_sql("EXPLAIN QUERY PLAN " + sql, values).all() for sql, values in of_rows.items()]
        )
    assert "ix_notice_lane_due (channel=? AND rank=? AND next_at_s<?)" in plans
    assert "ix_notice_delivery_open (lane=? AND rank=?)" in plans
