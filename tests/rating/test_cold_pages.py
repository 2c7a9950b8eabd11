"""What a checkpoint says of the cold array: a page when it changed, and only then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def test_cold_is_written_when_it_changed_and_only_then(home: Callable[..., Any]) -> None:
    h = home()

    def written(name: str) -> list[int]:
        return [int(s) for s in checkpoint.state[name].dirty]

    stored = None
    steps = [
        (10_000, "2026-07-01T06:00", 4, "accepted", [0]),  # the first time nothing is known of the page
        (20_000, "2026-07-01T12:00", 4, "accepted", []),
        (30_000, "2026-07-01T18:00", 1, "accepted", [0]),  # an estimate is counted there
        (40_000, "2026-07-02T00:00", 1, "accepted", [0]),
        (50_000, "2026-07-02T06:00", 4, "accepted", [0]),  # and forgotten
        (60_000, "2026-07-02T12:00", 4, "accepted", []),
    ]
    for value, at, quality, verdict, cold in steps:
        assert h.read(value, at, quality=quality) == verdict
        checkpoint = h.engine.checkpoint(epoch=1, log_id="x")
        assert (written("channel"), written("cold")) == ([0], cold), at
        rows, dirty = checkpoint.state["cold"].rows, checkpoint.state["cold"].dirty
        stored = rows.copy() if stored is None else stored
        stored[dirty] = rows[dirty]
        np.testing.assert_array_equal(stored, h.engine.part.cold)  # what the ledger has is what the engine has
