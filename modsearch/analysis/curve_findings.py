"""What the isoFLOP curves of a study say of the paper's claims.

A pair is the best routed and the best dense arm of a budget, as `measure` ranks them. The largest
budget at which both have a fitted minimum answers; smaller ones stand in the reason. Which of
several arms and depths stand for their kind is chosen by the same trials, an error that is in no
interval: of a fit it is about 0.2 run-to-run deviations.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from modsearch.analysis.arms import kinds_of, roles
from modsearch.analysis.choice import best_of
from modsearch.analysis.curves import Curve, Fit
from modsearch.analysis.fits import noise
from modsearch.analysis.laws import Interval
from modsearch.analysis.noise import Noise
from modsearch.analysis.numbers import count, decimal, interval, percent, scientific
from modsearch.analysis.optima import Optimum, optima
from modsearch.analysis.paper import (
    BAND,
    CHEAPER,
    CROSSING,
    DEPTH,
    LARGER,
    PARITY,
    REACH,
    SAME_FORWARD,
    Answer,
    Stated,
    Unit,
    Word,
    factor_seen,
    not_tested,
    same,
    sided,
)
from modsearch.analysis.parity import (
    forward_at,
    forward_at_minimum,
    forward_at_parity,
    forward_ratio,
    gap,
    size_ratio,
    size_with_forward,
)
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record
from modsearch.config.units import Unit as Over
from modsearch.config.units import nats

HALF = 0.5
"""Share of the dense optimum's forward FLOPs that parity is claimed at."""


@dataclass(frozen=True)
class Pair:
    """The curves of both optima at a budget."""

    budget: float
    routed: Fit
    dense: Fit
    depths: Mapping[int, Fit]
    """Fitted curves here of one routed arm: the same, unless another one alone has what a
    comparison of depths takes."""
    noise: Noise
    unit: Over = "token"
    """What losses are counted over."""

    @property
    def who(self) -> str:
        """For a reason's first words."""
        sides = (self.routed, self.dense)
        arms = " against ".join(f"{fit.arm} (depth {fit.depth})" for fit in sides)
        return f"{arms} at {scientific(self.budget)} FLOPs"


Judge = Callable[[Pair], Answer]


def curve_answers(
    curves: Sequence[Curve], manifest: Manifest, records: Sequence[Record]
) -> list[tuple[Stated, Answer]]:
    """Every claim that curves answer, those of `fit_curves`."""
    pairs, reason = pairs_of(curves, manifest, records)
    return [(stated, _answer(pairs, judge, reason)) for stated, judge in JUDGES]


def pairs_of(
    curves: Sequence[Curve], manifest: Manifest, records: Sequence[Record]
) -> tuple[list[Pair], str]:
    """Largest budget first; and why there are none."""
    spread = noise(records, curves)
    learned = [arm for arm, base in manifest.arms.items() if base is None]
    found = roles(learned, kinds_of(records))
    minima = optima(curves)
    budgets = sorted({best.budget for best in minima}, reverse=True)
    floors = {each.hash: manifest.bigram_entropy(each.candidate.model) for each in records}
    pairs, reasons = [], []
    for budget in budgets:
        routed, dense = (best_of(minima, arms, budget) for arms in (found.routed, found.reference))
        if routed is None or dense is None:
            kind = "routed" if routed is None else "dense"
            reasons.append(f"no {kind} arm was measured at {scientific(budget)} FLOPs")
            continue
        sides = (routed, dense)
        fits = [best.fit for best in sides if best.fit is not None]
        refused = [_refused(best) for best in sides if best.fit is None]
        if any(best.loss >= floors[best.point.hash] for best in sides):
            refused = ["models do not beat the corpus's bigrams"]
        if refused or spread is None:
            reasons.append(f"at {scientific(budget)} FLOPs {' and '.join(refused)}")
            continue
        others = sorted(
            (best for best in minima if best.budget == budget and best.arm in found.routed),
            key=lambda best: (best.arm != routed.arm, best.loss, best.arm),
        )
        depths = _depths(curves, [best.arm for best in others], budget, dense.point.depth)
        pairs.append(Pair(budget, fits[0], fits[1], depths, spread, manifest.unit))
    if not budgets:
        reasons.append("nothing is measured yet")
    return pairs, "; ".join(reasons)


