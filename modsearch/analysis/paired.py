"""Differences of scores on the same documents: over documents, and over seeds and documents.

Documents are items that all models answer, so that a difference is taken document by document
(Miller 2024, arXiv 2411.00640). Where both sides are several seeds, seeds and documents are
crossed random effects: other seeds, and other documents of the same kind, would have given
another difference. Its variance is that over documents plus that over seeds, less the residual
that both contain (Cornfield and Tukey 1956; the two-way clusters of Cameron, Gelbach and Miller
2011, doi 10.1198/jbes.2010.07136). Seeds are not paired: pairing does not reduce the noise of
training. A side that is a single run, of ours or of somebody
else's, is no sample of seeds: the others' seeds and the documents alone are random then, and what
is said is said of these very weights. `benchmarks/paired.py` shows the coverage.

Shapes: S seeds, D documents; a list goes over tasks, which are strata: documents of each are a
sample, the tasks themselves are not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from modsearch.analysis.noise import quantile
from modsearch.analysis.runs import Array, Runs

LEVEL = 0.05
NOTHING = 1e-24
"""Variance that is rounding alone."""
LEAST_P, HALVINGS = -300.0, 60
"""The logarithm of the smallest p that is told apart from none, and steps until one is known."""


@dataclass(frozen=True)
class Sheet:
    """What the seeds of one side scored on the documents of one task."""

    values_SD: Array
    weights_D: Array
    """What each document counts for in the task's mean."""
    of: Runs | None = None
    """What each seed counts for; None: the same."""

    @property
    def runs(self) -> Runs:
        """The seeds."""
        return self.of or Runs.alike(len(self.values_SD))

    @property
    def means_D(self) -> Array:
        """Of each document, over seeds."""
        return self.runs.mean(self.values_SD)

    @property
    def means_S(self) -> Array:
        """Of each seed, over documents."""
        means: Array = self.values_SD @ self.shares_D
        return means

    @property
    def shares_D(self) -> Array:
        """Weights that add up to 1."""
        shares: Array = self.weights_D / self.weights_D.sum()
        return shares

    @property
    def mean(self) -> float:
        """Over seeds and documents."""
        return float(self.means_D @ self.shares_D)


@dataclass(frozen=True)
class Scatter:
    """A variance, and how well it is known."""

    variance: float
    freedom: float
    """Degrees of freedom."""

    @classmethod
    def summed(cls, parts: Sequence["Scatter"]) -> "Scatter":
        """Of a sum of independent parts (Satterthwaite)."""
        variance = sum(part.variance for part in parts)
        spread = sum(part.variance**2 / part.freedom for part in parts if part.freedom > 0)
        return cls(variance, variance**2 / spread if spread > 0 else 1.0)

    def half(self, level: float) -> float:
        """Of the two-sided interval that misses the truth with this chance."""
        return -quantile(self.freedom, level / 2) * math.sqrt(self.variance)


@dataclass(frozen=True)
class Difference:
    """A difference with its error."""

    value: float
    documents: Scatter
    """Over documents."""
    seeds: Scatter | None = None
    """Over seeds; None where a side that is not fixed is a single run, so that the interval is
    over documents alone and says nothing of other seeds."""
    both: float = 0.0
    """The variance that both of these contain."""

    @property
    def se(self) -> float:
        """Over documents, and seeds where there are."""
        over = self.documents.variance
        if self.seeds is None:
            return math.sqrt(over)
        return math.sqrt(max(over, self.seeds.variance, over + self.seeds.variance - self.both))

    def half(self, level: float) -> float:
        """Of the two-sided interval that misses the truth with this chance, at the most.

        Each variance has Student's quantile of its own degrees of freedom (Howe 1974, doi
        10.1080/01621459.1974.10480178), and not the sum one of Satterthwaite's: these follow from
        the estimates themselves, and where two seeds are alike by luck, their scatter counts
        neither in the error nor in how little is known of it.
        """
        over = self.documents.half(level)
        if self.seeds is None:
            return over
        whole = self.seeds.half(level)
        if self.seeds.variance <= self.both:
            return max(over, whole)
        return max(math.hypot(over, whole * math.sqrt(1 - self.both / self.seeds.variance)), whole)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The two-sided interval that misses the truth with this chance."""
        half = self.half(level)
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """Two-sided, of no difference: the level at which the interval ends at zero."""
        value = abs(self.value)
        if self.se**2 < NOTHING:
            return 1.0 if value < NOTHING else 0.0
        if self.seeds is None:
            error = math.sqrt(self.documents.variance)
            return 2 * float(special.stdtr(self.documents.freedom, -value / error))
        low, high = LEAST_P, 0.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.half(10**middle) < value else (middle, high)
        return float(10**high)


def ratio_error(values_D: Array, weights_D: Array) -> float:
    """Standard error of a weighted mean over documents that were drawn together with their
    weights; NaN of a single one.

    The linearised ratio estimator (Cochran 1977, section 6.4), without the correction for a
    finite population.
    """
    num = len(values_D)
    if num < 2:
        return math.nan
    shares_D = weights_D / weights_D.sum()
    rest_D = shares_D * (values_D - values_D @ shares_D)
    return math.sqrt(num / (num - 1) * float(rest_D @ rest_D))


def difference(
    ours: Sequence[Sheet],
    theirs: Sequence[Sheet],
    scales: Sequence[float] | None = None,
    *,
    fixed: bool = False,
) -> Difference:
    """How much higher our mean over tasks is than theirs.

    Args:
        ours: a sheet for each task, seeds in the same order in all.
        theirs: the same tasks and documents.
        scales: what a task's scores are multiplied by, such as 1 / (1 - chance).
        fixed: whether a side that is a single run is meant itself, and not as one of many seeds.
    """
    num = len(ours)
    factors = [(1.0 if scales is None else scales[k]) / num for k in range(num)]
    documents = []
    for factor, one, other in zip(factors, ours, theirs, strict=True):
        gap_D = one.means_D - other.means_D
        error = factor * ratio_error(gap_D, one.weights_D)
        documents.append(Scatter(error**2, len(gap_D) - 1))
    value, residual = 0.0, 0.0
    seeds: list[Scatter] = []
    for sign, sheets in ((1, ours), (-1, theirs)):
        runs, both = sheets[0].runs, list(zip(factors, sheets, strict=True))
        means_S = np.sum([f * sheet.means_S for f, sheet in both], axis=0)
        value += sign * float(runs.mean(means_S))
        if runs.freedom:
            seeds.append(Scatter(runs.factor * float(runs.spread(means_S)), runs.freedom))
            residual += sum(f**2 * _residual(sheet) for f, sheet in both)
    over = Scatter.summed(documents)
    if len(seeds) == 2 or (fixed and seeds):
        return Difference(value, over, Scatter.summed(seeds), residual)
    return Difference(value, over)


def _residual(sheet: Sheet) -> float:
    """What the interaction of seeds and documents adds to the variance over either."""
    runs, num = sheet.runs, sheet.values_SD.shape[1]
    if num < 2:
        return 0.0
    own_SD = sheet.values_SD - sheet.means_S[:, None]
    of_one_D = runs.spread(own_SD)
    return float(runs.factor * (sheet.shares_D**2 @ of_one_D) * num / (num - 1))


def holm(values: Sequence[float]) -> list[float]:
    """p-values that are adjusted for how many there are (Holm 1979)."""
    found, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        found[place] = least
    return found
