"""The ledger: every claim of the paper that a study can speak to, and what this one says.

Claims on losses rest on confirm's fresh seeds and have the words that the verdicts have, those on
routing on the confirmed runs of the routed arm, and those on optima on the curves. Each row stands
for itself: no interval is adjusted for the number of rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from modsearch.analysis.claims import Claims
from modsearch.analysis.compare import Comparison, Confirmed, compare
from modsearch.analysis.curve_findings import curve_answers
from modsearch.analysis.numbers import decimal, percent, scientific
from modsearch.analysis.paired import LEVEL
from modsearch.analysis.paper import (
    CHEAPER,
    DECODING,
    INTEGRATED,
    LOWER_LOSS,
    MEMORY,
    RANDOM,
    REACH,
    STEPS,
    Answer,
    Finding,
    Word,
    not_tested,
)
from modsearch.analysis.routing_findings import routing_answers
from modsearch.analysis.verdicts import Bounds, Verdict, verdict_of
from modsearch.config.manifest import Manifest
from modsearch.config.records import Record
from modsearch.config.telemetry import RoutingReport

GAIN = 0.015
"""Of the loss, at most."""

WORDS = {
    Verdict.BETTER: Word.SUPPORTED,
    Verdict.WORSE: Word.REFUTED,
    Verdict.EQUIVALENT: Word.EQUIVALENT,
    Verdict.INCONCLUSIVE: Word.UNDERPOWERED,
    Verdict.UNTRAINED: Word.NOT_TESTED,
    Verdict.NONE: Word.NOT_TESTED,
}
"""Of a claim that the arm is better."""

MEASURE_APART = (
    "trials that share a machine slow each other, so no time of theirs counts; `modsearch time "
    "STUDY` measures it"
)


def findings(
    claims: Claims,
    manifest: Manifest,
    records: Sequence[Record],
    telemetry: Mapping[str, RoutingReport],
    measured: Sequence[Finding] = (),
) -> list[Finding]:
    """Every row: of losses, of optima, of routing, of cost.

    Args:
        claims: of the study.
        manifest: of the study.
        records: all that count.
        telemetry: of confirmed routed trials.
        measured: rows from measurements beside the records, such as speeds: each stands in the
            place of the row with its claim.
    """
    known = _routed(claims, manifest)
    bounds = Bounds.of(manifest)
    trained = [arm for arm in known if arm.loss < bounds.floor(arm)]
    untrained = [arm for arm in known if arm.loss >= bounds.floor(arm)]
    rows = [
        (LOWER_LOSS, lower_loss(claims)),
        *curve_answers(claims.curves, manifest, records),
        (RANDOM, random_control(claims)),
        (INTEGRATED, integrated(claims, manifest)),
        *routing_answers(trained, untrained, telemetry),
        (MEMORY, not_tested("the peak memory of a trial is that of its whole process")),
        (DECODING, not_tested(MEASURE_APART)),
        (STEPS, not_tested(MEASURE_APART)),
    ]
    fresh = cheaper_headline(claims)
    instead = {found.stated.claim: found for found in measured}
    if fresh is not None:
        instead.setdefault(CHEAPER.claim, Finding(CHEAPER, fresh))
    return [instead.get(stated.claim, Finding(stated, answer)) for stated, answer in rows]


def lower_loss(claims: Claims) -> Answer:
    """Of the headline; where it has no verdict, of the largest budget that has one."""
    answers = []
    for claim in reversed(claims.by_budget):
        found = claim.comparison
        word = WORDS[claim.verdict]
        if found is None or word is Word.NOT_TESTED or found.relative_interval is None:
            answers.append((claim.budget, not_tested(claim.reason)))
            continue
        low, high = found.relative_interval
        reason = f"{_who(found)}: {claim.reason}"
        if high < GAIN:
            reason += f", and a gain of {percent(GAIN)} is excluded"
        smallest = REACH * (high - low) / 2
        answer = Answer(word, reason, found.relative, low, high, smallest)
        answers.append((claim.budget, answer))
    if not answers:
        return not_tested(claims.headline.reason)
    chosen = next((each for each in answers if each[1].word is not Word.NOT_TESTED), answers[0])
    others = [
        f"at {scientific(budget)} FLOPs {answer.word.value}"
        for budget, answer in answers
        if budget != chosen[0]
    ]
    return replace(chosen[1], reason="; ".join([chosen[1].reason, *others]))


def cheaper_headline(claims: Claims) -> Answer | None:
    """By fresh seeds, where the headline's routed arm is the cheaper one; else curves say it."""
    headline = claims.headline
    found = headline.comparison
    if found is None or found.forward_ratio >= 1 or WORDS[headline.verdict] is Word.NOT_TESTED:
        return None
    share = percent(found.forward_ratio, 0)
    reason = f"{_who(found)}, fresh seeds: it needs {share} of the forward FLOPs"
    return _compared(found, headline.verdict, reason)