def _refused(best: Optimum) -> str:
    return f"{best.arm} has no fitted minimum ({best.refused})"


def _depths(
    curves: Sequence[Curve], arms: Sequence[str], budget: float, depth: int
) -> dict[int, Fit]:
    """Of the first arm with a fit at this depth and at a larger one; where none has them, of the
    first arm."""
    found = [
        {
            curve.depth: curve
            for curve in curves
            if isinstance(curve, Fit) and (curve.arm, curve.budget) == (arm, budget)
        }
        for arm in arms
    ]
    return next((each for each in found if depth in each and max(each) > depth), found[0])


def _answer(pairs: Sequence[Pair], judge: Judge, reason: str) -> Answer:
    """Of the largest budget that has one; smaller ones behind its reason."""
    if not pairs:
        return not_tested(reason)
    answers = [(pair.budget, judge(pair)) for pair in pairs]
    tested = [each for each in answers if each[1].word is not Word.NOT_TESTED]
    if not tested:
        return answers[0][1]
    budget, found = tested[0]
    others = [
        f"at {scientific(smaller)} FLOPs {answer.word.value}" for smaller, answer in tested[1:]
    ]
    skipped = [
        f"at {scientific(larger)} FLOPs {answer.reason}"
        for larger, answer in answers
        if larger > budget
    ]
    full = "; ".join([found.reason, *others, *skipped])
    return replace(found, reason=full)


def parity_claim(pair: Pair) -> Answer:
    """As good as the dense optimum with half of its forward FLOPs."""
    found = forward_at_parity(pair.routed, pair.dense, pair.noise)
    word = Word.UNDERPOWERED
    if found.high is not None and found.high <= HALF:
        word = Word.SUPPORTED
    elif found.low is not None and found.low > HALF:
        word = Word.REFUTED
    if found.value is None:
        what = "no fitted size of the routed arm is as good as the dense minimum"
    elif found.high is None:
        what = "the routed curve reaches the dense minimum, but is nowhere told to be below it"
    elif found.high < 1:
        what = "parity costs less than the dense optimum"
    else:
        what = "parity is reached, but it is not told that it costs less"
    if found.at_end:
        what += "; the smallest fitted size is as good already, so this is an upper limit"
    elif found.low is None:
        what += "; the smallest fitted size is not told to be worse: no lower end"
    size, where = _at_half(pair)
    there = gap(pair.routed, size, pair.dense, pair.dense.minimum_params, pair.noise)
    what += f"; {where} the routed loss is {apart(there, pair.unit)}"
    smallest = REACH * (there.high - there.low) / 2
    reason = f"{pair.who}, ratio of forward FLOPs: {what}"
    return Answer(word, reason, found.value, found.low, found.high, smallest, Unit.NATS)


def _at_half(pair: Pair) -> tuple[float, str]:
    """The fitted size that is nearest to half of the dense optimum's forward FLOPs."""
    level = HALF * forward_at_minimum(pair.dense)
    size = size_with_forward(pair.routed, level)
    if size is not None:
        return size, "at half of the fitted optimum's forward FLOPs"
    ends = (min(pair.routed.params), max(pair.routed.params))
    costs = [forward_at(pair.routed, end) for end in ends]
    near = 0 if level < costs[0] else 1
    share = percent(costs[near] / level * HALF, 0)
    return ends[near], f"no fitted size has half of the forward FLOPs; with the nearest, {share},"


