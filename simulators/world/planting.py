"""I/O (changes running code): how a fault is planted in the real code (`planted` has them).

A fault is a change of a function's source: words that stand in it exactly once, and what stands there instead.
While it is planted the function runs the changed code, whoever imported it; the file is not touched. Words that are
not there any more are an error, so that no fault goes stale unseen. Compiled functions (numba) cannot be changed so.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any, Final

_FUTURES: Final = 0x1000000  # from __future__ import annotations


class Stale(AssertionError):
    """The words that a fault replaces are not in the code as it is."""


@dataclass(frozen=True, slots=True)
class Edit:
    """In the function `where` ("module:qualified.name"), `old` becomes `new`."""

    where: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault: what it breaks, in a line, and how."""

    name: str
    what: str
    edits: tuple[Edit, ...]


@contextmanager
def planted(fault: Planted) -> Iterator[None]:
    """The fault is in the code, until the end of the block."""
    with ExitStack() as undo:
        for where in dict.fromkeys(edit.where for edit in fault.edits):
            function = _function(where)
            changed = _changed(function, [edit for edit in fault.edits if edit.where == where])
            undo.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = changed
        yield


def _function(where: str) -> FunctionType:
    module, _, path = where.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    found = getattr(found, "__func__", found)
    if not isinstance(found, FunctionType):
        raise Stale(f"{where} is no plain function")
    return found


def _changed(function: FunctionType, edits: Sequence[Edit]) -> CodeType:
    source = textwrap.dedent(inspect.getsource(function))
    for edit in edits:
        if source.count(edit.old) != 1:
            raise Stale(f"{edit.where} has {source.count(edit.old)} times {edit.old!r}")
        source = source.replace(edit.old, edit.new)
    tree = ast.parse(source)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list.clear()
    made: dict[str, Any] = {}
    flags = function.__code__.co_flags & _FUTURES
    compiled = compile(tree, function.__code__.co_filename, "exec", flags=flags, dont_inherit=True)
    exec(compiled, dict(function.__globals__), made)  # noqa: S102 - our own source, changed on purpose
    code: CodeType = made[function.__name__].__code__
    return code
