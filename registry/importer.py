"""I/O: a directory of CSV files -> a staged registry version, or every fault and nothing kept.

Files are read one at a time, judged, written as Parquet into a temporary folder, and forgotten but for columns
of integers, so that six million meters fit in two gigabytes. When all is well the folder is made durable and
renamed to its digest; a rename is the only moment at which a version begins to exist.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from registry import devices, layout, people, save, spans
from registry.compile import Tables, compile_tables
from registry.devices import Meters, Openings, Points, Registers
from registry.faults import Faults, ImportFaults
from registry.layout import FileLayout
from registry.people import Accounts, Attributes, TariffSpans
from registry.previous import Previous
from registry.store import VERSION_FILE, load_previous
from registry.tables import Table, read, write_parquet

FORMAT: Final = 1  # of the folder; part of the digest
_CORE: Final = frozenset(
    f"{name}.csv" for name in ("points", "concentrators", "meters", "registers", "accounts", "tariffs")
)

__all__ = ["ImportFaults", "Staged", "stage"]


@dataclass(frozen=True, slots=True)
class Staged:
    """A version on disk: its name, how many rows each table has, and its folder."""

    digest: str
    counts: dict[str, int]
    folder: Path


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a version depends on besides its files."""

    partitions: int
    timezone: str
    tariffs_known: frozenset[str] | None
    now_s: int
    alert_fen: int
    trigger_fen_default: int


@dataclass(slots=True)
class _Street:
    """What is known of points and meters when accounts are read."""

    points: Points
    concentrators: Any
    meters: Meters
    registers: Registers
    openings: Openings


def stage(
    directory: Path,
    registry_root: Path,
    *,
    partitions: int,
    timezone: str,
    previous_digest: str | None,
    tariffs_known: frozenset[str] | None,
    now_s: int,
    alert_fen: int,
    trigger_fen_default: int,
) -> Staged:
    """Validate the directory as a whole against the active version and stage it; `ImportFaults` with every fault.

    The same files over the same active version give the same digest, and staging them again changes nothing.
    """
    rules = _Rules(partitions, timezone, tariffs_known, now_s, alert_fen, trigger_fen_default)
    content = _content_digest(directory, rules)
    active = _version(registry_root / previous_digest) if previous_digest is not None else None
    if active is not None and previous_digest is not None and active["content"] == content:
        return Staged(previous_digest, active["counts"], registry_root / previous_digest)
    digest = content if previous_digest is None else _joined_digest(content, previous_digest)
    folder = registry_root / digest
    if (folder / VERSION_FILE).is_file():
        return Staged(digest, _version(folder)["counts"], folder)
    registry_root.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".staging-", dir=registry_root))
    try:
        previous = load_previous(registry_root, previous_digest) if previous_digest is not None else None
        counts = _build(directory, temporary, rules, previous)
        version = {
            "digest": digest,
            "content": content,
            "previous": previous_digest,
            "format": FORMAT,
            "partitions": partitions,
            "timezone": timezone,
            "counts": counts,
        }
        (temporary / VERSION_FILE).write_text(json.dumps(version, indent=1) + "\n")
        save.make_durable(temporary)
        temporary.chmod(0o755)
        temporary.replace(folder)
        save.sync_folder(registry_root)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Staged(digest, counts, folder)


def check(
    directory: Path, *, partitions: int, timezone: str, tariffs_known: frozenset[str] | None, now_s: int
) -> dict[str, int]:
    """Validate a directory by itself and keep nothing; the counts, or `ImportFaults`."""
    rules = _Rules(partitions, timezone, tariffs_known, now_s, 0, 0)
    with tempfile.TemporaryDirectory(prefix="meterd-check-") as folder:
        return _build(directory, Path(folder), rules, None)


def _version(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / VERSION_FILE).read_text())
    return found


def _content_digest(directory: Path, rules: _Rules) -> str:
    told = [FORMAT, rules.partitions, rules.timezone, rules.alert_fen, rules.trigger_fen_default]
    digest = hashlib.blake2b(json.dumps(told).encode(), digest_size=16)
    for file in layout.FILES:
        path = directory / file.file
        if path.is_file():
            with path.open("rb") as stream:
                part = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            digest.update(f"{file.name}={part};".encode())
    return digest.hexdigest()


