"""Optuna's samplers as functions of what they are asked with.

What a cell has tried is put into a study in memory, which is asked once and forgotten: the ledger
is read by nobody else than the cell, and a sampler of Optuna's can leave nothing behind that a
resumed search would not have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from modsearch.space.axes import Choice, Distribution, Float
from modsearch.space.points import open_axes, resolve
from modsearch.space.samplers import Ask, Point, Tried

CONSTRAINT = "trainable"
"""Of every trial that has ended: 0 where it could be trained, 1 where it could not."""


class Points(optuna.samplers.BaseSampler):
    """A trial whose values are known: they are looked up, not sampled."""

    def __init__(self, point: Mapping[str, Any]) -> None:
        self.point = point

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing is sampled jointly."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing is sampled jointly."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The known value."""
        return self.point[param_name]


def optuna_distribution(axis: Distribution) -> BaseDistribution:
    """The same distribution in Optuna's words."""
    if isinstance(axis, Choice):
        return CategoricalDistribution(axis.labels)
    if isinstance(axis, Float):
        return FloatDistribution(axis.low, axis.high, log=axis.log)
    return IntDistribution(axis.low, axis.values[-1], step=axis.step)


def proposed(
    sampler: optuna.samplers.BaseSampler,
    ask: Ask,
    *,
    constrained: bool = False,
    marks: Sequence[Mapping[str, Any]] = (),
    prior: Sequence[Tried] = (),
) -> Point:
    """What a sampler of Optuna's proposes next to what a cell has tried.

    Args:
        sampler: of Optuna's, with the ask's seed.
        ask: the question.
        constrained: whether it is told which trials could not be trained; else they are left out.
        marks: what the sampler would have noted at each earlier trial.
        prior: what was trained elsewhere, which it is told as trials before the first one.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    low = optuna.study.StudyDirection.MINIMIZE
    study = optuna.create_study(sampler=sampler, directions=[low] * (1 + len(ask.spec.prices)))
    tree = ask.spec.tree
    known = {path: optuna_distribution(axis) for path, axis in open_axes(tree).items()}
    for each in prior:
        inside = {path: _inside(label, known[path]) for path, label in each.point.items()}
        there = replace(each, point=inside)
        study.add_trial(_frozen(there, known, constrained=constrained, noted={}))
    for place, tried in enumerate(ask.tried):
        noted = marks[place] if marks else {}
        study.add_trial(_frozen(tried, known, constrained=constrained, noted=noted))
    trial = study.ask()
    point: Point = {}

    def pick(path: str, axis: Distribution) -> Any:
        point[path] = trial._suggest(path, optuna_distribution(axis))
        return axis.labelled(point[path])

    resolve(tree, pick)
    return point


def _inside(label: Any, known: BaseDistribution) -> Any:
    """An end that was computed may be off by rounding, which Optuna would not have."""
    if isinstance(known, FloatDistribution):
        return min(max(label, known.low), known.high)
    return label


def _frozen(
    tried: Tried,
    known: Mapping[str, BaseDistribution],
    *,
    constrained: bool,
    noted: Mapping[str, Any],
) -> FrozenTrial:
    costs = tried.costs or (() if tried.cost is None else (tried.cost,))
    able = bool(costs) or tried.reached is not None
    state = TrialState.COMPLETE if costs else TrialState.PRUNED
    return create_trial(
        state=TrialState.RUNNING if tried.running else state,
        values=costs or None,
        params=dict(tried.point),
        distributions={path: known[path] for path in tried.point},
        constraints={CONSTRAINT: float(not able)} if constrained and not tried.running else None,
        system_attrs=dict(noted),
        intermediate_values=dict([tried.reached]) if tried.reached is not None else None,
    )
