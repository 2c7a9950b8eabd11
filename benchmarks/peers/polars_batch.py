"""I/O (a worker): `batch.*` with Polars: one lazy query, windows over each home."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from benchmarks.peers.job import ADDERS_E8, BOUNDS_WH, FLAT, PEAK_S, PRICES_E8, Ints, work


def _tiers(used: Any) -> Any:
    return sum((used - bound).clip(lower_bound=0) * adder for bound, adder in zip(BOUNDS_WH, ADDERS_E8, strict=True))


def prepare(of: dict[str, Ints]) -> Callable[[], tuple[Any, Any, Any]]:
    """Readings and homes as frames."""
    readings = pl.DataFrame({name: of[name] for name in ("meter", "value", "at_s")})
    homes = pl.DataFrame({name: of[name] for name in ("tariff", "used", "opening")}).with_row_index("meter")
    homes = homes.with_columns(
        pl.col("meter").cast(pl.Int64),
        low=pl.Series(PRICES_E8[of["tariff"], 0]),
        high=pl.Series(PRICES_E8[of["tariff"], 1]),
    )

    def do() -> tuple[Any, Any, Any]:
        # In the order of arrival a home's readings are in the order of time: windows keep it.
        rows = readings.lazy().join(homes.lazy(), on="meter", how="left", maintain_order="left")
        rows = rows.with_columns(
            energy=pl.col("value") - pl.col("value").shift(1).over("meter").fill_null(pl.col("opening"))
        )
        rows = rows.with_columns(after=pl.col("energy").cum_sum().over("meter") + pl.col("used"))
        price = pl.when(pl.col("at_s") > PEAK_S).then(pl.col("high")).otherwise(pl.col("low"))
        adder = _tiers(pl.col("after")) - _tiers(pl.col("after") - pl.col("energy"))
        rows = rows.with_columns(
            charge=pl.col("energy") * price, adder=pl.when(pl.col("tariff") == FLAT).then(0).otherwise(adder)
        )
        asked = rows.group_by("meter").agg(pl.col("charge").sum(), pl.col("adder").sum(), pl.col("after").max())
        found = asked.sort("meter").collect()
        return found["charge"].to_numpy(), found["adder"].to_numpy(), found["after"].to_numpy()

    return do


if __name__ == "__main__":
    work(prepare)
