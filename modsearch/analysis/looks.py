"""Looking several times at data that grows, without being fooled more often than promised.

A comparison that is looked at after every few seeds and stopped as soon as its 95 % interval
excludes zero is wrong in 10 to 14 % of the cases where there is nothing. Here the error of 5 % is
spent over the looks (Lan & DeMets 1983, with a spending function of O'Brien and Fleming's type),
and each look has an interval of its own level. These repeated intervals (Jennison & Turnbull 1989)
hold the truth together, over all looks, with 95 %, whenever and why ever one stops.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Array = npt.NDArray[np.float64]

ERROR = 0.05
"""Chance of any wrong word on a difference, over all looks."""
EQUIVALENCE_ERROR = 0.10
"""Two-sided level of the intervals that must lie inside of the margin: two one-sided tests of
5 % each."""
FUTILE = 0.10
"""Chance of any verdict at the last look, below which one stops looking."""
NODES = 96
"""Of the Gauss-Legendre rule over the states in which one goes on: levels to 1e-8."""


@dataclass(frozen=True)
class Look:
    """One look at the data."""

    share: float
    """Of the information that the last look will have."""
    level: float
    """Two-sided nominal level of the test for a difference."""
    equivalence: float
    """Two-sided nominal level of the interval that is held against the margin."""


def spent(share: float, error: float) -> float:
    """Error spent when a share of the information is there: 4 (1 - Phi(z_(error/4) / sqrt t))."""
    return 4 * float(special.ndtr(special.ndtri(error / 4) / math.sqrt(share)))


@cache
def planned(count: int) -> tuple[Look, ...]:
    """So many equally spaced looks, the last one with all of the information."""
    shares = [(i + 1) / count for i in range(count)]
    levels = zip(shares, nominal(shares, ERROR), nominal(shares, EQUIVALENCE_ERROR), strict=True)
    return tuple(Look(*each) for each in levels)


def nominal(shares: Sequence[float], error: float) -> list[float]:
    """Two-sided nominal level of each look, by recursion over the looks (Armitage, McPherson &
    Rowe 1969).

    Args:
        shares: of the information, ascending, the last one 1.
        error: two-sided, over all looks.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    levels: list[float] = []
    state, density = np.zeros(1), np.ones(1)  # of the score statistic Z sqrt(t); it starts at 0
    before, used = 0.0, 0.0
    for share in shares:
        step = math.sqrt(share - before)
        due = spent(share, error) - used
        above = partial(_above, state=state, density=density, step=step, due=due)
        bound = 12 * math.sqrt(share)
        if above(bound) < 0:  # of many looks the first have nothing to spend
            bound = float(optimize.brentq(above, 0.0, bound, xtol=1e-12))
        levels.append(2 * float(special.ndtr(-bound / math.sqrt(share))))
        place = bound * nodes
        kernel = np.exp(-(((place[:, None] - state) / step) ** 2) / 2)
        kernel /= step * math.sqrt(2 * math.pi)
        # The density carries the rule's weights, so that a sum over states is an integral.
        state, density = place, (kernel @ density) * bound * weights
        before, used = share, used + due
    return levels


def _above(bound: float, *, state: Array, density: Array, step: float, due: float) -> float:
    """Chance to leave +-bound in the next step, beyond what is due."""
    over = special.ndtr((state - bound) / step) + special.ndtr((-bound - state) / step)
    return float(density @ over) - due


FIXED = planned(1)[0]
"""The one look of a fixed design."""


def chance_at_the_end(
    difference: npt.ArrayLike,
    se: npt.ArrayLike,
    look: Look,
    last: Look,
    margin: float,
    steady: float = 0.0,
) -> Array:
    """Chance that the last look has a verdict, by what is known at this one and nothing else: the
    difference then is normal around today's, with the error that is left.

    Args:
        difference: today's, nats.
        se: its standard error today.
        look: this one.
        last: the one that it is about.
        margin: nats within which arms are equivalent.
        steady: the part of `se` that more runs do not make smaller.
    """
    d, se = np.asarray(difference, dtype=float), np.asarray(se, dtype=float)
    of_runs = np.sqrt(np.maximum(se**2 - steady**2, 0.0))
    spread = of_runs * math.sqrt(max(1 - look.share, 1e-12)) + 1e-300
    at_end = np.sqrt(look.share * of_runs**2 + steady**2)
    away = -special.ndtri(last.level / 2) * at_end
    inside = np.clip(margin + special.ndtri(last.equivalence / 2) * at_end, 0.0, away)
    outside = special.ndtr((d - away) / spread) + special.ndtr((-d - away) / spread)
    within = special.ndtr((inside - d) / spread) - special.ndtr((-inside - d) / spread)
    found: Array = outside + within
    return found
