"""House rules: docs/bad-input.md is what the table in the code prints."""

from pathlib import Path

from config.reasons import BAD_INPUTS, PLACE_TEXT, Place, Reason, place_of, table_markdown


def test_the_page_is_what_the_code_prints(root: Path) -> None:
    page = (root / "docs/bad-input.md").read_text(encoding="utf-8")
    assert page == table_markdown(), "run: meterd docs bad-input > docs/bad-input.md"


def test_every_reason_is_on_the_page_and_has_a_place() -> None:
    page = table_markdown()
    for reason in Reason:
        assert page.count(f"`{reason.value}`") == 1
        assert isinstance(place_of(reason), Place)
    assert set(PLACE_TEXT) == set(Place)


def test_every_class_is_one_row() -> None:
    page = table_markdown()
    for bad in BAD_INPUTS:
        assert f"| {bad.number} | {bad.name} |" in page
        assert all(place_of(reason) is bad.place for reason in bad.reasons)
