"""I/O: `meterd late list`: late readings by account, register and day, for the re-rating from the archive."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from meterd import output
from meterd.commands.config import ConfigOption, JsonOption

if TYPE_CHECKING:
    from meterd.lookup import View


def list_late(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List late readings by account, register and UTC day."""
    from meterd.lookup import opened

    with opened(config) as view:
        rows = list(_rows(view))
    output.table(("account", "meter", "register", "day_utc", "readings"), rows, json=json)


def _rows(view: View) -> list[tuple[Any, ...]]:
    from sqlalchemy import select

    from config.units import REGISTER_NAME
    from ledger.effects import LATE
    from ledger.schema import late_page
    from registry.address import address_text

    counts: Counter[tuple[int, int, int]] = Counter()
    asked = select(late_page.c.partition, late_page.c.body).order_by(late_page.c.id)
    for partition, body in view.connection.execute(asked):
        for row in np.frombuffer(body, LATE):
            counts[partition, int(row["channel"]), int(row["day"])] += int(row["count"])
    found = []
    for (partition, channel, day), count in sorted(counts.items()):
        facts = view.registry.image.partitions[partition].channels[channel]
        account = int(facts["account"])
        register = REGISTER_NAME.get(int(facts["register"]))
        found.append(
            (
                view.registry.account_id(partition, account) if account >= 0 else "",
                address_text(int(facts["meter"])),
                "" if register is None else register.value,
                str(date(1970, 1, 1) + timedelta(days=day)),
                count,
            )
        )
    return found
