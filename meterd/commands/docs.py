"""I/O (stdout): `meterd docs ...`, the reference pages that are printed from the code."""

from __future__ import annotations

from typing import Annotated

import typer

from meterd import output
from meterd.exits import MEANING


def bad_input() -> None:
    """Print docs/bad-input.md: what happens to each class of bad input."""
    from config.reasons import table_markdown

    output.line(table_markdown().removesuffix("\n"))


def exits(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print what each exit code means."""
    output.table(("code", "meaning"), [(code.value, text) for code, text in MEANING.items()], json=json)
