"""House rules: words that do not belong in the repository, each with what to write instead."""

import re

import pytest

# Written in pieces, so that this file is no exception to its own rule.
BANNED = {
    r"(?<![\w.-])/" + r"work/": "a path relative to the repository, or tmp_path in a test",
    r"(?<![\w.-])/" + r"root/": "a path relative to the repository, or tmp_path in a test",
    r"(?<![\w.-])/" + r"home/": "a path relative to the repository, or tmp_path in a test",
    r"\bpypi\." + r"org\b": "no registry address: pip's own configuration knows it",
    r"\bpython" + r"hosted\.org\b": "no registry address: pip's own configuration knows it",
    r"\bindex-" + r"url\b": "no registry address: pip's own configuration knows it",
    r"\brepo1?\.maven\." + r"(apache\.)?org\b": "no registry address: Maven's own configuration knows it",
    r"\bproxy\.golang\." + r"org\b": "no registry address",
    r"\bregistry\.npmjs\." + r"org\b": "no registry address",
    r"\bdeb\.debian\." + r"org\b": "no registry address: apt's own configuration knows it",
    r"\bTO" + r"DO\b": "do it, or say in docs/ what is missing and why",
    r"\bFIX" + r"ME\b": "fix it, or say in docs/ what is missing and why",
    r"\bXX" + r"X\b": "say what is meant",
    r"\butc" + r"now\b": "the clock that is passed in (config.clock)",
    r"except Exc" + r"eption:\s*(continue|pass)\b": "name the exception, and say what its failure means",
}


@pytest.mark.parametrize("word", BANNED)
def test_no_banned_word_is_in_any_text(word: str, texts: dict[str, str]) -> None:
    pattern = re.compile(word)
    found = [
        f"{path}:{text.count(chr(10), 0, hit.start()) + 1}: {hit.group()!r}; instead: {BANNED[word]}"
        for path, text in texts.items()
        for hit in pattern.finditer(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "banned"),
    [
        ("open('/" + "work/x')", True),
        ("see https://a.example/" + "work/x", False),
        ("art" + "work/x", False),
        ("# TO" + "DO later", True),
        ("mas" + "todon", False),
        ("except Exc" + "eption:\n        continue", True),
        ("XX" + "XX", False),
    ],
)
def test_the_words_are_found_and_their_likes_are_not(text: str, banned: bool) -> None:
    assert any(re.search(word, text) for word in BANNED) is banned


def test_texts_are_plain(texts: dict[str, str]) -> None:
    """UTF-8 without BOM (decoding has shown the first), LF, no space at line ends, one newline at the end."""
    found = [
        path
        for path, text in texts.items()
        if path.endswith((".md", ".toml"))  # ruff sees to Python
        and text.strip()
        and (text[0] == "\ufeff" or "\r" in text or re.search(r"[ \t]\n", text) or not re.search(r"[^\n]\n\Z", text))
    ]
    assert not found, found
