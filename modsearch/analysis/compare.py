"""Two confirmed arms against each other: their lowest losses, and what the difference means.

The difference has three errors: the seeds of either arm, and the sample of text that both are
scored on, which more seeds don't make smaller.
"""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, median, stdev

import numpy as np
from scipy import special

from modsearch.analysis.looks import FIXED, Look
from modsearch.analysis.noise import NORMAL, quantile
from modsearch.analysis.runs import Runs
from modsearch.analysis.slopes import Slope
from modsearch.analysis.trials import causal_loss
from modsearch.analysis.vertex import NO_CURVATURE, Array, Curvature, lowest
from modsearch.config.design import Size
from modsearch.config.model import ModelConfig
from modsearch.config.records import Plan, Record, Scores

MIN_SEEDS = 3
"""Runs of an arm below which there is no interval."""
NOTHING = 1e-24
"""Variance that is rounding alone."""
NO_SHARE = 1e-9
"""Of a size in the lowest loss: what is less is rounding."""


@dataclass(frozen=True)
class Group:
    """The finished runs of one size."""

    size: Size
    params: int
    records: tuple[Record, ...]
    """In order of their seeds; one at least."""

    @property
    def losses(self) -> list[float]:
        """Causal, nats per token."""
        return [causal_loss(record) for record in self.records]


@dataclass(frozen=True)
class Estimate:
    """The lowest loss of an arm."""

    loss: float
    """Nats per token."""
    variance: float | None
    """Of its error over seeds; None where no size has two runs."""
    freedom: int
    """Degrees of freedom of `variance`."""
    params: float
    """Where the minimum lies."""
    factors: tuple[float, ...]
    """d loss / d mean of each group."""


