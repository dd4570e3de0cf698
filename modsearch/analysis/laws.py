"""Power laws of the minima, and what they foretell of a budget that was not measured.

L*(C) = E + G C^-g and N*(C) ~ C^a, through the minima of an arm's isoFLOP curves (approach 2 of
Hoffmann et al. 2022, arXiv 2203.15556). The loss's law is that of `slopes`, written at the budget
that is asked for, so that the loss there and its error come out directly. What it can't know is
said: a parabola is blind to the skew of a curve (Czech et al. 2026, arXiv 2603.22339; `surfaces`
has that bias for a study's own grid), exponents move with how parameters and FLOPs are counted
(Porian et al. 2024, arXiv 2406.19146), and intervals hold where the law does, so that the error
with which measured budgets are foretold from the others stands beside every prediction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modsearch.analysis.curves import Array, Fit
from modsearch.analysis.noise import NORMAL
from modsearch.analysis.slopes import local_law, standard_error

MIN_BUDGETS = 2
"""Fitted minima that a law needs: a line through N*, and the secant of L* bent by the prior."""


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def holds(self, truth: float) -> bool:
        """Whether the truth lies inside."""
        return self.low <= truth <= self.high


@dataclass(frozen=True)
class PowerLaw:
    """ln y = intercept + exponent (ln x - centre), with the covariance of the two."""

    centre: float
    intercept: float
    exponent: float
    covariance: Array
    """2 x 2."""

    def at(self, x: float) -> Interval:
        """y at x."""
        row = np.array([1.0, math.log(x) - self.centre])
        value = float(row @ (self.intercept, self.exponent))
        half = NORMAL * math.sqrt(float(row @ self.covariance @ row))
        return Interval(math.exp(value), math.exp(value - half), math.exp(value + half))

    @property
    def exponent_interval(self) -> Interval:
        """The exponent."""
        half = NORMAL * math.sqrt(float(self.covariance[1, 1]))
        return Interval(self.exponent, self.exponent - half, self.exponent + half)


@dataclass(frozen=True)
class Prediction:
    """What an arm is foretold at a budget."""

    budget: float
    params: Interval
    loss: Interval
    factor: float
    """The budget over the largest fitted one; at most 1 where nothing is extrapolated."""


@dataclass(frozen=True)
class LeftOut:
    """A measured budget, foretold from the others."""

    predicted: Prediction
    params: float
    loss: float
    """The minimum that its own fit has."""

    @property
    def loss_error(self) -> float:
        """Predicted minus fitted, nats per token."""
        return self.predicted.loss.value - self.loss


def power_law(
    x: Array, y: Array, log_errors: Array, x_log_errors: Array | None = None
) -> PowerLaw:
    """Weighted least squares in logarithms, with errors of y and, where given, of x.

    A point's variance is that of y and exponent^2 times that of x, iterated until the exponent
    stands still (York et al. 2004, doi 10.1119/1.1632486, without correlations).
    """
    log_x, log_y = np.log(x), np.log(y)
    centre = float(log_x.mean())
    design = np.column_stack([np.ones_like(log_x), log_x - centre])
    of_x = np.zeros_like(log_x) if x_log_errors is None else np.asarray(x_log_errors)
    exponent = float(np.polyfit(log_x, log_y, 1)[0])
    for _ in range(50):
        weights = 1 / np.maximum(log_errors**2 + exponent**2 * of_x**2, 1e-18)
        covariance = np.linalg.inv(design.T @ (weights[:, None] * design))
        intercept, found = (float(c) for c in covariance @ design.T @ (weights * log_y))
        if abs(found - exponent) < 1e-12:
            break
        exponent = found
    return PowerLaw(centre, intercept, found, np.asarray(covariance, dtype=np.float64))


def params_law(fits: Sequence[Fit]) -> PowerLaw:
    """N*(C) through the vertices of an arm."""
    return power_law(
        np.array([fit.budget for fit in fits]),
        np.array([fit.minimum_params for fit in fits]),
        np.array(list(map(vertex_error, fits))),
    )


def vertex_error(fit: Fit) -> float:
    """Standard error of ln(N*): by the longer side of its interval, because the other one may end
    with the ladder, and because half of both is too short in tails (92 % over five budgets)."""
    assert fit.minimum_params_low is not None, "`with_noise` gives every fit its interval"
    assert fit.minimum_params_high is not None
    below = fit.minimum_params / fit.minimum_params_low
    above = fit.minimum_params_high / fit.minimum_params
    return math.log(max(below, above)) / NORMAL


def loss_at(fits: Sequence[Fit], budget: float) -> Interval:
    """L*(C) by the law of the minima with the prior on its exponent."""
    x = np.log([fit.budget for fit in fits]) - math.log(budget)
    losses = np.array([fit.minimum_loss for fit in fits])
    errors = np.array([standard_error(fit.minimum_low, fit.minimum_high) for fit in fits])
    found = local_law(x, losses, errors)
    half = NORMAL * math.sqrt(float(found.covariance[0, 0]))
    return Interval(found.loss, found.loss - half, found.loss + half)


def predict(fits: Sequence[Fit], budget: float) -> Prediction | None:
    """An arm at a budget, by its fitted minima; None with fewer than two budgets."""
    budgets = {fit.budget for fit in fits}
    if len(budgets) < MIN_BUDGETS:
        return None
    return Prediction(
        budget=budget,
        params=params_law(fits).at(budget),
        loss=loss_at(fits, budget),
        factor=budget / max(budgets),
    )


def left_out(fits: Sequence[Fit]) -> list[LeftOut]:
    """Each fitted budget foretold from the others; none with fewer than three."""
    found = []
    for fit in fits:
        told = predict([each for each in fits if each.budget != fit.budget], fit.budget)
        if told is not None:
            found.append(LeftOut(told, fit.minimum_params, fit.minimum_loss))
    return found
