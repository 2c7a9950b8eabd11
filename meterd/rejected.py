"""Pure: how a command of the HTTP interface is refused."""

from __future__ import annotations


class Rejected(Exception):
    """A command that cannot be carried out, with its HTTP status and what to do about it."""

    def __init__(self, status: int, error: str, what_to_do: str) -> None:
        super().__init__(error)
        self.status, self.error, self.what_to_do = status, error, what_to_do
