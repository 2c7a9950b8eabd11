"""The kernel is compiled once: a stamp beside the compiled code says of what."""

from __future__ import annotations

from pathlib import Path

import pytest

from meterd import warm
from rating.kernel import rate


def test_compiled_once_and_again_when_a_source_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = Path(rate.stats.cache_path) / "meterd-warm.txt"
    warm.ensure_warm()
    told: list[str] = []
    assert not warm.ensure_warm(lambda: told.append("told"))
    before = stamp.read_text(encoding="ascii")
    monkeypatch.setattr(warm, "_made_of", lambda: "other sources")
    try:
        assert warm.ensure_warm(lambda: told.append("told"))
        assert told == ["told"]
        assert stamp.read_text(encoding="ascii") == "other sources"
    finally:
        stamp.write_text(before, encoding="ascii")


def test_all_that_is_compiled_is_met() -> None:
    """Whatever a running daemon could still have to compile is met by the made-up hamlet."""
    import rating.addresses
    import rating.closing
    import rating.days
    import rating.estimates
    import rating.judging
    from ingest import bounds

    warm.warm()
    functions = (
        rate,
        rating.addresses.gather,
        rating.addresses.search,
        rating.closing._ripen,
        rating.days._post,
        rating.estimates._guess,
        rating.judging._judge,
        bounds._compiled,
    )
    assert [f.py_func.__name__ for f in functions if not f.signatures] == []
