"""I/O: the archive: immutable Parquet files of whole records, per partition and offset range.

    <root>/<partition>/<first>-<last>.parquet      offset, kind, received_at_s, source, stream, sequence, detail, body

A file is written beside its place, synced, renamed, and the folder synced; only then is it returned, and only
what the ledger then names counts. A file that a kill left unnamed is written again under its own or another
name, and `sweep` removes it. The log is pruned below what both ledger and archive have.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from config.settings import ArchiveSettings
from config.steps import reach
from ingest.wire import decode_frames
from rating.readings import READING_COLUMNS, ReadingLog, Record, RecordKind, StoredRecord

DAY_S: Final = 86_400
ARCHIVE_SCHEMA: Final = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("kind", pa.uint8(), nullable=False),
        pa.field("received_at_s", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("body", pa.binary(), nullable=False),
    ]
)
_FILE_BYTES_MAX: Final = 256 << 20  # of bodies in one file
_PAGE_BYTES: Final = 1 << 20  # of bodies in one page, or a record where that is larger
_READ_BYTES: Final = 4 << 20  # of bodies in memory at once
_DAYS_AT_ONCE: Final = 256  # bodies
_READ_AT: Final = list(READING_COLUMNS).index("read_at_s")


class ArchiveDamaged(Exception):
    """A named file is missing, or is not what was written; waiting does not help."""

    retriable = False


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One durable file, as a row of ledger.schema.archive_file. Days are UTC day numbers of readings inside."""

    partition: int
    first_offset: int
    last_offset: int
    path: str  # relative to the archive's root
    digest: str  # sha256 of the file
    day_first: int
    day_last: int


class Archiver:
    """Writes and prunes; who commits the rows and knows the ledger's offset is the caller."""

    def __init__(self, log: ReadingLog, root: Path, settings: ArchiveSettings) -> None:
        self._log = log
        self._root = root
        self._settings = settings

    def write_due(self, partition: int, after_offset: int, now_s: int, *, force: bool = False) -> ArchiveFile | None:
        """The next file after what is archived, when it would be full, or its first record is old, or by `force`."""
        _, last = self._log.bounds(partition)
        waiting = last - after_offset
        if waiting <= 0:
            return None
        if waiting < self._settings.records_per_file and not force:
            first = self._log.read(partition, after_offset, 1)
            if not first or now_s - first[0].record.received_at_s < self._settings.age_max_s:
                return None
        records = _cut(self._log.read(partition, after_offset, self._settings.records_per_file))
        if records[0].offset != after_offset + 1:
            raise ArchiveDamaged(
                f"partition {partition}: the log begins at {records[0].offset}, not {after_offset + 1}"
            )
        return write_archive(self._root, partition, records)

    def prune(self, partition: int, ledger_offset: int, archived_offset: int) -> int:
        """Delete from the log what ledger and archive both have, save the last `keep_records`; first kept."""
        first, _ = self._log.bounds(partition)
        below = min(ledger_offset, archived_offset) + 1 - self._settings.keep_records
        if not self._settings.prune_log or below <= first:
            return first
        self._log.prune(partition, below)
        reach("archive.pruned")
        return below

    def sweep(self, named: Iterable[str]) -> list[str]:
        """Remove files that no row names (left by a kill between file and row); call before writing."""
        keep = set(named)
        removed = []
        for path in sorted(self._root.glob("*/*")):
            relative = path.relative_to(self._root).as_posix()
            if relative not in keep and path.suffix in (".parquet", ".part"):
                path.unlink()
                removed.append(relative)
        return removed


def _cut(records: list[StoredRecord]) -> list[StoredRecord]:
    """As many as fit one file."""
    size = 0
    for count, stored in enumerate(records):
        size += len(stored.record.body)
        if size > _FILE_BYTES_MAX and count:
            return records[:count]
    return records


