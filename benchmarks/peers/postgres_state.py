"""I/O (a worker): `state.*` as PostgreSQL rows: COPY of a batch into a temporary table, then one UPDATE from it.

A server of its own on a free port of the loopback, as a user that is not root, with synchronous_commit on and half a
gigabyte of shared buffers; the table leaves room in its pages, so that updates stay in them.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.peers.balances import Ints, opening, timed, work

OWNER: Final = "nobody"
SETTINGS: Final = {
    "shared_buffers": "512MB", "max_wal_size": "4GB", "fsync": "on", "synchronous_commit": "on",
    "listen_addresses": "127.0.0.1", "autovacuum": "on",
}  # fmt: skip


def programs() -> Path | None:
    """Where the server's programs are: the newest of Debian's packages."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


class Server:
    """Started with `with`; `port` is where it listens."""

    def __init__(self, folder: Path) -> None:
        where = programs()
        assert where is not None, "no PostgreSQL on this machine: apt-get install postgresql"
        self._bin, self._data = where, folder / "data"
        self._as: list[str] = ["runuser", "-u", OWNER, "--"] if os.geteuid() == 0 else []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        if self._as:
            for path in (folder.parent, folder):
                path.chmod(0o755)
            self._data.mkdir()
            shutil.chown(self._data, OWNER)
            self._data.chmod(0o700)

    def _run(self, *words: str) -> None:
        done = subprocess.run([*self._as, *words], capture_output=True, text=True, check=False, timeout=120, cwd="/")
        assert done.returncode == 0, done.stderr[-2000:]

    def __enter__(self) -> Server:
        self._run(str(self._bin / "initdb"), "-D", str(self._data), "-U", "bench", "--auth=trust", "--no-sync")
        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        options += f" -p {self.port} -c unix_socket_directories={self._data}"
        log = str(self._data / "log")
        self._run(str(self._bin / "pg_ctl"), "-D", str(self._data), "-l", log, "-w", "-o", options, "start")
        return self

    def __exit__(self, *_: object) -> None:
        self._run(str(self._bin / "pg_ctl"), "-D", str(self._data), "-m", "immediate", "-w", "stop")
        time.sleep(0.2)


def run(folder: Path, told: list[tuple[Ints, Ints]]) -> tuple[float, Ints]:
    """One transaction a batch."""
    import psycopg  # here: whoever asks for `programs` need not have it

    with Server(folder) as server, psycopg.connect(
        f"host=127.0.0.1 port={server.port} user=bench dbname=postgres", autocommit=True
    ) as db:  # fmt: skip
        db.execute("CREATE TABLE balance (account bigint PRIMARY KEY, fen bigint NOT NULL) WITH (fillfactor = 70)")
        _copy(db, "balance", np.arange(len(opening())), opening())
        db.execute("CREATE TEMPORARY TABLE batch (account bigint, fen bigint) ON COMMIT DELETE ROWS")
        db.execute("VACUUM ANALYZE balance")

        def apply(accounts: Ints, charges: Ints) -> None:
            with db.transaction():
                _copy(db, "batch", accounts, charges)
                db.execute("UPDATE balance b SET fen = b.fen - n.fen FROM batch n WHERE b.account = n.account")

        took = timed(apply, told)
        found = db.execute("SELECT fen FROM balance ORDER BY account").fetchall()
    return took, np.array([fen for (fen,) in found], np.int64)


def _copy(db: Any, table: str, accounts: Ints, fen: Ints) -> None:
    lines = "".join(f"{a}\t{f}\n" for a, f in zip(accounts.tolist(), fen.tolist(), strict=True))
    with db.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        copy.write(lines)


if __name__ == "__main__":
    work(run)
