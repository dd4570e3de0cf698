"""What confirm can find out: the chance of each verdict, and what it costs, before it is run.

Run-to-run noise is what limits a comparison of architectures: the effect that Raposo et al.
(arXiv 2404.02258, figure 4) report is about 0.035 nats, two standard deviations of a run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from modsearch.analysis.looks import FUTILE, chance_at_the_end, planned
from modsearch.analysis.noise import NORMAL, SEED_SD
from modsearch.analysis.vertex import TRUST, Array, Curvature, lowest
from modsearch.config.base import Frozen
from modsearch.config.design import RUNS_PER_LOOK, SIZES

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


class Chances(Frozen):
    """How confirm ends where the true difference between the headline's arms is `effect`."""

    effect: float
    """Nats by which the routed arm is better."""
    sd: float
    """Of a single run, nats."""
    better: float
    worse: float
    equivalent: float
    inconclusive: float
    runs: float
    """Mean number of an arm."""


def reachable_margin(looks: Sequence[int], sd: float) -> float:
    """The margin of a study that states none, in nats for each token or byte: arms without a
    difference are told to be equivalent in four of five studies, if runs scatter by `sd`, as
    foreseen. One such deviation at least: a smaller difference is seldom worth knowing. It follows
    from the number of runs and their budget alone, never from what they show."""
    last = planned(len(looks))[-1]
    se = sd * math.sqrt(2 * VERTEX / looks[-1])
    reached = se * float(special.ndtri(0.5 + TARGET / 2) - special.ndtri(last.equivalence / 2))
    return math.ceil(1000 * max(sd, reached)) / 1000


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
    sides = [_drawn(generator, looks[-1], sd, curve, step, draws) for _ in range(2)]
    regret = 0.0 if curve else _regret(sd, step)
    found = ends_of((sides[0].shifted(-effect), sides[1]), looks, margin, (regret, regret))
    share = {word: float((found.words == word).mean()) for word in WORDS}
    return Chances(effect=effect, sd=sd, **share, runs=float(found.runs.mean()))


WORDS = ("better", "worse", "equivalent", "inconclusive")


@dataclass(frozen=True)
class Ends:
    """How studies ended (draws)."""

    words: npt.NDArray[np.str_]
    runs: Array
    """Of an arm."""
    difference: Array
    """Nats by which the first arm was better at that look."""
    half: Array
    """Of its repeated 95 % interval."""


@dataclass(frozen=True)
class Runs:
    """Runs of one arm in many studies."""

    params: Array
    """Of the sizes (S); run i has size i modulo S."""
    losses: Array
    """(draws, runs)."""
    prior: Curvature

    def shifted(self, by: float) -> "Runs":
        """The same arm with other losses, in nats."""
        return replace(self, losses=self.losses + by)

    def at(self, count: int) -> tuple[Array, Array, int]:
        """By the first runs: the lowest loss, the variance of its error, and its freedom."""
        sizes = len(self.params)
        by_size = [self.losses[:, index:count:sizes] for index in range(sizes)]
        counts = np.array([each.shape[1] for each in by_size])
        means = np.stack([each.mean(1) for each in by_size], axis=-1)
        freedom = count - sizes
        squares = sum(((each - each.mean(1)[:, None]) ** 2).sum(1) for each in by_size)
        of_run = squares / freedom
        found = lowest(list(self.params), means, counts, self.prior)
        return found.loss, found.variance(of_run[:, None] / counts, of_run), freedom


def ends_of(
    sides: tuple[Runs, Runs],
    looks: Sequence[int],
    margin: float,
    regrets: Sequence[float] = (0, 0),
) -> Ends:
    """Where the looks at two arms end, as `claims` decides it.

    Args:
        sides: an arm and its reference.
        looks: runs of an arm at each.
        margin: nats within which arms are equivalent.
        regrets: of a fixed design, nats by which their minima may lie below the sizes.
    """
    draws = len(sides[0].losses)
    plan = planned(len(looks))
    words = np.full(draws, WORDS[-1])
    runs, difference, halves = (np.full(draws, np.nan) for _ in range(3))
    going = np.ones(draws, dtype=bool)
    for look, count in zip(plan, looks, strict=True):
        (ours, our_variance, our_freedom), (theirs, variance, freedom) = (
            side.at(count) for side in sides
        )
        d = theirs - ours
        total = our_variance + variance
        free = total**2 / (our_variance**2 / our_freedom + variance**2 / freedom)
        se = np.sqrt(total)
        half, inner = (
            -se * special.stdtrit(free, level / 2) for level in (look.level, look.equivalence)
        )
        low, high = d - half - regrets[1], d + half + regrets[0]
        away = np.maximum(regrets[1] - d, d + regrets[0]) + inner
        said = np.select([low > 0, high < 0, away < margin], WORDS[:3], WORDS[3])
        futile = chance_at_the_end(d, se, look, plan[-1], margin) < FUTILE
        stop = going & ((said != WORDS[3]) | futile | (look is plan[-1]))
        words[stop], runs[stop] = said[stop], count
        difference[stop], halves[stop] = d[stop], half[stop] + max(regrets)
        going &= ~stop
    return Ends(words, runs, difference, halves)


def _regret(sd: float, step: float) -> float:
    """What widens a fixed design's interval at either end: how far a minimum may lie below the
    size that a ladder of five, one run each, has chosen for it."""
    se = sd / (2 * BEND * step * math.sqrt(10))
    return BEND * (step / 4 + NORMAL * se) ** 2


def _drawn(
    generator: np.random.Generator, runs: int, sd: float, curve: bool, step: float, draws: int
) -> Runs:
    """An arm whose curve is a parabola, around the size that measure chose."""
    sizes = SIZES if curve else 1
    x = step * (np.arange(sizes) - sizes // 2)
    # The vertex lies anywhere between the middles of two sizes.
    vertex = generator.uniform(-0.5, 0.5, draws)[:, None] * step * (sizes > 1)
    noise = sd * generator.standard_normal((draws, runs))
    losses = BEND * (np.resize(x, runs) - vertex) ** 2 + noise
    ladder = np.vander(step * (np.arange(5) - 2), 3)
    variance = float(np.linalg.inv(ladder.T @ ladder)[0, 0])
    bends = np.maximum(0.0, BEND + sd * math.sqrt(variance) * generator.standard_normal(draws))
    return Runs(np.exp(x), losses, Curvature(bends, TRUST / variance))


def runs_for(effect: float, sd: float = SEED_SD, most: int = 900) -> int | None:
    """Fewest runs an arm, in looks of six, that find `effect` in four of five studies, by the
    normal approximation; None where more than `most` are needed."""
    for looks in range(1, most // RUNS_PER_LOOK + 1):
        last = planned(min(looks, 12))[-1]
        se = sd * math.sqrt(2 * VERTEX / (RUNS_PER_LOOK * looks))
        if float(special.ndtr(abs(effect) / se + special.ndtri(last.level / 2))) >= TARGET:
            return RUNS_PER_LOOK * looks
    return None
