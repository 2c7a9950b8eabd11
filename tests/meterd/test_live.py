"""Live balances for autopay: what account_state says, for many at once, and on what they rest."""

from __future__ import annotations

from typing import Any

from ledger import reads
from meterd.live import LiveBalances
from rating.readings import RecordKind
from rating.state import ARRAYS


def test_live_balances_are_those_of_the_account_pages(village: Any) -> None:
    lives = LiveBalances(lambda: village.city)
    with village.store.reader() as connection:
        found = lives(connection, ["a1", "a2", "a3", "nobody"])
        assert sorted(found) == ["a1", "a2", "a3"]
        for account, live in found.items():
            partition, slot = village.registry().find_account(account)
            whole = reads.balances(connection, partition, ARRAYS)
            assert live.balance_fen == int(whole.live_fen[slot])
            assert live.open
            assert not live.estimated
        assert lives(connection, []) == {}
        assert LiveBalances(lambda: None)(connection, ["a1"]) == {}


def test_a_balance_that_rests_on_an_estimate_says_so(village: Any) -> None:
    from registry.address import address

    part = village.engines[village.home].part
    (slot,) = [i for i, m in enumerate(part.image.channels["meter"]) if int(m) == address("440100000002")]
    value = int(part.channel["value"][slot])
    village.read([("440100000002", value + 1000, "2026-08-12T12:59")], received="2026-08-12T13:00", quality=1)
    village.checkpoint()
    with village.store.reader() as connection:
        found = LiveBalances(lambda: village.city)(connection, ["a1", "a2"])
    assert (found["a1"].estimated, found["a2"].estimated) == (False, True)


def test_a_span_that_is_over_rests_on_nothing(village: Any) -> None:
    """As the judge of triggers has it: its last register may be an estimate for ever, and charges nothing now."""
    from registry.address import address

    part = village.engines[village.home].part
    (slot,) = [i for i, m in enumerate(part.image.channels["meter"]) if int(m) == address("440100000002")]
    value, at_s = int(part.channel["value"][slot]), int(part.channel["at_s"][slot])
    village.read([("440100000002", value + 1000, "2026-08-12T12:59")], received="2026-08-12T13:00", quality=1)
    for until_s, estimated in ((at_s + 1, False), (2**32 - 1, True)):
        part.channel["until_s"][slot] = until_s
        part.dirty_channel[slot] = 1
        village.record(RecordKind.TICK, village.engines[village.home].as_of_s + 1)
        village.checkpoint()
        with village.store.reader() as connection:
            found = LiveBalances(lambda: village.city)(connection, ["a2"])
        assert found["a2"].estimated == estimated, until_s


def test_a_slot_that_no_checkpoint_has_stored_is_left_out(village: Any) -> None:
    with village.store.reader() as connection:
        wanted = {0: [0], 900: [901], 5000: [0]}
        assert list(reads.account_rows(connection, village.home, wanted, ARRAYS)) == [0]
