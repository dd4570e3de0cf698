"""What a comparison says, in a word and in a sentence, and what would settle it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from modsearch.analysis.arms import describe
from modsearch.analysis.compare import MIN_SEEDS, Comparison, Confirmed, Multiplier, multiplier
from modsearch.analysis.looks import ERROR
from modsearch.analysis.numbers import (
    counted,
    decimal,
    interval,
    percent,
    percent_digits,
    scientific,
)
from modsearch.analysis.slopes import Slope
from modsearch.config.manifest import Manifest
from modsearch.config.units import Unit, nats, nats_per


class Verdict(StrEnum):
    """On an arm against its reference."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    UNTRAINED = "untrained"
    NONE = "none"


SETTLED = (Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT, Verdict.UNTRAINED)
"""No further look would change these."""


@dataclass(frozen=True)
class Bounds:
    """What a difference is held against."""

    margin: float
    """Nats within which arms are equivalent."""
    bigram_entropy: float
    """Nats that counting pairs of tokens reaches: a loss above it says nothing."""
    others: Mapping[int, float] = field(default_factory=dict)
    """The same of each vocabulary, where there are several."""
    unit: Unit = "token"
    """What nats are counted over."""

    @classmethod
    def of(cls, manifest: Manifest) -> "Bounds":
        """Of a study. Without a margin from before its first run nothing is equivalent."""
        margin = manifest.confirm.margin if manifest.confirm else 0.0
        validation = {
            size: facts.bigram_entropy / facts.size(manifest.unit, "validation")
            for size, facts in manifest.corpora.items()
        }
        return cls(margin, manifest.corpus.bigram_entropy, validation, manifest.unit)

    def floor(self, side: Confirmed) -> float:
        """What the loss of an arm must beat."""
        return self.others.get(side.model.vocab_size, self.bigram_entropy)


def verdict_of(comparison: Comparison, bounds: Bounds) -> tuple[Verdict, str]:
    """The verdict and its reason."""
    for side in (comparison.arm, comparison.reference):
        if side.loss >= bounds.floor(side):
            return Verdict.UNTRAINED, (
                f"the loss of {side.arm}, {side.loss:.3f} {nats_per(bounds.unit)}, does not beat "
                f"the corpus's bigram entropy, {bounds.floor(side):.3f}: a larger budget would "
                f"help"
            )
    for side in (comparison.arm, comparison.reference):
        if side.num_runs < MIN_SEEDS:
            return Verdict.NONE, (
                f"{side.arm} has {counted(side.num_runs, 'confirmed run')}, and an interval needs "
                f"{MIN_SEEDS}"
            )
    found = comparison.interval
    if found is None:
        return Verdict.NONE, "all seeds have the same loss, so they say nothing about noise"
    of = nats(bounds.unit)
    ends = f"the 95 % interval of the difference, {interval(found.low, found.high)} {of},"
    if found.low > 0 or found.high < 0:
        verdict = Verdict.BETTER if found.low > 0 else Verdict.WORSE
        return verdict, f"{ends} excludes zero"
    if max(-found.inner[0], found.inner[1]) < bounds.margin:
        inner = interval(*found.inner)
        return Verdict.EQUIVALENT, (
            f"the 90 % interval of the difference, {inner} {of}, lies within the margin of "
            f"{bounds.margin:g}"
        )
    return Verdict.INCONCLUSIVE, f"{ends} contains zero"


def sentence_of(comparison: Comparison, verdict: Verdict, reason: str) -> str:
    """The answer as the report gives it."""
    arm, reference = comparison.arm, comparison.reference
    where = f"{scientific(arm.budget)} FLOPs"
    routed = f"the routed model that measure chose ({arm.arm}, {describe(arm.records[0])})"
    dense = f"the dense one ({reference.arm}, {describe(reference.records[0])})"
    needs = f"{percent(comparison.forward_ratio, 0)} of"
    if verdict is Verdict.UNTRAINED:
        return f"Untrained: no verdict at {where}, because {reason}."
    ends = comparison.relative_interval
    if verdict is Verdict.NONE or ends is None:
        return f"No verdict at {where}: {reason}."
    if verdict in (Verdict.INCONCLUSIVE, Verdict.EQUIVALENT):
        begin, what = {
            Verdict.INCONCLUSIVE: ("Inconclusive", "can't be told apart"),
            Verdict.EQUIVALENT: ("Equivalent", "are the same for what was asked"),
        }[verdict]
        return (
            f"{begin}: at {where} the loss of {routed} and of {dense} {what}, because {reason}; "
            f"the routed one needs {needs} the dense one's forward FLOPs."
        )
    sign = 1 if verdict is Verdict.BETTER else -1
    shares = sorted(sign * end for end in ends)
    digits = percent_digits((sign * comparison.relative, *shares))
    low, high = (percent(share, digits) for share in shares)
    return (
        f"At {where} {routed} has {percent(sign * comparison.relative, digits)} "
        f"{'lower' if sign > 0 else 'higher'} loss than {dense} [{low}, {high}] "
        f"and needs {needs} its forward FLOPs."
    )


def multiplier_of(
    comparison: Comparison, along: Slope | None, verdict: Verdict, unit: Unit = "token"
) -> tuple[Multiplier | None, str]:
    """The compute multiplier, or None and why there is none; `unit` is what losses are counted
    over."""
    if verdict in (Verdict.NONE, Verdict.UNTRAINED):
        return None, "there is no verdict"
    if along is None:
        return None, (
            "the dense arm has fitted minima at fewer than two budgets, and their slope needs two"
        )
    found = multiplier(comparison, along)
    if found is None:
        return None, (
            f"the dense minima do not fall with compute "
            f"(slope {decimal(-along.value)} {nats(unit)} per e-fold)"
        )
    return found, ""


def held(comparisons: Sequence[Comparison], bounds: Bounds) -> list[tuple[Verdict, float | None]]:
    """Verdicts of several comparisons beside the headline, and their adjusted p: none of the words
    `better` and `worse` among them is wrong in more than 5 % of studies (Holm 1979).

    The p of a look is scaled to what the look may spend, so that below 0.05 always means told.
    """
    known = [
        (each.interval.p * ERROR / each.look.level, index)
        for index, each in enumerate(comparisons)
        if each.interval is not None and each.look is not None
    ]
    adjusted: dict[int, float] = {}
    largest = 0.0
    for rank, (p, index) in enumerate(sorted(known)):
        largest = min(1.0, max(largest, p * (len(known) - rank)))
        adjusted[index] = largest
    found: list[tuple[Verdict, float | None]] = []
    for index, each in enumerate(comparisons):
        verdict, _ = verdict_of(each, bounds)
        told = adjusted.get(index)
        if verdict in (Verdict.BETTER, Verdict.WORSE) and told is not None and told >= ERROR:
            verdict = Verdict.INCONCLUSIVE
        found.append((verdict, told))
    return found


def held_apart(
    comparisons: Sequence[Comparison], late: Iterable[str], bounds: Bounds
) -> list[tuple[Verdict, float | None]]:
    """The same where some arms came late: their comparisons are adjusted for all, and those of
    the others for their own number, as they were before."""
    everything = held(comparisons, bounds)
    early = [each for each in comparisons if not {each.arm.arm, each.reference.arm} & {*late}]
    kept = iter(held(early, bounds))
    return [
        next(kept) if each in early else found
        for each, found in zip(comparisons, everything, strict=True)
    ]
