"""Pure: the exit codes of every command, what each means, and the exception that ends one with a message."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """What a command's exit code says; scripts may rely on it."""

    OK = 0
    NO = 1
    USAGE = 2
    NOT_RUNNING = 3
    REFUSED = 4
    TIMED_OUT = 5
    DEFECT = 70


MEANING: Final[dict[Exit, str]] = {
    Exit.OK: "ok",
    Exit.NO: "the answer is no: faults, differences, nothing found, a command that was refused",
    Exit.USAGE: "wrong usage or configuration",
    Exit.NOT_RUNNING: "the daemon is not running",
    Exit.REFUSED: "refused: data damaged, of another log, locked by another daemon, or a disk that says no;"
    " a clock that leapt. Let no supervisor restart on it",
    Exit.TIMED_OUT: "timed out; for writing commands: stored, will be applied",
    Exit.DEFECT: "a defect in meterd: please report the traceback",
}


class Stop(Exception):
    """Ends the command with `code` and one message on stderr; `meterd.cli.main` turns it into the exit."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
