"""I/O: SQLite behind SQLAlchemy: engines for the one writer and for readers, and the migrations.

The driver's own transaction handling is off (`isolation_level=None`): BEGIN is ours, so that a reader's
snapshot and a writer's lock start where we say. WAL lets readers go on while the writer commits;
synchronous=FULL makes a commit durable before it returns.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DatabaseError
from sqlalchemy.util import LRUCache

from config.synced import Synced
from ledger.port import MAKE_ROOM, StartRefused

Query = Mapping[str, str]
BUSY_TIMEOUT_MS: Final = 10_000
READERS_KEPT: Final = 4  # connections; more are opened as needed, and closed
MIGRATIONS: Final = Path(__file__).parent / "migrations"
# 64 kB pages of state like large database pages; the small rows of a quiet checkpoint like small ones.
_WRITER: Final = (
    "PRAGMA page_size=8192",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA journal_size_limit=268435456",
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
)
_READER: Final = ("PRAGMA query_only=ON", f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")


# Statements are compiled once a process and not once an engine: a daemon has two, a test or a simulated life many.
# What is compiled is kept by the dialect, so all engines have that of the first.
_COMPILED: Final[Any] = LRUCache(2000)
_DIALECTS: Final[dict[str, Any]] = {}
_PASSING: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_OF_THE_DISK: Final = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


def waiting_helps(error: DatabaseError) -> bool:
    """A full disk, or a file that another one holds: nothing was written, and the same may go well later.

    Not an input/output error: what it left is unknown. Nor a statement that is wrong.
    """
    return _code(error) in _PASSING


def disk_failed(error: DatabaseError) -> bool:
    """The disk did, or takes nothing: neither a defect of ours nor a damaged file, as far as anybody can say."""
    return _code(error) in _OF_THE_DISK


def _code(error: DatabaseError) -> int:
    return int(getattr(error.orig, "sqlite_errorcode", 0)) & 0xFF


def full(error: DatabaseError | sqlite3.DatabaseError) -> bool:
    """The disk is full."""
    return getattr(getattr(error, "orig", error), "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL


class _Connection(sqlite3.Connection):
    """The driver's, which knows how its transactions begin and end."""

    begins: tuple[str, ...] = ()

    def committed(self) -> None:
        """The driver has committed."""


class _Writing(_Connection):
    begins = ("BEGIN IMMEDIATE",)  # so that two of them can never both read and then write

    def __init__(self, database: str, *more: Any, **options: Any) -> None:
        super().__init__(database, *more, **options)
        self._synced = Synced(Path(database))

    def committed(self) -> None:
        try:
            self._synced.make_sure()
        except OSError as error:  # as SQLite says that a sync has failed
            failed = sqlite3.OperationalError(f"disk I/O error after a commit: {error}")
            failed.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise failed from error


class _Reading(_Connection):
    begins = ("BEGIN", "SELECT 1 FROM sqlite_master")  # the moment is fixed here, and not at the first question


class Dialect(SQLiteDialect_pysqlite):
    """SQLAlchemy's own, but that BEGIN is said: by the driver, since an event would cost each statement something.

    And a commit is believed only while the file system takes changes.
    """

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        for words in dbapi_connection.begins:
            dbapi_connection.execute(words).fetchone()

    def do_commit(self, dbapi_connection: Any) -> None:
        super().do_commit(dbapi_connection)  # type: ignore[no-untyped-call]
        dbapi_connection.committed()


registry.register("sqlite.meterd", __name__, Dialect.__name__)


def _engine(kind: type[_Connection], pragmas: tuple[str, ...], database: str, query: Query, **pool: Any) -> Engine:
    url = URL.create("sqlite+meterd", database=database, query=query)
    engine = create_engine(url, connect_args={"check_same_thread": False, "factory": kind}, **pool)
    engine.dialect = _DIALECTS.setdefault(engine.dialect.name, engine.dialect)

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(pragma).close()

    return engine.execution_options(compiled_cache=_COMPILED)


def writer_engine(path: Path) -> Engine:
    """For the single writer."""
    return _engine(_Writing, _WRITER, str(path), {}, poolclass=NullPool)


def reader_engine(path: Path) -> Engine:
    """For snapshots: connections that refuse to write, kept open: opening one takes longer than most questions."""
    # By URI, for mode=rw: a reader never makes a file that is not there.
    query = {"mode": "rw", "uri": "true"}
    pool = {"poolclass": QueuePool, "pool_size": READERS_KEPT, "max_overflow": -1}
    return _engine(_Reading, _READER, f"file:{quote(str(path))}", query, **pool)


@contextlib.contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """One moment of the ledger, fixed here and not at the caller's first query."""
    with engine.connect() as connection, connection.begin():
        yield connection


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Connection]:
    """A snapshot for another process than the daemon (the CLI): no lock, no migration, no writing."""
    if not path.exists():
        raise StartRefused(f"There is no ledger at {path}", "Name the configuration of a daemon that has run")
    engine = reader_engine(path)
    try:
        with snapshot(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@cache
def _head() -> str | None:
    """The newest schema of this version."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def migrate(engine: Engine) -> None:
    """Bring the tables up to this version; `StartRefused` when they are newer or the file is no ledger."""
    try:
        with engine.connect() as connection, connection.begin():
            current = MigrationContext.configure(connection).get_current_revision()
            if current == _head():
                return
            config = _config(connection)
            script = ScriptDirectory.from_config(config)
            if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
                raise StartRefused(
                    f"The ledger has schema {current}, which this version does not know",
                    "Start the newer meterd that wrote it, or restore a backup of this version",
                )
            command.upgrade(config, "head")
    except (DatabaseError, sqlite3.DatabaseError) as error:
        advice = MAKE_ROOM if full(error) else "Check the disk, then restore a backup with `meterd restore`"
        raise StartRefused(f"The ledger cannot be opened: {getattr(error, 'orig', error)}", advice) from error
