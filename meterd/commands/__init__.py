"""Pure: the table of commands: where each is written, and its one line of help.

`meterd.cli` imports a command's module only when that command is asked for, so `meterd --help` is quick however
heavy the parts are. A name with a space is a command of a group. The first line of the function's docstring must
be the help here (a test compares them). Command modules import what is heavy inside their functions.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Command(NamedTuple):
    """`function` of `module`, a typer function, and its line of help."""

    module: str
    function: str
    help: str


GROUPS: Final[dict[str, str]] = {
    "docs": "Reference pages printed from the code.",
}
COMMANDS: Final[dict[str, Command]] = {
    "check-config": Command(
        "meterd.commands.config", "check_config", "Check a settings file and the environment: exit 0 or 1."
    ),
    "config": Command(
        "meterd.commands.config", "show_config", "Print every effective setting and where it came from."
    ),
    "docs bad-input": Command(
        "meterd.commands.docs", "bad_input", "Print docs/bad-input.md: what happens to each class of bad input."
    ),
    "docs exits": Command("meterd.commands.docs", "exits", "Print what each exit code means."),
}
