"""How far the curves of two arms lie apart: in loss, in size, in the cost of a forward pass.

Everything is by the parabolas of `measure` and by the run-to-run noise that they are fitted with.
Losses at given sizes have Student's interval by the covariance of both fits. A ratio of two
vertices has that of Zou & Donner 2008 (doi 10.1002/sim.3095): the distances of each vertex to the
ends of its own interval, which is Fieller's and lopsided, add as squares. Where a curve meets a
level has all sizes at which it can't be told from it, which is right where the crossing is far
from straight, and has no end where nothing ends it. benchmarks/parity.py shows what they cover.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from modsearch.analysis.curves import Array, Fit, kept
from modsearch.analysis.laws import Interval
from modsearch.analysis.noise import Noise, quantile

GRID = 2001
"""Sizes at which a curve is held against a level: within 0.1 % in parameters of each other."""


@dataclass(frozen=True)
class Parity:
    """Where it is reached, with a 95 % interval."""

    value: float | None
    """None: nowhere."""
    low: float | None
    """None, as `high`: nothing bounds it."""
    high: float | None
    at_end: bool = False
    """The smallest size is as good already, so that `value` is the most that it can be."""

    def holds(self, truth: float) -> bool:
        """Whether the truth lies inside."""
        above = self.low is None or self.low <= truth
        return above and (self.high is None or truth <= self.high)


def gap(
    arm: Fit, size: float, reference: Fit, other: float, noise: Noise, *, tests: int = 1
) -> Interval:
    """How much lower one curve lies at a size than another at its own, nats per token.

    At a vertex the derivative to its place vanishes, so that the place may be a fitted one.

    Args:
        arm: positive where it is lower.
        size: parameters.
        reference: what it is held against.
        other: parameters.
        noise: of one trial.
        tests: of how many such gaps this one is the best (Bonferroni).
    """
    value = reference.at(other) - arm.at(size)
    variances = [
        float(_variance(fit, np.array([math.log(at)]), noise)[0])
        for fit, at in ((arm, size), (reference, other))
    ]
    half = quantile(noise.freedom, 1 - 0.025 / tests) * math.sqrt(sum(variances))
    return Interval(value, value - half, value + half)


def size_ratio(arm: Fit, reference: Fit) -> Interval:
    """Parameters at the minimum of one curve over those at the other's."""
    return _ratio(_vertex(arm), _vertex(reference))


def forward_ratio(arm: Fit, reference: Fit) -> Interval:
    """The same of realised forward FLOPs per token."""
    return _ratio(_forward_at_vertex(arm), _forward_at_vertex(reference))


def forward_at_parity(arm: Fit, reference: Fit, noise: Noise) -> Parity:
    """The fewest forward FLOPs per token with which an arm is as good as the reference's minimum,
    over those of that minimum.

    Only sizes that entered the arm's fit count. No value: none of them is as good. No upper end:
    none is told to be better, so that parity may never be reached. No lower end: the smallest is
    not told to be worse, or already as good.
    """
    assert reference.minimum_se is not None
    x = np.linspace(math.log(min(arm.params)), math.log(max(arm.params)), GRID)
    p, q, r = arm.coefficients
    above = p * x**2 + q * x + r - reference.minimum_loss
    half = noise.quantile * np.sqrt(_variance(arm, x, noise) + reference.minimum_se**2)
    forward = forward_law(arm)(x)
    reached = _first(above <= 0)
    better = _first(above + half < 0)
    not_worse = _first(above - half <= 0)
    level = _forward_at_vertex(reference)
    if reached is None:
        low = forward[-1 if not_worse is None else not_worse] if not_worse != 0 else None
        return Parity(None, None if low is None else math.exp(low - level[2]), None)
    value = float(forward[reached])
    low_end = value if not not_worse else float(forward[not_worse])
    high_end = value if better is None else float(forward[better])
    found = _ratio((low_end, value, high_end), level)
    return Parity(
        found.value,
        found.low if not_worse else None,
        found.high if better is not None else None,
        at_end=reached == 0,
    )


def forward_law(fit: Fit) -> Callable[[Array], Array]:
    """ln(realised forward FLOPs per token) by ln(parameters): a parabola through the ladder, which
    evens out how many tokens single trials happen to route."""
    points = kept(fit)
    x = np.log([point.params for point in points])
    y = np.log([point.forward_flops for point in points])
    centre = float(x.mean())
    degree = min(2, len(set(x.tolist())) - 1)
    found = np.asarray(np.polyfit(x - centre, y, degree), dtype=np.float64)

    def law(at: Array) -> Array:
        value: Array = np.vander(at - centre, degree + 1) @ found
        return value

    return law


def size_with_forward(fit: Fit, forward: float) -> float | None:
    """Parameters of a curve at which a forward pass costs so many FLOPs a token; None where that
    is none of the sizes that entered."""
    x = np.linspace(math.log(min(fit.params)), math.log(max(fit.params)), GRID)
    found = forward_law(fit)(x)
    target = math.log(forward)
    if not found[0] <= target <= found[-1]:
        return None
    return math.exp(float(np.interp(target, found, x)))


def forward_at(fit: Fit, size: float) -> float:
    """Realised forward FLOPs per token of a size."""
    return math.exp(float(forward_law(fit)(np.array([math.log(size)]))[0]))


def forward_at_minimum(fit: Fit) -> float:
    """The same at the vertex."""
    return forward_at(fit, fit.minimum_params)


Ends = tuple[float, float, float]
"""Lower end, value and upper end, on a log scale."""


def _vertex(fit: Fit) -> Ends:
    assert fit.minimum_params_low is not None
    assert fit.minimum_params_high is not None
    ends = (fit.minimum_params_low, fit.minimum_params, fit.minimum_params_high)
    return math.log(ends[0]), math.log(ends[1]), math.log(ends[2])


def _forward_at_vertex(fit: Fit) -> Ends:
    low, value, high = forward_law(fit)(np.array(_vertex(fit))).tolist()
    return low, value, high


def _ratio(arm: Ends, reference: Ends) -> Interval:
    """exp of the difference, squares of the distances added."""
    (low, value, high), (other_low, other, other_high) = arm, reference
    d = value - other
    return Interval(
        math.exp(d),
        math.exp(d - math.hypot(value - low, other_high - other)),
        math.exp(d + math.hypot(high - value, other - other_low)),
    )


def _variance(fit: Fit, x: Array, noise: Noise) -> Array:
    """Of the fitted loss at ln(parameters) x."""
    at = np.log(fit.params)
    centre = float(at.mean())
    design = np.vander(at - centre, 3)
    rows = np.vander(x - centre, 3)
    inverse = np.linalg.inv(design.T @ design)
    found: Array = noise.sd**2 * np.einsum("ij,jk,ik->i", rows, inverse, rows)
    return found


def _first(true: np.ndarray) -> int | None:
    return int(true.argmax()) if true.any() else None
