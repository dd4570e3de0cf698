"""Run-to-run noise where few trials tell it: an estimate that is moderated towards a prior.

A standard deviation of a few degrees of freedom is too small by chance as often as too large, and
an interval that is made of it covers too little. Its square is averaged with that of a prior, each
by its degrees of freedom (Smyth 2004, doi 10.2202/1544-6115.1027), and quantiles are Student's
with the sum of both.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scipy import special

SEED_SD = 0.018
"""Standard deviation of the loss over seeds, nats per token; small models on text, from
`SEED_BUDGET` on. Their tokens were bytes: it is the same in nats per byte."""
SEED_BUDGET = 3e11
"""FLOPs below which runs scatter more: 0.024 at 1.5e11, 0.037 at 5e10 (docs/measurements.md)."""
PRIOR_FREEDOM = 4
"""What the prior deviation counts as: half of all studies lie within 0.75 and 1.4 of it."""
NORMAL = 1.959964
"""The 97.5 % quantile of a normal distribution."""


@dataclass(frozen=True)
class Noise:
    """The standard deviation of one trial, and how well it is known."""

    sd: float
    """Nats per token."""
    freedom: float
    """Degrees of freedom."""

    @property
    def quantile(self) -> float:
        """What a standard error is multiplied by for half of a 95 % interval."""
        return t_quantile(self.freedom)


def seed_sd(budget: float) -> float:
    """What runs of a budget in FLOPs scatter by, before any is made; nats per token."""
    return float(SEED_SD * max(1.0, SEED_BUDGET / budget) ** 0.4)


def pooled(parts: Iterable[tuple[float, float]]) -> Noise | None:
    """All sums of squares over all degrees of freedom; None without any."""
    known = [(squares, freedom) for squares, freedom in parts if freedom > 0]
    if not known:
        return None
    freedom = sum(count for _, count in known)
    return Noise(math.sqrt(sum(squares for squares, _ in known) / freedom), freedom)


def moderated(found: Noise | None, prior: float = SEED_SD) -> Noise:
    """An estimate averaged with the prior; the prior alone where there is none."""
    if found is None:
        return Noise(prior, PRIOR_FREEDOM)
    freedom = PRIOR_FREEDOM + found.freedom
    squares = PRIOR_FREEDOM * prior**2 + found.freedom * found.sd**2
    return Noise(math.sqrt(squares / freedom), freedom)


def t_quantile(freedom: float) -> float:
    """What a standard error is multiplied by for half of a 95 % interval: Student's t."""
    return quantile(freedom, 0.975)


def quantile(freedom: float, share: float) -> float:
    """Student's, of a share of the distribution below it."""
    # Not scipy.stats, whose import takes longer than all that a study's status computes.
    return float(special.stdtrit(freedom, share))
