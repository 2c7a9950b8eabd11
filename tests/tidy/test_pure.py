"""House rules: a module says whether it is pure, and one that says so is."""

import ast
from typing import Any

import pytest

# Modules whose purpose is the outside world. Typing-only imports (under TYPE_CHECKING) are free.
OUTSIDE = {
    "asyncio", "concurrent", "fcntl", "ftplib", "glob", "http", "httpx", "logging", "mmap", "multiprocessing",
    "os", "paho", "queue", "random", "requests", "secrets", "select", "selectors", "shutil", "signal", "smtplib",
    "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "urllib3", "uuid",
    "aiokafka", "alembic", "apprise", "duckdb", "fastapi", "iotcore", "rich", "structlog", "tenacity", "typer",
    "uvicorn", "urllib.request", "pyarrow.parquet", "pyarrow.fs", "pyarrow.dataset", "pyarrow.csv",
    "sqlalchemy.engine", "sqlalchemy.orm", "sqlalchemy.event", "sqlalchemy.pool", "sqlalchemy.ext",
}  # fmt: skip
# From modules that are otherwise fine: sqlalchemy's tables and types describe, a port may name them; these act.
OUTSIDE_NAMES = {
    "sqlalchemy": {"create_engine", "event", "inspect"},
}
# Attributes that touch a disk, whatever they are called on.
DISK = {
    "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink", "rmdir", "touch", "iterdir", "glob",
    "rglob", "is_file", "is_dir", "memmap", "fromfile", "tofile", "savez", "memory_map", "getenv", "environ",
}  # fmt: skip
CLOCK = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "today"), ("date", "today")}
CLOCK_HOME = "config/clock.py"


def imports(tree: ast.Module) -> list[tuple[str, str, int]]:
    """(module, name or "", line) of every import that runs, also those inside functions."""
    found: list[tuple[str, str, int]] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found.extend((alias.name, "", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.extend((node.module, alias.name, node.lineno) for alias in node.names)
        waiting.extend(ast.iter_child_nodes(node))
    return found


def impurities(tree: ast.Module, outside_ours: set[str]) -> list[str]:
    """What a pure module must not hold; `outside_ours` are our own modules that say I/O (their types and
    constants may be named, their functions not)."""
    told: list[str] = []
    for module, name, line in imports(tree):
        whole = f"{module}.{name}" if name else module
        prefixes = {".".join(whole.split(".")[:n]) for n in range(1, len(whole.split(".")) + 1)}
        if prefixes & OUTSIDE or name in OUTSIDE_NAMES.get(module, set()):
            told.append(f"{line}: imports {whole}")
        elif {module, whole} & outside_ours and (not name[:1].isupper() or whole in outside_ours):
            told.append(f"{line}: imports {whole}, which says I/O")
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("open", "print", "input")
        ):
            told.append(f"{node.lineno}: calls {node.func.id}")
        elif isinstance(node, ast.Attribute) and node.attr in DISK:
            told.append(f"{node.lineno}: uses .{node.attr}")
    return told


def clock_reads(tree: ast.Module) -> list[int]:
    """Lines that ask the machine for the time of day."""
    named = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    lines = [n.lineno for n in named if (ast.unparse(n.value).split(".")[-1], n.attr) in CLOCK]
    return lines + [line for module, name, line in imports(tree) if (module, name) in CLOCK]


def test_every_module_says_pure_or_io(modules: list[Any]) -> None:
    silent = [
        m.path
        for m in modules
        if not m.path.endswith("__init__.py") and not m.doc.startswith(("Pure:", "Pure (", "I/O:", "I/O ("))
    ]
    assert not silent, f"the docstring's first words must be 'Pure: ...' or 'I/O: ...': {silent}"


def test_pure_modules_are_pure(modules: list[Any]) -> None:
    # config.clock is where time is read; everybody may name its Protocol
    outside_ours = {m.name for m in modules if m.doc.startswith("I/O")} - {"config.clock"}
    told = [
        f"{m.path}:{what}" for m in modules if m.doc.startswith("Pure") for what in impurities(m.tree, outside_ours)
    ]
    assert not told, "\n".join(told)


def test_only_the_clock_reads_the_time(modules: list[Any]) -> None:
    told = [f"{m.path}:{line}" for m in modules if m.path != CLOCK_HOME for line in clock_reads(m.tree)]
    assert not told, f"take the clock that is passed in: {told}"
    home = [m for m in modules if m.path == CLOCK_HOME]
    assert clock_reads(home[0].tree), "this test has lost sight of the clock"


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import os", 1),
        ("import os.path", 1),
        ("from urllib.parse import quote", 0),
        ("from urllib.request import urlopen", 1),
        ("import urllib.request", 1),
        ("def f():\n    import socket", 1),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import socket", 0),
        ("from sqlalchemy import Table, select", 0),
        ("from sqlalchemy import create_engine", 1),
        ("from sqlalchemy.engine import Engine", 1),
        ("from sqlalchemy import engine", 1),
        ("from pathlib import Path\nPath('a') / 'b'", 0),
        ("from pathlib import Path\nPath('a').read_text()", 1),
        ("open('a')", 1),
        ("from config.shell import f", 1),
        ("import config.shell", 1),
        ("from config.shell import Row, LIMIT", 0),
        ("from config import shell", 1),
        ("from config.shelly import f", 0),
        ("import pyarrow.parquet as pq", 1),
        ("import pyarrow as pa", 0),
    ],
)
def test_impurities_are_found(source: str, count: int) -> None:
    assert len(impurities(ast.parse(source), {"config.shell"})) == count


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import time\ntime.time()", 1),
        ("import time\ntime.monotonic()", 0),
        ("from time import time", 1),
        ("import datetime\ndatetime.datetime.now()", 1),
        ("from datetime import datetime\ndatetime.now(UTC)", 1),
        ("clock.now_s()", 0),
        ("datetime.fromtimestamp(at_s, UTC)", 0),
    ],
)
def test_clock_reads_are_found(source: str, count: int) -> None:
    assert len(clock_reads(ast.parse(source))) == count
