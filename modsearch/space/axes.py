"""Trees of values whose leaves may be distributions, and the points of their grids.

A leaf is fixed, or one of `{choice: [..]}`, `{int: [low, high], step: s}`,
`{float: [low, high]}` and `{log: [low, high]}`. A choice may hold components whose options are
distributions themselves.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from modsearch.errors import ConfigError, shown

MOST_VALUES = 1000
"""Of one choice."""
MOST_POINTS = 10_000
"""Of one grid."""
MOST_INT = 2**53
"""Where floats and ledgers stop to tell integers apart."""


@dataclass(frozen=True)
class Choice:
    """One of several values; a value may be a mapping with distributions of its own."""

    values: tuple[Any, ...]

    @cached_property
    def labels(self) -> list[Any]:
        """The values as a ledger stores them: scalars as they are, others as JSON; all as JSON
        where Python takes two for equal, as it does 1 and True."""
        plain = [
            value if value is None or isinstance(value, bool | int | float | str) else _json(value)
            for value in self.values
        ]
        clash = len(set(plain)) < len(plain)
        return [_json(value) for value in self.values] if clash else plain

    def labelled(self, label: Any) -> Any:
        """The value of a label."""
        return self.values[self.labels.index(label)]


@dataclass(frozen=True)
class Int:
    """low, low + step, ... up to high."""

    low: int
    high: int
    step: int

    @property
    def num_values(self) -> int:
        """How many there are."""
        return (self.high - self.low) // self.step + 1

    def value(self, place: int) -> int:
        """The one at a place, from 0."""
        return self.low + self.step * place


@dataclass(frozen=True)
class Float:
    """A real number, uniform or log-uniform."""

    low: float
    high: float
    log: bool


Distribution = Choice | Int | Float


Pick = Callable[[str, Distribution], Any]
"""Chooses a value for the distribution at a dotted path."""


def parse_tree(value: Any, path: str = "") -> Any:
    """Plain data with distributions in place of the mappings that state them.

    Raises:
        ConfigError: a distribution is malformed; says at which path.
    """
    if isinstance(value, Mapping):
        stated = KINDS & set(value)
        if not stated:
            # In a fixed order: two files that say the same make the same study.
            return {
                key: parse_tree(inner, f"{path}.{key}" if path else str(key))
                for key, inner in sorted(value.items())
            }
        try:
            return _distribution(value, stated)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}" if path else str(error)) from None
    return value


KINDS = {"choice", "int", "float", "log"}


def is_distribution(value: Any) -> bool:
    """Whether plain data state a distribution, right or wrong."""
    return isinstance(value, Mapping) and bool(KINDS & set(value))


def _distribution(value: Mapping[str, Any], stated: set[str]) -> Distribution:
    kind, *others = sorted(stated)
    allowed = {kind, "step"} if kind == "int" else {kind}
    if others or set(value) - allowed:
        raise ConfigError(
            f"a distribution is {FORMS[kind]} and nothing beside it, but got {shown(value)}"
        )
    if kind == "choice":
        return _choice(value["choice"])
    low, high = _bounds(value[kind], kind)
    if kind == "int":
        step = value.get("step", 1)
        if type(step) is not int or not 0 < step <= MOST_INT:
            raise ConfigError(f"step is a whole number over 0, but got {shown(step)}")
        return Int(int(low), int(high), step)
    if kind == "log" and low <= 0:
        raise ConfigError(f"a log distribution needs a low over 0, but got {shown(low)}")
    return Float(low, high, log=kind == "log")


FORMS = {
    "choice": "{choice: [A, B, ...]}",
    "int": "{int: [LOW, HIGH], step: S}",
    "float": "{float: [LOW, HIGH]}",
    "log": "{log: [LOW, HIGH]}",
}


def _choice(values: Any) -> Choice:
    if not isinstance(values, list) or not values:
        raise ConfigError(f"choice takes a list of values, but got {shown(values)}")
    if len(values) > MOST_VALUES:
        raise ConfigError(f"choice has {len(values):,} values, over {MOST_VALUES:,}")
    parsed = tuple(parse_tree(value) for value in values)
    if any(isinstance(value, Distribution) for value in parsed):
        raise ConfigError(f"a choice holds values, not distributions, but got {shown(values)}")
    seen: dict[str, Any] = {}
    for value, plain in zip(parsed, values, strict=True):
        meaning = _json(_meaning(value))
        if meaning in seen:
            raise ConfigError(
                f"choice has {shown(plain)} twice"
                if shown(plain) == shown(seen[meaning])
                else f"choice has one value twice: {shown(seen[meaning])} and {shown(plain)}"
            )
        seen[meaning] = plain
    return Choice(parsed)


def _meaning(value: Any) -> Any:
    """The same for what means the same: 1 and 1.0, a name and a component without options."""
    if isinstance(value, Distribution):
        return repr(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        if set(value) == {"name"}:
            return value["name"]
        return {key: _meaning(inner) for key, inner in value.items()}
    return [_meaning(inner) for inner in value] if isinstance(value, list) else value


def _bounds(value: Any, kind: str) -> tuple[float, float]:
    if not (isinstance(value, list) and len(value) == 2):
        raise ConfigError(f"bounds are {FORMS[kind]}, but got {shown(value)}")
    for bound in value:
        if kind == "int":
            if type(bound) is not int or abs(bound) > MOST_INT:
                raise ConfigError(f"bounds of int are whole numbers, but got {shown(value)}")
        elif type(bound) not in (int, float) or not abs(bound) <= 1e300:
            raise ConfigError(f"bounds of {kind} are finite numbers, but got {shown(value)}")
    low, high = value if kind == "int" else map(float, value)
    if low > high:
        raise ConfigError(f"bounds are {FORMS[kind]}, low first, but got {shown(value)}")
    return low, high


def _json(value: Any) -> str:
    return json.dumps(value, default=_open, sort_keys=True)


def _open(axis: Distribution) -> str:
    return "open"


def unlabelled(axis: Distribution, stored: Any) -> Any:
    """A value of an axis from what a ledger or a point has: of a choice it is the label."""
    return axis.labelled(stored) if isinstance(axis, Choice) else stored


def resolve(tree: Any, pick: Pick, path: str = "") -> Any:
    """The tree with a picked value in place of every distribution."""
    if isinstance(tree, Choice):
        value = pick(path, tree)
        return resolve(value, pick, inside(path, value))
    if isinstance(tree, Int | Float):
        return pick(path, tree)
    if isinstance(tree, Mapping):
        return {
            key: resolve(value, pick, f"{path}.{key}" if path else key)
            for key, value in tree.items()
        }
    return tree


def inside(path: str, value: Any) -> str:
    """Path of what a chosen component brings along."""
    return f"{path}.{value['name']}" if isinstance(value, Mapping) and "name" in value else path


def open_axes(tree: Any, path: str = "") -> dict[str, Distribution]:
    """Every distribution of a tree by path, those inside choices included.

    Raises:
        ConfigError: a choice gives one path two distributions.
    """
    if isinstance(tree, Choice):
        found: dict[str, Distribution] = {path: tree}
        for value in tree.values:
            inner = open_axes(value, inside(path, value))
            for clash in found.keys() & inner.keys():
                if found[clash] != inner[clash]:
                    raise ConfigError(
                        f"`{clash}` has two distributions in one choice\n"
                        f"name a component once, with one distribution for each option"
                    )
            found |= inner
        return found
    if isinstance(tree, Int | Float):
        return {path: tree}
    found = {}
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            found |= open_axes(value, f"{path}.{key}" if path else key)
    return found


def is_finite(tree: Any) -> bool:
    """Whether the tree has finitely many points."""
    return not any(isinstance(axis, Float) for axis in open_axes(tree).values())


def num_points(tree: Any) -> int:
    """Points of a finite tree's grid, counted without listing them."""
    if isinstance(tree, Choice):
        return sum(num_points(value) for value in tree.values)
    if isinstance(tree, Int):
        return tree.num_values
    if isinstance(tree, Mapping):
        return math.prod(num_points(value) for value in tree.values())
    return 1


