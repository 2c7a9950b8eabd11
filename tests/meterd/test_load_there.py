"""`meterd load` against what is there already: somebody else's broker over TLS, and the daemon behind it."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meterd import cli
from meterd.exits import Exit
from registry.generate import generate
from simulators.load.host import Host
from simulators.load.schedule import Wish

SHORT = ("--meters", "600", "--per-message", "20", "--rate", "60", "--seconds", "5")


def load(*words: str) -> int:
    return cli.run(["load", *words])


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


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


@pytest.fixture
def secure(mosquitto: int, certificates: Path) -> Iterator[tuple[int, int]]:
    """A Mosquitto: (the port on which it asks for a certificate, the port on which it asks for nothing)."""
    from benchmarks.mosquitto import Mosquitto

    assert mosquitto  # a machine without one skips here
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = (
        f"listener {port} 127.0.0.1", f"cafile {certificates / 'ca.pem'}", f"certfile {certificates / 'broker.pem'}",
        f"keyfile {certificates / 'broker.key'}", "require_certificate true", "use_identity_as_username true",
    )  # fmt: skip
    with Mosquitto(*lines) as broker:
        yield port, broker.port


class Theirs(Host):
    """A daemon that has its broker, gateway and city already; they are started and ended by somebody else."""

    def __init__(self, folder: Path, broker: int) -> None:
        super().__init__(folder, Wish("steady", 600, 20, 60, 5))
        self.story.settings["mqtt"]["embedded"] = False  # type: ignore[index]
        self.mqtt_port = broker


@pytest.fixture
def theirs(tmp_path: Path, secure: tuple[int, int]) -> Iterator[Theirs]:
    with Theirs(tmp_path / "theirs", secure[1]) as host:
        host.prepare()
        host.start_gateway()
        host.start_daemon()
        host.await_active()
        yield host


@pytest.mark.mosquitto
def test_a_daemon_of_somebody_elses_is_checked_as_far_as_its_files_say(
    theirs: Theirs, secure: tuple[int, int], certificates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on running; a second run would send registers that have gone back, and is refused."""
    tls = ("--cafile", "ca.pem", "--cert", "client.pem", "--key", "client.key")
    words = [word if word.startswith("--") else str(certificates / word) for word in tls]
    there = (
        "--broker",
        f"localhost:{secure[0]}",
        "--registry",
        str(theirs.registry),
        "--report",
        str(tmp_path),
        *words,
    )
    whole = ("--config", str(theirs.config), "--gateway-book", str(theirs.book))
    code = load(*SHORT, *there, *whole, "--format", "senml-json", "--objective", "reading_to_balance.max=60s")
    report, said = told(tmp_path), capsys.readouterr()
    assert code == Exit.OK, (said.out, said.err)
    verdict = report["verdict"]
    assert verdict["held"] == verdict["messages"] == report["latency_ms"]["reading_to_balance"]["count"] == 15
    assert verdict["energy_sent_wh"] == verdict["energy_billed_wh"] > 0
    assert verdict["meters_wrong"] == 0
    assert verdict["exceptions"] == {}
    assert verdict["audit_ok"]
    assert not {"not_checked", "not_measured"} & set(verdict)
    assert theirs.daemon is not None
    assert theirs.daemon.poll() is None
    assert report["daemon"].startswith(f"process {theirs.daemon.pid}, ")
    assert report["broker"].endswith(", mosquitto")
    assert report["resources"]["daemon"]["rss_most"] > report["resources"]["broker"]["rss_most"] > 1e6
    assert load(*SHORT, *there, "--data-dir", str(theirs.data)) == Exit.USAGE
    assert "have used energy" in capsys.readouterr().err
    pid = ("--daemon-pid", str(theirs.daemon.pid))
    assert load(*SHORT, *there, *pid, "--seconds", "2") == Exit.OK  # nobody is asked what becomes of it
    report, said = told(tmp_path), capsys.readouterr()
    assert set(report["verdict"]["not_checked"]) == {"energy", "exceptions", "balances"}
    assert "not checked: energy: without --data-dir or --config" in said.out
    assert "not measured: reading_to_balance: without" in said.out
    assert report["resources"]["daemon"]["rss_most"] > 1e6
    page = (tmp_path / "report.html").read_text()
    assert "what could be checked is right" in page
    assert "not checked: balances: without" in page


@pytest.mark.mosquitto
def test_a_broker_with_nobody_behind_it_and_one_that_does_not_want_us(
    secure: tuple[int, int], certificates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing comes to be held, and that is said; a wrong certificate is a line and a no, before anything is sent."""
    registry = tmp_path / "city"
    generate(registry, meters=600, seed=1, start="2026-07-01", concentrator_size=20)
    at = ("--registry", str(registry), "--wait", "1", "--report", str(tmp_path))
    there = ("--broker", f"localhost:{secure[0]}", *at)
    ca, own = ("--cafile", str(certificates / "ca.pem")), ("--cert", str(certificates / "client.pem"))
    code = load(*SHORT, *there, *ca, *own, "--key", str(certificates / "client.key"), "--format", "json")
    assert code == Exit.NO
    report = told(tmp_path)
    assert report["verdict"]["unheld"] == 15
    assert report["broker"].endswith(", mosquitto")
    assert report["resources"]["broker"]["rss_most"] > 1e6
    assert "daemon" not in report["resources"]
    assert report["daemon"].startswith("not measured: ")
    assert report["latency_ms"]["published"]["count"] == 15
    assert report["latency_ms"]["reading_to_balance"]["count"] == 0
    capsys.readouterr()
    (tmp_path / "other.pem").write_bytes((certificates / "client.pem").read_bytes())
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for more, why in (
            (
                (*there, "--cafile", str(tmp_path / "other.pem"), *own, "--key", str(certificates / "client.key")),
                "certificate",
            ),
            ((*there, *ca), "CERTIFICATE_REQUIRED"),
            ((*there, *ca, *own, "--key", str(certificates / "broker.key")), "TLS: "),
            ((*there, *ca, "--data-dir", str(registry)), "no data directory"),
            (("--broker", f"127.0.0.1:{nobody.getsockname()[1]}", *at), "Connection refused"),
        ):
            assert load(*SHORT, *more) == Exit.NO
            said = capsys.readouterr().err
            assert why in said
            assert "Traceback" not in said
            assert len(said.splitlines()) <= 2  # the second one: where a generator's own words are
