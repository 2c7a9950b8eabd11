"""I/O: a partition's state as the ledger holds it, read inside the caller's snapshot: pages, then deltas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Row, bindparam, select

from ledger import pages
from ledger.commit import Standing, crc_of
from ledger.effects import ENGINE_VERSION, PAGE_SLOTS, Recovered
from ledger.port import StartRefused
from ledger.schema import checkpoint, state_delta, state_page

Dtypes = Mapping[str, np.dtype[np.void]]
RESTORE = (
    "Do not start on these data: restore the last backup with `meterd restore`, and keep these files for analysis"
)
_HOME: Final[Any] = bindparam("home")
_NEWEST: Final = select(checkpoint).where(checkpoint.c.partition == _HOME).order_by(checkpoint.c.id.desc()).limit(1)
_P, _D = state_page.c, state_delta.c
_PAGES: Final = (
    select(_P.array, _P.page, _P.version, _P.format, _P.body, _P.crc)
    .where(_P.partition == _HOME)
    .order_by(_P.array, _P.page)
)
_DELTAS: Final = (
    select(_D.array, _D.version, _D.format, _D.count, _D.body, _D.crc)
    .where(_D.partition == _HOME)
    .order_by(_D.version, _D.id)
)
_BACKLOG: Final = select(_D.array, _D.count, _D.body).where(_D.partition == _HOME)
_FETCH = 256  # rows of at most a page each: 16 MB in flight


def newest(connection: Connection, partition: int) -> Row[Any] | None:
    """The partition's cursor, its checksum verified; `StartRefused` when it does not match."""
    row = connection.execute(_NEWEST, {"home": partition}).one_or_none()
    if row is None:
        return None
    if crc_of(row) != row.crc:
        raise StartRefused(f"Checkpoint {row.id} of partition {partition}: the checksum does not match", RESTORE)
    if row.engine_version != ENGINE_VERSION:
        raise StartRefused(
            f"Checkpoint {row.id} of partition {partition} is of engine version {row.engine_version}; "
            f"this is version {ENGINE_VERSION}",
            "Start the meterd that wrote it",
        )
    return row


def recover(connection: Connection, partition: int, dtypes: Dtypes) -> Recovered:
    """The arrays named in `dtypes` as of the newest checkpoint; `StartRefused` when anything is damaged."""
    row = newest(connection, partition)
    if row is None:
        empty = {name: np.zeros(0, dtype) for name, dtype in dtypes.items()}
        return Recovered(partition, None, 0, 0, "", "", {}, empty)
    slots: dict[str, int] = json.loads(row.slots)
    unknown = sorted(set(slots) - set(dtypes))
    if unknown:
        raise StartRefused(f"The state holds arrays that are not known: {unknown}", "Start the meterd that wrote it")
    loaders = {name: pages.Loader(partition, name, dtype, slots.get(name, 0)) for name, dtype in dtypes.items()}
    try:
        arrays = load(connection, partition, loaders)
    except pages.Damaged as error:
        raise StartRefused(f"The state is damaged: {error}", RESTORE) from error
    return Recovered(
        partition,
        row.log_id,
        row.offset,
        row.as_of_s,
        row.registry_digest,
        row.timeline_digest,
        json.loads(row.counters),
        arrays,
    )


def load(
    connection: Connection,
    partition: int,
    loaders: Mapping[str, pages.Loader],
) -> dict[str, Any]:
    """Feed pages and deltas to the loaders and return their arrays; raises `pages.Damaged`."""
    few = {"yield_per": _FETCH}
    for row in connection.execute(_PAGES, {"home": partition}, execution_options=few):
        array, page, version, layout, body, crc = row
        if array not in loaders:
            raise pages.Damaged(f"partition {partition}: a page of an unknown array {array!r}")
        loaders[array].page(page, version, layout, body, crc)
    for row in connection.execute(_DELTAS, {"home": partition}, execution_options=few):
        array, version, layout, count, body, crc = row
        if array not in loaders:
            raise pages.Damaged(f"partition {partition}: a delta of an unknown array {array!r}")
        loaders[array].delta(version, layout, count, body, crc)
    return {name: loader.finish() for name, loader in loaders.items()}


def standing(connection: Connection, partition: int) -> Standing:
    """What the writer must know of a partition before its next commit: cursor, lengths, backlog of deltas."""
    row = newest(connection, partition)
    if row is None:
        return Standing()
    arrays = {name: pages.Backlog(slots) for name, slots in json.loads(row.slots).items()}
    for array, count, body in connection.execute(_BACKLOG, {"home": partition}):
        backlog = arrays[array]
        backlog.delta_bytes += len(body)
        backlog.deltas += 1
        backlog.pages.update(np.unique(np.frombuffer(body, "<i4", count) // PAGE_SLOTS).tolist())
    return Standing(row.offset, row.log_id, arrays)
