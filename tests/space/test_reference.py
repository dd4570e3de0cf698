"""The page of keys says what the models say."""

from pathlib import Path

from modsearch.space.reference import page

PAGE = Path(__file__).parents[2] / "docs" / "space.md"


def test_the_page_of_keys_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_a_key_has_its_type_with_bounds_its_default_and_its_meaning() -> None:
    lines = page().splitlines()
    assert "| `confirm.runs` | int >= 6 <= 900 | 24 | " in "\n".join(lines)
    assert any(
        line.startswith("| `arms.NAME.control_of` | text \\| null | null") for line in lines
    )
    assert any(line.startswith("| `block` | component | `dense`") for line in lines)
    for line in lines:
        if line.startswith("| `"):
            *_, meaning, end = line.replace("\\|", "").split("|")
            assert meaning.strip(), line
            assert not end