def random_control(claims: Claims) -> Answer:
    """Of the headline's arm, where it has such a control at the largest budget."""
    known = [
        each
        for each in claims.beside
        if each.role == "control" and each.comparison.reference.model.router.name == "random"
    ]
    if not known:
        return not_tested("no control with the router `random` is confirmed")
    headline = claims.headline.comparison
    budget = known[0].comparison.arm.budget
    here = [each for each in known if each.comparison.arm.budget == budget]
    mine = [each for each in here if headline and each.comparison.arm.arm == headline.arm.arm]
    found = (mine or here)[0]
    told = "" if found.p is None else f", p {decimal(found.p, 3)} (Holm)"
    alone = found.comparison.interval
    if found.p is not None and found.p >= LEVEL and alone and not alone.low <= 0 <= alone.high:
        told += " with all comparisons of its budget, though its own interval excludes zero"
    others = [
        f"{each.comparison.arm.arm} at {scientific(each.comparison.arm.budget)} FLOPs "
        f"{WORDS[each.verdict].value}"
        for each in known
        if each is not found
    ]
    reason = "; ".join([f"{_who(found.comparison)}: {found.verdict.value}{told}", *others])
    return _compared(found.comparison, found.verdict, reason)


def integrated(claims: Claims, manifest: Manifest) -> Answer:
    """No-ops among the experts against experts that drop what is over their capacity."""
    for budget in sorted({each.budget for each in claims.confirmed}, reverse=True):
        here = [
            each
            for each in claims.confirmed
            if each.budget == budget and manifest.arms.get(each.arm) is None
        ]
        with_noop = next((each for each in here if _ffn(each) == "mode_integrated"), None)
        dropping = next((each for each in here if _ffn(each) == "moe"), None)
        if with_noop is not None and dropping is not None:
            comparison = compare(with_noop, dropping)
            verdict, why = verdict_of(comparison, Bounds.of(manifest))
            return _compared(comparison, verdict, f"{_who(comparison)}: {why}")
    return not_tested(
        "no confirmed pair of arms with no-op experts and with experts that drop tokens"
    )


def _routed(claims: Claims, manifest: Manifest) -> list[Confirmed]:
    """Learned routed arms at their largest budgets, that of the headline first."""
    learned = [each for each in claims.routed if manifest.arms.get(each.arm) is None]
    headline = claims.headline.comparison
    return sorted(learned, key=lambda each: headline is None or each.arm != headline.arm.arm)


def _ffn(arm: Confirmed) -> str | None:
    return arm.model.ffn.name if arm.model.ffn else None


def _who(found: Comparison) -> str:
    return f"{found.arm.arm} against {found.reference.arm} at {scientific(found.arm.budget)} FLOPs"


def _compared(found: Comparison, verdict: Verdict, reason: str) -> Answer:
    """Of a comparison in nats, with the word of its verdict."""
    if found.interval is None or WORDS[verdict] is Word.NOT_TESTED:
        return not_tested(reason)
    low, high = found.interval.low, found.interval.high
    return Answer(WORDS[verdict], reason, found.difference, low, high, REACH * (high - low) / 2)
