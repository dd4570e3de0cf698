"""Which of the configurations that were tried is the best, by a belief through all trials.

The lowest of many noisy losses is low by luck more often than by merit; what is like it, and the
same at smaller budgets, says which.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from modsearch.analysis.beliefs import Belief, drawn_in, fitted_scales
from modsearch.analysis.places import Axes
from modsearch.analysis.recipes import best_recipe, explored, is_scored, size_of
from modsearch.config.records import Record, Stage

MIN_BELIEVED = 12
"""Trials from which on a belief chooses among what was drawn: of fewer it is its priors."""


def chosen_recipe(records: Sequence[Record], arm: str) -> Record | None:
    """The best trial of the recipe of an arm that explore's results are for; None without any.

    Where all recipes were tried at the same sizes, as in a grid, and where explore has an
    objective or few trials, it is the one that `best_recipe` ranks first. Where trials were drawn,
    it is that of the configuration whose believed loss is the lowest.
    """
    rows = [record for record in records if record.arm == arm and is_scored(record, Stage.EXPLORE)]
    sizes = {tuple(sorted(map(size_of, group))) for group in explored(records, arm)}
    objective = any(record.objective is not None for record in rows)
    if len(sizes) < 2 or objective or len(rows) < MIN_BELIEVED:
        return best_recipe(records, arm)
    _, best = believed(rows)[0]
    return min(best, key=lambda record: (record.cost, record.hash))


def believed(records: Sequence[Record]) -> list[tuple[float, list[Record]]]:
    """The configurations of the largest budget, each with its believed loss and its trials there,
    best first.

    Args:
        records: finished trials of one arm in one stage, at any budgets.
    """
    rows = sorted(records, key=lambda record: record.hash)
    losses = np.array([_loss(record) for record in rows])
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
    found = [*groups.values()]
    places = axes.sites([group[0].candidate for group in found], [largest] * len(found))
    means = map(float, belief.at(places).mean_M)
    return sorted(zip(means, found, strict=True), key=lambda each: (each[0], each[1][0].hash))


def _loss(record: Record) -> float:
    assert record.scores is not None
    return record.scores.causal_loss
