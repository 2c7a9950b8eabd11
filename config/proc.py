"""I/O (Linux: /proc): what the system says of one process; nothing of one that has ended, or is not ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_ZOMBIE: Final = ("Z", "X")


def there(pid: int) -> bool:
    """Whether it runs: one that has ended and was not waited for does not."""
    stat = _stat(pid)
    return bool(stat) and stat[0] not in _ZOMBIE


def processor_s(pid: int) -> float:
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / _TICKS if stat else 0.0


def memory(pid: int) -> int:
    """Resident bytes."""
    fields = _text(pid, "statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def written(pid: int) -> int:
    """Bytes that went to a disk; 0 also when this user may not know."""
    lines = dict(line.split(": ") for line in _text(pid, "io").splitlines())
    return int(lines.get("write_bytes", 0))


def name_of(pid: int) -> str:
    """Of its main thread."""
    return _text(pid, "comm").strip()


def children(pid: int) -> list[int]:
    """Of all of its threads."""
    found: list[int] = []
    for task in _names(f"/proc/{pid}/task"):
        found += map(int, _text(pid, f"task/{task}/children").split())
    return found


def sockets(pid: int) -> set[str]:
    """Numbers of the sockets that it has open."""
    found = set()
    for name in _names(f"/proc/{pid}/fd"):
        try:
            target = str(Path(f"/proc/{pid}/fd/{name}").readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target.removeprefix("socket:[").removesuffix("]"))
    return found


def _stat(pid: int) -> list[str]:
    """Its fields after the name, which may hold anything."""
    return _text(pid, "stat").rpartition(")")[2].split()


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def _names(folder: str) -> list[str]:
    try:
        return [path.name for path in Path(folder).iterdir()]
    except OSError:
        return []
