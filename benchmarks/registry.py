"""I/O: `registry.*`: a city of 6 million meters from CSV files to a staged version, in time and in memory.

Import and baseline each run in a process of their own, whose peak is its own (VmHWM). The baseline of `import_6m`
reads the same files with pyarrow.csv, one after the other, and keeps none: what any import must at least do.
`reimport_6m` stages the same city with one more household over the first version; it is compared with that first
import. The files are made once; each of the RUNS is a plain reading, a first import and the next one.
The peak is asserted; the seconds are not, for they are those of a machine that others may use.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
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
RUNS: Final = 3
PEAK_MAX_MIB: Final = 2e9 / 2**20
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
    return {"seconds": seconds, "peak_mib": _peak_mib(), "digest": found[0].digest, "counts": found[0].counts}


def _plain(city: Path) -> dict[str, Any]:
    seconds = timed(lambda: [pacsv.read_csv(path).num_rows for path in sorted(city.glob("*.csv"))])
    return {"seconds": seconds, "peak_mib": _peak_mib()}


def _peak_mib() -> float:
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


def _first(city: Path, root: Path) -> dict[str, Any]:
    """What the import of one into the other took; asserts that it is right."""
    found = _child("import", city, root)
    counts = found["counts"]
    assert (counts["meters"], counts["accounts"], counts["channels"]) == (METERS, METERS, METERS), counts
    assert _staged_balances(root / found["digest"]) == _balances(city), "the staged balances are not the file's"
    return found


def _next(city: Path, root: Path, digest: str) -> dict[str, Any]:
    """The same of a city with one household more, over the version of that digest; asserts that no slot moved."""
    found = _child("import", city, root, digest)
    assert found["counts"]["channels"] == METERS + 1, found["counts"]
    before, after = load_arrays(root / digest), load_arrays(root / found["digest"])
    for number in range(16):
        low, high = before.starts["channels"][number : number + 2]
        begin = after.starts["channels"][number]
        kept = after.channels["meter"][begin : begin + high - low] == before.channels["meter"][low:high]
        assert bool(kept.all()), "slots have moved"
    return found


def _more(city: Path, more: Path) -> None:
    """The same files with one household more; those that it does not touch are the same ones."""
    more.mkdir()
    for path in city.glob("*.csv"):
        if path.stem not in _HOUSEHOLD:
            (more / path.name).symlink_to(path)
            continue
        shutil.copyfile(path, more / path.name)
        with (more / path.name).open("a", encoding="utf-8") as out:
            out.write(_HOUSEHOLD[path.stem] + "\n")


def _rows(name: str, peer: str, found: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> list[Result]:
    for one in found:
        assert one["peak_mib"] < PEAK_MAX_MIB, f"the import held {one['peak_mib']:.0f} MiB"
    return [
        result(row, unit, peer, [one[of] for one in found], [one[of] for one in baseline])
        for row, unit, of in ((name, "s", "seconds"), (f"{name}_memory", "MiB", "peak_mib"))
    ]


def imports() -> list[Result]:
    """Seconds and peak of a first import, and of the next one in which one household is new."""
    plain, first, after = [], [], []
    with tempfile.TemporaryDirectory(prefix="meterd-import-") as name:
        city, more, root = (Path(name) / part for part in ("city", "more", "registry"))
        generate(city, meters=METERS, seed=7)
        _more(city, more)
        for _ in range(RUNS):
            plain.append(_child("plain", city))
            first.append(_first(city, root))
            after.append(_next(more, root, first[-1]["digest"]))
            shutil.rmtree(root)
    found = _rows("registry.import_6m", "pyarrow.csv reading the same files", first, plain)
    return found + _rows("registry.reimport_6m", "the first import", after, first)


WHY: Final = {
    "registry.import_6m": "pyarrow.csv reads and forgets; validation, spans and columns in order are the rest",
    "registry.import_6m_memory": "of the same: the columns, and what orders them",
    "registry.reimport_6m": "all files are read and judged as the first time; what stands keeps its slots",
    "registry.reimport_6m_memory": "of the same: the version before is read a partition at a time",
}
BENCHMARKS: dict[str, Benchmark] = {"registry": imports}


if __name__ == "__main__":
    _word, _city, *_rest = sys.argv[1:]
    if _word == "plain":
        print(json.dumps(_plain(Path(_city))))
    else:
        print(json.dumps(_import(Path(_city), Path(_rest[0]), _rest[1] if _rest[1:] else None)))