def _days(records: list[StoredRecord]) -> tuple[int, int]:
    """First and last UTC day of the readings; without readings, of the records' arrival."""
    bodies = [stored.record.body for stored in records if stored.record.kind is RecordKind.READINGS]
    pieces = (_read_at_s(bodies[at : at + _DAYS_AT_ONCE]) for at in range(0, len(bodies), _DAYS_AT_ONCE))
    spans = [(int(times.min()), int(times.max())) for times in pieces if len(times)]
    if not spans:
        arrived = [stored.record.received_at_s for stored in records]
        spans = [(min(arrived), max(arrived))]
    return min(a for a, _ in spans) // DAY_S, max(b for _, b in spans) // DAY_S


def _read_at_s(bodies: list[bytes]) -> npt.NDArray[np.uint32]:
    """The column of times of all of them."""
    frames = decode_frames(bodies)
    before = np.cumsum(frames.rows) - frames.rows
    place = np.repeat(frames.starts[:, _READ_AT] // 4 - before, frames.rows)
    return frames.data.view(np.uint32)[place + np.arange(len(place))]


def _columns(records: list[StoredRecord]) -> list[Any]:
    offsets, whole = zip(*records, strict=True)
    columns = dict(zip(Record._fields, zip(*whole, strict=True), strict=True)) | {"offset": offsets}
    return [pa.array(columns[field.name], field.type) for field in ARCHIVE_SCHEMA]


def write_archive(root: Path, partition: int, records: list[StoredRecord]) -> ArchiveFile:
    """Make one durable file of consecutive records (at least one)."""
    first, last = records[0].offset, records[-1].offset
    assert last - first + 1 == len(records), "an archive file has no holes"
    path = root / str(partition) / f"{first}-{last}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    table = pa.Table.from_arrays(_columns(records), schema=ARCHIVE_SCHEMA)
    # A page ends after a batch of values at the earliest: by the default of 1,024 all frames would be one page, and a
    # reader must hold a page whole.
    batch = max(1, min(1024, _PAGE_BYTES * len(records) // max(1, sum(len(s.record.body) for s in records))))
    written = {"compression": "zstd", "use_dictionary": ["source", "stream", "detail"], "write_batch_size": batch}
    pq.write_table(table, part, **written)
    digest = hashlib.sha256()
    with part.open("rb+") as file:
        while block := file.read(1 << 20):
            digest.update(block)
        os.fsync(file.fileno())
    part.replace(path)
    for folder in (path.parent, root):
        _sync_folder(folder)
    reach("archive.file_written")
    return ArchiveFile(partition, first, last, path.relative_to(root).as_posix(), digest.hexdigest(), *_days(records))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_archive(path: Path, *, digest: str | None = None) -> list[StoredRecord]:
    """The records of a file, verbatim; `ArchiveDamaged` when it is not readable or not the one with `digest`."""
    return [stored for some in stream_archive(path, digest=digest) for stored in some]


def stream_archive(path: Path, *, digest: str | None = None) -> Iterator[list[StoredRecord]]:
    """The same, some records at a time: a few megabytes of bodies at once, whatever the file holds."""
    try:
        if digest is not None:
            with path.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
            if found != digest:
                raise ArchiveDamaged(f"{path}: not the bytes that were written")
        with pq.ParquetFile(path, buffer_size=_PAGE_BYTES, pre_buffer=False) as file:
            if [(f.name, f.type) for f in file.schema_arrow] != [(f.name, f.type) for f in ARCHIVE_SCHEMA]:
                raise ArchiveDamaged(f"{path}: not the columns of an archive")
            for batch in file.iter_batches(_records_at_once(file.metadata), use_threads=False):
                yield _records(int(path.parent.name), batch)
    except (OSError, pa.ArrowException) as error:
        raise ArchiveDamaged(f"{path}: {error}") from error


def _records_at_once(metadata: Any) -> int:
    """How many records of usual size make `_READ_BYTES`."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    size = sum(group.column(ARCHIVE_SCHEMA.names.index("body")).total_uncompressed_size for group in groups)
    return max(1, int(_READ_BYTES * metadata.num_rows // max(1, size)))


def _records(partition: int, batch: Any) -> list[StoredRecord]:
    rows = zip(*(batch.column(name).to_pylist() for name in ARCHIVE_SCHEMA.names), strict=True)
    return [
        StoredRecord(offset, Record(RecordKind(kind), partition, at, source, stream, sequence, body, detail))
        for offset, kind, at, source, stream, sequence, detail, body in rows
    ]
