"""Pure: the packed formats of the ledger, declared again on purpose, with their checksums; and arrays from blobs.

What the other side writes and nobody told the auditor of must show. Every body carries a CRC-32 over its place
(partition, page, version, format, name of the array) and its bytes; a body that fails is named and still
unpacked as far as it goes, so that the values that it changed are named too.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]
PAGE_SLOTS: Final = 1024
FORMAT: Final = 3
DELTA: Final = -1  # the page number in a delta's checksum


def _layout(size: int, **fields: tuple[str, int]) -> np.dtype[Any]:
    formats, offsets = zip(*fields.values(), strict=True)
    return np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": size})


SUBLEDGER_ROW: Final = _layout(
    32,
    amount_fen=("<i8", 0),
    quantity=("<i8", 8),
    slot=("<i4", 16),
    channel=("<i4", 20),
    day=("<i4", 24),
    component=("u1", 28),
    version=("u1", 29),
    place=("u1", 30),
)
COMPONENTS: Final = {
    1: "energy", 2: "tier_adder", 3: "rounding", 4: "credit", 5: "opening", 6: "adjustment", 7: "reversal",
    8: "standing", 9: "levy", 10: "allowance", 11: "percent", 12: "minimum", 13: "tiers", 14: "contained",
    15: "export",
}  # fmt: skip
CHARGES: Final = range(8, 16)
CONTAINED: Final = 14
STATE: Final = {
    "channel": _layout(
        64,
        value=("<i8", 0),
        energy_e11=("<i8", 8),
        adder_e11=("<i8", 16),
        day_wh=("<i8", 24),
        at_s=("<u4", 32),
        ladder=("<i4", 40),
        until_s=("<u4", 44),
        power_max_w=("<u4", 48),
        excess=("<i4", 52),
        multiplier=("<u2", 56),
        resolution=("<u2", 58),
        digits=("u1", 60),
        quality=("u1", 61),
        flags=("u1", 62),
    ),
    "cold": _layout(32, pending_value=("<i8", 0), pending_at_s=("<u4", 8), next=("<i4", 16), account=("<i4", 20)),
    "ladder": _layout(
        32,
        used=("<i8", 0),
        used_before=("<i8", 8),
        account=("<i4", 20),
        ring=("<i4", 24),
        ring_until_s=("<u4", 28),
    ),
    "account": _layout(
        64,
        balance_fen=("<i8", 0),
        arrears_fen=("<i8", 8),
        carry_energy_e11=("<i8", 16),
        carry_adder_e11=("<i8", 24),
        pending_e11=("<i8", 48),
        cycle=("<i2", 60),
        flags=("u1", 62),
    ),
    "sheet": _layout(
        24, ladder=("<i4", 0), first=("<i4", 4), width=("<i4", 8), cycles=("<i4", 12), cycle=("<i4", 16)
    ),
    "cell": _layout(16, wh=("<i8", 0), energy_e11=("<i8", 8)),
}
CHANNEL_BILL, CHANNEL_SHARED = 1, 16
ACCOUNT_OPEN: Final = 4


def checksum(partition: int, name: str, page: int, version: int, body: bytes, layout: int = FORMAT) -> int:
    """CRC-32 of a page, delta or packed table row: its place, then its bytes."""
    head = struct.pack("<qqqq", partition, page, version, layout) + name.encode()
    return zlib.crc32(body, zlib.crc32(head))


def row_checksum(*values: object) -> int:
    """CRC-32 of a checkpoint row's fields."""
    return zlib.crc32("\x1f".join(map(str, values)).encode())


class Assembly:
    """One state array put together: pages first, then deltas in order of version; `faults` says what is wrong."""

    def __init__(self, partition: int, name: str, slots: int) -> None:
        self.partition, self.name = partition, name
        self.rows: Rows = np.zeros(slots, STATE[name])
        self.faults: list[str] = []
        self._bytes = self.rows.view(np.uint8).reshape(slots, STATE[name].itemsize)
        self._known = np.zeros(slots, np.bool_)
        self._page_version = np.full(slots // PAGE_SLOTS + 1, -1, np.int64)

    def page(self, page: int, version: int, layout: int, body: bytes, crc: int) -> None:
        """A whole page as of `version`."""
        where = f"page {page}, version {version}"
        self._verify(where, page, version, layout, body, crc)
        size, start = self.rows.itemsize, page * PAGE_SLOTS
        count = len(body) // size
        if len(body) % size or not 0 <= start <= start + count <= len(self.rows):
            self.faults.append(f"{where}: its length does not fit")
            return
        self._bytes[start : start + count] = np.frombuffer(body, np.uint8).reshape(count, size)
        self._known[start : start + count] = True
        self._page_version[page] = version

    def delta(self, version: int, layout: int, count: int, body: bytes, crc: int) -> None:
        """Rows that changed in one checkpoint; those of a page that is as new or newer are old."""
        where = f"delta of version {version}"
        self._verify(where, DELTA, version, layout, body, crc)
        size = self.rows.itemsize
        if len(body) != count * (4 + size):
            self.faults.append(f"{where}: its length does not fit")
            return
        slots = np.frombuffer(body, "<i4", count)
        rows = np.frombuffer(body, np.uint8, offset=4 * count).reshape(count, size)
        inside = (slots >= 0) & (slots < len(self.rows))
        if not inside.all():
            self.faults.append(f"{where}: a slot beyond the array")
            slots, rows = slots[inside], rows[inside]
        newer = self._page_version[slots // PAGE_SLOTS] < version
        self._bytes[slots[newer]] = rows[newer]
        self._known[slots] = True

    def finish(self) -> Rows:
        """The array; slots that nothing brought are a fault."""
        missing = int((~self._known).sum())
        if missing:
            self.faults.append(f"{missing} slots are missing")
        return self.rows

    def _verify(self, where: str, page: int, version: int, layout: int, body: bytes, crc: int) -> None:
        if layout != FORMAT:
            self.faults.append(f"{where}: format {layout} is not known")
        elif checksum(self.partition, self.name, page, version, body, layout) != crc:
            self.faults.append(f"{where}: the checksum does not match")