def grid(tree: Any) -> Iterator[dict[str, Any]]:
    """Every point of a finite tree, as labels by path; the last axis turns fastest.

    Raises:
        ConfigError: an axis is continuous, or there are too many points.
    """
    for path, axis in open_axes(tree).items():
        if isinstance(axis, Float):
            raise ConfigError(
                f"a grid needs finite axes, but `{path}` is continuous\n"
                f"give it a choice, or use sampler random, qmc or tpe"
            )
    if (count := num_points(tree)) > MOST_POINTS:
        raise ConfigError(
            f"a grid of {count:,} points is too large, {MOST_POINTS:,} is the most\n"
            f"give its axes fewer values, or use sampler random, qmc or tpe"
        )
    prefix: list[int] = []
    while True:
        turns: list[tuple[int, int]] = []
        point: dict[str, Any] = {}

        def pick(
            path: str,
            axis: Distribution,
            turns: list[tuple[int, int]] = turns,
            point: dict[str, Any] = point,
            prefix: list[int] = prefix,
        ) -> Any:
            turn = prefix[len(turns)] if len(turns) < len(prefix) else 0
            if isinstance(axis, Choice):
                turns.append((turn, len(axis.values)))
                point[path] = axis.labels[turn]
                return axis.values[turn]
            assert isinstance(axis, Int)
            turns.append((turn, axis.num_values))
            point[path] = axis.value(turn)
            return point[path]

        resolve(tree, pick)
        yield point
        while turns and turns[-1][0] + 1 == turns[-1][1]:
            turns.pop()
        if not turns:
            return
        prefix = [turn for turn, _ in turns[:-1]] + [turns[-1][0] + 1]
