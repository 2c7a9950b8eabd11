"""`meterd load`: a daemon of its own under load, its report, how it ends; and a broker of somebody else's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from meterd import cli
from meterd.exits import Exit
from registry.generate import generate

SHORT = ("--meters", "600", "--per-message", "20", "--rate", "60", "--seconds", "5")
SMALL = ("--meters", "600", "--per-message", "20", "--rate", "60", "--seconds", "15")


def load(*words: str) -> int:
    return cli.run(["load", *words])


def told(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_a_city_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything is held, every balance right, every measure measured; faults are accounted for."""
    faults = "duplicate=0.2,reorder=0.1,bad=0.2,drop=0.05"
    code = load(
        *SMALL, "--processes", "2", "--faults", faults, "--report", str(tmp_path),
        "--objective", "reading_to_balance.p50=60s", "--objective", "held.max=60s",
    )  # fmt: skip
    report, said = told(tmp_path), capsys.readouterr()
    assert code == Exit.OK, (said.out, said.err)
    verdict, latency = report["verdict"], report["latency_ms"]
    assert report["good"]
    assert verdict["held"] == verdict["messages"] == 45
    assert verdict["energy_sent_wh"] == verdict["energy_billed_wh"] > 0
    assert verdict["audit_ok"]
    assert set(verdict["exceptions"]) <= {"malformed", "late"}
    assert 0 < report["sent"]["bad"] <= verdict["exceptions"]["malformed"]  # more where one came twice
    assert latency["published"]["count"] == latency["held"]["count"] == 45
    assert 0 < latency["reading_to_balance"]["count"] == 45 - report["sent"]["bad"]
    assert latency["reading_to_order"]["count"] == latency["reading_to_notice"]["count"] > 0
    assert latency["reading_to_order"]["max"] <= latency["reading_to_notice"]["max"]
    daemon, broker = (report["resources"][name] for name in ("daemon", "broker"))
    assert daemon["rss_most"] > broker["rss_most"] > 1e6
    assert daemon["cores"] > 0
    assert report["looks_ms"]["count"] > 1000
    assert report["broker"].startswith("process ")
    assert "broker: process " in said.out
    assert said.err.count("due ") >= 4  # a line a second
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert "<script" not in page


def test_a_missed_objective_is_an_exit_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = load(*SHORT, "--no-audit", "--report", str(tmp_path), "--objective", "reading_to_balance.p99=1us")
    assert code == Exit.NO
    assert "MISSED: reading_to_balance.p99=1us" in capsys.readouterr().out
    verdict = told(tmp_path)["verdict"]
    assert verdict["good"]
    assert verdict["meters_wrong"] == 0
    assert verdict["audit"] == "not asked for"
    assert "audit_ok" not in verdict


