"""House rules: the shared tables are what the docs say they are."""

from config.reasons import BAD_INPUTS


def test_the_bad_inputs_are_the_25_classes_of_the_domain() -> None:
    assert [b.number for b in BAD_INPUTS] == list(range(1, 26))
