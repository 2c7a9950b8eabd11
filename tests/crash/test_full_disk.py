"""Disks that are full for real, under a living city; then checker and audit at zero.

Data directory, archive and notices file lie on small file systems of their own (tmpfs) and are filled with ballast
until a writer meets ENOSPC, each by itself and all together; then there is room again. Where nothing can be mounted,
and everywhere as one more episode, the limit of a file's size (RLIMIT_FSIZE) stops all writers of the daemon at once.
"""

import contextlib
import resource
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPException

import pytest

FASTER = 15_000.0
SETTINGS = {
    "autopay": {"cooldown_s": 0, "cap_day_count": 1000, "cap_day_fen": 10**7, "cap_month_fen": 10**8},
    "archive": {"records_per_file": 16, "keep_records": 0, "age_max_s": int(FASTER)},
    "notices": {"file": "notices.jsonl", "attempts_max": 10**6, "retry_after_s": [int(0.3 * FASTER)]},
}
DATA_MB, ARCHIVE_MB, TOLD_MB = 128, 8, 2  # the log's journal alone takes 64 before it begins again
LEFT_BYTES = 256 << 10  # that the city fills by itself
FILE_BYTES = 64 << 10  # where files of the daemon may be no longer
DEADLINE_S = 120.0
ENDED_BY_ITSELF, REFUSED = 70, 4
FULL = "No space left on device"


@dataclass
class Episode:
    """What came of one full disk."""

    pids: tuple[int, int] = (0, 0)  # of the daemon before and after
    met: bool = False  # the writer that was meant has met it
    held: tuple[int, int] = (0, 0)  # when the disk was full, and later, while it was
    durable: tuple[int, int] = (0, 0)  # likewise
    done: bool = False  # what waited was done once there was room


@dataclass
class Story:
    """Episodes by name, and the end."""

    episodes: dict[str, Episode] = field(default_factory=dict)
    killed: tuple[int, str] = (0, "")  # a start on a full disk: code (0: it was up) and what it said
    limit_codes: list[int] = field(default_factory=list)
    end: dict = field(default_factory=dict)


