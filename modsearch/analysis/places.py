"""Configurations in numbers: what they differ by, as the axes of a belief.

An axis is a setting of the model or of the optimiser, at whatever depth of its components, that
takes several values; depth is one, and width is in the size alone.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modsearch.analysis.beliefs import Sites
from modsearch.config.records import Candidate

LOGARITHMIC = 4.0
"""Ratio of the largest to the smallest value from which on an axis is one of logarithms."""

Features = dict[str, Any]
"""Settings by dotted path: numbers, texts, booleans, None."""


def features(candidate: Candidate) -> Features:
    """What a configuration says, but for its width."""
    values = {
        "model": candidate.model.model_dump(mode="json", exclude={"width"}),
        "optim": candidate.optim.model_dump(mode="json"),
    }
    return dict(_leaves(values))


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        where = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from _leaves(value, where)
        else:
            yield where, json.dumps(value) if isinstance(value, list) else value


def log_size(candidate: Candidate) -> float:
    """ln of the parameters of a dense model of the same depth and width: of blocks with an MLP
    four times as wide as the stream, and of the vocabulary."""
    model = candidate.model
    return math.log(model.width * (12 * model.depth * model.width + model.vocab_size))


@dataclass(frozen=True)
class Axes:
    """The settings that configurations differ by."""

    values: Mapping[str, tuple[Any, ...]]
    """By path, in a fixed order."""
    origin: float
    """ln(size) that is called zero."""

    @classmethod
    def of(cls, candidates: Iterable[Candidate]) -> "Axes":
        """Those of some candidates, whose middle size becomes the origin."""
        listed = list(candidates)
        found: dict[str, set[Any]] = {}
        for each in listed:
            for path, value in features(each).items():
                found.setdefault(path, set()).add(value)
        ordered = {path: tuple(sorted(found[path], key=_order)) for path in sorted(found)}
        sizes = [log_size(each) for each in listed]
        return cls(
            {path: values for path, values in ordered.items() if len(values) > 1},
            (min(sizes) + max(sizes)) / 2,
        )

    def sites(self, candidates: Sequence[Candidate], budgets: Sequence[float]) -> Sites:
        """Candidates at budgets, in pairs."""
        rows = [features(each) for each in candidates]
        columns = [
            [_place(row[path], values) if path in row else math.nan for row in rows]
            for path, values in self.values.items()
        ]
        return Sites(
            axes_NA=np.array(columns, dtype=float).reshape(len(columns), len(rows)).T,
            ordered=tuple(map(_is_ordered, self.values.values())),
            size_N=np.array([log_size(each) - self.origin for each in candidates]),
            budget_N=np.array(budgets, dtype=float),
        )


def _order(value: Any) -> tuple[str, Any]:
    """An order of values of any kind: numbers by size."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return ("number", value) if number else ("text", json.dumps(value))


def _is_ordered(values: Sequence[Any]) -> bool:
    return all(_order(value)[0] == "number" for value in values)


def _place(value: Any, values: Sequence[Any]) -> float:
    """Where a value is on its axis."""
    if not _is_ordered(values):
        return float(values.index(value)) if value in values else -1.0
    low, high = values[0], values[-1]
    if low > 0 and high / low >= LOGARITHMIC:
        return math.log(value / low) / math.log(high / low)
    return float((value - low) / (high - low))
