"""I/O: `python -m benchmarks [--only NAME] [--list] [--table]` runs them into one file, and writes the tables."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Mapping

from benchmarks.harness import RESULTS, Benchmark, choose, collect, merge, ran
from benchmarks.table import write


def main() -> int:
    """0 when all ran and were right; 1 when one was not; 2 when no benchmark has that name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", help="a benchmark, a group or a row: kernel.random, kernel, latency.city.written")
    parser.add_argument("--list", action="store_true", help="print the names and leave")
    parser.add_argument("--table", action="store_true", help="write the pages' tables from the results and leave")
    asked = parser.parse_args()
    if asked.table:
        write()
        return 0
    found = collect()
    names = choose(found, asked.only)
    if not names:
        print(f"no benchmark {asked.only!r}; there are {', '.join(sorted(found))}", file=sys.stderr)
        return 2
    if asked.list:
        print("\n".join(sorted(names)))
        return 0
    return _run({name: found[name] for name in names})


def _run(chosen: Mapping[str, Benchmark]) -> int:
    """One after the other; what fails writes nothing, and the others go on."""
    began, failed = time.monotonic(), list[str]()
    for name, benchmark in chosen.items():
        start = time.monotonic()
        print(f"{name} ...", flush=True)
        try:
            results = ran(name, benchmark)
        except Exception:  # noqa: BLE001 - whatever it is, it is told, and is the exit code
            traceback.print_exc()
            failed.append(name)
            continue
        merge(results)
        write()
        for r in results:
            span = f"{r.ratio_low:.4g} to {r.ratio_high:.4g}, {r.repeats} runs" if r.repeats > 1 else "one run"
            print(
                f"  {r.name:36} {r.value:>12.4g} {r.unit:<24} {r.peer} {r.baseline:.4g}, ratio {r.ratio:.4g} ({span})"
            )
        print(f"  {name} took {time.monotonic() - start:.0f} s", flush=True)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes; written to {RESULTS} and the pages' tables")
    if failed:
        print(f"FAILED, and not written: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