def ballast(disk, leave=0):
    """Not a byte is left on it, or so many."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size) == size:
                    pass
        if leave:
            file.truncate(max(0, file.tell() - leave))


class Small:
    """A rig on small disks."""

    def __init__(self, crash, rig):
        self.crash, self.rig = crash, rig
        self.disks = {"archive": rig.data / "archive", "notices": rig.folder / "told", "data": rig.data}

    def fill(self, name, leave=0):
        ballast(self.disks[name], leave)

    def room(self, name):
        (self.disks[name] / "ballast").unlink()

    def held(self):
        if not self.crash.outbox_stands(self.rig):
            return 0
        return sum(held for (held,) in self.crash.asked(self.rig.outbox, "SELECT held FROM stream"))

    def durable(self):
        return sum(self.crash.marks(self.rig.data / "log.db").values())

    def archived(self):
        asked = 'SELECT coalesce(sum("last_offset" - "first_offset" + 1), 0) FROM archive_file'
        return self.crash.asked(self.rig.data / "ledger.db", asked)[0][0]

    def told(self):
        return (self.rig.data / "notices.jsonl").read_bytes().count(b"\n")

    def untold(self):
        """Deliveries that wait because the file's disk is full."""
        asked = "SELECT count(*) FROM notice_delivery WHERE state = 'pending' AND error LIKE '%Errno 28%'"
        return self.crash.asked(self.rig.data / "ledger.db", asked)[0][0]

    def log_failures(self):
        """As the daemon says itself."""
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until and self.rig.daemon.poll() is None:
            with contextlib.suppress(OSError, HTTPException, TypeError):
                endpoint = self.rig.endpoint()
                asked = urllib.request.Request(
                    f"{endpoint['http']}/metrics", headers={"Authorization": f"Bearer {endpoint['token']}"}
                )
                with urllib.request.urlopen(asked, timeout=5) as answer:
                    lines = answer.read().decode().splitlines()
                return float(next(line for line in lines if line.startswith("meterd_log_failures_total")).split()[-1])
            time.sleep(0.05)
        return -1.0  # it has ended, or is about to

    def said(self):
        return (self.rig.folder / "daemon.log").read_text(errors="replace")

    def archive_failures(self):
        return sum(FULL in line and "archive" in line for line in self.said().splitlines())

    def until(self, ready, what, *, alive=True):
        until = time.monotonic() + DEADLINE_S
        while not ready():
            assert not alive or self.rig.daemon.poll() is None, f"{what}: {self.said()[-3000:]}"
            assert time.monotonic() < until, f"{what}: {self.said()[-3000:]}"
            time.sleep(0.05)

    def more(self, count, what):
        before = count()
        self.until(lambda: count() > before, what)

    def part(self, name, failures, done):
        """One writer's disk is full: it waits, the rest of the city does not."""
        found, pid = Episode(), self.rig.daemon.pid
        before = failures()
        self.fill(name)
        self.until(lambda: failures() > before, f"nobody meets the full disk of {name}")
        found.met = True
        held = self.held()
        self.more(self.held, f"nothing more is held while the disk of {name} is full")
        found.held = held, self.held()
        self.room(name)
        self.more(done, f"{name} does not go on")
        found.done, found.pids = True, (pid, self.rig.daemon.pid)
        return found

    def all_full(self):
        """The whole data directory is full: nothing more is held, until there is room."""
        assert self.rig.stop_daemon() == 0  # a journal that begins again would have room in its own file
        self.rig.start_daemon()
        self.more(self.held, "the city does not run")
        found, pid, failures = Episode(), self.rig.daemon.pid, self.log_failures()
        archive = self.archive_failures()
        self.fill("archive")
        self.fill("notices")
        self.fill("data", LEFT_BYTES)  # the city fills the rest
        self.until(lambda: self.log_failures() > failures, "the log does not meet the full disk")
        self.until(lambda: self.archive_failures() > archive, "the archive does not meet the full disk")
        found.met = True
        found.durable, found.held = self.standstill()
        for name in ("data", "archive", "notices"):
            self.room(name)
        self.more(self.held, "nothing is held though there is room")
        self.more(self.archived, "nothing is archived though there is room")
        found.done, found.pids = True, (pid, self.rig.daemon.pid)
        return found

    def standstill(self):
        """Until the log has failed again and has not grown; a shorter group may fit where a longer did not."""
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            durable, held, failures = self.durable(), self.held(), self.log_failures()
            self.until(lambda past=failures: self.log_failures() > past, "the log stopped trying")
            if self.durable() == durable:
                return (durable, self.durable()), (held, self.held())
        raise AssertionError("the log finds room on a full disk")

    def killed_while_full(self):
        """kill -9 on a full disk, and a start on it: it comes up and waits, or is refused and says so."""
        self.fill("archive")
        failures = self.log_failures()
        self.fill("data")
        self.until(lambda: self.log_failures() > failures, "the log does not meet the full disk")
        self.rig.kill_daemon()
        before = len(self.said())
        self.rig.start_daemon(wait=False)
        self.until(
            lambda: self.rig.endpoint() is not None or self.rig.daemon.poll() is not None,
            "a start on a full disk neither ends nor comes up",
            alive=False,
        )
        code = self.rig.daemon.poll() or 0
        for name in ("data", "archive"):
            self.room(name)
        if code:
            self.rig.start_daemon()
        self.more(self.held, "nothing is held after a start on a full disk")
        return code, self.said()[before:]

    def limited(self):
        """No file of the daemon may grow beyond a size: it goes on, or ends and says so; the next goes on."""
        _, hard = resource.prlimit(self.rig.daemon.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.rig.daemon.pid, resource.RLIMIT_FSIZE, (FILE_BYTES, hard))
        failures, codes = self.log_failures(), []
        self.until(
            lambda: self.rig.daemon.poll() is not None or self.log_failures() > failures + 2,
            "nobody meets the limit",
            alive=False,
        )
        if self.rig.daemon.poll() is not None:
            codes.append(self.rig.daemon.poll())
            self.crash.holds(self.crash.moment(self.rig))
            self.rig.start_daemon()
        else:
            with contextlib.suppress(ProcessLookupError):  # it ends just now
                resource.prlimit(self.rig.daemon.pid, resource.RLIMIT_FSIZE, (hard, hard))
        before = self.held()
        until = time.monotonic() + DEADLINE_S
        while self.held() <= before:
            assert time.monotonic() < until, self.said()[-3000:]
            if self.rig.daemon.poll() is not None:
                codes.append(self.rig.daemon.poll())
                self.rig.start_daemon()
            time.sleep(0.05)
        return codes


