"""Two confirmed arms against each other: Welch's interval, and what it means in compute."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, stdev

from modsearch.analysis.power import t_quantile
from modsearch.analysis.recipes import causal_loss
from modsearch.analysis.slopes import Slope
from modsearch.config.model import ModelConfig
from modsearch.config.records import Plan, Record, Scores

MIN_SEEDS = 3
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Confirmed:
    """One arm at one budget: its fresh seeds, scored on the test part."""

    arm: str
    budget: float
    records: tuple[Record, ...]
    """The finished trials, in order of their seeds; one at least."""
    lost: tuple[Record, ...]
    """Trials of the same candidate that did not finish."""
    as_measured: bool
    """Whether this is the size that `measure` chooses today."""

    @property
    def model(self) -> ModelConfig:
        """The confirmed model."""
        return self.records[0].candidate.model

    @property
    def plan(self) -> Plan:
        """How its budget is spent."""
        assert self.records[0].plan is not None
        return self.records[0].plan

    @property
    def scores(self) -> list[Scores]:
        """One for each seed."""
        return [record.scores for record in self.records if record.scores is not None]

    @property
    def losses(self) -> list[float]:
        """Causal, nats per token."""
        return [causal_loss(record) for record in self.records]

    @property
    def mean(self) -> float:
        """Of the causal loss."""
        return fmean(self.losses)

    @property
    def sd(self) -> float | None:
        """Of the causal loss, over seeds."""
        return deviation(self.losses)

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
    def training_seconds(self) -> float:
        """Median over seeds of steps x seconds per step: the budget's price in time."""
        return median(self.plan.steps * score.step_seconds for score in self.scores)

    @property
    def seconds(self) -> float:
        """Median over seeds, training and validation."""
        return median(score.seconds for score in self.scores)

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval of the mean loss; None with fewer than three seeds."""
        if self.sd is None or len(self.records) < MIN_SEEDS:
            return None
        quantile = t_quantile(len(self.records) - 1)
        return quantile * self.sd / math.sqrt(len(self.records))


@dataclass(frozen=True)
class Welch:
    """Mean of `a` minus mean of `b` with its 95 % interval."""

    difference: float
    low: float
    high: float
    se: float
    freedom: float


@dataclass(frozen=True)
class Comparison:
    """How much lower the loss of `arm` is than that of `reference`."""

    arm: Confirmed
    reference: Confirmed
    welch: Welch | None
    """Mean of the reference minus mean of the arm: positive where the arm is better."""
    missed: tuple[float, float] = (0.0, 0.0)
    """How much lower the losses of the best recipes of the arm and of the reference may be than
    those of the compared ones, in nats: what explore could not tell. Part of the interval."""

    @property
    def difference(self) -> float:
        """Nats per token; positive where the arm is better."""
        return self.reference.mean - self.arm.mean

    @property
    def relative(self) -> float:
        """The difference as a share of the reference's loss."""
        return self.difference / self.reference.mean

    @property
    def relative_interval(self) -> tuple[float, float] | None:
        """The interval as a share of the reference's loss, whose own error is of second order."""
        if self.welch is None:
            return None
        return self.welch.low / self.reference.mean, self.welch.high / self.reference.mean

    @property
    def forward_ratio(self) -> float:
        """Realised forward FLOPs of the arm over those of the reference."""
        return self.arm.forward_flops / self.reference.forward_flops

    @property
    def time_ratio(self) -> float:
        """Measured training time of the arm over that of the reference, at the same budget."""
        return self.arm.training_seconds / self.reference.training_seconds


@dataclass(frozen=True)
class Multiplier:
    """How many times the FLOPs the dense arm needs for the routed arm's loss: exp(d / s)."""

    value: float
    low: float | None
    high: float | None
    """None where the interval has no bound."""
    time_ratio: float
    """Training time of the routed arm over that of the dense one."""
    slope: Slope
    extrapolated: bool
    """Whether the implied dense budget lies outside of the measured ones."""

    @property
    def adjusted(self) -> tuple[float, float | None, float | None]:
        """The same in training time: times the dense arm's time over the routed arm's."""
        low, high = (
            None if end is None else end / self.time_ratio for end in (self.low, self.high)
        )
        return self.value / self.time_ratio, low, high


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation; None of a single value."""
    return stdev(values) if len(values) > 1 else None


def welch(a: Sequence[float], b: Sequence[float]) -> Welch | None:
    """Welch's t interval of mean(a) - mean(b); None with fewer than three values in either.

    Variances are not assumed equal, and seeds are not paired: pairing does not reduce the
    noise of training. None, too, where all values of both are the same: seeds that change
    nothing say nothing about noise.
    """
    if min(len(a), len(b)) < MIN_SEEDS:
        return None
    part_a, part_b = stdev(a) ** 2 / len(a), stdev(b) ** 2 / len(b)
    variance = part_a + part_b
    if variance == 0:
        return None
    freedom = variance**2 / (part_a**2 / (len(a) - 1) + part_b**2 / (len(b) - 1))
    difference = fmean(a) - fmean(b)
    half = t_quantile(freedom) * math.sqrt(variance)
    return Welch(difference, difference - half, difference + half, math.sqrt(variance), freedom)


def compare(
    arm: Confirmed, reference: Confirmed, missed: tuple[float, float] = (0.0, 0.0)
) -> Comparison:
    """An arm against a reference; `missed` widens the interval, as errors of their own do."""
    found = welch(reference.losses, arm.losses)
    if found is not None and any(missed):
        better, worse = missed
        low = found.difference - math.hypot(found.difference - found.low, worse)
        high = found.difference + math.hypot(found.high - found.difference, better)
        t = t_quantile(found.freedom)
        widest = max(found.difference - low, high - found.difference)
        found = replace(found, low=low, high=high, se=widest / t)
    return Comparison(arm, reference, found, missed)


def multiplier(comparison: Comparison, along: Slope) -> Multiplier | None:
    """The compute multiplier exp(d / s), s = -dL / d ln C of the dense minima.

    d comes from `confirm` and s from `measure`, so their errors are independent. The interval
    of the ratio is Fieller's, which stays right where s is poorly known (the delta method is
    too short there) and has no bounds where s can't be told from zero. None where s is not
    positive or there is no interval of d.
    """
    if along.value <= 0 or comparison.welch is None:
        return None
    found = comparison.welch
    exponent = found.difference / along.value
    ends = fieller(found, along)
    budget = comparison.arm.budget
    implied = budget * _exp(exponent)
    return Multiplier(
        value=_exp(exponent),
        low=None if ends is None else _exp(ends[0]),
        high=None if ends is None else _exp(ends[1]),
        time_ratio=comparison.time_ratio,
        slope=along,
        extrapolated=not min(along.budgets) <= implied <= max(along.budgets),
    )


def fieller(found: Welch, along: Slope) -> tuple[float, float] | None:
    """95 % interval of d / s (Fieller 1954), with the quantile of d's degrees of freedom.

    All theta with (d - theta s)^2 <= t^2 (var d + theta^2 var s); None where that is no
    interval, because s does not differ from zero.
    """
    if along.se is None:
        return None
    t = t_quantile(found.freedom)
    a = along.value**2 - (t * along.se) ** 2
    b = found.difference * along.value
    c = found.difference**2 - (t * found.se) ** 2
    if a <= 0:
        return None
    root = math.sqrt(max(0.0, b**2 - a * c))
    return (b - root) / a, (b + root) / a


def _exp(exponent: float) -> float:
    return math.exp(exponent) if exponent < 700 else math.inf
