"""Lines of keys: strings, comments and nesting must not lead the scanner astray."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from config.toml_lines import key_lines, line_of

TEXT = '''\
# data_dir = "no"
data_dir = "a # not a comment"  # [no]
s = """
[not.a.table]
x = 1 \\"""
"""
l = \'\'\'
y = 2
\'\'\'
many = [
  "a ] b",  # ]
  # c = 3
  { inner = 1 },
]
"quoted key" = 1
a.b.'c d' = {e = 1, f = {g = 2}}

  [table] # comment
  k = 1979-05-27T07:32:00Z

[ table . sub ]
\tk = -1.5e3
[[rows]]
r = 1
[[rows]]
last = 2'''


def test_lines_of_every_kind_of_statement() -> None:
    lines = key_lines(TEXT)
    assert tomllib.loads(TEXT)["table"]["sub"]["k"] == -1500.0  # the text is TOML
    assert lines == {
        ("data_dir",): 2,
        ("s",): 3,
        ("l",): 7,
        ("many",): 10,
        ("quoted key",): 15,
        ("a",): 16,
        ("a", "b"): 16,
        ("a", "b", "c d"): 16,
        ("table",): 18,
        ("table", "k"): 19,
        ("table", "sub"): 21,
        ("table", "sub", "k"): 22,
        ("rows",): 23,
        ("rows", 0): 23,
        ("rows", 0, "r"): 24,
        ("rows", 1): 25,
        ("rows", 1, "last"): 26,
    }


def test_a_key_without_a_line_has_that_of_the_table_above() -> None:
    lines = key_lines(TEXT)
    assert line_of(lines, ("a", "b", "c d", "f", "g")) == 16
    assert line_of(lines, ("table", "missing")) == 18
    assert line_of(lines, ("missing",)) is None


def test_tables_of_an_array_are_numbered_within_the_table_above() -> None:
    text = "[[v]]\n[v.t]\n[[v.p]]\na = 1\n[[v.p]]\na = 2\n[[v]]\n[[v.p]]\na = 3\n[v.p.q]\nb = 4\n"
    lines = key_lines(text)
    assert [tomllib.loads(text)["v"][v]["p"][p]["a"] for v, p in ((0, 0), (0, 1), (1, 0))] == [1, 2, 3]
    assert {key: line for key, line in lines.items() if key[-1] == "a"} == {
        ("v", 0, "p", 0, "a"): 4,
        ("v", 0, "p", 1, "a"): 6,
        ("v", 1, "p", 0, "a"): 9,
    }
    assert lines["v", 0, "t"] == 2
    assert lines["v", 1] == 7
    assert lines["v", 1, "p", 0, "q", "b"] == 11
    assert line_of(lines, ("v", 0, "p", 1, "missing")) == 5


def test_windows_line_ends_count_once() -> None:
    assert key_lines("a = 1\r\n\r\n[b]\r\nc = 2\r\n") == {("a",): 1, ("b",): 3, ("b", "c"): 4}


@given(st.lists(st.sampled_from(list("\"'[]{}#=.\n\\ ab1")), max_size=40).map("".join))
def test_the_scanner_ends_on_any_text(text: str) -> None:
    assert all(line <= text.count("\n") + 1 for line in key_lines(text).values())
