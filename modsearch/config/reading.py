"""YAML, read strictly: plain data or a `ConfigError`, and nothing in between; and written so that
it is read as it was.

What YAML 1.1 makes of a text in surprise (dates, `yes`, 010, 1:30) stays a text. Tags, keys that
are no text, a key that stands twice and documents without bound are refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any

import yaml

from modsearch.errors import ConfigError, has_surrogates, shortened, shown

Tree = dict[str, Any]
"""Nested plain data; in a space its leaves may be distributions."""

Source = Path | Mapping[str, Any]
"""A YAML file, or what one would say, from Python."""

MOST_BYTES = 250_000
MOST_NODES = 50_000
"""Values of a document, each counted as often as aliases repeat it."""
MOST_NESTED = 40
MOST_DIGITS = 40

_NULL = "tag:yaml.org,2002:null"
_BOOL = "tag:yaml.org,2002:bool"
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"

SCALARS = [
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?(0|[1-9][0-9_]*)", list("-+0123456789")),
    (
        _FLOAT,
        r"[-+]?([0-9][0-9_]*\.?[0-9_]*[eE][-+]?[0-9]+|[0-9][0-9_]*\.[0-9_]*"
        r"|\.[0-9]+([eE][-+]?[0-9]+)?|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    (_MERGE, r"<<", ["<"]),
]
"""The core schema of YAML 1.2, and 5e10 is a number in it."""


class _Loader(yaml.SafeLoader):
    """Composes nodes; what they mean is read below."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nested = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A node that is not nested too deep and has no tag."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # untyped in the stubs
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            tag = event.tag
            if tag not in (None, "!", _TEXT):
                name = tag.replace("tag:yaml.org,2002:", "!!")
                raise _fault(f"tag {shown(name)} is not taken: write the plain value", event)
        self.nested += 1
        if self.nested > MOST_NESTED:
            raise _fault(f"values are nested more than {MOST_NESTED} deep", event)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.nested -= 1
        return node


for _tag, _pattern, _first in SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)


def _fault(problem: str, at: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    mark: Any = at.start_mark
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


class _Values:
    """Plain data from nodes, with a bound on how much of it."""

    def __init__(self) -> None:
        self.nodes = 0

    def of(self, node: yaml.Node, nested: int = 0) -> Any:
        """The value of a node.

        Raises:
            MarkedYAMLError: a key is twice there or no text, a number has no end, or aliases
                make a value endless.
        """
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise _fault(f"more than {MOST_NODES:,} values", node)
        if nested > MOST_NESTED:
            raise _fault(f"values are nested more than {MOST_NESTED} deep", node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, nested)
        if isinstance(node, yaml.SequenceNode):
            return [self.of(each, nested + 1) for each in node.value]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, nested: int) -> Tree:
        merged: Tree = {}
        found: Tree = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                for mapping in self._merged(value_node, nested):
                    merged = {**mapping, **merged}
                continue
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                what = shown(key) if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                raise _fault(f"a key is a text, but got {what}", key_node)
            if key in lines:
                raise _fault(
                    f"key {shown(key)} stands twice in one mapping, in lines {lines[key]} and "
                    f"{line}: keep one of them",
                    key_node,
                )
            lines[key] = line
            found[key] = self.of(value_node, nested + 1)
        return {**merged, **found}

    def _merged(self, node: yaml.Node, nested: int) -> Iterator[Tree]:
        """The mappings of a merge key, the first of a list with the most weight."""
        for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = self.of(each, nested + 1)
            if not isinstance(value, dict):
                raise _fault("`<<` takes a mapping or a list of mappings", node)
            yield value


def _scalar(node: yaml.Node) -> Any:
    text: str = node.value
    if "\0" in text:
        raise _fault("a text holds a NUL character", node)
    if has_surrogates(text):
        raise _fault("a text holds half of a character, a lone \\ud800 to \\udfff", node)
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return text.lower() == "true"
    if node.tag in (_INT, _FLOAT):
        if len(text) > MOST_DIGITS:
            raise _fault(f"a number of {len(text):,} digits", node)
        plain = text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan")
        return int(plain) if node.tag == _INT else float(plain)
    return text


