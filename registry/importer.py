"""I/O: a directory of CSV files -> a staged registry version, or every fault and nothing kept.

Files are turned into Parquet in a temporary folder, judged a column at a time, and forgotten but for columns of
integers; then one partition after the other is compiled and written. So six million meters fit in two gigabytes.
When all is well the folder is made durable and renamed to its digest; a rename is the only moment at which a
version begins to exist.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from config.settings import Paths, Settings
from config.tariff_files import keep_texts, tariff_ids, tariff_texts
from registry import devices, layout, people, previous, save, spans
from registry.active import Active
from registry.compile import compile_partition, histories, tariff_names
from registry.cut import Tables, cut, point_partitions
from registry.devices import Meters, Openings, Points, Registers
from registry.faults import Fault, Faults, ImportFaults
from registry.image import AttributeChange
from registry.layout import FileLayout
from registry.memory import release
from registry.people import Accounts, TariffSpans
from registry.store import VERSION_FILE
from registry.tables import Table, extend, read

FORMAT: Final = 2  # of the folder; part of the digest
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
    tariffs: Mapping[str, str] | None = None  # texts of the tariff files, which the version keeps


@dataclass(slots=True)
class _Street:
    """Meters and what they count."""

    concentrators: Any
    meters: Meters
    registers: Registers
    openings: Openings


@dataclass(slots=True)
class _People:
    """Accounts and what they have; `history` is one number per account."""

    accounts: Accounts
    tariffs: TariffSpans
    histories: tuple[tuple[AttributeChange, ...], ...]
    history: npt.NDArray[np.int32]


def stage_with(settings: Settings, directory: Path, *, previous_digest: str | None, now_s: int) -> Staged:
    """`stage` under the registry of `settings.data_dir`, with what else a daemon of these settings goes by."""
    return stage(
        directory,
        Paths(settings.data_dir).registry,
        partitions=settings.partitions,
        timezone=settings.timezone,
        previous_digest=previous_digest,
        tariffs_known=tariff_ids(settings.rating.tariffs_dir, settings.currency),
        now_s=now_s,
        alert_fen=settings.autopay.alert_fen,
        trigger_fen_default=settings.autopay.trigger_fen,
        tariffs=tariff_texts(settings.rating.tariffs_dir),
    )


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
    tariffs: Mapping[str, str] | None = None,
) -> Staged:
    """Validate the directory as a whole against the active version and stage it; `ImportFaults` with every fault.

    The same files over the same active version give the same digest, and staging them again changes nothing.
    `tariffs`: texts of the tariff files: the version keeps them, and is another one when they change.
    """
    rules = _Rules(partitions, timezone, tariffs_known, now_s, alert_fen, trigger_fen_default, tariffs)
    content = _content_digest(directory, rules)
    active = _version(registry_root / previous_digest) if previous_digest is not None else None
    if active is not None and previous_digest is not None and active["content"] == content:
        return Staged(previous_digest, active["counts"], registry_root / previous_digest)
    digest = content if previous_digest is None else _joined_digest(content, previous_digest)
    folder = registry_root / digest
    if (folder / VERSION_FILE).is_file():
        return Staged(digest, _version(folder)["counts"], folder)
    if active is not None and active["format"] != FORMAT:
        what = f"the active version has format {active['format']}, and this release continues format {FORMAT} only"
        raise ImportFaults([Fault(VERSION_FILE, 0, what)], 1)
    registry_root.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".staging-", dir=registry_root))
    try:
        before = Active(registry_root / previous_digest) if previous_digest is not None else None
        counts = _build(directory, temporary, rules, before)
        if tariffs is not None:
            keep_texts(tariffs, temporary)
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
    told: list[Any] = [FORMAT, rules.partitions, rules.timezone, rules.alert_fen, rules.trigger_fen_default]
    if rules.tariffs is not None:
        told += sorted(rules.tariffs.items())
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
        release()
        table = read(self.directory, file, self.faults, self.folder)
        release()
        self.counts[file.name] = len(table)
        return table


def _strangers(directory: Path, faults: Faults) -> None:
    """A misspelt file that may be absent would be passed over, and its opening balances or mandates with it."""
    known = {file.file for file in layout.FILES}
    for path in sorted(directory.glob("*.csv")):
        if path.name not in known:
            faults.add(path.name, 0, f"is no file of a registry; there are {', '.join(sorted(known))}")


def _build(directory: Path, folder: Path, rules: _Rules, before: Active | None) -> dict[str, int]:
    """Read, judge, compile, write; the counts."""
    faults = Faults()
    _strangers(directory, faults)
    source = _Source(directory, folder, faults)
    points = devices.points(source.read(layout.POINTS), rules.timezone, faults)
    street = _street(source, rules, points)
    inhabitants = _people(source, rules, points)
    home = None
    if before is not None:
        partitions = (before.partitions, rules.partitions)
        home = previous.check_points(*before.points(), points.ids, partitions, faults)
    if faults.files & _CORE:
        faults.check()
    home = point_partitions(points, street.meters, street.concentrators, rules.partitions, home)
    del points
    release()
    tables = Tables(
        street.concentrators, street.meters, street.registers, street.openings,
        inhabitants.accounts, inhabitants.tariffs, inhabitants.history,
    )  # fmt: skip
    account_slot = _partitions(source, rules, tables, inhabitants.histories, home, before)
    extend(folder, layout.POINTS, partition=home)
    account_home = home[inhabitants.accounts.point]
    del home, street, tables
    release()
    save.accounts(folder, inhabitants.accounts, account_home, account_slot)
    return source.counts


def _partitions(
    source: _Source,
    rules: _Rules,
    tables: Tables,
    found_histories: tuple[tuple[AttributeChange, ...], ...],
    home: npt.NDArray[np.int16],
    before: Active | None,
) -> npt.NDArray[np.int32]:
    """Judge, compile and write one partition after the other; the slot of each account.

    After a fault nothing is compiled any more, and every partition still judged.
    """
    faults, folder = source.faults, source.folder
    tariffs = tariff_names(tables.tariffs, before.tariffs if before is not None else ())
    image, slots = save.ImageFiles(folder), save.SlotTables(folder, tariffs)
    account_slot = np.full(len(tables.accounts.lines), -1, np.int32)
    source.counts["channels"] = 0
    sound = not faults.count
    for number in range(rules.partitions):
        part, accounts = cut(tables, home, number)
        told = faults.count
        channels = spans.channels(
            part.meters, part.registers, part.openings, part.accounts, part.tariffs, rules.now_s, faults
        )
        if not sound or faults.count > told:
            continue
        known = before.part(number) if before is not None else None
        compiled = compile_partition(part, channels, tariffs, rules.now_s, rules.alert_fen, known, faults)
        if compiled is not None and not faults.count:
            image.add(compiled.image)
            slots.add(number, part, channels, compiled)
            account_slot[accounts] = compiled.account_slot
            source.counts["channels"] += len(channels)
        del part, accounts, channels, known, compiled
        release()
    image.close(tariffs, found_histories)
    slots.close()
    faults.check()
    return account_slot


def _people(source: _Source, rules: _Rules, points: Points) -> _People:
    """Parties, accounts, mandates, opening money, attributes and tariffs."""
    faults = source.faults
    table = source.read(layout.PARTIES)
    party_ids = people.parties(table, faults)
    save.party_index(source.folder, table)
    del table
    accounts = people.accounts(source.read(layout.ACCOUNTS), party_ids, points, faults)
    table = source.read(layout.MANDATES)
    parsed = people.mandates(table, accounts, points, party_ids, rules.now_s, rules.trigger_fen_default, faults)
    del table, party_ids
    extend(source.folder, layout.MANDATES, **parsed)
    del parsed
    people.opening_accounts(source.read(layout.OPENING_ACCOUNTS), accounts, faults)
    attributes = people.attributes(source.read(layout.ATTRIBUTES), accounts, points, faults)
    found_histories, history = histories(attributes, accounts.from_s)
    del attributes
    tariffs = people.tariffs(source.read(layout.TARIFFS), accounts, points, rules.tariffs_known, faults)
    return _People(accounts, tariffs, found_histories, history)


def _street(source: _Source, rules: _Rules, points: Points) -> _Street:
    """Concentrators, meters, registers, openings and change-outs."""
    faults = source.faults
    concentrators = devices.concentrators(source.read(layout.CONCENTRATORS), faults)
    table = source.read(layout.METERS)
    meters = devices.meters(table, points, concentrators, faults)
    meter_lines = table.lines
    del table
    registers = devices.registers(source.read(layout.REGISTERS), meters, points, meter_lines, faults)
    openings = devices.openings(source.read(layout.OPENING_REGISTERS), meters, registers, points, faults)
    table = source.read(layout.CHANGEOUTS)
    openings = openings.join(devices.changeouts(table, meters, registers, points, rules.now_s, faults))
    return _Street(concentrators, meters, registers, openings)
