"""What a number of seeds can resolve: two arms of n seeds each, a two-sided test at 5 %.

Run-to-run noise is what limits a comparison of architectures: the effect that Raposo et al.
(arXiv 2404.02258, figure 4) report is about 0.035 nats, two of the standard deviations below.
"""

import math
from dataclasses import dataclass

from scipy import special

SEED_SD = 0.018
"""Standard deviation of the loss over seeds, nats per token; small models on text."""
PAPER_EFFECT = 0.035
"""Difference in loss that the paper reports, nats per token."""
LEVEL = 0.95
TARGET = 0.8
MAX_SEEDS = 10_000


@dataclass(frozen=True)
class Power:
    """What `seeds` per arm resolve at a run-to-run `sd`."""

    seeds: int
    sd: float
    half_width: float
    """Expected half-width of the 95 % interval of the difference."""
    detectable: float
    """Smallest difference that is found in four of five studies."""


def power(seeds: int, sd: float = SEED_SD) -> Power:
    """Resolution of a comparison with `seeds` (two at least) per arm."""
    return Power(seeds, sd, half_width(seeds, sd), detectable_effect(seeds, sd))


def t_quantile(freedom: float) -> float:
    """What a standard error is multiplied by for half of a 95 % interval: Student's t."""
    # Not scipy.stats, whose import takes longer than all that a study's status computes.
    return float(special.stdtrit(freedom, 0.5 + LEVEL / 2))


def half_width(seeds: int, sd: float = SEED_SD) -> float:
    """Half of the 95 % interval of a difference between two means."""
    return t_quantile(2 * seeds - 2) * sd * math.sqrt(2 / seeds)


def chance_to_detect(effect: float, seeds: int, sd: float = SEED_SD) -> float:
    """Probability that the interval excludes zero on the right side, by the noncentral t."""
    freedom = 2 * seeds - 2
    shift = abs(effect) / (sd * math.sqrt(2 / seeds))
    if shift > 35:  # the tail is one to all digits there, and nct loses its own
        return 1.0
    return 1.0 - float(special.nctdtr(freedom, shift, t_quantile(freedom)))


def detectable_effect(seeds: int, sd: float = SEED_SD) -> float:
    """Smallest difference found with 80 % power: bisection, power grows with the effect."""
    low, high = 0.0, 40 * sd * math.sqrt(2 / seeds)
    for _ in range(60):
        middle = (low + high) / 2
        if chance_to_detect(middle, seeds, sd) < TARGET:
            low = middle
        else:
            high = middle
    return high


def seeds_for(effect: float, sd: float = SEED_SD) -> int | None:
    """Fewest seeds per arm (three at least) that find `effect` with 80 % power.

    The half-width is below the effect then, too. None where more than `MAX_SEEDS` are needed.
    """
    low, high = 3, MAX_SEEDS
    if effect <= 0 or chance_to_detect(effect, high, sd) < TARGET:
        return None
    while low < high:
        middle = (low + high) // 2
        if chance_to_detect(effect, middle, sd) >= TARGET:
            high = middle
        else:
            low = middle + 1
    return low
