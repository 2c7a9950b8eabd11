"""Disks that fail under a living city: full, unable to sync, unreliable, read-only; then checker and audit at zero.

The system calls of the real daemon are made to fail with libfiu: SQLite's writes are `pwrite`, its syncs `fdatasync`
and `fsync`; the archive's and the notices file's are `write` and `fsync`. Each fault comes and goes while the daemon
runs. A daemon that ends by itself is started again, as a supervisor would; what it ended with must be what
docs/operating.md says. Disks that are full for real: test_full_disk.py.
"""

import errno
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException

import pytest

FASTER = 15_000.0
SETTINGS = {
    "autopay": {"cooldown_s": 0, "cap_day_count": 1000, "cap_day_fen": 10**7, "cap_month_fen": 10**8},
    "archive": {"records_per_file": 16, "keep_records": 0, "age_max_s": int(FASTER)},
    "notices": {"attempts_max": 10**6, "retry_after_s": [int(0.3 * FASTER)]},
}
FAULT_S, BACK_S = 3.0, 60.0
FILES, FILES_SYNCS = ("posix/io/rw/write",), ("posix/io/sync/fsync",)  # of archive and notices alone
WRITES, SYNCS = ("posix/io/rw/pwrite",), ("posix/io/sync/fdatasync", "posix/io/sync/fsync")
ENDED_BY_ITSELF, REFUSED = 70, 4
SCRIPT = """
import ctypes, io, os, sys, threading, time
from pathlib import Path
class Said(io.RawIOBase):  # what the daemon says is read when a test fails: by a call that does not
    def writable(self):
        return True
    def write(self, text):
        return os.writev(2, [text])
sys.stderr = io.TextIOWrapper(io.BufferedWriter(Said()), write_through=True)
from meterd.cli import run
import meterd.daemon, pandas, pyarrow.csv  # Arrow would load pandas while other threads write, and stop here for good
fiu = ctypes.CDLL("libfiu.so.0")
fiu.fiu_enable_random.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_float)
def obey(path):
    obeyed = ""
    while True:
        asked = path.read_text()
        if asked != obeyed:
            for line in obeyed.splitlines():
                fiu.fiu_disable(line.split()[0].encode())
            obeyed = asked
            path.with_suffix(".obeyed").write_text(asked)  # this is a write, too, and may be what fails from here on
            for line in asked.splitlines():
                call, number, chance = line.split()
                fiu.fiu_enable_random(call.encode(), 1, int(number), 0, float(chance))
        time.sleep(0.02)
threading.Thread(target=obey, args=(Path(sys.argv[1]),), daemon=True).start()
Path(sys.argv[1]).with_suffix(".up").write_text(str(os.getpid()))
sys.exit(run(sys.argv[2:]))
"""


@dataclass
class Episode:
    """What came of one fault."""

    durable: list[int] = field(default_factory=list)  # messages that the log says it has, early in it and late
    held: int = 0  # messages that the fleet was told are held, late in it
    codes: list[int] = field(default_factory=list)  # of daemons that ended by themselves
    metrics: str = ""  # of the daemon at the episode's end; "" when it had ended, or was about to
    goes_on: bool = False  # once the fault was gone


@dataclass
class Narrow:
    """What came of a fault that archive and notices file alone have."""

    codes: list[int] = field(default_factory=list)  # of daemons that ended by themselves
    said: str = ""  # by the daemon that did, at last
    archived: tuple[int, int] = (0, 0)  # files that the ledger names, early in it and late
    told: tuple[int, int] = (0, 0)  # notices that the ledger calls sent
    done: bool = False  # both went on once the fault was gone


@dataclass
class Story:
    """Episodes by name, and the end."""

    episodes: dict[str, Episode] = field(default_factory=dict)
    narrow: dict[str, Narrow] = field(default_factory=dict)
    end: dict = field(default_factory=dict)


