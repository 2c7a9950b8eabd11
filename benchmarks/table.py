"""I/O: the table of benchmarks/README.md, from the file of results and the reasons kept beside each benchmark.

A module of this folder says why a peer is slower or faster in `WHY: dict[name of the result, one line]`.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import RESULTS

README: Final = Path(__file__).parent / "README.md"
BEGIN: Final = "<!-- table: python -m benchmarks --table -->"
END: Final = "<!-- end of table -->"


def reasons() -> dict[str, str]:
    """One line for each result that has one."""
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name != "__main__":
            found |= getattr(importlib.import_module(f"benchmarks.{module.name}"), "WHY", {})
    return found


def table(results: list[dict[str, Any]], why: dict[str, str]) -> str:
    """Markdown; a row a result, older ones without a peer included."""
    head = "| Benchmark | Peer | Ours | Theirs | Unit | Ratio (range, runs) | Command | When, where | Why |"
    lines = [head, "|" + "---|" * 9]
    for r in results:
        ratio = f"{r['ratio']:.3g}"
        if "repeats" in r:
            ratio += f" ({r['ratio_low']:.3g} to {r['ratio_high']:.3g}, {r['repeats']})"
        cells = (f"`{r['name']}`", r.get("peer", "baseline"), f"{r['value']:.4g}", f"{r['baseline']:.4g}", r["unit"])
        where = ", ".join(filter(None, (r.get("date"), r.get("machine"))))
        reason = next((why[name] for name in (r["name"], r["name"].rpartition(".")[0]) if name in why), "")
        lines.append("| " + " | ".join((*cells, ratio, f"`{r['command']}`", where, reason)) + " |")
    return "\n".join(lines)


def write(path: Path = README, results: Path = RESULTS) -> None:
    """Put the table between its two marks; the prose around it stays."""
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    made = table(json.loads(results.read_text(encoding="utf-8")), reasons())
    path.write_text(f"{head}{BEGIN}\n{made}\n{END}{tail}", encoding="utf-8")
