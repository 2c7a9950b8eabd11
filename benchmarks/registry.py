"""I/O: `registry.import_6m`: a city of 6 million meters from CSV files to a staged version, in time and in memory.

Import and baseline each run in a process of their own, whose peak is its own (VmHWM). The baseline reads the
same files with pyarrow.csv, one after the other, and keeps none: what any import must at least do. `reimport_6m`
stages the same city with one more household over the first version; its baseline is the first import.
The peak is asserted; the seconds are not, for they are those of a machine that others may use.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from benchmarks.harness import Benchmark, Result, result, timed
from registry.generate import generate
from registry.importer import stage
from registry.store import load_arrays

METERS: Final = 6_000_000
PEAK_MAX_MB: Final = 2000
_DEADLINE_S: Final = 600
_NOW_S: Final = 1_790_000_000
_HOUSEHOLD: Final = {
    "points": "PX,electricity,Asia/Shanghai",
    "meters": "WX-1,PX,C000003,5,2026-04-01,,6,1,13200",
    "registers": "WX-1,1.8.0,bill,0.01,kWh",
    "opening_registers": "WX-1,1.8.0,5.00,2026-04-01,A",
    "accounts": "AX,U00000007,PX,2026-04-01,",
    "tariffs": "AX,guangzhou-residential,2026-04-01,",
}


def _import(city: Path, root: Path, previous: str | None) -> dict[str, Any]:
    found: list[Any] = []

    def run() -> None:
        found.append(
            stage(
                city,
                root,
                partitions=16,
                timezone="Asia/Shanghai",
                previous_digest=previous,
                tariffs_known=None,
                now_s=_NOW_S,
                alert_fen=3000,
                trigger_fen_default=2000,
            )
        )

    seconds = timed(run)
    return {"seconds": seconds, "peak_mb": _peak_mb(), "digest": found[0].digest, "counts": found[0].counts}


def _plain(city: Path) -> dict[str, Any]:
    seconds = timed(lambda: [pacsv.read_csv(path).num_rows for path in sorted(city.glob("*.csv"))])
    return {"seconds": seconds, "peak_mb": _peak_mb()}


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _child(*told: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.registry", *map(str, told)],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        check=True,
        timeout=_DEADLINE_S,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _balances(city: Path) -> str:
    """Digest of the balances in the file, in fen, sorted."""
    options = pacsv.ConvertOptions(column_types={"balance": pa.string()}, include_columns=["balance"])
    text = pacsv.read_csv(city / "opening_accounts.csv", convert_options=options).column("balance")
    fen = pc.cast(pc.replace_substring(text, ".", ""), pa.int64())
    return hashlib.sha256(np.sort(np.asarray(fen)).tobytes()).hexdigest()


def _staged_balances(folder: Path) -> str:
    return hashlib.sha256(np.sort(load_arrays(folder).accounts["opening_balance_fen"]).tobytes()).hexdigest()


def _first(folder: Path) -> tuple[Path, Path, dict[str, Any]]:
    """(city, registry, what the import of one into the other took); asserts that it is right, and kept."""
    city, root = folder / "city", folder / "registry"
    generate(city, meters=METERS, seed=7)
    found = _child("import", city, root)
    counts = found["counts"]
    assert (counts["meters"], counts["accounts"], counts["channels"]) == (METERS, METERS, METERS), counts
    assert _staged_balances(root / found["digest"]) == _balances(city), "the staged balances are not the file's"
    _within(found)
    return city, root, found


def _within(found: dict[str, Any]) -> None:
    assert found["peak_mb"] < PEAK_MAX_MB, f"the import held {found['peak_mb']:.0f} MB"


def _results(name: str, found: dict[str, Any], baseline: dict[str, Any]) -> list[Result]:
    seconds = result(name, "s", found["seconds"], baseline["seconds"])
    memory = result(f"{name}_memory", "MB", found["peak_mb"], baseline["peak_mb"])
    return [seconds, replace(memory, command=seconds.command)]


def import_6m() -> list[Result]:
    """Seconds and peak of the first import, against plain reading."""
    with tempfile.TemporaryDirectory(prefix="meterd-import-") as name:
        city, _, found = _first(Path(name))
        return _results("registry.import_6m", found, _child("plain", city))


def reimport_6m() -> list[Result]:
    """Seconds and peak of the next import, in which one household is new, against the first."""
    with tempfile.TemporaryDirectory(prefix="meterd-import-") as name:
        city, root, first = _first(Path(name))
        for file, line in _HOUSEHOLD.items():
            with (city / f"{file}.csv").open("a", encoding="utf-8") as out:
                out.write(line + "\n")
        found = _child("import", city, root, first["digest"])
        assert found["counts"]["channels"] == METERS + 1, found["counts"]
        before, after = load_arrays(root / first["digest"]), load_arrays(root / found["digest"])
        for number in range(16):
            low, high = before.starts["channels"][number : number + 2]
            begin = after.starts["channels"][number]
            kept = after.channels["meter"][begin : begin + high - low] == before.channels["meter"][low:high]
            assert bool(kept.all()), "slots have moved"
        _within(found)
        return _results("registry.reimport_6m", found, first)


WHY: Final = {
    "registry.import_6m": "the baseline reads the CSV alone; validation, spans and columns in order are the rest",
    "registry.import_6m_memory": "of the same: the columns, and what orders them",
}
BENCHMARKS: dict[str, Benchmark] = {"registry.import_6m": import_6m, "registry.reimport_6m": reimport_6m}


if __name__ == "__main__":
    _word, _city, *_rest = sys.argv[1:]
    if _word == "plain":
        print(json.dumps(_plain(Path(_city))))
    else:
        print(json.dumps(_import(Path(_city), Path(_rest[0]), _rest[1] if _rest[1:] else None)))