@pytest.fixture(scope="module")
def story(crash, mounting, tmp_path_factory):
    found, folder = Story(), tmp_path_factory.mktemp("full")
    told = crash.story(meters=40, days=400, seed=33, factor=FASTER, partitions=4, lead_real_s=3.0, settings=SETTINGS)
    rig = crash.city(folder, told)
    small = Small(crash, rig)
    with ExitStack() as disks:
        if mounting:
            for name, megabytes in (("data", DATA_MB), ("archive", ARCHIVE_MB), ("notices", TOLD_MB)):
                disks.enter_context(crash.small_disk(small.disks[name], megabytes))
            (rig.data / "notices.jsonl").symlink_to(small.disks["notices"] / "notices.jsonl")
        disks.enter_context(rig)
        rig.prepare()
        rig.start_gateway()
        rig.start_daemon()
        rig.start_fleet()
        small.until(lambda: small.held() > 20, "the city does not run")
        if mounting:
            small.more(small.archived, "nothing is archived")
            found.episodes["archive"] = small.part("archive", small.archive_failures, small.archived)
            found.episodes["notices"] = small.part("notices", small.untold, small.told)
            found.episodes["all"] = small.all_full()
            found.killed = small.killed_while_full()
        found.limit_codes = small.limited()
        found.end = crash.ends_at_zero(rig)
    return found


@pytest.fixture
def episodes(mounting, no_mounts, story):
    if not mounting:
        no_mounts("RLIMIT_FSIZE stands for a full disk")
    return story.episodes


@pytest.mark.parametrize("name", ["archive", "notices", "all"])
def test_a_full_disk_is_waited_for(episodes, name):
    """The same process meets it, and goes on when there is room."""
    episode = episodes[name]
    assert episode.met
    assert episode.done
    assert len(set(episode.pids)) == 1


@pytest.mark.parametrize("name", ["archive", "notices"])
def test_readings_are_held_while_another_disk_is_full(episodes, name):
    early, late = episodes[name].held
    assert 0 < early < late


def test_nothing_is_held_while_the_log_finds_no_room(episodes):
    full = episodes["all"]
    assert full.durable[0] == full.durable[1]
    assert 0 < full.held[0] <= full.held[1] <= full.durable[1]


def test_a_start_on_a_full_disk_says_what_is_wrong(episodes, story):
    code, said = story.killed
    assert code in (0, REFUSED), said[-2000:]
    assert "Traceback" not in said
    assert code == 0 or "Make room" in said


@pytest.mark.parametrize("left_kb", [0, 16, 128, 512])
def test_a_first_start_on_a_full_disk_is_refused(crash, mounting, no_mounts, tmp_path, left_kb):
    """Whichever file it is for which there is no room: what is said is to make some, and not to restore a backup."""
    if not mounting:
        no_mounts("a small one")
    data, config = tmp_path / "data", tmp_path / "meterd.toml"
    config.write_text(f'data_dir = "{data}"\npartitions = 2\n[mqtt]\nport = 0\n[http]\nport = 0\n')
    with crash.small_disk(data, 2):
        ballast(data, left_kb << 10)
        arguments = [sys.executable, "-m", "meterd.cli", "run", "--config", str(config)]
        done = subprocess.run(arguments, capture_output=True, check=False, timeout=DEADLINE_S, text=True)
    assert done.returncode == REFUSED, done.stderr[-2000:]
    assert "make room" in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_a_limit_of_file_sizes_ends_the_daemon_at_most(story):
    assert set(story.limit_codes) <= {ENDED_BY_ITSELF, REFUSED}


def test_the_end_agrees(story):
    counts = story.end["audited"]["counts"]
    assert counts["readings"] > 1_000
    assert counts["charges"] == counts["credits"] > 0
    assert story.end["now"].told
