"""Means over seeds with their 95 % intervals, and with the error of what all seeds share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from modsearch.analysis.noise import t_quantile
from modsearch.analysis.runs import Runs

FEWEST = 3
"""Values below which a deviation says too little for an interval."""


@dataclass(frozen=True)
class Mean:
    """A mean and its 95 % interval; without ends where there are too few values for one."""

    value: float
    low: float | None = None
    high: float | None = None


def mean_of(values: Sequence[float], shared: float = 0.0, runs: Runs | None = None) -> Mean:
    """Mean over seeds (one at least) by Student's t; `runs` says what each counts for, if not the
    same.

    `shared` is the standard error of what all seeds have in common, such as the items of a test:
    more seeds do not make it smaller. Its variance is added, with many degrees of freedom, and
    those of the sum are Welch and Satterthwaite's. A part of the items' error differs between
    seeds and is in both, so that the interval is, if anything, a little too wide.
    """
    runs = runs or Runs.alike(len(values))
    value = float(runs.mean(values))
    if len(values) < FEWEST:
        return Mean(value)
    own = runs.factor * float(runs.spread(values))
    variance = own + shared**2
    if variance == 0:
        return Mean(value)  # seeds that change nothing say nothing about noise
    freedom = runs.freedom / max(own / variance, 1e-4) ** 2
    half = t_quantile(freedom) * math.sqrt(variance)
    return Mean(value, value - half, value + half)


def runs_note(num: int) -> str:
    """Why a mean of so few has no interval; empty where it has one."""
    if num >= FEWEST:
        return ""
    return "single run" if num == 1 else f"{num} runs: no interval"
