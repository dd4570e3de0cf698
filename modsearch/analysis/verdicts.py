"""What a comparison says, in a word and in a sentence, and what would settle it."""

import math
from dataclasses import dataclass
from enum import StrEnum

from modsearch.analysis.arms import describe
from modsearch.analysis.compare import (
    MIN_SEEDS,
    SECONDS_PER_HOUR,
    Comparison,
    Multiplier,
    multiplier,
    welch,
)
from modsearch.analysis.numbers import decimal, interval, percent, percent_digits, scientific
from modsearch.analysis.optima import Slope
from modsearch.analysis.power import PAPER_EFFECT, seeds_for


class Verdict(StrEnum):
    """On the routed arm against the dense one."""

    BETTER = "better"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"
    UNTRAINED = "untrained"
    NONE = "none"


@dataclass(frozen=True)
class Needed:
    """What would tell an effect of a size with 80 % power."""

    effect: float
    sd: float
    seeds: int
    """Per arm."""
    trials: int
    """More than there are, of both arms together."""
    flops: float
    hours: float
    """On one worker."""


def comparison_verdict(comparison: Comparison) -> Verdict:
    """By the interval alone: does it exclude zero, and on which side."""
    found = comparison.welch
    if found is None:
        return Verdict.NONE
    if found.low > 0:
        return Verdict.BETTER
    return Verdict.WORSE if found.high < 0 else Verdict.INCONCLUSIVE


def verdict_of(comparison: Comparison, bigram_entropy: float) -> tuple[Verdict, str]:
    """The verdict and its reason: a loss that counting pairs of tokens reaches says nothing."""
    sides = (comparison.arm, comparison.reference)
    for side in sides:
        if side.mean >= bigram_entropy:
            return Verdict.UNTRAINED, (
                f"the loss of {side.arm}, {side.mean:.3f} nats per token, does not beat the "
                f"corpus's bigram entropy, {bigram_entropy:.3f}"
            )
    for side in sides:
        if len(side.records) < MIN_SEEDS:
            return Verdict.NONE, (
                f"{side.arm} has {len(side.records)} confirmed "
                f"seed{'s' * (len(side.records) != 1)}, and an interval needs {MIN_SEEDS}"
            )
    verdict = comparison_verdict(comparison)
    found = comparison.welch
    if found is None:
        return verdict, "all seeds have the same loss, so they say nothing about noise"
    ends = f"the 95 % interval of the difference, {interval(found.low, found.high)} nats,"
    if verdict is Verdict.INCONCLUSIVE:
        return verdict, f"{ends} contains zero"
    return verdict, f"{ends} excludes zero"


def sentence_of(comparison: Comparison, verdict: Verdict, reason: str) -> str:
    """The answer as the report gives it."""
    arm, reference = comparison.arm, comparison.reference
    where = f"{scientific(arm.budget)} FLOPs"
    routed = f"the best routed model ({arm.arm}, {describe(arm.records[0])})"
    dense = f"the best dense one ({reference.arm}, {describe(reference.records[0])})"
    needs = f"{percent(comparison.forward_ratio, 0)} of its forward FLOPs"
    if verdict is Verdict.UNTRAINED:
        return f"Untrained: no verdict at {where}, because {reason}."
    ends = comparison.relative_interval
    if verdict is Verdict.NONE or ends is None:
        return f"No verdict at {where}: {reason}."
    if verdict is Verdict.INCONCLUSIVE:
        return (
            f"Inconclusive: at {where} the loss of {routed} and of {dense} can't be told apart, "
            f"because {reason}; the routed one needs {percent(comparison.forward_ratio, 0)} of "
            f"the dense one's forward FLOPs."
        )
    sign = 1 if verdict is Verdict.BETTER else -1
    shares = sorted(sign * end for end in ends)
    digits = percent_digits((sign * comparison.relative, *shares))
    low, high = (percent(share, digits) for share in shares)
    return (
        f"At {where} {routed} has {percent(sign * comparison.relative, digits)} "
        f"{'lower' if sign > 0 else 'higher'} loss than {dense} [{low}, {high}] "
        f"and needs {needs}."
    )


def multiplier_of(
    comparison: Comparison, along: Slope | None, verdict: Verdict
) -> tuple[Multiplier | None, str]:
    """The compute multiplier, or None and why there is none."""
    if verdict in (Verdict.NONE, Verdict.UNTRAINED):
        return None, "there is no verdict"
    if along is None:
        return None, (
            "the dense arm is measured at fewer than two budgets, and the slope of its minima "
            "needs two"
        )
    found = multiplier(comparison, along)
    if found is None:
        return None, (
            f"the dense minima do not fall with compute "
            f"(slope {decimal(-along.value)} nats per e-fold)"
        )
    return found, ""


def needed_for(comparison: Comparison, pooled_sd: float) -> Needed | None:
    """What would settle it: for the effect that the paper reports or the larger observed one,
    or, where there are seeds enough for that already, for the smaller observed one.

    The deviation is the study's or, if larger, that of the two arms: their interval is what
    was too wide.
    """
    observed = abs(comparison.difference)
    counts = [len(side.records) for side in (comparison.arm, comparison.reference)]
    have = min(counts)
    # The seeds' own error: more of them do not tell recipes apart.
    found = welch(comparison.reference.losses, comparison.arm.losses)
    sd = pooled_sd
    if found is not None:
        sd = max(sd, found.se / math.sqrt(sum(1 / each for each in counts)))
    effect = max(observed, PAPER_EFFECT)
    seeds = seeds_for(effect, sd)
    if seeds is not None and seeds <= have:
        effect = observed
        seeds = seeds_for(effect, sd)
    if seeds is None:
        return None
    seeds = max(seeds, have + 1)
    more = [
        (max(0, seeds - len(side.records)), side)
        for side in (comparison.arm, comparison.reference)
    ]
    return Needed(
        effect=effect,
        sd=sd,
        seeds=seeds,
        trials=sum(count for count, _ in more),
        flops=math.fsum(count * side.budget for count, side in more),
        hours=math.fsum(count * side.seconds for count, side in more) / SECONDS_PER_HOUR,
    )
