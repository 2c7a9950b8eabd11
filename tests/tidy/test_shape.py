"""House rules: a ratchet on length. Files of 400 lines and functions of 60 at most; the list of those that are
longer holds how long they may be, so it can only shrink: a longer function fails, and so does an entry that is
no longer needed, or 10 lines too generous."""

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest

FUNCTION_MAX = 60
FILE_MAX = 400
SLACK = 10
ALLOWED = Path(__file__).parent / "allowed_lengths.toml"


def functions(tree: ast.AST, above: str = "") -> dict[str, int]:
    """Lines of every function by its dotted name within the file, from `def` to its last line."""
    found: dict[str, int] = {}
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{above}{node.name}"
            found[name] = max(found.get(name, 0), (node.end_lineno or node.lineno) - node.lineno + 1)
            found.update(functions(node, f"{name}."))
        elif isinstance(node, ast.ClassDef):
            found.update(functions(node, f"{above}{node.name}."))
        else:
            found.update(functions(node, above))
    return found


def faults(lengths: dict[str, int], allowed: dict[str, int], limit: int) -> list[str]:
    """What a person must do for `lengths` to be within `limit` or as `allowed`."""
    told = []
    for name, length in sorted(lengths.items()):
        if name not in allowed and length > limit:
            told.append(f"{name} has {length} lines; {limit} is the limit: split it")
        elif name in allowed and length > allowed[name]:
            told.append(f"{name} grew from {allowed[name]} to {length} lines: the list only shrinks")
        elif name in allowed and length <= limit:
            told.append(f"{name} is within the limit now: take it off the list")
        elif name in allowed and length <= allowed[name] - SLACK:
            told.append(f"{name} has shrunk to {length} lines: write that on the list")
    told.extend(f"{name} is gone: take it off the list" for name in sorted(set(allowed) - set(lengths)))
    return told


@pytest.fixture(scope="module")
def allowed() -> dict[str, dict[str, int]]:
    listed: dict[str, dict[str, int]] = tomllib.loads(ALLOWED.read_text())
    return listed


def test_functions_fit_a_screen(modules: list[Any], allowed: dict[str, dict[str, int]]) -> None:
    lengths = {f"{m.path}:{name}": size for m in modules for name, size in functions(m.tree).items()}
    told = faults(lengths, allowed["functions"], FUNCTION_MAX)
    assert not told, "\n".join(told)


def test_files_are_short(modules: list[Any], allowed: dict[str, dict[str, int]]) -> None:
    told = faults({m.path: len(m.text.splitlines()) for m in modules}, allowed["files"], FILE_MAX)
    assert not told, "\n".join(told)


@pytest.mark.parametrize(
    ("lengths", "listed", "count"),
    [
        ({"f": 60}, {}, 0),
        ({"f": 61}, {}, 1),
        ({"f": 70}, {"f": 70}, 0),
        ({"f": 71}, {"f": 70}, 1),
        ({"f": 71}, {"f": 80}, 0),
        ({"f": 70}, {"f": 80}, 1),
        ({"f": 60}, {"f": 70}, 1),
        ({}, {"f": 70}, 1),
    ],
)
def test_the_ratchet_only_tightens(lengths: dict[str, int], listed: dict[str, int], count: int) -> None:
    assert len(faults(lengths, listed, FUNCTION_MAX)) == count


def test_functions_inside_classes_and_branches_are_counted() -> None:
    source = "if x:\n  class A:\n    def f(self):\n      def g():\n        return 1\n      return g\n"
    assert functions(ast.parse(source)) == {"A.f": 4, "A.f.g": 2}
