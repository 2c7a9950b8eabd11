"""A ledger whose old checkpoint rows went: it replays to the same bytes, audits to zero, and goes on from audits."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import delete, func, select, update

from audit.run import StateMissing, audit
from audit.saved import checkpoints
from config.settings import Paths
from ledger.backup import backup, restore
from ledger.schema import checkpoint, event, thinned_page
from meterd.metrics import Metrics
from meterd.replay import replay
from meterd.thinning import ThinPass
from rating.readings import Record, RecordKind

KEEP_S = 6 * 3600
METER = "440100000001"
ZONE = ZoneInfo("Asia/Shanghai")
START_S = int(datetime(2026, 7, 1, 0, 5, tzinfo=ZONE).timestamp())


def local(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, ZONE).strftime("%Y-%m-%dT%H:%M")


def tick(village: Any, at_s: int) -> None:
    for engine in village.engines:  # as ingest does
        engine.apply(village.log.append([Record(RecordKind.TICK, engine.partition, at_s, "", "", -1, b"")]))
    village.checkpoint()


@pytest.fixture
def street(own_village: Any) -> Any:
    """A day, a checkpoint of both partitions every twenty minutes, the last of them not of its hour.

    In one hour account a1 falls low and is topped up again.
    """
    made = own_village
    made.clock.set(START_S)
    made.activate_registry(made.import_())
    value, topped_up = 1_000_730, False
    for at_s in range(START_S + 1200, START_S + 23 * 3600 + 1201, 1200):
        made.clock.set(at_s)
        value += 3_000
        made.read([(METER, value, local(at_s))])
        tick(made, at_s)
        if low(made) and not topped_up:
            topped_up = True
            tick(made, at_s + 60)  # a later row of the hour, so that the one before may go
            made.submit("credit", "cash", {"account": "a1", "amount_fen": 20_000, "gateway": "counter"}, made.home)
    assert topped_up
    return made


def low(village: Any) -> int:
    asked = select(func.count()).select_from(event).where(event.c.kind == "low_balance", event.c.account == "a1")
    with village.store.reader() as connection:
        return int(connection.execute(asked).scalar_one())


def rows(village: Any) -> int:
    with village.store.reader() as connection:
        return int(connection.execute(select(func.count()).select_from(checkpoint)).scalar_one())


def thin(village: Any, keep_s: int = KEEP_S) -> int:
    passes = ThinPass(village.store, village.settings.data_dir, keep_s, Metrics(CollectorRegistry()))
    return sum(passes.step() for _ in range(20))


@pytest.mark.parametrize("batch", [1, 64])
def test_a_replay_judges_where_the_rows_stood_that_went(street: Any, batch: int) -> None:
    before, whole = rows(street), replay(street.settings, batch=batch)
    assert [r.differences for r in whole] == [(), ()]
    gone = thin(street)
    assert gone > before // 3
    assert rows(street) == before - gone
    assert replay(street.settings, batch=batch) == whole  # as many checkpoints, too
    street.store.write(lambda c: c.execute(delete(thinned_page)))
    (found,) = [r for r in replay(street.settings, batch=batch) if r.differences]
    assert "state array account" in found.differences  # low and topped up between two rows: nobody saw it


def test_a_backup_brings_the_marks_along(street: Any, tmp_path: Path) -> None:
    thin(street)
    safe, there = tmp_path / "safe", Paths(tmp_path / "there")
    backup(street.paths, safe, clock=street.clock)
    restore(safe, there, clock=street.clock)
    settings = street.settings.model_copy(update={"data_dir": there.root})
    assert replay(settings) == replay(street.settings)
    assert [r.differences for r in replay(settings)] == [(), ()]
    assert audit(there.root).differences == []


def test_0_keeps_all(street: Any) -> None:
    before = rows(street)
    assert thin(street, 0) == 0
    assert rows(street) == before


def test_an_audit_finds_nothing_and_notices_marks_that_were_changed(street: Any) -> None:
    thin(street)
    assert audit(street.settings.data_dir).differences == []
    street.store.write(lambda c: c.execute(update(thinned_page).values(body=b"x")))
    (told,) = audit(street.settings.data_dir).differences
    assert (told.component, told.note.split(" up to ")[0]) == ("checkpoint", "marks of checkpoints")


def later(village: Any, hours: int) -> None:
    start_s = village.engines[village.home].as_of_s
    for step in range(1, 3 * hours + 1):
        tick(village, start_s + 1200 * step)


def test_a_kept_audit_is_gone_on_from_over_rows_that_went(street: Any) -> None:
    data_dir = street.settings.data_dir
    assert audit(data_dir).ok
    held = checkpoints(data_dir)
    later(street, 20)
    assert thin(street) > 0
    with street.store.reader() as connection:
        kept = set(connection.execute(select(checkpoint.c.id)).scalars())
    assert held
    assert held <= kept
    assert audit(data_dir, since="last").differences == []


def test_going_on_from_a_row_that_went_is_refused_with_what_to_do(street: Any, told: Any, tmp_path: Path) -> None:
    """An audit that was kept elsewhere while rows went, and is put back."""
    data_dir = street.settings.data_dir
    assert audit(data_dir).ok
    shutil.move(data_dir / "audit", tmp_path / "elsewhere")
    later(street, 20)
    thin(street)
    shutil.move(tmp_path / "elsewhere", data_dir / "audit")
    with pytest.raises(StateMissing, match=r"no checkpoint \d+ any more: audit without --since"):
        audit(data_dir, since="last")
    code, _, error = told("audit", "--since", "last", "--jobs", "1", json_=False, config=street.config)
    assert code == 2
    assert "any more: audit without --since" in error
    assert told("audit", "--jobs", "1", config=street.config)[0] == 0


@pytest.mark.parametrize("text", ["", "no json", '["position", {}]\n', '["position", {"checkpoint": "?"}]\n', "7\n"])
def test_a_damaged_part_of_an_audit_holds_nothing(tmp_path: Path, text: str) -> None:
    for name, line in (("3", text), ("4", '["position", {"checkpoint": 4}]\n')):
        folder = tmp_path / "audit" / name
        folder.mkdir(parents=True)
        (folder / "audit.json").write_text("{}")
        (folder / "0.jsonl").write_text(line)
    assert checkpoints(tmp_path) == {4}
