"""Explore's trials by several objectives: which of them no other one beats, and how surely.

A trial is on the front of its budget where no other one is as good in every objective and better
in one. Its loss is that of one seed, so that a front by losses as they were measured has lucky
trials on it: how often a trial is on it is counted over draws in which every loss is another
seed's. Prices are taken as they were measured.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

import numpy as np
from numpy.typing import NDArray

from modsearch.analysis.noise import Noise, moderated, pooled, seed_sd
from modsearch.analysis.trials import finished
from modsearch.config.evaluation import PRICES, Price, as_cost
from modsearch.config.records import Record, Stage

DRAWS = 2000
"""Of other seeds: a share is known to 0.011 then, or better."""
SEED = 0
"""Of the draws, so that a report says the same each time."""

# P points, K objectives.


@dataclass(frozen=True)
class Point:
    """A candidate that explore has trained, once or with several seeds."""

    records: tuple[Record, ...]
    cost: float
    """What is ranked by, lower is better: the mean loss over seeds, in nats per token, or a
    metric of a suite with its sign."""
    prices: Mapping[Price, float]
    """As they were measured, mean over seeds."""
    on_front: bool
    """By the values as they were measured."""
    share: float | None
    """Of the draws in which it is on the front; None where the noise of a metric is not known."""

    @property
    def value(self) -> float:
        """The loss, or the metric as the suite has it."""
        objective = self.records[0].objective
        return -self.cost if objective is not None and objective.higher_is_better else self.cost


@dataclass(frozen=True)
class Front:
    """All candidates of one budget, best first."""

    budget: float
    points: tuple[Point, ...]
    sd: float | None
    """Of one trial's loss over seeds; None where it is not known."""
    basis: str
    """Where that number comes from."""


def fronts(records: Sequence[Record]) -> list[Front]:
    """Of each budget whose trials in explore have prices, the largest first."""
    budgets: dict[float, list[Record]] = defaultdict(list)
    for record in records:
        if record.stage is Stage.EXPLORE and finished(record) and record.prices:
            budgets[record.budget.flops].append(record)
    return [_front(budget, budgets[budget]) for budget in sorted(budgets, reverse=True)]


def _front(budget: float, records: Sequence[Record]) -> Front:
    groups = _by_candidate(records)
    noise, basis = _noise(budget, groups)
    known = [record.prices or {} for record in records]
    prices = [price for price in PRICES if all(price in each for each in known)]
    cost_P = np.array([fmean(record.cost for record in group) for group in groups])
    price_PK = np.array([[_price(group, price) for price in prices] for group in groups])
    low_PK = price_PK * [as_cost(price, 1.0) for price in prices]
    on_front_P = unbeaten(np.column_stack([cost_P, low_PK]))
    share_P: Sequence[float | None] = [None] * len(groups)
    if noise is not None:
        share_P = _shares(cost_P, low_PK, [len(group) for group in groups], noise).tolist()
    points = [
        Point(
            records=tuple(group),
            cost=float(cost_P[place]),
            prices=dict(zip(prices, map(float, price_PK[place]), strict=True)),
            on_front=bool(on_front_P[place]),
            share=share_P[place],
        )
        for place, group in enumerate(groups)
    ]
    points.sort(key=lambda each: (not each.on_front, each.cost, each.records[0].hash))
    return Front(budget, tuple(points), noise.sd if noise is not None else None, basis)


def unbeaten(cost_PK: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points (P, K) no other one beats: as low in all objectives, and lower in one."""
    as_low_PP = (cost_PK[:, None] <= cost_PK[None]).all(axis=2)
    lower_PP = (cost_PK[:, None] < cost_PK[None]).any(axis=2)
    return np.asarray(~np.any(as_low_PP & lower_PP, axis=0))


def _by_candidate(records: Sequence[Record]) -> list[list[Record]]:
    """Trials of the same arm and candidate stand together: they differ by their seeds."""
    found: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.hash):
        found[record.arm, record.candidate.model_dump_json()].append(record)
    return [*found.values()]


def _price(group: Sequence[Record], price: Price) -> float:
    return fmean((record.prices or {})[price] for record in group)


def _noise(budget: float, groups: Sequence[Sequence[Record]]) -> tuple[Noise | None, str]:
    """Of one trial's cost, and in words where it comes from."""
    repeated = [[record.cost for record in group] for group in groups if len(group) > 1]
    found = pooled((variance(costs) * (len(costs) - 1), len(costs) - 1) for costs in repeated)
    if any(record.objective is not None for group in groups for record in group):
        known = "repeated seeds" if found else "not known: no candidate has two seeds"
        return found, known
    prior = seed_sd(budget)
    if found is None:
        return moderated(None, prior), f"the prior, {prior:.3f}: no candidate has two seeds"
    return moderated(found, prior), f"repeated seeds, moderated towards the prior, {prior:.3f}"


def _shares(
    cost_P: NDArray[np.float64],
    low_PK: NDArray[np.float64],
    num_seeds: Sequence[int],
    noise: Noise,
) -> NDArray[np.float64]:
    """Share of the draws in which each point is on the front.

    The deviation is drawn, too, by its degrees of freedom: it is an estimate.
    """
    draws = np.random.default_rng(SEED)
    scale_P = 1 / np.sqrt(np.array(num_seeds))
    count_P = np.zeros(len(cost_P))
    for _ in range(DRAWS):
        sd = noise.sd * math.sqrt(noise.freedom / draws.chisquare(noise.freedom))
        other_P = cost_P + sd * scale_P * draws.standard_normal(len(cost_P))
        count_P += unbeaten(np.column_stack([other_P, low_PK]))
    return count_P / DRAWS
