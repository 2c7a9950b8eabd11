"""A small city through the end-to-end benchmark: a real daemon, a publisher, a bare client, and the charges."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import e2e
from benchmarks.e2e_city import Homes
from ingest.packets import read_publish, whole_packet
from simulators.load.packets import publish


def test_a_small_city_is_charged_what_the_tariffs_say(tmp_path: Path) -> None:
    run = e2e.measure(tmp_path, 5000, 5, e2e._frames, more=2)  # checks counts and charges itself
    assert run.per_s > 0
    assert run.bare_per_s > 0
    assert run.rss_end_bytes > 0


class Always:
    """In place of a random generator."""

    def integers(self, *_: int) -> np.ndarray:
        return np.array([200])


def homes(*, time_of_use: bool, flat: bool, used: int, more_wh: int = 0) -> Homes:
    one = np.ones(1, np.int64)
    return Homes(
        100, np.array([440100000001], np.uint64), one * 0, one * used, one == time_of_use, one == flat,
        one * more_wh, one * 0, one * 0, Always(),
    )  # fmt: skip


def test_expected_charges_by_hand() -> None:
    home = homes(time_of_use=True, flat=False, used=259_000)
    for _ in range(7):  # 2 kWh each in 00:00-01:15, -02:30 ... -08:45; the last is cut at 08:00
        home.next_round()
    assert home.energy_e11[0] == 12_000 * 22_916_875 + 800 * 22_916_875 + 1200 * 58_886_875
    assert home.adder_e11[0] == 13_000 * 5_000_000  # 259 kWh and 14 more: 13 over the bound
    large = homes(time_of_use=False, flat=False, used=359_000, more_wh=100_000)
    large.next_round()
    assert large.adder_e11[0] == 1000 * 5_000_000  # a household of five: the bound is at 360


def test_packed_messages_are_mqtt() -> None:
    packet = publish("meters/v1/0/C1/up/reads/arrow/a/1", b"x" * 300, 513)
    found = whole_packet(packet, 0)
    assert found is not None
    read = read_publish(packet, *found, five=True)
    assert read is not None
    assert (read[0], read[1].topic, len(read[1].payload)) == (513, "meters/v1/0/C1/up/reads/arrow/a/1", 300)
