"""Optuna's samplers as functions of what they are asked with.

What a cell has tried is put into a study in memory, which is asked once and forgotten: the ledger
is read by nobody else than the cell, and a sampler of Optuna's can leave nothing behind that a
resumed search would not have.
"""

from collections.abc import Mapping
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


def proposed(sampler: optuna.samplers.BaseSampler, ask: Ask) -> Point:
    """What a sampler of Optuna's proposes next to what a cell has tried."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler, direction="minimize")
    tree = ask.spec.tree
    known = {path: optuna_distribution(axis) for path, axis in open_axes(tree).items()}
    for tried in ask.tried:
        study.add_trial(_frozen(tried, known))
    trial = study.ask()
    point: Point = {}

    def pick(path: str, axis: Distribution) -> Any:
        point[path] = trial._suggest(path, optuna_distribution(axis))
        return axis.labelled(point[path])

    resolve(tree, pick)
    return point


def _frozen(tried: Tried, known: Mapping[str, BaseDistribution]) -> FrozenTrial:
    distributions = {path: known[path] for path in tried.point}
    if tried.running:
        state, constraints = TrialState.RUNNING, {}
    elif tried.cost is None:
        state, constraints = TrialState.PRUNED, {CONSTRAINT: 1.0}
    else:
        state, constraints = TrialState.COMPLETE, {CONSTRAINT: 0.0}
    return create_trial(
        state=state,
        value=tried.cost,
        params=dict(tried.point),
        distributions=distributions,
        constraints=constraints or None,
    )
