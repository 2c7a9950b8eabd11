"""I/O: compile the kernel once on a machine (`python -m meterd.warm`, and the first `meterd run`); kept on disk.

It rates a made-up hamlet in memory with the real codec, registry and engine, which meets every compiled function
with the very types that the daemon uses.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np

from config.machine_code import sources_digest
from config.settings import AutopaySettings, RatingSettings
from ingest import bounds
from ingest.decoded import Limits
from ingest.wire import decode_frames, encode_readings
from ledger.effects import InboxRow
from meterd.city import City
from rating.engine import PartitionEngine
from rating.kernel import rate
from rating.readings import Readings, Record, RecordKind, StoredRecord
from registry.generate import generate
from registry.importer import stage

_DAY_S = 86_400


def ensure_warm(told: Callable[[], None] = lambda: None) -> bool:
    """Compile what is not in the cache yet, after calling `told`; False when all of it is there.

    A loop that first compiled when it is needed would stop a running daemon for seconds: at its first reading, and
    again at its first month's end. A stamp beside the compiled code names the sources and versions it was made of.
    """
    folder = rate.stats.cache_path
    stamp = Path(folder) / "meterd-warm.txt" if folder else None
    wanted = _made_of()
    try:
        if stamp is not None and stamp.read_text(encoding="ascii") == wanted:
            return False
    except OSError:
        pass  # none yet
    told()
    warm()
    if stamp is not None:
        with contextlib.suppress(OSError):  # read-only: the next start compiles again
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.write_text(wanted, encoding="ascii")
    return True


def _made_of() -> str:
    """What the compiled code is made of: our sources, as numba tells them from others, and the compiler."""
    return f"{sources_digest()} {numba.__version__} {np.__version__} {sys.version}"


def warm() -> dict[str, int]:
    """Rate some days of 20 homes; returns the engine's counters."""
    settings = RatingSettings()
    with tempfile.TemporaryDirectory(prefix="meterd-warm-") as name:
        folder = Path(name)
        generate(folder / "csv", meters=20, seed=1, start="2026-07-01")
        staged = stage(
            folder / "csv",
            folder / "registry",
            partitions=1,
            timezone="Asia/Shanghai",
            previous_digest=None,
            tariffs_known=None,
            now_s=int(np.datetime64("2026-07-02").astype("datetime64[s]").astype(np.int64)),
            alert_fen=3000,
            trigger_fen_default=2000,
        )
        city = City(folder / "registry", staged.digest, settings)
        return _rate(city, settings)


def _rate(city: City, settings: RatingSettings) -> dict[str, int]:
    engine = PartitionEngine(0, rating=settings, autopay=AutopaySettings(), currency="CNY", decode=decode_frames)
    image = city.image.partitions[0]
    row = InboxRow(1, None, "registry", "warm", {"digest": city.digest})
    engine.activate(row, image, city.book, city.names(0))
    opened = image.channels["opening_at_s"].max()
    concentrator, (start, end) = next(iter(image.lists.items()))
    slots = image.list_channel[start:end]
    records = []
    for step in range(1, 40):
        at_s = int(opened) + step * _DAY_S
        order = slice(None, None, -1) if step % 2 else slice(None)
        frame = Readings(
            image.list_meter[start:end][order].copy(),
            (image.channels["opening_value"][slots] + step * 8_000)[order],
            np.full(end - start, at_s, np.uint32),
            image.list_register[start:end][order].copy(),
            np.full(end - start, 4, np.uint8),
        )
        bounds.check(frame, Limits())
        body = encode_readings(frame)
        records.append(Record(RecordKind.READINGS, 0, at_s, concentrator, "warm", step, body))
        records.append(Record(RecordKind.TICK, 0, at_s + 5 * _DAY_S, "", "", -1, b""))
    engine.apply([StoredRecord(offset, record) for offset, record in enumerate(records, 1)])
    engine.checkpoint(epoch=1, log_id="warm")
    assert engine.counters["verdict.accepted"] > 0, engine.counters
    return engine.counters


if __name__ == "__main__":
    ensure_warm()
