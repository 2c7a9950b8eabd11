"""What registers show: in order of time, and earlier again without any change to what they show now."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from simulators.load.population import POWER_W, THIRSTY_W, Population

BEGIN_S, QUARTER_S = -86_700, 900


@pytest.fixture(params=[1, 4], ids=["a lone meter", "four"])
def town(request: pytest.FixtureRequest) -> Population:
    """One concentrator."""
    count = int(request.param)
    power = np.linspace(POWER_W[0], THIRSTY_W, count).astype(np.int64)
    opening = np.arange(count, dtype=np.int64) * 1000
    return Population(
        ["C"], ["0"], np.array([0, count]), pa.array(["M"] * count), np.arange(count, dtype=np.uint64),
        opening.copy(), np.full(count, BEGIN_S, np.int64), power, opening, BEGIN_S,
    )  # fmt: skip


def test_a_curve_says_what_each_reading_said(town: Population) -> None:
    quarters = range(BEGIN_S + QUARTER_S, BEGIN_S + 97 * QUARTER_S, QUARTER_S)
    said = {at_s: town.read(0, at_s)[1].tolist() for at_s in quarters}
    last = said[max(quarters)]
    assert {at_s: town.earlier(0, at_s)[1].tolist() for at_s in quarters} == said
    town.read(0, 1)
    town.read(0, 11)  # what comes after it changes no curve
    assert {at_s: town.earlier(0, at_s)[1].tolist() for at_s in quarters} == said
    assert town.read_s.tolist() == [11] * len(town)
    assert (town.value >= last).all()


def test_a_freeze_alone_has_the_same_curve(town: Population) -> None:
    frozen = town.read(0, -300)[1].tolist()
    points = [town.earlier(0, at_s)[1] for at_s in range(BEGIN_S + QUARTER_S, -299, QUARTER_S)]
    assert len(points) == 96
    assert (np.diff(np.array(points), axis=0) > 0).all()
    assert points[-1].tolist() == frozen
