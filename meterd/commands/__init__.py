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
    "account": "One account at a time.",
    "exceptions": "What was set aside, and what a person does about it.",
    "late": "Readings that came after their day was closed.",
    "orders": "Payment orders and their steps.",
    "autopay": "Why somebody was charged or not, and the switch by hand.",
    "supply": "Whether a register's supply is connected.",
    "tariff": "Tariff files: check, list, show, compare.",
    "docs": "Reference pages printed from the code.",
}
COMMANDS: Final[dict[str, Command]] = {
    "run": Command(
        "meterd.commands.run", "run", "Run the whole system in one process on embedded parts, until SIGTERM."
    ),
    "demo": Command(
        "meterd.commands.demo",
        "demo",
        "Show the whole story: a city's month, a low balance, one charge, both told; then checker and audit.",
    ),
    "sim": Command(
        "meterd.commands.sim",
        "sim",
        "Play histories of a simulated city with seeded faults, and check every rule; a seed is one history.",
    ),
    "load": Command(
        "meterd.commands.load",
        "load",
        "Load a daemon or any broker by a schedule, and measure from when each message was due; exit 1 on a miss.",
    ),
    "replay": Command(
        "meterd.commands.replay",
        "replay",
        "Replay log, inbox and checkpoints from empty and compare the state, bit for bit; exit 1 when it differs.",
    ),
    "audit": Command(
        "meterd.commands.audit",
        "audit",
        "Recompute every balance from archive, registry and inbox; exit 1 on any difference.",
    ),
    "rate": Command(
        "meterd.commands.rate",
        "rate",
        "Rate a file of readings: every bill cycle line by line, exact and as billed.",
    ),
    "tariff check": Command(
        "meterd.commands.tariff", "check", "Check tariff files: every fault with its line; exit 0 or 1."
    ),
    "tariff list": Command(
        "meterd.commands.tariff", "listed", "List the tariffs that the settings name, or those that are shipped."
    ),
    "tariff show": Command(
        "meterd.commands.tariff", "show", "Show a tariff over a year: the price by hour and day, and the ladder."
    ),
    "tariff diff": Command(
        "meterd.commands.tariff", "diff", "Show where two tariff files differ; exit 1 when they do."
    ),
    "tariff schema": Command(
        "meterd.commands.tariff", "schema", "Print the JSON Schema of a tariff file, for editors."
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
    "balances": Command(
        "meterd.commands.balances",
        "balances",
        "List every account with its posted, accrued and live balance in yuan.",
    ),
    "account show": Command(
        "meterd.commands.account",
        "show",
        "Show one account: party, point, registers, balance, mandates, last orders.",
    ),
    "statement": Command(
        "meterd.commands.statement",
        "statement",
        "Print an account's statement: bill cycles with their lines, or write it as HTML.",
    ),
    "explain": Command(
        "meterd.commands.explain",
        "explain",
        "Explain one day's charge: readings, segments, tiers, energy, price, rounding, every fen.",
    ),
    "exceptions list": Command(
        "meterd.commands.exceptions",
        "list_exceptions",
        "List what was set aside: messages and readings with their reasons.",
    ),
    "exceptions show": Command(
        "meterd.commands.exceptions", "show", "Show one row of the exceptions queue with its bytes."
    ),
    "exceptions release": Command(
        "meterd.commands.exceptions",
        "release",
        "Have readings or whole messages judged again, through the daemon: by id, or all that a filter names.",
    ),
    "exceptions discard": Command(
        "meterd.commands.exceptions",
        "discard",
        "Close rows of the exceptions queue without effect, through the daemon: by id, or all that a filter names.",
    ),
    "late list": Command("meterd.commands.late", "list_late", "List late readings by account, register and UTC day."),
    "orders list": Command("meterd.commands.orders", "list_orders", "List payment orders, newest first."),
    "orders show": Command(
        "meterd.commands.orders", "show", "Show one payment order with every step and its evidence."
    ),
    "orders settle": Command(
        "meterd.commands.orders",
        "settle",
        "Say what became of an order that nobody can tell, through the daemon: charged or not.",
    ),
    "autopay why": Command(
        "meterd.commands.autopay",
        "why",
        "Show every decision on an account: charged, waited or refused, with reason and figures.",
    ),
    "autopay hold": Command(
        "meterd.commands.autopay", "hold", "Stop submitting payments, through the daemon; asking and crediting go on."
    ),
    "autopay resume": Command("meterd.commands.autopay", "resume", "Submit payments again, through the daemon."),
    "autopay reconcile": Command(
        "meterd.commands.autopay",
        "reconcile",
        "Compare a gateway's book with our orders, through the daemon; needed before a resume after a restore.",
    ),
    "topup": Command("meterd.commands.topup", "topup", "Credit an account, through the daemon, once by reference."),
    "reverse": Command(
        "meterd.commands.topup",
        "reverse",
        "Take a credit back, all or part of it, through the daemon, once by reference.",
    ),
    "rebaseline": Command(
        "meterd.commands.topup",
        "rebaseline",
        "Say where a register stands, through the daemon: nothing is charged for the step.",
    ),
    "supply mark": Command(
        "meterd.commands.supply",
        "mark",
        "Say that a register's supply is disconnected or connected, through the daemon: use meanwhile is warned of.",
    ),
    "backup": Command(
        "meterd.commands.backup",
        "backup",
        "Write ledger, log, archive and registry of one moment into a new folder; the daemon may run.",
    ),
    "restore": Command(
        "meterd.commands.backup",
        "restore",
        "Put a backup into the settings' empty data directory; autopay starts on HOLD.",
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