class Failing:
    """A rig whose daemon's disk fails when it is told to."""

    def __init__(self, crash, rig, library):
        self.crash, self.rig, self.faults = crash, rig, rig.folder / "faults"
        # Arrow's allocator would start a thread while its library is loaded, and that stops for good inside libfiu.
        self.environment = {"LD_PRELOAD": str(library), "JE_ARROW_MALLOC_CONF": "background_thread:false"}

    def start(self):
        """Now and then libfiu stops a process for good while its libraries are loaded: another one then."""
        up = self.faults.with_suffix(".up")
        for _ in range(4):
            program = ("-c", SCRIPT, str(self.faults))
            self.rig.start_daemon(program=program, environment=self.environment, wait=False)
            pid, until = str(self.rig.daemon.pid), time.monotonic() + 20
            while self.rig.daemon.poll() is None and not (up.exists() and up.read_text() == pid):
                if time.monotonic() > until:
                    break
                time.sleep(0.02)
            else:
                return
            self.rig.kill_daemon()
        raise AssertionError("no daemon gets through its imports under libfiu")

    def say(self, calls=(), number=0, chance=1.0, *, wait=True):
        """What fails from now on; back when the daemon has heard it."""
        asked = "".join(f"{call} {number} {chance}\n" for call in calls)
        written = self.faults.with_suffix(".new")
        written.write_text(asked)
        written.replace(self.faults)
        obeyed, until = self.faults.with_suffix(".obeyed"), time.monotonic() + 60
        while wait and self.rig.daemon.poll() is None and not (obeyed.exists() and obeyed.read_text() == asked):
            assert time.monotonic() < until, "the daemon does not hear"
            time.sleep(0.02)

    def held(self):
        if not self.crash.outbox_stands(self.rig):
            return 0
        return sum(held for (held,) in self.crash.asked(self.rig.outbox, "SELECT held FROM stream"))

    def durable(self):
        return sum(self.crash.marks(self.rig.data / "log.db").values())

    def more_is_held(self, deadline_s=BACK_S):
        """Whether the fleet comes to be told of more than now; a daemon that ends meanwhile is started again."""
        before, until = self.held(), time.monotonic() + deadline_s
        while self.held() <= before and time.monotonic() < until:
            if self.rig.daemon.poll() is not None:
                self.start()
            time.sleep(0.1)
        return self.held() > before

    def metrics(self):
        """What the daemon says of itself; "" when it is not up yet, or about to end."""
        return self.answer("metrics")

    def answer(self, what):
        """Of the daemon's HTTP interface; "" when there is none, or it says no."""
        endpoint = self.rig.endpoint()
        if endpoint is None:
            return ""
        asked = urllib.request.Request(
            f"{endpoint['http']}/{what}", headers={"Authorization": f"Bearer {endpoint['token']}"}
        )
        with suppress(OSError, HTTPException), urllib.request.urlopen(asked, timeout=5) as answer:
            return answer.read().decode()
        return ""

    def failures(self):
        """How often the daemon's log could not be written, as it says itself; None when it says nothing."""
        said = [line for line in self.metrics().splitlines() if line.startswith("meterd_log_failures_total")]
        return float(said[0].split()[-1]) if said else None

    def failures_of_a_daemon_that_is_up(self):
        """And of which no part has ended of what failed before."""
        until = time.monotonic() + BACK_S
        while (found := self.failures()) is None or not self.answer("healthz"):
            assert time.monotonic() < until, "no daemon comes up"
            if self.rig.daemon.poll() is not None:
                self.start()
            time.sleep(0.05)
        return found

    def await_failure(self, before):
        until = time.monotonic() + FAULT_S
        while self.rig.daemon.poll() is None and time.monotonic() < until:
            if (self.failures() or 0.0) > before:
                return
            time.sleep(0.02)

    def archived(self):
        return self.crash.asked(self.rig.data / "ledger.db", "SELECT count(*) FROM archive_file")[0][0]

    def told(self):
        asked = "SELECT count(*) FROM notice_delivery WHERE state = 'sent'"
        return self.crash.asked(self.rig.data / "ledger.db", asked)[0][0]

    def untold(self, number):
        """Deliveries that wait because the file said no with that number."""
        asked = f"SELECT count(*) FROM notice_delivery WHERE state = 'pending' AND error LIKE '%Errno {number}]%'"
        return self.crash.asked(self.rig.data / "ledger.db", asked)[0][0]

    def until(self, ready, what, *, revive=True):
        """Wait; a daemon that ends meanwhile is started again, or is what was waited for."""
        until = time.monotonic() + BACK_S
        while not ready():
            assert time.monotonic() < until, what
            if self.rig.daemon.poll() is not None:
                if not revive:
                    return
                self.start()
            time.sleep(0.05)

    def narrow(self, calls, number):
        """The fault comes to archive and notices file alone; readings are held meanwhile, unless the daemon ends."""
        found = Narrow()
        self.failures_of_a_daemon_that_is_up()
        self.until(lambda: self.untold(number) == 0, "an earlier fault is not over")
        self.say(calls, number)
        self.until(lambda: self.untold(number) > 0, "the notices file does not meet the fault", revive=False)
        archived, told, held = self.archived(), self.told(), self.held()
        self.until(lambda: self.held() > held + 20, "nothing is held", revive=False)
        found.archived, found.told = (archived, self.archived()), (told, self.told())
        if self.rig.daemon.poll() is not None:
            found.codes.append(self.rig.daemon.poll())
            found.said = self.rig.last_words()
            self.crash.holds(self.crash.moment(self.rig))
        self.say()
        self.until(lambda: self.archived() > archived and self.told() > told, "archive and notices do not go on")
        found.done = True
        return found

    def ended(self):
        """Until the fleet has ended; a daemon that ends late of what failed before is started again."""
        self.rig.end_fleet()
        until = time.monotonic() + BACK_S
        while self.rig.fleet.poll() is None and time.monotonic() < until:
            if self.rig.daemon.poll() is not None:
                self.rig.start_daemon()
            time.sleep(0.1)

    def episode(self, calls, number, chance=1.0):
        """The fault comes, lasts for a while, and goes."""
        found = Episode()
        before = self.failures_of_a_daemon_that_is_up()
        self.say(calls, number, chance)
        self.await_failure(before)  # what was in the middle of a system call is over by then
        found.durable.append(self.durable())
        until = time.monotonic() + FAULT_S
        while time.monotonic() < until:
            code = self.rig.daemon.poll()
            if code is not None:
                found.codes.append(code)
                self.crash.holds(self.crash.moment(self.rig))
                if chance == 1.0:
                    break
                self.start()
            time.sleep(0.05)
        found.durable.append(self.durable())
        found.held = self.held()
        found.metrics = self.metrics()
        self.say()
        found.goes_on = self.more_is_held()
        return found