def parse_yaml(text: str, *, lines: bool = True) -> Any:
    """Plain data: None, bool, int, float, str, lists, and mappings with keys of text.

    Raises:
        ConfigError: the text is not such YAML; says why, and with `lines` in which line.
    """
    if len(text) > MOST_BYTES:
        raise ConfigError(f"has {len(text):,} characters, over {MOST_BYTES:,}")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _Values().of(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark and lines else ""
        problem = error.problem or "is not valid YAML"
        if problem.startswith("but"):
            problem = f"{error.context}, {problem}"
        raise ConfigError(f"{line}{shortened(' '.join(problem.split()), 200)}") from error
    except yaml.reader.ReaderError as error:
        line = f"line {text.count(chr(10), 0, error.position) + 1}: " if lines else ""
        raise ConfigError(f"{line}is no text: character {text[error.position]!a}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = shortened(" ".join(str(error).split()), 200)
        raise ConfigError(f"is not valid YAML: {reason}") from error


def read(source: Source, overrides: Sequence[str], what: str) -> Tree:
    """A file or a mapping as plain data, with `a.b=c` overrides applied.

    Raises:
        ConfigError: it is not what YAML can say, or an override is malformed; names the file, or
            `what` a mapping is.
    """
    if isinstance(source, Path):
        return read_yaml(source, overrides)
    try:
        values = _plain(source)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from error
    for text in overrides:
        override(values, text)
    return values


def named(source: Source, what: str) -> str:
    """How errors name a source: by its file, or by `what` a mapping is."""
    return str(source) if isinstance(source, Path) else what


def _plain(values: Mapping[str, Any]) -> Tree:
    """A copy of values from Python, as strict as if a file said them."""
    try:
        text = yaml_text(_simple(values, ""))
    except RecursionError as error:
        raise ConfigError(f"values are nested more than {MOST_NESTED} deep") from error
    found: Tree = parse_yaml(text, lines=False)
    return found


def _simple(value: Any, path: str) -> Any:
    """What YAML has for a value: numbers of numpy are numbers, and paths are texts.

    Raises:
        ConfigError: it has nothing; says where.
    """
    if isinstance(value, Mapping):
        return {
            key: _simple(inner, f"{path}.{key}" if path else f"{key}")
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_simple(inner, f"{path}.{place}") for place, inner in enumerate(value)]
    if value is None or type(value) in (bool, str, float):
        return value
    if isinstance(value, Integral):
        if abs(int(value)) >= 10**MOST_DIGITS:  # and Python prints none of over 4,300 digits
            raise ConfigError(f"{path}: a number of more than {MOST_DIGITS} digits")
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, PurePath):
        return str(value)
    raise ConfigError(f"{path}: takes plain values alone, but got {shown(value)}")


def read_yaml(path: Path, overrides: Sequence[str]) -> Tree:
    """A YAML file as plain data, with `a.b=c` overrides applied.

    Raises:
        ConfigError: the file is missing or is not a YAML mapping, or an override is malformed.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"no file {path}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"can't read {path}: {reason}") from error
    try:
        value = parse_yaml(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(f"can't read {path}: it is not text in UTF-8") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if value is None:
        raise ConfigError(f"{path} is empty: it needs keys and their values")
    if not isinstance(value, dict):
        raise ConfigError(f"{path} is no mapping of keys to values, but {shown(value)}")
    for text in overrides:
        override(value, text)
    return value


def override(tree: Tree, stated: str) -> None:
    """Set one value of a tree, as `a.b=c` says.

    Raises:
        ConfigError: it is malformed.
    """
    path, equals, text = stated.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set takes key.key=value, but got {shown(stated)}")
    *parents, last = keys
    for key in parents:
        if tree.get(key) is None:
            tree[key] = {}
        if not isinstance(tree[key], dict):
            what = "list, which is replaced whole" if isinstance(tree[key], list) else "value"
            raise ConfigError(f"--set {shortened(path, 80)}: `{key}` is a {what}: it has no keys")
        tree = tree[key]
    try:
        tree[last] = parse_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"--set {shortened(path, 80)}: {shown(text)}: {error}") from None


def yaml_text(value: object) -> str:
    """Plain data as YAML that is read as the same values, keys in their own order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that would be read as something else."""


for _tag, _pattern, _first in SCALARS:
    _Dumper.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)
