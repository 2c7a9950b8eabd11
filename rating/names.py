"""Pure: how the engine names accounts: look-ups that the shell makes on the registry."""

from __future__ import annotations

from collections.abc import Callable


class Names:
    """Account ids of a partition's slots, both ways, as the shell looks them up in the registry."""

    def __init__(self, account_id: Callable[[int], str], account_slot: Callable[[str], int | None]) -> None:
        self.account_id = account_id
        self.account_slot = account_slot