def _joined_digest(content: str, previous: str) -> str:
    return hashlib.blake2b(f"{content}>{previous}".encode(), digest_size=16).hexdigest()


class _Source:
    """Reads files of the directory, writes what they said into the folder, counts rows."""

    def __init__(self, directory: Path, folder: Path, faults: Faults) -> None:
        self.directory = directory
        self.folder = folder
        self.faults = faults
        self.counts: dict[str, int] = {}

    def read(self, file: FileLayout) -> Table:
        pa.default_memory_pool().release_unused()
        table = read(self.directory, file, self.faults)
        self.counts[file.name] = len(table)
        return table

    def keep(self, table: Table, **more: Any) -> None:
        """Write a table; once there are faults nothing will be kept, so nothing is written."""
        if not self.faults.count:
            write_parquet(self.folder / f"{table.layout.name}.parquet", table.arrow(**more))


def _build(directory: Path, folder: Path, rules: _Rules, previous: Previous | None) -> dict[str, int]:
    """Read, judge, compile, write; the counts."""
    faults = Faults()
    source = _Source(directory, folder, faults)
    table = source.read(layout.PARTIES)
    party_ids = people.parties(table, faults)
    source.keep(table)
    save.party_index(folder, table)
    del table
    street = _street(source, rules)
    if previous is not None:
        previous.check_points(street.points, rules.partitions, faults)
    accounts_table = source.read(layout.ACCOUNTS)
    accounts = people.accounts(accounts_table, party_ids, street.points, faults)
    spans_of_tariffs, attributes = _accounts(source, rules, accounts, street.points, party_ids)
    if not faults.files & _CORE:
        channels = spans.channels(
            street.meters, street.registers, street.openings, accounts, spans_of_tariffs, rules.now_s, faults
        )
    faults.check()
    tables = Tables(
        street.points, street.concentrators, street.meters, street.registers,
        accounts, spans_of_tariffs, attributes, channels,
    )  # fmt: skip
    compiled = compile_tables(tables, rules.partitions, rules.now_s, rules.alert_fen, previous, faults)
    faults.check()
    save.image(folder, compiled.arrays)
    source.counts["channels"] = len(channels)
    save.slots(folder, tables, compiled, accounts_table)
    return source.counts


def _street(source: _Source, rules: _Rules) -> _Street:
    """Points, concentrators, meters, registers, openings and change-outs."""
    faults = source.faults
    points_table = source.read(layout.POINTS)
    points = devices.points(points_table, rules.timezone, faults)
    source.keep(points_table)  # rewritten with its partitions once they are known
    del points_table
    table = source.read(layout.CONCENTRATORS)
    concentrators = devices.concentrators(table, faults)
    source.keep(table)
    del table
    table = source.read(layout.METERS)
    meters = devices.meters(table, points, concentrators, faults)
    meter_lines = table.lines
    source.keep(table)
    del table
    table = source.read(layout.REGISTERS)
    registers = devices.registers(table, meters, points, meter_lines, faults)
    source.keep(table)
    del table
    table = source.read(layout.OPENING_REGISTERS)
    openings = devices.openings(table, meters, registers, points, faults)
    source.keep(table)
    del table
    table = source.read(layout.CHANGEOUTS)
    openings = openings.join(devices.changeouts(table, meters, registers, points, rules.now_s, faults))
    source.keep(table)
    return _Street(points, concentrators, meters, registers, openings)


def _accounts(
    source: _Source, rules: _Rules, accounts: Accounts, points: Points, party_ids: Any
) -> tuple[TariffSpans, Attributes]:
    """Tariffs, opening money, attributes and mandates of accounts."""
    faults = source.faults
    table = source.read(layout.TARIFFS)
    tariffs = people.tariffs(table, accounts, points, rules.tariffs_known, faults)
    source.keep(table)
    del table
    table = source.read(layout.OPENING_ACCOUNTS)
    people.opening_accounts(table, accounts, faults)
    source.keep(table)
    del table
    table = source.read(layout.ATTRIBUTES)
    attributes = people.attributes(table, accounts, points, faults)
    source.keep(table)
    del table
    table = source.read(layout.MANDATES)
    parsed = people.mandates(table, accounts, points, party_ids, rules.now_s, rules.trigger_fen_default, faults)
    source.keep(table, **{name: pa.array(values) for name, values in parsed.items()})
    return tariffs, attributes
