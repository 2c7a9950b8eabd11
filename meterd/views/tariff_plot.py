"""Pure: a tariff's year as a picture: price by hour and day, and the ladder beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from io import BytesIO
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from meterd.views.tariffs import Rung
from rating.tariff.model import Tariff

LADDERS_MAX: Final = 12  # lines in one picture


def heat_map(tariff: Tariff, year: int, prices: npt.NDArray[np.float64], ladder: Sequence[Rung]) -> bytes:
    """PNG of first-tier prices [day, half hour] and of the ladder; without tiers the heat map alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8 if ladder else 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(2 if ladder else 1, 1, squeeze=False)
    axes: Any = rows[0, 0]
    image = axes.imshow(prices.T, aspect="auto", origin="lower", cmap="viridis", extent=(0, len(prices), 0, 24))
    starts = [(date(year, month, 1) - date(year, 1, 1)).days for month in range(1, 13)]
    axes.set_xticks(starts, [date(year, month, 1).strftime("%b") for month in range(1, 13)])
    axes.set_yticks(range(0, 25, 4))
    axes.set_ylabel("local hour")
    axes.set_title(f"{tariff.id} {year}: {tariff.currency} per {tariff.unit}, first tier")
    figure.colorbar(image, ax=axes)
    if ladder:
        _draw_ladder(rows[1, 0], tariff, ladder)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _draw_ladder(axes: Any, tariff: Tariff, ladder: Sequence[Rung]) -> None:
    widest = max((float(rung.upto) for rung in ladder if rung.upto is not None), default=1.0) * 1.4
    drawn = 0
    for from_day, group in groupby(ladder, key=lambda rung: rung.from_day):
        some = list(group)
        for place, (period, _) in enumerate(some[0].prices):
            if drawn >= LADDERS_MAX:
                break
            edges = [float(rung.above) for rung in some] + [widest]
            axes.stairs(
                [float(rung.prices[place][1]) for rung in some],
                edges,
                label=f"{period} from {from_day}",
                baseline=None,
            )
            drawn += 1
    axes.set_xlabel(f"{tariff.unit} used in a tier cycle")
    axes.set_ylabel(f"{tariff.currency} per {tariff.unit}")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))
