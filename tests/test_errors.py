"""What a user is told is short, whatever was given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modsearch.errors import MOST_CHARACTERS, MOST_LINES, ModsearchError, shown, told


@given(st.lists(st.text(max_size=3000), max_size=9))
def test_a_message_has_at_most_four_lines_and_600_characters(lines: list[str]) -> None:
    text = told(ModsearchError("\n".join(lines)))
    assert text
    assert len(text) <= MOST_CHARACTERS
    assert len(text.splitlines()) <= MOST_LINES


def test_short_lines_stay_whole_beside_a_long_one() -> None:
    assert told(ModsearchError("x" * 5000 + "\nuse another one")).endswith("x\nuse another one")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (None, "null"),
        ("0.1", '"0.1"'),
        (2.0, "2.0"),
        ([1, True, None, {"a": False}], "[1, true, null, {a: false}]"),
        (1e10, "1e+10"),
    ],
)
def test_values_are_shown_as_yaml_has_them(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, 10**5000, [[[[[[0] * 99] * 99]] * 99]] * 99],
    ids=["text", "int", "lists"],
)
def test_long_values_are_cut(value: object) -> None:
    assert len(shown(value)) <= 60
