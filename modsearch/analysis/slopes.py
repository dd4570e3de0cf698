"""How the minima of an arm fall with compute at one budget: the slope that turns a difference in
loss into a factor in FLOPs.

L*(C) = E + G C^-g is convex in ln C, so that one straight line through all budgets is too steep
where the largest stands (by 1.1, 1.3 and 1.6 in the median of made-up studies of two, three and
five budgets), which shrinks the factor exp(d / s). Here the law itself is fitted, written by what
is asked for,

    L*(C) = l + s (exp(-g x) - 1) / g,   x = ln(C / C0),

so that s = -dL*/d ln C at C0 and its error come out directly. Few budgets tell little about g:
a prior on it stands beside them as one more measurement.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modsearch.analysis.curves import Array, Fit
from modsearch.analysis.noise import NORMAL

EXPONENT = 0.15
EXPONENT_SD = 0.06
"""Prior of g, from alpha beta / (alpha + beta) of published surfaces: 0.154 (Hoffmann et al. 2022,
arXiv 2203.15556), 0.178 (Besiroglu et al. 2024, arXiv 2404.10102), and 0.05 of a law without an
irreducible loss (Kaplan et al. 2020, arXiv 2001.08361)."""
FLATTEST = 1e-5
"""Exponents below this in size are taken by the series: the formula loses its digits."""


@dataclass(frozen=True)
class Slope:
    """s = -dL / d ln C along the minima of an arm, at one budget."""

    value: float
    se: float | None
    """A normal's: half of the 95 % interval over 1.96, whatever it was made with."""
    budgets: tuple[float, ...]
    """Those whose minima it is made of."""
    at: float | None = None
    """The budget at which it stands."""
    kind: str = ""
    """What it is, in words."""
    exponent: float | None = None
    """g of the law."""
    exponent_se: float | None = None

    @property
    def low(self) -> float | None:
        """Lower end of the 95 % interval."""
        return None if self.se is None else self.value - NORMAL * self.se

    @property
    def high(self) -> float | None:
        """Upper end of the 95 % interval."""
        return None if self.se is None else self.value + NORMAL * self.se


def slope_at(fits: Sequence[Fit], budget: float) -> Slope | None:
    """The local slope of minima at a budget; None with fewer than two budgets.

    A refused curve has no minimum: its lowest trial is the luckiest, and does not enter. With two
    budgets the curvature is the prior's alone, and with more the prior still keeps a law from
    following noise.
    """
    budgets = tuple(sorted({fit.budget for fit in fits}))
    if len(budgets) < 2:
        return None
    x = np.log([fit.budget for fit in fits]) - math.log(budget)
    losses = np.array([fit.minimum_loss for fit in fits])
    errors = [standard_error(fit.minimum_low, fit.minimum_high) for fit in fits]
    law = local_law(x, losses, np.array(errors))
    prior = f"a prior on the exponent ({EXPONENT} \N{PLUS-MINUS SIGN} {EXPONENT_SD})"
    if len(budgets) == 2:
        kind = f"the secant of two budgets, bent by {prior}: no third budget checks it"
    else:
        kind = f"a power law with an offset through {len(budgets)} minima, and {prior}"
    return Slope(
        value=law.slope,
        se=math.sqrt(law.covariance[1, 1]),
        budgets=budgets,
        at=budget,
        kind=kind,
        exponent=law.exponent,
        exponent_se=math.sqrt(law.covariance[2, 2]),
    )


def standard_error(low: float | None, high: float | None) -> float:
    """Of a normal that has this 95 % interval."""
    assert low is not None, "`with_noise` gives every fit its interval"
    assert high is not None
    return (high - low) / (2 * NORMAL)


@dataclass(frozen=True)
class LocalLaw:
    """(l, s, g) at one budget, with the covariance of the three."""

    loss: float
    slope: float
    exponent: float
    covariance: Array
    """3 x 3."""


def local_law(x: Array, losses: Array, errors: Array) -> LocalLaw:
    """The law through minima at x = ln(C / C0), by Gauss and Newton with the prior as one row."""
    errors = np.maximum(errors, 1e-9)
    straight = np.column_stack([np.ones_like(x), -x]) / errors[:, None]
    theta = np.append(np.linalg.lstsq(straight, losses / errors, rcond=None)[0], EXPONENT)
    for _ in range(100):
        bend, change = _bend(theta[2], x)
        rows = np.column_stack([np.ones_like(x), bend, theta[1] * change]) / errors[:, None]
        rows = np.vstack([rows, [0, 0, 1 / EXPONENT_SD]])
        left = np.append(
            (losses - theta[0] - theta[1] * bend) / errors, (EXPONENT - theta[2]) / EXPONENT_SD
        )
        step = np.linalg.lstsq(rows, left, rcond=None)[0]
        step *= min(1.0, 0.1 / max(abs(step[2]), 1e-12))  # g moves by a tenth at most
        theta = theta + step
        if np.abs(step).max() < 1e-12:
            break
    covariance = np.asarray(np.linalg.inv(rows.T @ rows), dtype=np.float64)
    return LocalLaw(float(theta[0]), float(theta[1]), float(theta[2]), covariance)


def _bend(g: float, x: Array) -> tuple[Array, Array]:
    """(exp(-g x) - 1) / g and its derivative to g."""
    if abs(g) < FLATTEST:
        return -x + g * x**2 / 2, x**2 / 2 - g * x**3 / 3
    return np.expm1(-g * x) / g, -(x * np.exp(-g * x) + np.expm1(-g * x) / g) / g
