"""Fixtures that every package's tests may use."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

import pytest

FAKETIME: Final = "faketime/libfaketimeMT.so.1"


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def mosquitto() -> Iterator[int]:
    """The port of a Mosquitto that is this test's own; a machine without one skips, CI fails (`make services`)."""
    from benchmarks.mosquitto import Mosquitto, program

    if program() is None:
        _missing("Mosquitto")
    with Mosquitto() as broker:
        yield broker.port


@pytest.fixture(scope="session")
def fiu() -> Path:
    """libfiu's library that makes system calls fail when it is preloaded; a machine without skips, CI fails."""
    return _library("libfiu", "fiu/fiu_posix_preload.so")


@pytest.fixture(scope="session")
def faketime() -> Path:
    """libfaketime's library for threads, to be preloaded; a machine without skips, CI fails."""
    return _library("libfaketime", FAKETIME)


@pytest.fixture(scope="session")
def faketime_if_there() -> Path | None:
    """The same, for a test that has something in its place."""
    return next(iter(_installed(FAKETIME)), None)


@pytest.fixture(scope="session")
def openssl() -> str:
    """The program that makes certificates; a machine without skips, CI fails."""
    return shutil.which("openssl") or _missing("openssl")


@pytest.fixture(scope="session")
def no_mounts() -> Callable[[str], NoReturn]:
    """What a test does that needs a file system of its own where nothing can be mounted: it skips, CI fails."""
    return lambda why: _missing(f"file systems to mount ({why})", "root may mount")


def _installed(place: str) -> list[Path]:
    return sorted(path for folder in ("/usr/lib", "/usr/lib64") for path in Path(folder).glob(f"**/{place}"))


def _library(name: str, place: str) -> Path:
    found = _installed(place)
    return found[0] if found else _missing(name)


def _missing(name: str, remedy: str = "`make services` installs it") -> NoReturn:
    assert os.environ.get("CI", "").lower() not in ("1", "true"), f"CI has {name}: {remedy}"
    pytest.skip(f"no {name} on this machine: {remedy}")
