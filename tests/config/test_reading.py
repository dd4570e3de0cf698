"""Strict YAML: plain data or one line that says where and why; what is accepted means what it
looks like."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modsearch.config.reading import MOST_BYTES, override, parse_yaml, read_yaml
from modsearch.errors import ConfigError
from modsearch.store.files import write_yaml

BOMB = "\n".join(
    [
        "a: &a [x, x, x, x, x, x, x, x, x]",
        *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in ("ab", "bc", "cd", "de", "ef")),
    ]
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 9" + "9" * 5000, "line 1: a number of 5,001 digits"),
        ("a: !!timestamp 'x'", 'line 1: tag "!!timestamp" is not taken'),
        ("a: !!bool 'x'", "line 1: tag"),
        ("a: !!binary abc", "line 1: tag"),
        ("a: !!python/name:os.system", "line 1: tag"),
        ("a: " + "[" * 400 + "]" * 400, "nested more than 40 deep"),
        ("a: " + "{a: " * 5000 + "1" + "}" * 5000, "nested more than 40 deep"),
        ("a: &x [*x]", "nested more than 40 deep"),
        ("a: &x {b: *x}", "nested more than 40 deep"),
        (BOMB, "more than 50,000 values"),
        ("a: 1\nb: 2\na: 3", 'line 3: key "a" stands twice in one mapping, in lines 1 and 3'),
        ("x:\n  - {a: 1, a: 1}", 'line 2: key "a" stands twice'),
        ("1: 2", "line 1: a key is a text, but got 1"),
        ("null: 2", "line 1: a key is a text, but got null"),
        ("[1, 2]: 2", "line 1: a key is a text, but got a list or mapping"),
        ("a: 1\n---\nb: 2", "line 2: expected a single document"),
        ("a: *b", "line 1: found undefined alias"),
        ("a: [1, 2", "line 1: expected ',' or ']'"),
        ("a: b: c", "line 1: mapping values are not allowed here"),
        ("a: 1\n\tb: 2", "line 2: found character"),
        ("a: 1\nb: \x00", "line 2: is no text: character '\\x00'"),
        ("a: {<<: 3}", "line 1: `<<` takes a mapping"),
        ('a: "b\\0c"', "line 1: a text holds a NUL character"),
        ('a: "\\ud800"', "line 1: a text holds half of a character"),
        ("a" * (MOST_BYTES + 1), "has 250,001 characters"),
    ],
    ids=lambda text: text[:20],
)
def test_bad_yaml_is_one_line_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-01", "2024-01-01"),
        ("2024-99-99", "2024-99-99"),
        ("yes", "yes"),
        ("off", "off"),
        ("010", "010"),
        ("0x1f", "0x1f"),
        ("1:30", "1:30"),
        ("!!str 5", "5"),
        ("TRUE", True),
        ("~", None),
        ("1_000", 1000),
        ("-.inf", float("-inf")),
        ("=", "="),
    ],
)
def test_a_plain_value_means_what_it_looks_like(text: str, value: object) -> None:
    found = parse_yaml(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_anchors_and_merges_work_and_what_is_written_out_wins() -> None:
    text = "base: &b {p: 1, q: 2}\none: {<<: *b, q: 3}\ntwo: {<<: [{p: 5}, *b]}"
    assert parse_yaml(text) == {
        "base": {"p": 1, "q": 2},
        "one": {"p": 1, "q": 3},
        "two": {"p": 5, "q": 2},
    }


plain_st = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]))
    | st.text("+-.0123456789eE_~<:naftruyINF", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abé:#1", max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(plain_st)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    path = tmp_path_factory.mktemp("yaml") / "x.yaml"
    write_yaml(path, {"a": value})
    assert read_yaml(path, [])["a"] == value


@given(st.text(max_size=60) | st.text("[]{}:,&*!#|>'\"-? \n\tab1<.", max_size=60))
def test_any_text_is_data_or_a_short_error(text: str) -> None:
    message = ""
    try:
        parse_yaml(text)
    except ConfigError as error:
        message = str(error)
    assert len(message) < 400
    assert "\n" not in message


@given(st.text("[]{}:,'\"- \nab1.", max_size=40))
def test_what_is_accepted_is_what_yaml_means(text: str) -> None:
    try:
        found = parse_yaml(text)
    except ConfigError:
        return
    assert _as_text(found) == _as_text(yaml.load(text, yaml.BaseLoader))


def _as_text(value: object) -> object:
    """Scalars are compared elsewhere."""
    if isinstance(value, dict):
        return {key: _as_text(inner) for key, inner in value.items()}
    return [_as_text(inner) for inner in value] if isinstance(value, list) else ""


@pytest.mark.parametrize(
    "content", [b"a: 1".decode().encode("utf-16"), b"a: \xff", b"\x00\x01"], ids=repr
)
def test_a_file_that_is_no_text_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        read_yaml(tmp_path / "x.yaml", [])


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "x.yaml", []) == {"a": 1}


@pytest.mark.parametrize(
    "stated", ["a..b=1", ".a=1", "a.=1", "=1", "a", "a={b: 1, b: 2}", "a=!!set x"]
)
def test_overrides_go_through_the_same_reader(stated: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        override({}, stated)


def test_an_override_of_a_list_says_that_lists_are_replaced_whole() -> None:
    with pytest.raises(ConfigError, match="replaced whole"):
        override({"a": [1]}, "a.0=2")