@pytest.fixture(scope="module")
def story(crash, fiu, tmp_path_factory):
    found = Story()
    told = crash.story(meters=40, days=400, seed=31, factor=FASTER, partitions=4, lead_real_s=3.0, settings=SETTINGS)
    with crash.city(tmp_path_factory.mktemp("disk"), told) as rig:
        rig.prepare()
        rig.start_gateway()
        failing = Failing(crash, rig, fiu)
        failing.say(wait=False)
        failing.start()
        rig.start_fleet()
        assert failing.more_is_held(60), "the city does not run"
        found.episodes["full"] = failing.episode(WRITES, errno.ENOSPC)
        found.episodes["no sync"] = failing.episode(SYNCS, errno.EIO)
        found.episodes["read-only"] = failing.episode(WRITES, errno.EROFS)
        found.episodes["now and then"] = failing.episode((*WRITES, *SYNCS), errno.EIO, 0.03)
        found.narrow["no room"] = failing.narrow(FILES, errno.ENOSPC)
        found.narrow["no sync"] = failing.narrow(FILES_SYNCS, errno.EIO)
        failing.ended()
        found.end = crash.ends_at_zero(rig)
    return found


@pytest.mark.parametrize("fault", ["full", "no sync", "read-only"])
def test_nothing_is_held_while_nothing_can_be_written(story, fault):
    episode = story.episodes[fault]
    early, late = episode.durable
    assert 0 < episode.held <= early
    # A daemon that ends closes its log, and the next to open it finds the last transaction of which nobody was told.
    if episode.metrics and not episode.codes:
        assert late == early


@pytest.mark.parametrize("fault", ["full", "no sync", "read-only", "now and then"])
def test_it_goes_on_once_the_disk_does(story, fault):
    assert story.episodes[fault].goes_on
    assert set(story.episodes[fault].codes) <= {ENDED_BY_ITSELF, REFUSED}


def test_a_full_disk_stops_nothing_for_good(story):
    """Back-pressure: the same daemon waits for room, and says so."""
    full = story.episodes["full"]
    assert not full.codes
    (said,) = (line for line in full.metrics.splitlines() if line.startswith("meterd_log_failures_total"))
    assert float(said.split()[-1]) > 0


@pytest.mark.parametrize("fault", ["no room", "no sync"])
def test_archive_and_notices_go_on_once_their_files_do(story, fault):
    narrow = story.narrow[fault]
    assert narrow.done
    # Room may come; what a failed sync of an archive file has left is unknown, and the next start sweeps it away.
    assert set(narrow.codes) <= ({ENDED_BY_ITSELF} if fault == "no sync" else set()), narrow.said
    assert narrow.archived[1] - narrow.archived[0] <= 1  # a file that was durable, and not named yet
    assert narrow.told[0] == narrow.told[1]


def test_the_end_agrees(story):
    counts = story.end["audited"]["counts"]
    assert counts["readings"] > 1_000
    assert counts["charges"] == counts["credits"] > 0


@contextmanager
def read_only(folder):
    """The folder as a disk that takes nothing; root is not stopped by permissions, and mounts."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True, timeout=10)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True, timeout=10)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=10)


def test_a_read_only_directory_is_refused(tmp_path):
    data, config = tmp_path / "data", tmp_path / "meterd.toml"
    config.write_text(f'data_dir = "{data}"\npartitions = 2\n[mqtt]\nport = 0\n[http]\nport = 0\n')
    data.mkdir()
    with read_only(data):
        arguments = [sys.executable, "-m", "meterd.cli", "run", "--config", str(config)]
        done = subprocess.run(arguments, capture_output=True, check=False, timeout=60, text=True)
        assert not list(data.iterdir())
    assert done.returncode == REFUSED, done.stderr[-2000:]
    assert str(data) in done.stderr
    assert "Traceback" not in done.stderr
