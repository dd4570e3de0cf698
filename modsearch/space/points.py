"""Points of trees: which axes a tree has, its grid, and its values at a point."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

from modsearch.errors import ConfigError, shown
from modsearch.space.axes import Choice, Distribution, Float, Int

MOST_POINTS = 10_000
"""Of one grid."""

Pick = Callable[[str, Distribution], Any]
"""Chooses a value for the distribution at a dotted path."""


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


def at_point(tree: Any, point: Mapping[str, Any]) -> Any:
    """The tree's values at a point, which has labels by path."""
    return resolve(tree, lambda path, axis: axis.labelled(point[path]))


def point_at(
    tree: Any, axes: Mapping[str, Distribution], shares: Sequence[float]
) -> dict[str, Any]:
    """The point at a share of each open axis, from 0 to 1; without what no choice brings along."""
    found: dict[str, Any] = {}
    units = dict(zip(axes, shares, strict=True))

    def pick(path: str, axis: Distribution) -> Any:
        found[path] = axis.at(units[path])
        return axis.labelled(found[path])

    resolve(tree, pick)
    return found


def misfit(tree: Any, point: Mapping[str, Any]) -> str | None:
    """Why a point is none of the tree's; None where it is one."""
    met: set[str] = set()

    def pick(path: str, axis: Distribution) -> Any:
        if path not in point:
            raise ConfigError(f"`{path}` has no value")
        met.add(path)
        label = point[path]
        if not axis.has(label):
            raise ConfigError(f"`{path}` can't be {shown(label)}")
        return axis.labelled(label)

    try:
        resolve(tree, pick)
    except ConfigError as error:
        return str(error)
    over = sorted(point.keys() - met)
    return f"`{over[0]}` is no open axis there" if over else None


def drawn(tree: Any, draws: Random) -> Any:
    """The tree's values at a random point."""
    return resolve(tree, lambda _, axis: axis.drawn(draws))


def leading_to(tree: Any, values: Mapping[str, Any]) -> Any:
    """The tree with some axes' values, by path; of the others the first that brings one of these
    along."""

    def pick(path: str, axis: Distribution) -> Any:
        if path in values:
            return values[path]
        if isinstance(axis, Choice):
            for value in axis.values:
                if values.keys() & open_axes(value, inside(path, value)):
                    return value
        return axis.first

    return resolve(tree, pick)


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
                f"give it a choice, or use a sampler that draws, such as random"
            )
    if (count := num_points(tree)) > MOST_POINTS:
        raise ConfigError(
            f"a grid of {count:,} points is too large, {MOST_POINTS:,} is the most\n"
            f"give its axes fewer values, or use a sampler that draws, such as random"
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
            point[path] = axis.values[turn]
            return point[path]

        resolve(tree, pick)
        yield point
        while turns and turns[-1][0] + 1 == turns[-1][1]:
            turns.pop()
        if not turns:
            return
        prefix = [turn for turn, _ in turns[:-1]] + [turns[-1][0] + 1]
