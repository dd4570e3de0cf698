"""What the confirmed runs of a routed arm say of the paper's claims on routing.

An arm with the paper's own router answers, then the headline's, then the first one that has what
the claim is about: what another router does refutes nothing that was said of top-k, and supports
nothing of it either while the paper's own has learned nothing yet. Intervals are those of means
over seeds: the sample of text is one, so they do not hold for another kind of text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from modsearch.analysis.compare import Confirmed
from modsearch.analysis.laws import Interval
from modsearch.analysis.means import mean_of, runs_note
from modsearch.analysis.numbers import percent, scientific
from modsearch.analysis.paper import (
    BAND,
    ENTROPY,
    FORETOLD,
    SAMPLING_LOSS,
    WEIGHTS,
    Answer,
    Stated,
    Unit,
    Word,
    not_tested,
    same,
    sided,
)
from modsearch.analysis.routing import combined
from modsearch.config.telemetry import RoutingReport

Telemetry = Mapping[str, RoutingReport]
"""By the hash of a trial."""
Judge = Callable[[Sequence[Confirmed], Telemetry], Answer]

ACCURACY = 0.97
CAUSAL_COST = 0.003
"""Of the loss."""
AUXILIARY = "expert_choice"
"""The paper's router: top-k, whose scores the auxiliary loss centres at 0.5."""


def routing_answers(
    trained: Sequence[Confirmed], untrained: Sequence[Confirmed], telemetry: Telemetry
) -> list[tuple[Stated, Answer]]:
    """Every claim that routing answers, by the first arm that can; arms have the headline's
    first. Where those with the paper's router that can are all untrained, none does."""
    if untrained and not trained:
        why = not_tested("no confirmed routed model beats the corpus's bigrams: all are untrained")
        return [(stated, why) for stated, _ in JUDGES]
    return [(stated, _answered(judge, trained, untrained, telemetry)) for stated, judge in JUDGES]


def _answered(
    judge: Judge,
    trained: Sequence[Confirmed],
    untrained: Sequence[Confirmed],
    telemetry: Telemetry,
) -> Answer:
    for papers in (True, False):
        mine, idle = (
            [arm for arm in arms if (arm.model.router.name == AUXILIARY) is papers]
            for arms in (trained, untrained)
        )
        found = judge(mine, telemetry)
        if found.word is not Word.NOT_TESTED:
            return found
        silent = [arm.arm for arm in idle if judge([arm], telemetry).word is not Word.NOT_TESTED]
        if silent:
            return not_tested(
                f"no confirmed model of {' and '.join(silent)} beats the corpus's bigrams: "
                f"untrained"
            )
    return judge([], telemetry)


def foretold(arms: Sequence[Confirmed], telemetry: Telemetry) -> Answer:
    """Accuracy, beside what is right without looking."""
    for arm in arms:
        known = [each.membership for each in _reports(arm, telemetry) if each.membership]
        if known:
            skip = fmean(each.always_skip for each in known)
            accuracy = fmean(each.accuracy for each in known)
            avoided = (accuracy - skip) / (1 - skip) if skip < 1 else 0.0
            reason = (
                f"{_where(arm)}: taking no token at all is right for {percent(skip)}, and of the "
                f"errors of that {percent(avoided, 0)} are avoided"
            )
            return _mean([each.accuracy for each in known], reason, ACCURACY)
    return not_tested("no confirmed arm has another rule in sampling than in training")


def sampling_loss(arms: Sequence[Confirmed], telemetry: Telemetry) -> Answer:
    """Causal minus train-mode loss over all confirmed sizes."""
    del telemetry
    for arm in arms:
        scores = [
            record.scores for group in arm.groups for record in group.records if record.scores
        ]
        shares = [each.causal_loss / each.train_mode_loss - 1 for each in scores]
        if any(shares):
            reason = (
                f"{_where(arm)}: causal loss over that of training's rule, which looks ahead; "
                f"held against {percent(CAUSAL_COST)}"
            )
            return _mean(shares, reason, CAUSAL_COST, below=True)
    return not_tested("no confirmed arm has another rule in sampling than in training")


def with_entropy(arms: Sequence[Confirmed], telemetry: Telemetry) -> Answer:
    """Partial correlation at the same position."""
    for arm in arms:
        reports = [each for each in _reports(arm, telemetry) if each.tokens is not None]
        tokens = [each.tokens for each in reports if each.tokens is not None]
        windows = min((each.windows for each in reports), default=0)
        found = combined([each.with_entropy for each in tokens], windows)
        if found is None:
            continue
        reason = (
            f"{_where(arm)}: partial correlation at the same position; "
            f"{percent(fmean(each.every_block for each in tokens))} of the tokens enter every "
            f"routed block, {percent(fmean(each.no_block for each in tokens))} none"
        )
        if found.low is None or found.high is None:
            reason += "; too few windows for an interval"
            return Answer(Word.UNDERPOWERED, reason, found.partial)
        return sided(Interval(found.partial, found.low, found.high), reason)
    return not_tested("no confirmed arm has decisions that differ between tokens at a position")


def weights_above_half(arms: Sequence[Confirmed], telemetry: Telemetry) -> Answer:
    """Of the router that the auxiliary loss trains."""
    for arm in arms:
        if arm.model.router.name != AUXILIARY:
            continue
        layers = [
            [
                (layer.decisions.weights_above_half, layer.capacity)
                for layer in report.layers
                if layer.decisions and layer.decisions.weights_above_half is not None
            ]
            for report in _reports(arm, telemetry)
        ]
        shares = [fmean(share for share, _ in each) for each in layers if each]
        if shares:
            capacity = fmean(asked for each in layers for _, asked in each)
            reason = (
                f"{_where(arm)}: capacity {percent(capacity)}; the same is within a factor of "
                f"{BAND:g}, a bound of ours"
            )
            found = _interval(shares)
            if found is None:
                return Answer(Word.UNDERPOWERED, reason + _few(shares), fmean(shares))
            ratio = Interval(*(each / capacity for each in _ends(found)))
            word = same(ratio, reason)
            return replace(
                word, value=found.value, low=found.low, high=found.high, effect=Unit.RATIO
            )
    return not_tested(f"no confirmed arm has the router `{AUXILIARY}`, or its weights")


JUDGES: tuple[tuple[Stated, Judge], ...] = (
    (FORETOLD, foretold),
    (SAMPLING_LOSS, sampling_loss),
    (ENTROPY, with_entropy),
    (WEIGHTS, weights_above_half),
)


def _reports(arm: Confirmed, telemetry: Telemetry) -> list[RoutingReport]:
    return [telemetry[each.hash] for each in arm.records if each.hash in telemetry]


def _where(arm: Confirmed) -> str:
    return f"{arm.arm} at {scientific(arm.budget)} FLOPs"


def _mean(values: Sequence[float], reason: str, bar: float, *, below: bool = False) -> Answer:
    """A claim that a mean over seeds lies above a bar, or below it."""
    found = _interval(values)
    if found is None:
        return Answer(Word.UNDERPOWERED, reason + _few(values), fmean(values))
    return sided(found, reason, bar, below=below)


def _interval(values: Sequence[float]) -> Interval | None:
    """None where there are too few values, or where they are all the same."""
    found = mean_of(values)
    if found.low is None or found.high is None:
        return None
    return Interval(found.value, found.low, found.high)


def _few(values: Sequence[float]) -> str:
    why = runs_note(len(values)) or "all runs agree, which says nothing about noise"
    return f"; {why}"


def _ends(found: Interval) -> tuple[float, float, float]:
    return found.value, found.low, found.high
