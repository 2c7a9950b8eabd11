"""I/O: the tables of three pages, from the file of results, the goals and the reasons kept beside each benchmark.

benchmarks/README.md has every row, README.md the figures that it shows, docs/performance.md the goals. Each stands
between two marks; what is around it stays. `make bench` writes them when it writes results.
A module of this folder says why a peer is slower or faster in `WHY: dict[name of the result, one line]`.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from benchmarks.goals import Row, figures, table, targets
from benchmarks.harness import RESULTS

ROOT: Final = Path(__file__).parents[1]
BEGIN: Final = "<!-- table: python -m benchmarks --table -->"
END: Final = "<!-- end of table -->"
PAGES: Final[dict[str, Callable[[Mapping[str, Row]], str]]] = {
    "benchmarks/README.md": lambda rows: table(list(rows.values()), reasons()),
    "README.md": figures,
    "docs/performance.md": targets,
}


def reasons() -> dict[str, str]:
    """One line for each result that has one."""
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name != "__main__":
            found |= getattr(importlib.import_module(f"benchmarks.{module.name}"), "WHY", {})
    return found


def read(results: Path = RESULTS) -> dict[str, Row]:
    """The rows by name, in the order of names."""
    return {row["name"]: row for row in json.loads(results.read_text(encoding="utf-8"))}


def replaced(text: str, made: str) -> str:
    """The page with its table anew."""
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    return f"{head}{BEGIN}\n{made}\n{END}{tail}"


def write(root: Path = ROOT, results: Path = RESULTS) -> None:
    """All pages."""
    rows = read(results)
    for name, made in PAGES.items():
        path = root / name
        path.write_text(replaced(path.read_text(encoding="utf-8"), made(rows)), encoding="utf-8")
