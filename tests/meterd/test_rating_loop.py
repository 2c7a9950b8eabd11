"""When the rating role rates, and when it begins a checkpoint. Log, engines and ledger are counted, not real."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from config.settings import LedgerSettings, RatingSettings, Settings
from meterd.metrics import Metrics
from meterd.rating_loop import RatingLoop

IDLE_S, BUSY_S, BATCH = 0.025, 1.0, 8


class Clock:
    def __init__(self):
        self.real_s = 1000.0

    def monotonic_s(self):
        return self.real_s

    def now_s(self):
        return int(self.real_s)


class Log:
    """So many records of partition 0."""

    log_id = "log"

    def __init__(self):
        self.last, self.reads = 0, 0

    def read(self, partition, after, most):
        self.reads += 1
        assert self.reads < 1000, "the loop does not end"
        return list(range(after + 1, min(after + most, self.last) + 1))


class Engine:
    partition, registry_digest = 0, ""

    def __init__(self):
        self.offset, self.changed, self.passes = 0, False, []

    def apply(self, records):
        self.offset, self.changed = records[-1], True
        self.passes.append(len(records))

    def checkpoint(self, *, epoch, log_id):
        self.changed = False
        return SimpleNamespace(partition=0, offset=self.offset, applied=(), events=(), notices=())


class Commit:
    done = False

    def __init__(self):
        self.calls = []

    def then(self, call):
        self.calls.append(call)

    def result(self):
        self.end()  # whoever asks waits for it

    def again(self):
        raise AssertionError("no commit failed")

    def end(self):
        self.done = True
        while self.calls:
            self.calls.pop()()


class Store:
    """Says that the inbox is empty; keeps what is to be written."""

    def __init__(self):
        self.commits, self.offsets = [], []

    @contextmanager
    def reader(self):
        yield SimpleNamespace(execute=lambda _asked: SimpleNamespace(first=lambda: None))

    def commit_later(self, checkpoints):
        self.offsets += [one.offset for one in checkpoints]
        self.commits.append(Commit())
        return self.commits[-1]


@pytest.fixture
def loop(tmp_path):
    settings = Settings(
        data_dir=tmp_path,
        partitions=1,
        rating=RatingSettings(batch_records_max=BATCH),
        ledger=LedgerSettings(checkpoint_idle_real_s=IDLE_S, checkpoint_busy_real_s=BUSY_S),
    )
    made = RatingLoop(
        settings,
        Store(),
        Log(),
        Clock(),
        Metrics(CollectorRegistry(), partitions=1),
        on_city=lambda _: None,
        on_commit=lambda _: None,
    )
    made.engines.append(Engine())
    made._epochs.append(1)
    return made


def test_readings_that_never_pause_are_committed_as_soon_as_the_log_is_rated_to_its_end(loop):
    """Lone meters: every pass finds something. It is no backlog, so nobody waits for `checkpoint_busy_real_s`."""
    log, store, clock = loop._log_port, loop._store, loop._clock
    for _ in range(8):
        log.last += 3
        clock.real_s += 2 * IDLE_S
        loop.step()
        store.commits[-1].end()
    assert store.offsets == [3, 9, 15, 21]  # each second step sees that the one before has ended


def test_a_backlog_is_rated_first_and_committed_now_and_then(loop):
    log, store, clock = loop._log_port, loop._store, loop._clock
    log.last = 6 * BATCH
    loop.step()  # the first is due at once: nothing was written yet
    store.commits[-1].end()
    for _ in range(4):
        clock.real_s += 2 * IDLE_S
        loop.step()
    assert store.offsets == [BATCH]
    clock.real_s += BUSY_S
    loop.step()
    assert store.offsets == [BATCH, 6 * BATCH]


def test_one_commit_at_a_time_and_rating_goes_on_meanwhile(loop):
    log, store, clock = loop._log_port, loop._store, loop._clock
    log.last = 2
    loop.step()
    log.last = 5
    clock.real_s += BUSY_S
    loop.step()
    assert loop.engines[0].offset == 5
    assert store.offsets == [2]
    store.commits[-1].end()
    loop.step()  # sees that it ended
    clock.real_s += 2 * IDLE_S
    loop.step()
    assert store.offsets == [2, 5]


class Waits:
    """In place of the event that ends a pause: every wait lets time go by and readings come in one by one."""

    def __init__(self, loop, most):
        self.loop, self.left = loop, most

    def clear(self):
        pass

    def set(self):
        pass

    def wait(self, real_s):
        self.loop._clock.real_s += real_s
        for _ in range(5):
            self.loop._log_port.last += 1
            self.loop.wake()
        for commit in self.loop._store.commits:
            commit.end()
        self.left -= 1
        if self.left == 0:
            self.loop._stopping.set()


def test_what_comes_while_a_checkpoint_is_under_way_is_rated_together(loop):
    """Each reading wakes the loop. Rated one by one, a city of lone meters would be all passes over partitions."""
    loop._due = Waits(loop, 6)
    loop._log_port.last = 1
    loop._commit_at_real_s = loop._clock.real_s
    loop._run()
    assert loop.failure is None
    assert loop.engines[0].passes == [1, 5, 5, 5, 5, 5]