def processes(of: Path) -> list[str]:
    """Command lines of those that were started in that folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [one for one in found if str(of) in one]


@pytest.mark.parametrize(
    ("number", "after", "whole_group"), [(signal.SIGINT, "acknowledged 3", True), (signal.SIGTERM, "making", False)]
)
def test_an_interrupt_ends_it_in_order(number: int, after: str, whole_group: bool, tmp_path: Path) -> None:
    """A terminal interrupts the whole group, a supervisor one process; a run that has begun gets its report."""
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    words = ["--meters", "600", "--per-message", "20", "--rate", "60", "--seconds", "60", "--report", str(out)]
    made = subprocess.Popen(
        [sys.executable, "-m", "meterd.cli", "load", *words], env=dict(os.environ) | {"TMPDIR": str(work)},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert made.stderr is not None
    said = next(line for line in made.stderr if after in line)
    (os.killpg if whole_group else os.kill)(made.pid, number)
    _, rest = made.communicate(timeout=120)
    assert made.returncode == 130, said + rest
    assert rest.endswith("interrupted\n")
    assert "Traceback" not in rest
    assert list(work.iterdir()) == []
    assert processes(work) == []
    if after == "making":
        assert not (out / "report.json").exists()
        return
    verdict = told(out)["verdict"]
    assert verdict["interrupted"]
    assert not verdict["good"]
    assert 3 <= verdict["messages"] == verdict["held"] < 180  # what was due by then, and all of it is there
    assert verdict["energy_sent_wh"] == verdict["energy_billed_wh"]
    assert verdict["audit_ok"]
    assert (out / "daemon.log").stat().st_size


def test_a_backlog_makes_balances_low_that_autopay_puts_off(tmp_path: Path) -> None:
    """Three days of use are more than one order: the next one is a cool-down away, and nobody waits for it."""
    words = ("--pattern", "backfill", "--no-audit", "--report", str(tmp_path))
    assert load("--meters", "1000", "--per-message", "10", "--rate", "60", "--seconds", "5", *words) == Exit.OK
    report = told(tmp_path)
    assert report["verdict"]["put_off_by_autopay"] > 0
    assert report["verdict"]["never_seen"] == {}
    assert report["latency_ms"]["reading_to_order"]["count"] == report["latency_ms"]["reading_to_notice"]["count"] > 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--pattern", "sideways"), "sideways"),
        (("--format", "xml"), "xml"),
        (("--faults", "sloth=1"), "sloth"),
        (("--faults", "bad=2"), "bad=2"),
        (("--objective", "held.p101=1s"), "at most 100"),
        (("--objective", "soon"), "soon"),
        (("--meters", "1000", "--rate", "1000"), "read every 1.0 s"),
        (
            ("--meters", "1000", "--rate", "100", "--pattern", "ramp"),
            "--meters 2000 or more, or for --rate 50 or less",
        ),
        (("--processes", "9", "--meters", "500", "--rate", "1"), "too few"),
        (("--broker", "localhost:1"), "--registry"),
        (("--broker", "localhost", "--registry", "."), "localhost:8883"),
        (("--user", "me"), "--broker"),
        (("--broker-pid", "1"), "--broker"),
        (("--broker", "localhost:99999", "--registry", "."), "localhost:8883"),
        (("--broker", "localhost:1", "--registry", ".", "--cert", "c.pem"), "go together"),
        (("--broker", "localhost:1", "--registry", ".", "--cafile", "none.pem"), "none.pem"),
        (("--broker", "localhost:1", "--registry", ".", "--password-file", "none"), "--user"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    words: tuple[str, ...], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load(*words, "--report", str(tmp_path / "out")) == Exit.USAGE
    assert why in capsys.readouterr().err


def test_a_registry_of_other_concentrators_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(tmp_path / "city", meters=600, seed=1, start="2026-07-01", concentrator_size=50)
    there = ("--broker", "127.0.0.1:1", "--registry", str(tmp_path / "city"), "--report", str(tmp_path / "out"))
    assert load(*SHORT, *there) == Exit.USAGE
    assert "--meters 600 --per-message 50" in capsys.readouterr().err


@pytest.fixture
def certificates(openssl: str, tmp_path: Path) -> Path:
    """ca.pem, and broker and client with their keys, signed by it."""
    folder = tmp_path / "tls"
    folder.mkdir()

    def made(*words: str) -> None:
        subprocess.run([openssl, *words], check=True, capture_output=True, cwd=folder, timeout=30)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    made("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test ca")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("broker", "client"):
        made("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        made(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", "2", "-extfile", "names",
        )  # fmt: skip
    return folder


@pytest.mark.mosquitto
def test_a_broker_of_somebody_elses_over_tls(
    mosquitto: int, certificates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mosquitto asks for a certificate; nobody is behind it, so nothing comes to be held, and that is said."""
    from benchmarks.mosquitto import Mosquitto

    assert mosquitto  # a machine without one skips here
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = (
        f"listener {port} 127.0.0.1", f"cafile {certificates / 'ca.pem'}", f"certfile {certificates / 'broker.pem'}",
        f"keyfile {certificates / 'broker.key'}", "require_certificate true", "use_identity_as_username true",
    )  # fmt: skip
    registry = tmp_path / "city"
    generate(registry, meters=600, seed=1, start="2026-07-01", concentrator_size=20)
    there = ("--broker", f"localhost:{port}", "--registry", str(registry), "--wait", "1", "--report", str(tmp_path))
    ca, own = ("--cafile", str(certificates / "ca.pem")), ("--cert", str(certificates / "client.pem"))
    with Mosquitto(*lines):
        code = load(*SHORT, *there, *ca, *own, "--key", str(certificates / "client.key"), "--format", "json")
        assert code == Exit.NO
        report = told(tmp_path)
        assert report["verdict"]["unheld"] == 15
        assert report["broker"].endswith(", mosquitto")
        assert report["resources"]["broker"]["rss_most"] > 1e6
        assert "daemon" not in report["resources"]
        assert report["latency_ms"]["published"]["count"] == 15
        assert report["latency_ms"]["reading_to_balance"]["count"] == 0
        capsys.readouterr()
        (tmp_path / "other.pem").write_bytes((certificates / "client.pem").read_bytes())
        code = load(
            *SHORT, *there, "--cafile", str(tmp_path / "other.pem"), *own, "--key", str(certificates / "client.key")
        )
        assert code == Exit.NO
        assert "certificate" in capsys.readouterr().err
        code = load(*SHORT, *there, *ca)
        assert code == Exit.NO
        assert "CERTIFICATE_REQUIRED" in capsys.readouterr().err
        code = load(*SHORT, *there, *ca, *own, "--key", str(certificates / "broker.key"))
        assert code == Exit.NO
        assert "TLS: " in capsys.readouterr().err
        code = load(*SHORT, *there, *ca, "--data-dir", str(registry))
        assert code == Exit.NO
        assert "no data directory" in capsys.readouterr().err
