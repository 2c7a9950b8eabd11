"""I/O (a worker): `year.pysam` with meterd's engine: a frame an hour from a concentrator, a tick a day, bills."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.peers.year import HOMES, HOURS, TIERS, TIMES, YEAR, Ints, now, since, texts, with_tiers, work
from config.settings import AutopaySettings, RatingSettings
from ingest.wire import decode_frames, encode_readings
from ledger.effects import Component, InboxRow
from meterd.city import City
from rating.engine import PartitionEngine
from rating.readings import Readings, Record, RecordKind, StoredRecord
from registry.generate import generate
from registry.importer import stage

_CHARGES = (Component.ENERGY, Component.TIER_ADDER, Component.ROUNDING)


def _column(path: Path, name: str, told: list[str]) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, text in zip(rows, told, strict=True):
        row[name] = text
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        out.writeheader()
        out.writerows(rows)


def _engine(folder: Path) -> tuple[PartitionEngine, City, str]:
    """One partition and one concentrator with all homes."""
    tariffs = folder / "tariffs"
    tariffs.mkdir()
    for name, text in texts().items():
        (tariffs / f"{name}.toml").write_text(text, encoding="utf-8")
    settings = RatingSettings(tariffs_dir=tariffs, horizon_from_year=YEAR - 1, horizon_to_year=YEAR + 2)
    generate(folder / "csv", meters=HOMES, seed=1, start=f"{YEAR}-01-01", concentrator_size=HOMES)
    _column(folder / "csv" / "tariffs.csv", "tariff", [TIERS if with_tiers(h) else TIMES for h in range(HOMES)])
    _column(folder / "csv" / "opening_accounts.csv", "cycle_energy", ["0.00"] * HOMES)
    (folder / "csv" / "attributes.csv").write_text("account,name,value,from\n")
    staged = stage(
        folder / "csv", folder / "registry", partitions=1, timezone="Asia/Shanghai", previous_digest=None,
        tariffs_known=frozenset(texts()), now_s=int(np.datetime64(f"{YEAR}-01-02", "s").astype(np.int64)),
        alert_fen=3000, trigger_fen_default=2000,
    )  # fmt: skip
    city = City(folder / "registry", staged.digest, settings)
    engine = PartitionEngine(0, rating=settings, autopay=AutopaySettings(), currency="CNY", decode=decode_frames)
    row = InboxRow(1, None, "registry", "year", {"digest": city.digest})
    engine.activate(row, city.image.partitions[0], city.book, city.names(0))
    return engine, city, next(iter(city.image.partitions[0].lists))


def _records(city: City, concentrator: str, told: Ints) -> list[StoredRecord]:
    """Encoded as they come over the wire: that is not timed, as PySAM's load is not."""
    image = city.image.partitions[0]
    start, end = image.lists[concentrator]
    slots = image.list_channel[start:end]
    begin_s = int(image.channels["opening_at_s"].max())
    meters = image.list_meter[start:end].copy()
    order = np.argsort(np.argsort(meters))  # homes are numbered as their meters are
    value = image.channels["opening_value"][slots].astype(np.int64)
    made: list[Record] = []
    for hour in range(HOURS):
        value = value + told[order, hour]
        at_s = begin_s + (hour + 1) * 3600
        frame = Readings(
            meters, value, np.full(HOMES, at_s, np.uint32), image.list_register[start:end].copy(),
            np.full(HOMES, 4, np.uint8),
        )  # fmt: skip
        made.append(Record(RecordKind.READINGS, 0, at_s, concentrator, "year", hour + 1, encode_readings(frame)))
        if hour % 24 == 23:
            made.append(Record(RecordKind.TICK, 0, at_s + 60, "", "", -1, b""))
    return [StoredRecord(offset, record) for offset, record in enumerate(made, 1)]


def run(told: Ints) -> tuple[float, Ints]:
    """Bills by home and month, from the entries that a checkpoint would write."""
    with tempfile.TemporaryDirectory() as place:
        engine, city, concentrator = _engine(Path(place))
        records = _records(city, concentrator, told)
        began = now()
        for first in range(0, len(records), 256):
            engine.apply(records[first : first + 256])
        done = engine.checkpoint(epoch=1, log_id="year")
        took = since(began)
    assert engine.counters["verdict.accepted"] + engine.counters.get("verdict.zero", 0) == HOMES * HOURS
    return took, _bills(city, done)


def _bills(city: City, done: object) -> Ints:
    image = city.image.partitions[0]
    bills = np.zeros((HOMES, 12), np.int64)
    home_of = np.argsort(np.argsort(_first_meter(image)))
    for entry in done.entries:  # type: ignore[attr-defined]
        rows = entry.rows[np.isin(entry.rows["component"], _CHARGES)]
        months = rows["day"].astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
        np.add.at(bills, (home_of[rows["slot"]], months), -rows["amount_fen"])
    return bills


def _first_meter(image: object) -> Ints:
    """The meter of each account slot."""
    channels = image.channels  # type: ignore[attr-defined]
    found = np.zeros(HOMES, np.int64)
    found[channels["account"]] = channels["meter"].astype(np.int64)
    return found


if __name__ == "__main__":
    work(run)
