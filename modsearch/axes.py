"""Trees of values whose leaves may be distributions, and the points of their grids.

A leaf is fixed, or one of `{choice: [..]}`, `{int: [low, high], step: s}`,
`{float: [low, high]}` and `{log: [low, high]}`. A choice may hold components whose options are
distributions themselves.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modsearch.errors import ConfigError

Tree = dict[str, Any]
"""Nested plain data whose leaves may be distributions."""


@dataclass(frozen=True)
class Choice:
    """One of several values; a value may be a mapping with distributions of its own."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Int:
    """low, low + step, ... up to high."""

    low: int
    high: int
    step: int


@dataclass(frozen=True)
class Float:
    """A real number, uniform or log-uniform."""

    low: float
    high: float
    log: bool


Distribution = Choice | Int | Float


Pick = Callable[[str, Distribution], Any]
"""Chooses a value for the distribution at a dotted path."""


def parse_tree(value: Any) -> Any:
    """Plain data with distributions in place of the mappings that state them.

    Raises:
        ConfigError: a distribution is malformed.
    """
    if isinstance(value, Mapping):
        keys = set(value)
        if keys == {"choice"}:
            return _choice(value["choice"])
        if keys in ({"int"}, {"int", "step"}):
            low, high = _bounds(value["int"], int)
            step = value.get("step", 1)
            if type(step) is not int or step < 1:
                raise ConfigError(f"step of an int distribution is 1 or more, but got {step!r}")
            return Int(int(low), int(high), step)
        if keys in ({"float"}, {"log"}):
            key = next(iter(keys))
            low, high = _bounds(value[key], float)
            if key == "log" and low <= 0:
                raise ConfigError(f"a log distribution needs a positive low, but got {low}")
            return Float(low, high, log=key == "log")
        # In a fixed order: two files that say the same make the same study.
        return {key: parse_tree(inner) for key, inner in sorted(value.items())}
    return value


def _choice(values: Any) -> Choice:
    if not isinstance(values, list) or not values:
        raise ConfigError(f"choice needs a list of values, but got {values!r}")
    parsed = tuple(parse_tree(value) for value in values)
    if any(isinstance(value, Distribution) for value in parsed):
        raise ConfigError(f"a choice holds values, not distributions, but got {values!r}")
    return Choice(parsed)


def _bounds(value: Any, kind: type) -> tuple[float, float]:
    if not (isinstance(value, list) and len(value) == 2):
        raise ConfigError(f"{kind.__name__} bounds are [low, high], but got {value!r}")
    numbers = (int,) if kind is int else (int, float)
    if any(type(bound) not in numbers or not math.isfinite(bound) for bound in value):
        what = "whole numbers" if kind is int else "finite numbers"
        raise ConfigError(f"{kind.__name__} bounds are {what}, but got {value!r}")
    if value[0] > value[1]:
        raise ConfigError(f"low <= high must hold, but got {value!r}")
    return kind(value[0]), kind(value[1])


def label(value: Any) -> Any:
    """A choice as a ledger stores it: scalars as they are, others as JSON."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, default=lambda axis: "open", sort_keys=True)


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


def grid(tree: Any) -> Iterator[dict[str, Any]]:
    """Every point of a finite tree, as labels by path; the last axis turns fastest.

    Raises:
        ConfigError: an axis is continuous.
    """
    for path, axis in open_axes(tree).items():
        if isinstance(axis, Float):
            raise ConfigError(
                f"a grid needs finite axes, but `{path}` is continuous\n"
                f"give it a choice, or use sampler random, qmc or tpe"
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
            values = axis.values if isinstance(axis, Choice) else int_values(axis)
            turn = prefix[len(turns)] if len(turns) < len(prefix) else 0
            turns.append((turn, len(values)))
            point[path] = label(values[turn])
            return values[turn]

        resolve(tree, pick)
        yield point
        while turns and turns[-1][0] + 1 == turns[-1][1]:
            turns.pop()
        if not turns:
            return
        prefix = [turn for turn, _ in turns[:-1]] + [turns[-1][0] + 1]


def int_values(axis: Distribution) -> tuple[int, ...]:
    assert isinstance(axis, Int)
    return tuple(range(axis.low, axis.high + 1, axis.step))
