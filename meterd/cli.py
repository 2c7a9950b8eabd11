"""I/O: the console script `meterd`: finds the command, runs it, and turns how it ended into an exit code.

Only the module of the command that was asked for is imported; the others are named from the table in
`meterd.commands`, so help does not wait for numba and SQLAlchemy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from meterd.commands import COMMANDS, GROUPS
from meterd.exits import Exit, Stop

ABOUT = "Smart-meter readings into money, live."
_INTERRUPTED = 130  # 128 + SIGINT, as shells count
# What a disk says no with, and what to do: the machine is to be put right, and no traceback of ours helps.
_DISK: Final = (
    dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Make it writable")
    | dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Make room")
    | {errno.EIO: "Check the disk"}
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code (meterd.exits)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit code. A defect prints its traceback and is not mistaken for the answer no."""
    try:
        code = build(arguments)(args=list(arguments), prog_name="meterd", standalone_mode=True)
        sys.stdout.flush()
        return int(code or Exit.OK)
    except SystemExit as ended:
        return _code(ended)
    except Stop as stop:
        _tell(f"meterd: {stop.message}\n")
        return stop.code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # `meterd ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except OSError as wrong:
        todo = _DISK.get(wrong.errno or 0)
        if todo is None:
            _tell(traceback.format_exc())
            return Exit.DEFECT
        place = wrong.filename or "the disk"
        _tell(f"meterd: {place}: {wrong.strerror}. {todo}\n")
        return Exit.REFUSED
    except Exception:  # noqa: BLE001 - the last frame: everything that is left is our defect
        _tell(traceback.format_exc())
        return Exit.DEFECT


def _tell(text: str) -> None:
    """On stderr, where it takes it: a log on a full disk must not cost the exit code, by which supervisors go."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def build(arguments: Sequence[str]) -> typer.Typer:
    """The app for these arguments: the asked-for command is real, the others are names with a line of help."""
    app = typer.Typer(
        help=ABOUT,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # its tracebacks print local variables, secrets among them
        rich_markup_mode=None,
    )
    app.callback(help=ABOUT)(_root)
    groups = {name: typer.Typer(help=text, no_args_is_help=True) for name, text in GROUPS.items()}
    for name, group in groups.items():
        app.add_typer(group, name=name)
    words = [word for word in arguments if not word.startswith("-")]
    for path, command in COMMANDS.items():
        parts = path.split(" ")
        asked = words[: len(parts)] == parts
        run_it = getattr(import_module(command.module), command.function) if asked else _stub(command.help)
        target = app if len(parts) == 1 else groups[parts[0]]
        target.command(parts[-1], help=None if asked else command.help)(run_it)
    return app


def _stub(text: str) -> Callable[[], None]:
    def stub() -> None:
        raise AssertionError("a command that was not asked for ran")

    stub.__doc__ = text
    return stub


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        sys.stdout.write(f"meterd {version('meterd')}\n")
        raise typer.Exit(Exit.OK)


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a command; all of them act on their own."""
    assert not version


def _code(ended: SystemExit) -> int:
    code: Any = ended.code
    return code if isinstance(code, int) else Exit.OK if code is None else Exit.NO


if __name__ == "__main__":
    main()