@dataclass(frozen=True)
class Confirmed:
    """One arm at one budget: its fresh runs, scored on the test part."""

    arm: str
    budget: float
    groups: tuple[Group, ...]
    """By size, smallest first."""
    lost: tuple[Record, ...]
    """Runs that did not finish."""
    look: Look | None = FIXED
    """The one that it is read at; None before the first."""
    curvature: Curvature = NO_CURVATURE
    """What `measure` says of it."""
    regret: float = 0.0
    """Nats by which the arm's own minimum may lie lower than the one confirmed size: 95 % upper
    limit. 0 where sizes around it are confirmed, too."""
    notes: tuple[str, ...] = ()
    """What a reader should know of these runs."""

    @cached_property
    def estimate(self) -> Estimate:
        """The vertex of the confirmed sizes."""
        counts = [len(group.records) for group in self.groups]
        means = [fmean(group.losses) for group in self.groups]
        found = lowest([group.params for group in self.groups], means, counts, self.curvature)
        freedom = sum(counts) - len(counts)
        variance = None
        if freedom:
            squares = sum(
                (loss - mean) ** 2
                for group, mean in zip(self.groups, means, strict=True)
                for loss in group.losses
            )
            of_run = squares / freedom
            variance = float(found.variance(of_run / np.array(counts), of_run))
        return Estimate(
            loss=float(found.loss),
            variance=variance,
            freedom=freedom,
            params=math.exp(float(found.place)),
            factors=tuple(map(float, found.factors)),
        )

    @property
    def loss(self) -> float:
        """The lowest one, nats per token."""
        return self.estimate.loss

    @property
    def num_runs(self) -> int:
        """Finished ones."""
        return sum(len(group.records) for group in self.groups)

    @property
    def records(self) -> tuple[Record, ...]:
        """Runs of the size that stands for the arm: the nearest to its minimum."""
        place = math.log(self.estimate.params)
        near = min(self.groups, key=lambda g: (abs(math.log(g.params) - place), g.params))
        return near.records

    @property
    def all_records(self) -> list[Record]:
        """Of all sizes."""
        return [record for group in self.groups for record in group.records]

    def standing(self, known: Container[str]) -> tuple[list[Record], Runs] | None:
        """Runs that stand for the arm in something else than its loss, and what each counts for.

        They are those of all sizes, with the weights of their losses in the arm's lowest one;
        where a size has none of which that is known, those of the size nearest to the minimum.

        Args:
            known: hashes of the runs that there is something to say of.

        Returns:
            None where there are none.
        """
        found = [
            ([record for record in group.records if record.hash in known], factor)
            for group, factor in zip(self.groups, self.estimate.factors, strict=True)
            if abs(factor) > NO_SHARE
        ]
        if not all(rows for rows, _ in found):
            found = [([record for record in self.records if record.hash in known], 1.0)]
        records = [record for rows, _ in found for record in rows]
        if not records:
            return None
        total = sum(factor for _, factor in found)
        shares = [factor / total / len(rows) for rows, factor in found for _ in rows]
        sizes = [place for place, (rows, _) in enumerate(found) for _ in rows]
        return records, Runs(tuple(shares), tuple(sizes))

    @property
    def model(self) -> ModelConfig:
        """The one that stands for the arm."""
        return self.records[0].candidate.model

    @property
    def plan(self) -> Plan:
        """How its budget is spent."""
        assert self.records[0].plan is not None
        return self.records[0].plan

    @property
    def scores(self) -> list[Scores]:
        """Of the size that stands for the arm, one for each seed."""
        return [record.scores for record in self.records if record.scores is not None]

    @property
    def sd(self) -> float | None:
        """Of a single run's causal loss, pooled over sizes."""
        if self.estimate.freedom == 0:
            return None
        squares = sum(
            (loss - fmean(group.losses)) ** 2 for group in self.groups for loss in group.losses
        )
        return math.sqrt(squares / self.estimate.freedom)

    @property
    def realised_capacity(self) -> float | None:
        """Mean over seeds; None without routed blocks."""
        known = [
            score.realised_capacity for score in self.scores if score.realised_capacity is not None
        ]
        return fmean(known) if known else None

    @property
    def forward_flops(self) -> float:
        """Realised forward FLOPs per token under causal routing, mean over seeds."""
        return fmean(score.realised_forward_flops for score in self.scores)

    @property
    def seconds(self) -> float:
        """Median over seeds, training and validation."""
        return median(score.seconds for score in self.scores)

    @property
    def half_width(self) -> float | None:
        """Half of the repeated 95 % interval of the lowest loss over seeds."""
        found = self.estimate
        if found.variance is None or self.num_runs < MIN_SEEDS or self.look is None:
            return None
        return -quantile(found.freedom, self.look.level / 2) * math.sqrt(found.variance)

    @property
    def block_losses(self) -> Array | None:
        """Of each share of the sample (blocks), at the minimum; None where runs do not have
        them, or not as many each."""
        total: Array | None = None
        for group, factor in zip(self.groups, self.estimate.factors, strict=True):
            rows = [r.scores.block_losses for r in group.records if r.scores is not None]
            known = [row for row in rows if row is not None]
            if len(known) < len(rows) or len({len(row) for row in known}) != 1:
                return None
            part = factor * np.mean(known, axis=0)
            if total is not None and len(total) != len(part):
                return None
            total = part if total is None else total + part
        return total


@dataclass(frozen=True)
class Interval:
    """A difference of lowest losses with its error."""

    low: float
    high: float
    """The repeated 95 % interval: whenever one looks, it holds the truth with that chance."""
    inner: tuple[float, float]
    """The 90 % interval of its kind, which is held against the margin."""
    se: float
    freedom: float
    sample_se: float
    """The part of `se` that is the sample of text."""
    p: float
    """Two-sided, of this look alone."""


@dataclass(frozen=True)
class Comparison:
    """How much lower the loss of `arm` is than that of `reference`."""

    arm: Confirmed
    reference: Confirmed
    look: Look | None
    """None before the first."""
    interval: Interval | None
    """None where there are too few runs, or where they say nothing about noise."""

    @property
    def difference(self) -> float:
        """Nats per token; positive where the arm is better."""
        return self.reference.loss - self.arm.loss

    @property
    def relative(self) -> float:
        """The difference as a share of the reference's loss."""
        return self.difference / self.reference.loss

    @property
    def relative_interval(self) -> tuple[float, float] | None:
        """The interval as a share of the reference's loss, whose own error is of second order."""
        if self.interval is None:
            return None
        return self.interval.low / self.reference.loss, self.interval.high / self.reference.loss

    @property
    def forward_ratio(self) -> float:
        """Realised forward FLOPs of the arm over those of the reference."""
        return self.arm.forward_flops / self.reference.forward_flops


