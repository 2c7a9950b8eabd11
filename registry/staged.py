"""I/O: which version waits to be activated: one small file beside the versions, replaced whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

STAGED: Final = "staged"


def mark_staged(registry_root: Path, digest: str) -> None:
    """Name the version that the daemon activates at its next start, unless it is active already."""
    temporary = registry_root / f".{STAGED}-{os.getpid()}"
    with temporary.open("w") as file:
        file.write(digest + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(registry_root / STAGED)


def staged_digest(registry_root: Path) -> str | None:
    """The version named last; None when there never was one."""
    try:
        return (registry_root / STAGED).read_text().strip() or None
    except FileNotFoundError:
        return None
