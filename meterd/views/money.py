"""Pure: fen as yuan text and seconds as local text, one by one and in columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from config.units import decimal_text


def yuan(amount_fen: int) -> str:
    """12345 -> '123.45', always with two decimals."""
    return decimal_text(amount_fen, 2)


def exact_yuan(amount_e11: int) -> str:
    """An amount of 1e-11 yuan, every digit."""
    return decimal_text(amount_e11, 11)


def kwh(energy: int) -> str:
    """1234 thousandths -> '1.234'."""
    return decimal_text(energy, 3)


def yuan_column(amounts_fen: npt.NDArray[np.int64]) -> Any:
    """A pyarrow text column of yuan: the integers are read as 128-bit decimals with two places, no loop."""
    low = np.ascontiguousarray(amounts_fen, np.int64)
    wide = np.stack((low, low >> 63), axis=1)  # two's complement: the high half repeats the sign
    column = pa.Array.from_buffers(pa.decimal128(38, 2), len(low), [None, pa.py_buffer(wide.tobytes())])
    return pc.cast(column, pa.string())


def instant(at_s: int | None, zone: ZoneInfo) -> str:
    """Local time with its offset, or nothing."""
    if not at_s:
        return ""
    return datetime.fromtimestamp(at_s, UTC).astimezone(zone).isoformat(sep=" ", timespec="seconds")
