"""The same study with several seeds: what its headlines say together.

Each study's headline stays as it is, with its own looks. The studies are independent draws of
one procedure, so that their differences have a mean and a deviation like any sample.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

from modsearch.analysis.claims import Claim
from modsearch.analysis.means import Mean, mean_of
from modsearch.analysis.noise import NORMAL
from modsearch.analysis.verdicts import Verdict


@dataclass(frozen=True)
class Replication:
    """Headlines at one budget of studies that differ by their seeds alone."""

    budget: float
    differences: tuple[float, ...]
    """Of the studies that have one, nats per token; positive: routed is better."""
    mean: Mean
    """With its 95 % interval: Student's t over studies, and the error of the test text that all
    of them share. Without ends for fewer than three."""
    sd: float | None
    """Over studies; None for one."""
    intervals: int
    """Studies with an interval of their own."""
    holding: int
    """How many of those hold the mean."""
    verdicts: Mapping[Verdict, int]
    """Of all studies, also those without a difference."""


def replication(claims: Sequence[Claim]) -> Replication | None:
    """Of one budget's headlines; None where none has a difference.

    An untrained study's difference says nothing of routing, and does not enter.
    """
    found = [
        each.comparison
        for each in claims
        if each.comparison is not None and each.verdict is not Verdict.UNTRAINED
    ]
    if not found:
        return None
    differences = tuple(each.difference for each in found)
    intervals = [each.interval for each in found if each.interval is not None]
    text = math.hypot(*(each.sample_se for each in intervals)) / math.sqrt(len(intervals) or 1)
    mean = _widened(mean_of(differences), NORMAL * text)
    return Replication(
        budget=found[0].arm.budget,
        differences=differences,
        mean=mean,
        sd=stdev(differences) if len(differences) > 1 else None,
        intervals=len(intervals),
        holding=sum(each.low <= mean.value <= each.high for each in intervals),
        verdicts=Counter(each.verdict for each in claims),
    )


def _widened(mean: Mean, half: float) -> Mean:
    """By an error that all values share. Both halves are added as independent ones: degrees of
    freedom of the sum, as Welch and Satterthwaite have them, would make few studies too sure."""
    if mean.low is None or mean.high is None:
        return mean
    both = math.hypot(mean.high - mean.value, half)
    return Mean(mean.value, mean.value - both, mean.value + both)
