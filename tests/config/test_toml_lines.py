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
        ("rows", "r"): 24,
        ("rows", "last"): 26,
    }


def test_a_key_without_a_line_has_that_of_the_table_above() -> None:
    lines = key_lines(TEXT)
    assert line_of(lines, ("a", "b", "c d", "f", "g")) == 16
    assert line_of(lines, ("table", "missing")) == 18
    assert line_of(lines, ("missing",)) is None


def test_windows_line_ends_count_once() -> None:
    assert key_lines("a = 1\r\n\r\n[b]\r\nc = 2\r\n") == {("a",): 1, ("b",): 3, ("b", "c"): 4}


@given(st.lists(st.sampled_from(list("\"'[]{}#=.\n\\ ab1")), max_size=40).map("".join))
def test_the_scanner_ends_on_any_text(text: str) -> None:
    assert all(line <= text.count("\n") + 1 for line in key_lines(text).values())
