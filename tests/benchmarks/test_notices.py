"""The reader of a file that grows: whole lines only, each once."""

from __future__ import annotations

from pathlib import Path

from benchmarks.notices import measure, whole_lines


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "n"
    with path.open("ab", buffering=0) as writer, path.open("rb") as reader:
        assert list(whole_lines(reader)) == []
        writer.write(b'{"key": 1}\n{"key"')
        assert list(whole_lines(reader)) == [b'{"key": 1}\n']
        assert list(whole_lines(reader)) == []
        writer.write(b": 2}\n{")
        assert list(whole_lines(reader)) == [b'{"key": 2}\n']
        writer.write(b"}\n")
        assert list(whole_lines(reader)) == [b"{}\n"]


def test_all_of_a_small_backlog_is_seen_once(tmp_path: Path) -> None:
    took_s, charged_s = measure(tmp_path, 600, 20)
    assert 0 < charged_s <= took_s
