"""Which of the configurations that were tried is the best, by a belief through all trials.

The lowest of many noisy losses is low by luck more often than by merit; what is like it, and the
same at smaller budgets, says which. What configurations differ by are the axes of the belief: an
axis is a setting of the model or of the optimiser, at whatever depth of its components, that takes
several values; depth is one, and width is in the size alone.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from modsearch.analysis.beliefs import Belief, Sites, drawn_in, fitted_scales
from modsearch.config.records import Candidate, Record

MIN_BELIEVED = 12
"""Trials from which on a belief chooses among what was drawn: of fewer it is its priors."""
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
            ordered=tuple(map(is_ordered, self.values.values())),
            size_N=np.array([log_size(each) - self.origin for each in candidates]),
            budget_N=np.array(budgets, dtype=float),
        )


def _order(value: Any) -> tuple[str, Any]:
    """An order of values of any kind: numbers by size."""
    return ("number", value) if _is_number(value) else ("text", json.dumps(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_ordered(values: Sequence[Any]) -> bool:
    """Whether values of an axis lie in an order: numbers do."""
    return all(map(_is_number, values))


def _place(value: Any, values: Sequence[Any]) -> float:
    """Where a value is on its axis."""
    if not is_ordered(values):
        return float(values.index(value)) if value in values else -1.0
    low, high = values[0], values[-1]
    if low > 0 and high / low >= LOGARITHMIC:
        return math.log(value / low) / math.log(high / low)
    return float((value - low) / (high - low))


@dataclass(frozen=True)
class _Trials:
    """Of one arm, told apart by what a belief takes from them."""

    key: tuple[tuple[str, float], ...]
    records: tuple[Record, ...] = field(compare=False)


def believed(records: Sequence[Record]) -> list[tuple[float, list[Record]]]:
    """The configurations of the largest budget, each with its believed loss and its trials there,
    best first.

    Args:
        records: finished trials of one arm in one stage, at any budgets.
    """
    rows = sorted(records, key=lambda record: record.hash)
    key = tuple((record.hash, _loss(record)) for record in rows)
    return [(mean, list(group)) for mean, group in _believed(_Trials(key, tuple(rows)))]


@lru_cache(maxsize=64)  # a report and a driver ask again and again
def _believed(trials: _Trials) -> tuple[tuple[float, tuple[Record, ...]], ...]:
    rows = trials.records
    losses = np.array([loss for _, loss in trials.key])
    largest = max(record.budget.flops for record in rows)
    axes = Axes.of(record.candidate for record in rows)
    sites = axes.sites(
        [record.candidate for record in rows], [record.budget.flops for record in rows]
    )
    losses = drawn_in(losses, sites.budget_N)
    belief = Belief(sites, losses, largest, fitted_scales(sites, losses, largest))
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in rows:
        if record.budget.flops == largest:
            groups[record.candidate.model_dump_json(exclude={"data"})].append(record)
    found = [tuple(group) for group in groups.values()]
    places = axes.sites([group[0].candidate for group in found], [largest] * len(found))
    means = map(float, belief.at(places).mean_M)
    ranked = zip(means, found, strict=True)
    return tuple(sorted(ranked, key=lambda each: (each[0], each[1][0].hash)))


def _loss(record: Record) -> float:
    assert record.scores is not None
    return record.scores.causal_loss
