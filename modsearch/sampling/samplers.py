"""Samplers as functions of (study seed, cell, trial number), so that an interrupted search
goes on as an uninterrupted one would have."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy.stats import qmc

from modsearch.config.reading import Tree
from modsearch.space.axes import Choice, Distribution, Float
from modsearch.space.points import open_axes
from modsearch.space.space import SamplerName


class Points(optuna.samplers.BaseSampler):
    """A trial whose values are known: they are looked up, not sampled."""

    def __init__(self, point: Mapping[str, Any]) -> None:
        self.point = point

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Nothing is sampled jointly."""
        return {}

    def sample_relative(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Nothing is sampled jointly."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The known value."""
        return self.point[param_name]


def draw_seed(study_seed: int, cell: str, number: int) -> int:
    """A seed for one ask."""
    digest = hashlib.sha256(f"{study_seed}/{cell}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def random_point(tree: Any, study_seed: int, cell: str, number: int) -> dict[str, Any]:
    """Independent uniform draws."""
    axes = open_axes(tree)
    units = np.random.default_rng(draw_seed(study_seed, cell, number)).random(len(axes))
    return {path: axis.at(u) for (path, axis), u in zip(axes.items(), units, strict=True)}


def qmc_point(tree: Any, study_seed: int, cell: str, number: int) -> dict[str, Any]:
    """The number-th point of a scrambled Sobol' sequence, one dimension an axis."""
    axes = open_axes(tree)
    if not axes:
        return {}
    sequence = qmc.Sobol(len(axes), rng=np.random.default_rng(draw_seed(study_seed, cell, 0)))
    if number:
        sequence.fast_forward(number)
    units = sequence.random(1)[0]
    return {path: axis.at(u) for (path, axis), u in zip(axes.items(), units, strict=True)}


def optuna_distribution(axis: Distribution) -> BaseDistribution:
    """The same distribution in Optuna's words."""
    if isinstance(axis, Choice):
        return CategoricalDistribution(axis.labels)
    if isinstance(axis, Float):
        return FloatDistribution(axis.low, axis.high, log=axis.log)
    return IntDistribution(axis.low, axis.values[-1], step=axis.step)


def sampler_of(
    name: SamplerName, tree: Tree, study_seed: int, cell: str, number: int
) -> optuna.samplers.BaseSampler:
    """What chooses the values of a cell's number-th trial; a grid's are listed."""
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=draw_seed(study_seed, cell, number))
    draw = random_point if name == "random" else qmc_point
    return Points(draw(tree, study_seed, cell, number))
