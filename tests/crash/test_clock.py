"""A real daemon whose machine's clock leaps: it ends before it writes, and goes on once the clock is right."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
import meterd.clocks
from config.clock import RealClock

class Leaping(RealClock):
    def now_s(self):
        return super().now_s() + int(Path(sys.argv[1]).read_text())

meterd.clocks.clock_of = lambda _: Leaping()
from meterd.cli import run
sys.exit(run(["run", *sys.argv[2:]]))
"""
HOUR, REFUSED = 3600, 4


class Daemon:
    """`meterd run` under a clock that is `offset` wrong."""

    def __init__(self, folder):
        self.offset, self.data, self.config = folder / "offset", folder / "data", folder / "meterd.toml"
        self.config.write_text(
            f'data_dir = "{self.data}"\npartitions = 2\n[mqtt]\nport = 0\n[http]\nport = 0\n'
            "[ingest]\ntick_interval_s = 1\n"
        )
        self.process = None

    def program(self):
        """What stands before the options, and what is added to the environment."""
        return ["-c", SCRIPT, str(self.offset)], {}

    def written(self, offset_s):
        return str(offset_s)

    def start(self, *options):
        program, environment = self.program()
        arguments = [sys.executable, *program, "--config", str(self.config), *options]
        self.process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment
        )

    def says(self, offset_s):
        written = self.offset.with_suffix(".new")
        written.write_text(self.written(offset_s))
        written.replace(self.offset)

    def ended(self):
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def newest_s(self):
        if not (self.data / "log.db").exists():
            return 0
        with closing(sqlite3.connect(f"file:{self.data / 'log.db'}?mode=ro", uri=True, timeout=10)) as db:
            try:
                return db.execute("SELECT coalesce(max(received_at_s), 0) FROM record").fetchone()[0]
            except sqlite3.OperationalError:
                return 0  # its tables are not there yet

    def ticks(self):
        """Until it writes, and what it wrote last."""
        before, until = self.newest_s(), time.monotonic() + 60
        while self.newest_s() <= before:
            assert self.process.poll() is None, self.ended()
            assert time.monotonic() < until, "no tick"
            time.sleep(0.05)
        return self.newest_s()


# libfaketime 0.9.10 refuses clock_nanosleep as Python's sleep calls it when the monotonic clock is to stay as it is.
AS_IT_IS = """
import select, sys, time
time.sleep = lambda real_s: select.select([], [], [], real_s)
from meterd.cli import run
sys.exit(run(["run", *sys.argv[1:]]))
"""


class Preloaded(Daemon):
    """The daemon as it is; the operating system tells it the wrong time (libfaketime)."""

    library = Path()

    def program(self):
        told = {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        told |= {"FAKETIME_TIMESTAMP_FILE": str(self.offset), "LD_PRELOAD": str(self.library)}
        return ["-c", AS_IT_IS], told

    def written(self, offset_s):
        return f"{offset_s:+d}"


@pytest.fixture(params=["in the daemon", "libfaketime"])
def daemon(request, tmp_path):
    if request.param == "libfaketime":
        made = Preloaded(tmp_path)
        made.library = request.getfixturevalue("faketime")
    else:
        made = Daemon(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


def test_a_leap_ends_the_daemon_before_it_writes(daemon):
    daemon.says(0)
    daemon.start()
    good = daemon.ticks()
    daemon.says(-30)  # a small step, as NTP makes them, stops nothing
    time.sleep(1)
    assert daemon.process.poll() is None
    daemon.says(20 * 24 * HOUR)
    code, said = daemon.ended()
    assert code == REFUSED, said[-2000:]
    assert "The clock leapt from" in said
    assert "--accept-clock" in said
    assert good <= daemon.newest_s() < good + 60

    daemon.start()  # as a supervisor would, at once
    code, said = daemon.ended()
    assert code == REFUSED, said[-2000:]
    assert "the last daemon ended because the clock leapt" in said
    assert daemon.newest_s() < good + 60

    daemon.says(0)
    daemon.start()
    assert good < daemon.ticks() < good + HOUR
    code, said = daemon.stop()
    assert code == 0, said[-2000:]

    daemon.says(-2 * HOUR)
    daemon.start()
    code, said = daemon.ended()
    assert code == REFUSED, said[-2000:]
    daemon.says(40 * 24 * HOUR)
    daemon.start("--accept-clock")
    assert daemon.ticks() > good + 39 * 24 * HOUR
    code, said = daemon.stop()
    assert code == 0, said[-2000:]
