"""I/O: `python -m benchmarks [--only NAME] [--list] [--table]` runs them into one file."""

from __future__ import annotations

import argparse
import sys

from benchmarks.harness import RESULTS, choose, collect, merge
from benchmarks.table import write


def main() -> int:
    """0 when all ran and were right; 2 when no benchmark has that name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", help="one benchmark, or a group: kernel.random, kernel")
    parser.add_argument("--list", action="store_true", help="print the names and leave")
    parser.add_argument("--table", action="store_true", help="write benchmarks/README.md from the results and leave")
    asked = parser.parse_args()
    if asked.table:
        write()
        return 0
    found = collect()
    names = choose(found, asked.only)
    if asked.list:
        print("\n".join(sorted(names)))
        return 0
    if not names:
        print(f"no benchmark {asked.only!r}; there are {', '.join(sorted(found))}", file=sys.stderr)
        return 2
    for name in names:
        print(f"{name} ...", flush=True)
        results = found[name]()
        merge(results)
        for r in results:
            print(f"  {r.name:24} {r.value:>12.4g} {r.unit:<24} baseline {r.baseline:.4g}, ratio {r.ratio:.4g}")
    print(f"written to {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