def larger(pair: Pair) -> Answer:
    """The routed optimum has more parameters."""
    found = size_ratio(pair.routed, pair.dense)
    answer = sided(found, f"{pair.who}, ratio of N*", bar=1.0)
    return replace(answer, smallest=factor_seen(found))


def same_forward(pair: Pair) -> Answer:
    """Both optima cost the same per forward pass."""
    band = f"the same is within a factor of {BAND:g}, a bound of ours"
    return same(
        forward_ratio(pair.routed, pair.dense), f"{pair.who}, ratio of forward FLOPs: {band}"
    )


def cheaper_and_better(pair: Pair) -> Answer:
    """Some routed model is cheaper and better: where the routed curve is lowest up to the dense
    optimum's forward FLOPs."""
    level = forward_at_minimum(pair.dense)
    size, what = pair.routed.minimum_params, "its optimum is cheaper"
    if forward_at_minimum(pair.routed) >= level:
        found = size_with_forward(pair.routed, level)
        if found is None:
            return not_tested(
                f"{pair.who}: every routed size that was fitted costs more than the dense optimum"
            )
        size, what = found, "its optimum costs more; compared at the same forward FLOPs"
    between = gap(pair.routed, size, pair.dense, pair.dense.minimum_params, pair.noise)
    return sided(between, f"{pair.who}: {what}")


def deeper(pair: Pair) -> Answer:
    """Deeper routed models than the dense optimum are better than those of its depth."""
    depth = pair.dense.depth
    others = [fit for each, fit in pair.depths.items() if each > depth]
    if depth not in pair.depths or not others:
        fitted = ", ".join(map(str, sorted(pair.depths)))
        return not_tested(
            f"{pair.routed.arm} has fitted minima at depth {fitted} alone at "
            f"{scientific(pair.budget)} FLOPs, and it takes the dense optimum's, {depth}, and a "
            f"larger one"
        )
    own, best = pair.depths[depth], min(others, key=lambda fit: fit.minimum_loss)
    found = gap(best, best.minimum_params, own, own.minimum_params, pair.noise, tests=len(others))
    reason = (
        f"minima of {best.arm} at {scientific(pair.budget)} FLOPs: depth {best.depth} against "
        f"depth {depth}, which is the dense optimum's; the lowest routed minimum has depth "
        f"{pair.routed.depth}"
    )
    if best.arm != pair.routed.arm:
        reason += f", of {pair.routed.arm}, which has no fit at a depth to compare"
    if len(others) > 1:
        reason += f"; the best of {len(others)} larger depths, and the interval knows"
    return sided(found, reason)


def crossing(pair: Pair) -> Answer:
    """At the smallest size of both curves the dense arm is better."""
    small = max(min(pair.routed.params), min(pair.dense.params))
    large = min(max(pair.routed.params), max(pair.dense.params))
    if small >= large:
        return not_tested(f"{pair.who}: the fits have no size in common")
    found = gap(pair.dense, small, pair.routed, small, pair.noise)
    end = gap(pair.dense, large, pair.routed, large, pair.noise)
    reason = (
        f"{pair.who}: of the sizes of both fits, at the smallest, {count(small)} parameters, the "
        f"dense loss is {apart(found, pair.unit)}, and at the largest, {count(large)}, "
        f"{apart(end, pair.unit)}"
    )
    return sided(found, reason)


def apart(found: Interval, unit: Over) -> str:
    """How far a loss lies below another, or above it."""
    sign = 1 if found.value >= 0 else -1
    low, high = sorted((sign * found.low, sign * found.high))
    ends = interval(low, high)
    way = "lower" if sign > 0 else "higher"
    return f"{decimal(sign * found.value, 3)} {ends} {nats(unit)} {way}"


JUDGES: tuple[tuple[Stated, Judge], ...] = (
    (PARITY, parity_claim),
    (LARGER, larger),
    (SAME_FORWARD, same_forward),
    (CHEAPER, cheaper_and_better),
    (DEPTH, deeper),
    (CROSSING, crossing),
)
