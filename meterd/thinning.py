"""I/O: the daemon's pass over old checkpoint rows: at most one bounded transaction each time it is asked.

What audits go on from stays: `meterd audit --since` compares counters with those of the row that the audit ended at.
"""

from __future__ import annotations

from pathlib import Path

from audit.saved import checkpoints
from ledger import retention
from ledger.port import LedgerPort
from meterd.metrics import Metrics


class ThinPass:
    """Thins `checkpoint` to a row an hour beyond `keep_s`; 0 keeps all."""

    def __init__(self, store: LedgerPort, data_dir: Path, keep_s: int, metrics: Metrics) -> None:
        self._store, self._data_dir, self._keep_s, self._metrics = store, data_dir, keep_s, metrics
        with store.reader() as connection:
            self._through_id = retention.through(connection)

    def step(self) -> int:
        """One step, if one is due; returns the rows that went. Wait between two: the writer is for checkpoints."""
        if self._keep_s == 0:
            return 0
        with self._store.reader() as connection:
            step = retention.planned(
                connection, self._through_id, keep_s=self._keep_s, held=lambda: checkpoints(self._data_dir)
            )
        if step is None:
            return 0
        if step.count:
            self._store.write(lambda connection: retention.carry_out(connection, step))
            self._metrics.checkpoints_thinned.inc(step.count)
        self._through_id = step.through_id
        return step.count
