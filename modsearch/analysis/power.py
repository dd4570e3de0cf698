"""What confirm can find out: the chance of each verdict, and what it costs, before it is run.

Run-to-run noise is what limits a comparison of architectures: the effect that Raposo et al.
(arXiv 2404.02258, figure 4) report is about 0.035 nats, two standard deviations of a run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from modsearch.analysis.looks import FIXED, FUTILE, chance_at_the_end, planned
from modsearch.analysis.noise import SEED_SD
from modsearch.analysis.vertex import TRUST, Array, Curvature, lowest

PAPER_EFFECT = 0.035
"""Difference in loss that the paper reports, nats per token."""
TARGET = 0.8
DRAWS = 4000
"""Studies that a chance is the share of: known to 0.008."""
STEP = 0.4
"""e-folds in parameters between two sizes of a ladder, where it is not known."""
BEND = 0.15
"""Curvature of a curve, nats per squared e-fold, where it is not known."""
VERTEX = 1.8
"""Variance of the lowest loss of three sizes over that of the mean of as many runs of one."""


@dataclass(frozen=True)
class Chances:
    """How a study's confirm ends where the true difference is `effect`."""

    effect: float
    """Nats by which the routed arm is better."""
    sd: float
    """Of a single run."""
    better: float
    worse: float
    equivalent: float
    inconclusive: float
    runs: float
    """Mean number of an arm."""


def reachable_margin(looks: Sequence[int]) -> float:
    """The margin of a study that states none, in nats: arms without a difference are told to be
    equivalent in four of five studies, if runs scatter by `SEED_SD`. One such deviation at least:
    a smaller difference is seldom worth knowing. It follows from the number of runs alone, never
    from what they show."""
    last = planned(len(looks))[-1]
    se = SEED_SD * math.sqrt(2 * VERTEX / looks[-1])
    reached = se * float(special.ndtri(0.5 + TARGET / 2) - special.ndtri(last.equivalence / 2))
    return max(SEED_SD, math.ceil(1000 * reached) / 1000)


def chances(
    looks: Sequence[int],
    margin: float,
    effect: float,
    sd: float = SEED_SD,
    *,
    curve: bool = True,
    step: float = STEP,
    draws: int = DRAWS,
) -> Chances:
    """The share of simulated studies that end with each verdict.

    Args:
        looks: runs of an arm at each.
        margin: nats within which arms are equivalent.
        effect: true difference, nats.
        sd: of a single run.
        curve: whether runs are spread over three sizes.
        step: e-folds in parameters between these.
        draws: studies.
    """
    generator = np.random.default_rng(0)
    plan = planned(len(looks)) if curve else (FIXED,)
    arms = [_arm(generator, looks[-1], sd, curve, step, draws) for _ in range(2)]
    ends = np.full(draws, "inconclusive")
    runs = np.full(draws, looks[-1])
    going = np.ones(draws, dtype=bool)
    for look, count in zip(plan, looks, strict=True):
        loss, variance, freedom = zip(*(arm.at(count) for arm in arms), strict=True)
        d = loss[1] - loss[0] + effect
        total = variance[0] + variance[1]
        free = total**2 / (variance[0] ** 2 + variance[1] ** 2) * freedom[0]
        se = np.sqrt(total)
        half, inner = (
            se * special.stdtrit(free, 1 - level / 2) for level in (look.level, look.equivalence)
        )
        words = np.select(
            [d - half > 0, d + half < 0, np.abs(d) + inner < margin],
            ["better", "worse", "equivalent"],
            "inconclusive",
        )
        futile = chance_at_the_end(d, se, look, plan[-1], margin) < FUTILE
        stop = going & ((words != "inconclusive") | futile | (look is plan[-1]))
        ends[stop], runs[stop] = words[stop], count
        going &= ~stop
    share = {word: float((ends == word).mean()) for word in np.unique(ends)}
    return Chances(
        effect=effect,
        sd=sd,
        better=share.get("better", 0.0),
        worse=share.get("worse", 0.0),
        equivalent=share.get("equivalent", 0.0),
        inconclusive=share.get("inconclusive", 0.0),
        runs=float(runs.mean()),
    )


class _Arm:
    """Runs of one arm in many studies."""

    def __init__(self, params: Array, losses: Array, prior: Curvature) -> None:
        self.params = params
        self.losses = losses
        self.prior = prior

    def at(self, count: int) -> tuple[Array, Array, int]:
        """The lowest loss by the first runs, the variance of its error, its freedom."""
        sizes = len(self.params)
        by_size = [self.losses[:, index:count:sizes] for index in range(sizes)]
        counts = np.array([each.shape[1] for each in by_size])
        means = np.stack([each.mean(1) for each in by_size], axis=-1)
        freedom = count - sizes
        squares = sum(((each - each.mean(1)[:, None]) ** 2).sum(1) for each in by_size)
        of_run = squares / freedom
        found = lowest(list(self.params), means, counts, self.prior)
        return found.loss, found.variance(of_run[:, None] / counts, of_run), freedom


def _arm(
    generator: np.random.Generator, runs: int, sd: float, curve: bool, step: float, draws: int
) -> _Arm:
    sizes = 3 if curve else 1
    x = step * (np.arange(sizes) - sizes // 2)
    # The vertex lies anywhere between the middles of two sizes.
    vertex = generator.uniform(-0.5, 0.5, draws)[:, None] * step * (sizes > 1)
    noise = sd * generator.standard_normal((draws, runs))
    losses = BEND * (np.resize(x, runs) - vertex) ** 2 + noise
    ladder = np.vander(step * (np.arange(5) - 2), 3)
    variance = float(np.linalg.inv(ladder.T @ ladder)[0, 0])
    bends = np.maximum(0.0, BEND + sd * math.sqrt(variance) * generator.standard_normal(draws))
    return _Arm(np.exp(x), losses, Curvature(bends, TRUST / variance))


def runs_for(effect: float, sd: float = SEED_SD, most: int = 900) -> int | None:
    """Fewest runs an arm, in looks of six, that find `effect` in four of five studies, by the
    normal approximation; None where more than `most` are needed."""
    for looks in range(1, most // 6 + 1):
        last = planned(min(looks, 12))[-1]
        se = sd * math.sqrt(2 * VERTEX / (6 * looks))
        if float(special.ndtr(abs(effect) / se + special.ndtri(last.level / 2))) >= TARGET:
            return 6 * looks
    return None
