"""Which point of a tree a configuration is: the way back from `build`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modsearch.config.data import DataConfig
from modsearch.config.records import Candidate
from modsearch.errors import ConfigError, shown
from modsearch.space.axes import Choice, Distribution, Float, Int, spread
from modsearch.space.candidates import build
from modsearch.space.points import at_point, inside
from modsearch.space.samplers import Point

MOST_GUESSES = 64
"""Points that are tried, where values of a choice look alike: components of one name."""
MOST_TOLD = 8
"""Values of a choice that are told."""


@dataclass(frozen=True)
class Match:
    """The point of a tree that is nearest to a configuration."""

    point: Point
    unlike: dict[str, tuple[Any, Any]]
    """Settings by path that differ, there and at the point; empty: it is the configuration."""


def match(tree: Mapping[str, Any], candidate: Candidate) -> Match | None:
    """The nearest point; the data do not count. None where no point near it can be built.

    Args:
        tree: `model`, `optim` and `size`, whose leaves may be distributions.
        candidate: of any study, with its components' options written out.
    """
    values = candidate.model_dump(mode="json", exclude={"data"})
    size = {key: values["model"][key] for key in tree["size"]}
    found: list[Match] = []
    for point in _guesses(tree, {**values, "size": size}, ""):
        try:
            built = build(at_point(tree, point), DataConfig())
        except ConfigError:  # settings of which one rules out another
            continue
        unlike = dict(_unlike(values, built.model_dump(mode="json", exclude={"data"})))
        found.append(Match(point, unlike))
    return min(found, key=lambda each: len(each.unlike), default=None)


def axis_told(tree: Mapping[str, Any], point: Point, path: str) -> str | None:
    """The values in words that a tree leaves open to a setting; None of what it has fixed.

    Args:
        tree: `model`, `optim` and `size`.
        point: of the tree.
        path: of a setting of the configuration at the point.
    """
    part, _, key = path.partition(".")
    own = f"size.{key}" if part == "model" and key in tree["size"] else path
    axis = _axis(tree, point, own.split("."), "")
    if axis is None:
        return None
    if isinstance(axis, Choice):
        values = [shown(_name(value)) for value in spread(axis.values, MOST_TOLD)]
        some = (
            f"one of {len(axis.values)}, such as " if len(axis.values) > MOST_TOLD else "one of "
        )
        return some + ", ".join(values)
    steps = f" in steps of {axis.step}" if isinstance(axis, Int) and axis.step > 1 else ""
    return f"{shown(axis.low)} to {shown(axis.high)}{steps}"


def _axis(tree: Any, point: Point, keys: Sequence[str], path: str) -> Distribution | None:
    """The axis of a setting; of a chosen component's option, what the component leaves open."""
    if isinstance(tree, Int | Float):
        return tree
    if isinstance(tree, Choice):
        if keys in ([], ["name"]):
            return tree
        value = tree.labelled(point[path])
        return _axis(value, point, keys, inside(path, value))
    if not isinstance(tree, Mapping) or not keys or keys[0] not in tree:
        return None
    return _axis(tree[keys[0]], point, keys[1:], f"{path}.{keys[0]}" if path else keys[0])


def _guesses(tree: Any, value: Any, path: str) -> list[Point]:
    """Points that a value may have come from; an axis that has no such value is at its first."""
    if isinstance(tree, Choice):
        pairs = [*zip(tree.labels, tree.values, strict=True)]
        likely = [pair for pair in pairs if _name(pair[1]) == _name(value)] or pairs[:1]
        return [
            {path: label, **rest}
            for label, inner in likely
            for rest in _guesses(inner, value, inside(path, inner))
        ][:MOST_GUESSES]
    if isinstance(tree, Int | Float):
        return [{path: _label(tree, value)}]
    found: list[Point] = [{}]
    for key, inner in tree.items() if isinstance(tree, Mapping) else ():
        there = value.get(key) if isinstance(value, Mapping) else None
        rest = _guesses(inner, there, f"{path}.{key}" if path else key)
        found = [{**one, **other} for one in found for other in rest][:MOST_GUESSES]
    return found


def _name(value: Any) -> Any:
    """The name of a component, with or without options; what is none stays."""
    return value["name"] if isinstance(value, Mapping) and "name" in value else value


def _label(axis: Int | Float, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return axis.first
    label = int(value) if isinstance(axis, Int) else float(value)
    return label if label == value and axis.has(label) else axis.first


def _unlike(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            inner = f"{path}.{key}" if path else key
            yield from _unlike(one.get(key), other.get(key), inner)
    elif one != other:
        yield path, (one, other)