@dataclass(frozen=True)
class Multiplier:
    """How many times the FLOPs the dense arm needs for the routed arm's loss: exp(d / s)."""

    value: float
    low: float | None
    high: float | None
    """None where the interval has no bound."""
    slope: Slope
    extrapolated: bool
    """Whether the implied dense budget lies outside of the measured ones."""


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation; None of a single value."""
    return stdev(values) if len(values) > 1 else None


def compare(arm: Confirmed, reference: Confirmed) -> Comparison:
    """An arm against a reference, at the look that they are read at."""
    look = arm.look
    found = None if look is None else _interval(arm, reference, look)
    return Comparison(arm, reference, look, found)


def _interval(arm: Confirmed, reference: Confirmed, look: Look) -> Interval | None:
    """Welch's: variances are not assumed equal, and seeds are not paired, for pairing does not
    reduce the noise of training.

    None where all runs of both have the same loss: seeds that change nothing say nothing.
    """
    if min(arm.num_runs, reference.num_runs) < MIN_SEEDS:
        return None
    parts = [
        (side.estimate.variance, side.estimate.freedom)
        for side in (arm, reference)
        if side.estimate.variance is not None
    ]
    if len(parts) < 2 or all(variance < NOTHING for variance, _ in parts):
        return None
    sample, blocks = _sample_variance(arm, reference)
    if blocks:
        parts.append((sample, blocks - 1))
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    se = math.sqrt(variance)
    difference = reference.loss - arm.loss
    # Of the lower tail: the other one is rounded to 1 at early looks.
    half = -quantile(freedom, look.level / 2) * se
    inner = -quantile(freedom, look.equivalence / 2) * se
    regret = reference.regret if difference > 0 else arm.regret
    away = max(0.0, abs(difference) - regret)
    return Interval(
        low=difference - half - reference.regret,
        high=difference + half + arm.regret,
        inner=(difference - inner - reference.regret, difference + inner + arm.regret),
        se=se,
        freedom=freedom,
        sample_se=math.sqrt(sample),
        p=2 * float(special.stdtr(freedom, -away / se)),
    )


def _sample_variance(arm: Confirmed, reference: Confirmed) -> tuple[float, int]:
    """Variance of the difference over other text of the same kind, by the scatter of the
    difference over shares of the sample, and their number; (0, 0) where they are not known."""
    ours, theirs = arm.block_losses, reference.block_losses
    if ours is None or theirs is None or len(ours) != len(theirs) or len(ours) < 2:
        return 0.0, 0
    return float(np.var(theirs - ours, ddof=1)) / len(ours), len(ours)


def multiplier(comparison: Comparison, along: Slope) -> Multiplier | None:
    """The compute multiplier exp(d / s), s = -dL / d ln C of the dense minima at this budget.

    d comes from `confirm` and s from `measure`, so their errors are independent. The interval
    of the ratio is Fieller's, which stays right where s is poorly known (the delta method is
    too short there), has no bounds where s can't be told from zero, and holds 1 just where the
    interval of d holds 0. None where s is not positive or there is no interval of d.
    """
    found = comparison.interval
    if along.value <= 0 or found is None:
        return None
    d = comparison.difference
    exponent = d / along.value
    low, high = fieller(d, (d - found.low, found.high - d), along)
    budget = comparison.arm.budget
    implied = budget * _exp(exponent)
    return Multiplier(
        value=_exp(exponent),
        low=None if low is None else _exp(low),
        high=None if high is None else _exp(high),
        slope=along,
        extrapolated=not min(along.budgets) <= implied <= max(along.budgets),
    )


def fieller(
    d: float, halves: tuple[float, float], along: Slope
) -> tuple[float, float] | tuple[None, None]:
    """Ends of d / s (Fieller 1954): all theta with |d - theta s| within the root of the squares
    of d's half-width and theta times that of s.

    Args:
        d: the numerator.
        halves: from d down to the lower end of its interval, and up to the upper one.
        along: the denominator.

    Returns:
        Nothing where s does not differ from zero.
    """
    if along.se is None:
        return None, None
    a = along.value**2 - (NORMAL * along.se) ** 2
    if a <= 0:
        return None, None
    b = d * along.value
    ends = []
    for sign, half in zip((-1, 1), halves, strict=True):
        c = d**2 - half**2
        ends.append((b + sign * math.sqrt(max(0.0, b**2 - a * c))) / a)
    return ends[0], ends[1]


def _exp(exponent: float) -> float:
    return math.exp(exponent) if exponent < 700 else math.inf
