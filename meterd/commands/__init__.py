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
    "registry": "Who, where, which meter: generate, check and import.",
    "docs": "Reference pages printed from the code.",
}
COMMANDS: Final[dict[str, Command]] = {
    "run": Command(
        "meterd.commands.run", "run", "Run the whole system in one process on embedded parts, until SIGTERM."
    ),
    "audit": Command(
        "meterd.commands.audit",
        "audit",
        "Recompute every balance from archive, registry and inbox; exit 1 on any difference.",
    ),
    "registry generate": Command(
        "meterd.commands.registry", "generate", "Write the registry directory of a made-up city."
    ),
    "registry check": Command(
        "meterd.commands.registry",
        "check",
        "Check a registry directory by itself: every fault with file and line; exit 0 or 1.",
    ),
    "registry import": Command(
        "meterd.commands.registry",
        "import_directory",
        "Import a registry directory: all of it or nothing; the daemon activates it now or at its next start.",
    ),
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
