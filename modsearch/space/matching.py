"""Which point of a tree a configuration is: the way back from `build`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modsearch.config.data import DataConfig
from modsearch.config.records import Candidate
from modsearch.errors import ConfigError
from modsearch.space.axes import Choice, Float, Int
from modsearch.space.candidates import build
from modsearch.space.points import at_point, inside
from modsearch.space.samplers import Point

MOST_GUESSES = 64
"""Points that are tried, where values of a choice look alike: components of one name."""


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
