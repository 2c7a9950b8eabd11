"""A batch is one sync and a few transactions, and told once, wherever a process dies."""

from __future__ import annotations

import pytest

import autopay.channels as channels_module
from autopay.channels import FileChannel
from autopay.notices import Party
from autopay.outbox import HAND_MAX
from ledger.schema import notice, notice_delivery, notice_lane
from tests.autopay.telling import Died, alerts, die_at, forget_after_fan_out, keys_of, put, sender_of, step_until_told


def test_a_batch_is_one_sync_and_a_few_transactions(world, tmp_path, monkeypatch):
    syncs, writes = [], []
    real_sync, real_write = channels_module.os.fsync, world.store.write
    put(world, *alerts(HAND_MAX))
    monkeypatch.setattr(channels_module.os, "fsync", lambda file: [syncs.append(file), real_sync(file)])
    monkeypatch.setattr(world.store, "write", lambda work: [writes.append(work), real_write(work)][1])
    sender_of(world, FileChannel(tmp_path / "n")).step()
    assert len(keys_of(tmp_path / "n")) == HAND_MAX
    assert len(syncs) == 1
    assert len(writes) == 3  # fanned out; marked; the lane rests


def test_death_before_a_batch_has_told_nobody(world, tmp_path, monkeypatch):
    put(world, *alerts(20))
    die_at(monkeypatch, "notice.sending")
    with pytest.raises(Died):
        sender_of(world, FileChannel(tmp_path / "n")).step()
    assert keys_of(tmp_path / "n") == []
    assert {row["state"] for row in world.rows(notice_delivery)} == {"pending"}


def test_death_after_a_batch_repeats_none_of_it_whatever_comes_first_then(world, tmp_path, monkeypatch):
    put(world, *alerts(HAND_MAX))
    die_at(monkeypatch, "notice.sent")
    with pytest.raises(Died):
        sender_of(world, FileChannel(tmp_path / "n")).step()
    monkeypatch.undo()
    assert keys_of(tmp_path / "n") == alerts(HAND_MAX)
    assert {row["state"] for row in world.rows(notice)} == {"pending"}  # it is out, and the database does not know
    charged = [f"charged{number:04d}" for number in range(HAND_MAX)]
    put(world, *charged, template="charged")
    step_until_told(world, sender_of(world, FileChannel(tmp_path / "n")))
    assert keys_of(tmp_path / "n") == alerts(HAND_MAX) + charged


def test_a_start_marks_what_is_out_before_it_sends_anything(world, tmp_path, monkeypatch):
    """Else a second death would find it further up in the file than the tail goes."""
    put(world, *alerts(HAND_MAX))
    die_at(monkeypatch, "notice.sent")
    with pytest.raises(Died):
        sender_of(world, FileChannel(tmp_path / "n")).step()
    put(world, *(f"charged{number:04d}" for number in range(HAND_MAX)), template="charged")
    die_at(monkeypatch, "notice.sending")
    with pytest.raises(Died):
        sender_of(world, FileChannel(tmp_path / "n")).step()
    assert {row["key"] for row in world.rows(notice, notice.c.state == "sent")} == set(alerts(HAND_MAX))


def test_a_batch_that_a_crash_tore_is_completed(world, tmp_path, monkeypatch):
    path = tmp_path / "n"
    put(world, *alerts(50))
    die_at(monkeypatch, "notice.sent")
    with pytest.raises(Died):
        sender_of(world, FileChannel(path)).step()
    monkeypatch.undo()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    step_until_told(world, sender_of(world, FileChannel(path)))
    assert path.read_bytes() == whole


def test_a_batch_that_failed_counts_as_one_try_of_its_first(world, tmp_path, monkeypatch):
    """A disk that is full for a night must not use up the tries of everybody who waits."""
    path, real, broken = tmp_path / "n", channels_module.os.fsync, [True] * 3

    def sync(number):
        if broken:
            broken.pop()
            raise OSError(28, "No space left on device")
        real(number)

    monkeypatch.setattr(channels_module.os, "fsync", sync)
    put(world, *alerts(20))
    sender = sender_of(world, FileChannel(path), retry_after_s=(10,))
    for _ in range(3):
        sender.step()
        assert path.read_bytes() == b""
        world.clock.advance(10)
    assert sum(row["attempts"] for row in world.rows(notice_delivery)) == 3
    step_until_told(world, sender)
    assert sorted(keys_of(path)) == alerts(20)


def test_what_is_written_at_once_stays_well_within_the_tail(world, tmp_path, monkeypatch):
    monkeypatch.setattr(channels_module, "WRITE_BYTES", 1000)
    written, real = [], channels_module.os.write
    monkeypatch.setattr(
        channels_module.os, "write", lambda file, data: [written.append(len(data)), real(file, data)][1]
    )
    put(world, *alerts(30))
    step_until_told(world, sender_of(world, FileChannel(tmp_path / "n")))
    assert keys_of(tmp_path / "n") == alerts(30)
    assert len(written) > 3
    assert max(written) <= 1000


def test_one_message_longer_than_that_goes_out_all_the_same(world, tmp_path, monkeypatch):
    monkeypatch.setattr(channels_module, "WRITE_BYTES", 10)
    put(world, *alerts(3))
    step_until_told(world, sender_of(world, FileChannel(tmp_path / "n")))
    assert keys_of(tmp_path / "n") == alerts(3)


def test_who_is_gone_in_the_middle_of_a_batch_holds_back_nobody(world, tmp_path):
    """Nobody before and nobody behind, and the file is no less healthy for it."""
    gone, path = set(), tmp_path / "n"
    someone = Party("someone", "Someone", "en")
    put(world, *alerts(10))
    sender = sender_of(
        world, FileChannel(path), who=lambda _, account: None if account in gone else someone, retry_after_s=(10,)
    )
    forget_after_fan_out(sender, gone, "of-low0005")
    sender.step()
    assert keys_of(path) == [key for key in alerts(10) if key != "low0005"]
    assert [row["failures"] for row in world.rows(notice_lane)] == [0]
    put(world, "charged", template="charged")
    sender.step()
    assert keys_of(path)[-1] == "charged"
    world.clock.advance(10)
    gone.clear()
    step_until_told(world, sender)
    assert sorted(keys_of(path)) == sorted([*alerts(10), "charged"])
