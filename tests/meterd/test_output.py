"""What commands print: tab-separated in a pipe, rich on a terminal, JSON on request; exact, and inert."""

import io
import json
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.reasons import Reason
from meterd import output


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_tabs_and_a_line_of_names(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("meter", "yuan", "on"), [("A", Decimal("100.00"), True), ("B", None, False)])
    assert capsys.readouterr().out == "meter\tyuan\ton\nA\t100.00\tyes\nB\t\tno\n"


def test_json_is_exact_and_typed(capsys: pytest.CaptureFixture[str]) -> None:
    row = (2**62, Decimal("0.10"), None, True, Path("a/b"), b"\xff", Reason.FUTURE, [Decimal(1)], np.int64(7))
    output.table(tuple("abcdefghi"), [row], json=True)
    assert json.loads(capsys.readouterr().out) == [
        {
            "a": 2**62,
            "b": "0.10",
            "c": None,
            "d": True,
            "e": "a/b",
            "f": "\\xff",
            "g": "future",
            "h": ["1"],
            "i": 7,
        }
    ]


def test_an_empty_table_is_still_json_and_still_has_names(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("a",), [], json=True)
    output.table(("a",), [])
    assert capsys.readouterr().out == "[]\na\n"


def test_a_row_of_another_width_is_our_defect() -> None:
    with pytest.raises(ValueError, match="shorter"):
        output.table(("a", "b"), [(1,)], json=True)


def test_a_record_is_lines_or_one_nested_object(capsys: pytest.CaptureFixture[str]) -> None:
    thing = {"fen": 12, "by": {"energy": Decimal("1.5")}}
    output.record(thing)
    assert capsys.readouterr().out == 'fen\t12\nby\t{"energy": "1.5"}\n'
    output.record(thing, json=True)
    assert json.loads(capsys.readouterr().out) == {"fen": 12, "by": {"energy": "1.5"}}


def test_a_terminal_shows_every_cell_and_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "100")
    output.table(("name", "note"), [("[red]A[/red]", "\x1b[2J wiped?")], title="[b]T")
    output.record({"[k]": "[/v]"}, title="one")
    shown = screen.getvalue()
    for text in ("[red]A[/red]", "\\x1b[2J wiped?", "[b]T", "[k]", "[/v]", "one"):
        assert text in shown
    assert "\x1b[2J" not in shown


@given(st.text(max_size=30))
def test_a_cell_is_one_inert_line(text: str) -> None:
    shown = output.cell(text)
    assert "\n" not in shown
    assert "\t" not in shown
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    if text.isprintable():
        assert shown == text


def test_chinese_is_not_escaped_and_bidi_controls_are() -> None:
    assert output.cell("电表账户余额不足") == "电表账户余额不足"
    assert output.cell("a\u202eb") == "a\\u202eb"
    assert output.cell("\ud800") == "\\ud800"


def test_json_on_a_stream_that_cannot_say_it_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    output.record({"text": "电 \ud800"}, json=True)
    assert json.loads(raw.getvalue()) == {"text": "电 \ud800"}


def test_no_json_number_is_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        output.record({"a": float("nan")}, json=True)


def test_progress_in_a_pipe_is_ten_lines_at_most_and_not_in_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("import", 1_000) as advance:
        for _ in range(1_000):
            advance(1)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [f"import\t{n}00/1000" for n in range(1, 11)]


def test_progress_on_a_terminal_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with output.progress("[import]", 3) as advance:
        advance(3)
    assert "[import]" in screen.getvalue()
    assert "3/3" in screen.getvalue()
