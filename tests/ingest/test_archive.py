"""Archive files hold every record verbatim; pruning keeps what ledger or archive still need."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from config.settings import ArchiveSettings
from ingest.archive import ArchiveDamaged, Archiver, read_archive, stream_archive, write_archive
from ingest.log_memory import MemoryLog
from ingest.wire import encode_readings
from rating.readings import RecordKind, StoredRecord

NOON_S = 1_782_864_000
DAY = NOON_S // 86_400


@pytest.fixture
def log(record, readings):
    log = MemoryLog("id")
    for n in range(10):
        log.append([record(2, encode_readings(readings(5, at_s=NOON_S + (n - 3) * 86_400)), sequence=n + 1)])
    log.append([record(2, b"", kind=RecordKind.TICK, source="", stream="", sequence=-1)])
    log.append([record(2, b"\x00{", kind=RecordKind.REJECT, detail="malformed: 空")])
    return log


def archiver(log, root, **settings):
    return Archiver(log, root, ArchiveSettings(**{"records_per_file": 4, "keep_records": 2, **settings}))


def test_files_hold_the_records_verbatim(log, tmp_path):
    writer = archiver(log, tmp_path)
    files, after = [], 0
    while (file := writer.write_due(2, after, NOON_S)) is not None:
        files.append(file)
        after = file.last_offset
    assert [(f.first_offset, f.last_offset, f.path) for f in files] == [
        (1, 4, "2/1-4.parquet"),
        (5, 8, "2/5-8.parquet"),
        (9, 12, "2/9-12.parquet"),
    ]
    assert [(f.day_first - DAY, f.day_last - DAY) for f in files] == [(-3, 0), (1, 4), (5, 6)]
    found = [stored for f in files for stored in read_archive(tmp_path / f.path, digest=f.digest)]
    assert found == log.read(2, 0, 100)
    assert not list(tmp_path.glob("*/*.part"))


def test_days_are_those_of_the_readings_however_many_a_record_has(record, readings, tmp_path):
    """More records than are looked at together, the first and the last day in records of their own."""
    days = [0] * 300
    days[7], days[290] = -5, 9
    sizes = [1 + n % 13 for n in range(300)]
    bodies = [
        encode_readings(readings(size, at_s=NOON_S + day * 86_400)) for size, day in zip(sizes, days, strict=True)
    ]
    one_late = readings(13, at_s=NOON_S)
    one_late.read_at_s[12] = NOON_S + 20 * 86_400
    log = MemoryLog("id")
    for body in bodies:
        log.append([record(2, body)])
    found = write_archive(tmp_path / "a", 2, log.read(2, 0, 300))
    assert (found.day_first - DAY, found.day_last - DAY) == (-5, 9)
    log.append([record(2, encode_readings(one_late))])
    found = write_archive(tmp_path / "b", 2, log.read(2, 0, 301))
    assert found.day_last - DAY == 20


def test_columns_are_readable_without_us(log, tmp_path):
    archiver(log, tmp_path).write_due(2, 0, NOON_S)
    table = pq.read_table(tmp_path / "2" / "1-4.parquet", partitioning=None)
    assert table.column_names == ["offset", "kind", "received_at_s", "source", "stream", "sequence", "detail", "body"]
    assert table["offset"].to_pylist() == [1, 2, 3, 4]


def test_a_part_file_waits_for_age_or_force(log, tmp_path):
    writer = archiver(log, tmp_path, records_per_file=100, age_max_s=3600)
    assert writer.write_due(2, 0, NOON_S + 3599) is None
    assert writer.write_due(2, 12, NOON_S + 9999) is None
    file = writer.write_due(2, 0, NOON_S + 3600)
    assert file is not None
    assert file.last_offset == 12
    assert writer.write_due(2, 4, NOON_S, force=True) is not None


@pytest.mark.parametrize(
    ("ledger", "archived", "first"), [(12, 12, 11), (12, 8, 7), (5, 12, 4), (0, 12, 1), (12, 0, 1), (2, 2, 1)]
)
def test_pruning_stays_below_ledger_and_archive(log, tmp_path, ledger, archived, first):
    assert archiver(log, tmp_path).prune(2, ledger, archived) == first
    assert log.bounds(2) == (first, 12)


def test_pruning_can_be_switched_off(log, tmp_path):
    assert archiver(log, tmp_path, prune_log=False).prune(2, 12, 12) == 1


def test_a_damaged_or_missing_file_is_noticed(log, tmp_path):
    file = archiver(log, tmp_path).write_due(2, 0, NOON_S)
    path = tmp_path / file.path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveDamaged):
        read_archive(path, digest=file.digest)
    path.unlink()
    with pytest.raises(ArchiveDamaged):
        read_archive(path)


def test_what_a_kill_left_unnamed_is_swept_and_written_again(log, tmp_path):
    writer = archiver(log, tmp_path)
    named = writer.write_due(2, 0, NOON_S)
    orphan = writer.write_due(2, 4, NOON_S)
    (tmp_path / "2" / "9-12.part").write_bytes(b"half")
    assert writer.sweep([named.path]) == ["2/5-8.parquet", "2/9-12.part"]
    assert writer.write_due(2, 4, NOON_S).digest == orphan.digest


def test_a_hole_between_archive_and_log_is_refused(log, tmp_path):
    log.prune(2, 6)
    with pytest.raises(ArchiveDamaged):
        archiver(log, tmp_path).write_due(2, 0, NOON_S)


def test_a_large_file_is_read_some_megabytes_at_a_time(record, tmp_path):
    records = [
        StoredRecord(n, record(2, os.urandom(400_000), kind=RecordKind.REJECT, detail="malformed: x"))
        for n in range(1, 151)
    ]
    file = write_archive(tmp_path, 2, records)
    before, most, found = pa.total_allocated_bytes(), 0, []
    for some in stream_archive(tmp_path / file.path, digest=file.digest):
        most = max(most, pa.total_allocated_bytes() - before)
        assert sum(len(stored.record.body) for stored in some) <= 4 << 20
        found += some
    assert found == records
    assert most < 30 << 20  # of 60 MB: no page holds them all


def test_other_columns_are_no_archive(tmp_path):
    path = tmp_path / "2" / "1-1.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"offset": [1], "body": [b""]}), path)
    with pytest.raises(ArchiveDamaged):
        read_archive(path)
