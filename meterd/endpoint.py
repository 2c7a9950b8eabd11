"""I/O: endpoint.json: where a running daemon is to be reached, for its own user only."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write_endpoint(path: Path, facts: dict[str, Any]) -> None:
    """Replace the file whole, readable by its owner alone."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(facts, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def remove_endpoint(path: Path) -> None:
    """A disk that takes nothing does not hinder a stop: whoever reads the file then finds its process gone."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
