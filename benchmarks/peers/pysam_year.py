"""I/O (a worker): `year.pysam` with SAM's utility-rate engine (NREL-PySAM), a home at a time, as it is made for."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import numpy as np
from PySAM import Utilityrate5

from benchmarks.peers.year import HOMES, HOURS, TIERS, TIMES, Ints, now, prices, since, texts, with_tiers, work

NO_END: Final = 1e38
KWH: Final = 0  # unit of a tier's bound


def _matrix(text: str) -> tuple[list[list[int]], list[list[float]]]:
    """Schedule (month, hour -> period) and rows (period, tier, upper bound, unit, price, sell) of a tariff file."""
    periods, tiers = prices(text)
    plan = [[0] * 24 for _ in range(12)]
    rows: list[list[float]] = []
    number = 0
    seasons = tiers["bounds"] if tiers else [{"months": list(range(1, 13)), "upto": []}]
    for season in seasons:
        for months, spans, price in sorted(periods, key=lambda row: row[1] != "rest"):
            within = [month for month in months if month in season["months"]]
            if not within:
                continue
            number += 1
            for month in within:
                for hour in range(24) if spans == "rest" else _hours(spans):
                    plan[month - 1][hour] = number
            bounds = [*(float(text) for text in season["upto"]), NO_END]
            adders = tiers["adders"] if tiers else ["0"]
            for tier, (bound, adder) in enumerate(zip(bounds, adders, strict=True), 1):
                rows.append([number, tier, bound, KWH, float(price + Decimal(adder)), 0.0])
    return plan, rows


def _hours(spans: list[str]) -> list[int]:
    found: list[int] = []
    for span in spans:
        begin, end = (int(text[:2]) for text in span.split("-"))
        found += range(begin, end)
    return found


def run(told: Ints) -> tuple[float, Ints]:
    """Two models, one for each tariff; the load of each home in turn."""
    models: dict[str, Any] = {}
    for name, text in texts().items():
        plan, rows = _matrix(text)
        models[name] = Utilityrate5.new()
        models[name].assign(
            {
                "Lifetime": {"analysis_period": 1, "inflation_rate": 0, "system_use_lifetime_output": 0},
                "SystemOutput": {"gen": [0.0] * HOURS, "degradation": [0]},
                "Load": {"load": [0.0] * HOURS, "load_escalation": [0]},
                "ElectricityRates": dict.fromkeys(
                    (
                        "ur_dc_enable", "ur_monthly_fixed_charge", "ur_monthly_min_charge", "ur_annual_min_charge",
                        "ur_nm_yearend_sell_rate", "ur_nm_credit_month", "ur_nm_credit_rollover",
                        "ur_en_ts_buy_rate", "ur_en_ts_sell_rate", "ur_sell_eq_buy",
                    ),
                    0,
                )
                | {
                    "ur_metering_option": 4, "ur_ec_sched_weekday": plan, "ur_ec_sched_weekend": plan,
                    "ur_ec_tou_mat": rows,
                },
            }
        )  # fmt: skip
    bills = np.zeros((HOMES, 12), np.int64)
    load = told / 1000.0
    began = now()
    for home in range(HOMES):
        model = models[TIERS if with_tiers(home) else TIMES]
        model.Load.load = load[home].tolist()
        model.execute(0)
        yuan = np.array(model.Outputs.year1_monthly_ec_charge_without_system)
        bills[home] = np.floor(yuan * 100 + 0.5 + 1e-7)
    return since(began), bills


if __name__ == "__main__":
    work(run)
