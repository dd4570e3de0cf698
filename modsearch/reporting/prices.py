"""What routing is worth at other prices than FLOPs: seconds of training, tokens a second, bytes of
the caches."""

from collections.abc import Sequence

import pandas as pd

from modsearch.analysis.claims import Claims
from modsearch.analysis.compare import Comparison, Confirmed
from modsearch.analysis.numbers import counted, decimal, interval, percent, scientific
from modsearch.analysis.speeds import (
    Ratio,
    at_equal_time,
    decode_ratio,
    decoded,
    doubts,
    per_second,
    reference_at,
    step_ratio,
    timed,
    training_ratio,
    typical,
)
from modsearch.config.speeds import Speeds, Timed
from modsearch.config.units import nats
from modsearch.reporting.frames import Row, frame_of

MIB = 2**20


def speeds(claims: Claims, found: Speeds) -> pd.DataFrame:
    """Every confirmed arm that was timed, at each budget: its speeds, and their ratios to those of
    the dense winner."""
    pairs = [(each, timed(found, each.arm, each.budget)) for each in claims.confirmed]
    measured = [(each, at) for each, at in pairs if at is not None]
    sizes = sorted({row.batch_size for _, at in measured for row in at.decoded})
    return frame_of([_row(claims, found, each, at, sizes) for each, at in measured])


def _row(claims: Claims, found: Speeds, each: Confirmed, at: Timed, sizes: Sequence[int]) -> Row:
    dense = reference_at(claims, each.budget)
    against = "" if dense is None or dense.arm == each.arm else dense.arm
    where = (found, each.arm, against, each.budget)
    beside = _against_dense(claims, each)
    row: Row = {
        "budget": each.budget,
        "arm": each.arm,
        "depth": at.depth,
        "width": at.width,
        "causal loss": each.loss,
        "against dense": beside.difference if beside else None,
        "against dense low": beside.interval.low if beside and beside.interval else None,
        "against dense high": beside.interval.high if beside and beside.interval else None,
        "step ms": 1000 * typical(at.step_seconds),
        **_ends("step ratio", step_ratio(*where)),
        **_ends("time at equal FLOPs", training_ratio(*where)),
    }
    for size in sizes:
        held = decoded(at, size)
        row[f"{found.unit}s/s, batch {size}"] = per_second(held) if held else None
        row |= _ends(f"speed ratio, batch {size}", decode_ratio(*where, size))
    row["cache bytes"] = round(at.decoded[-1].cache_bytes) if at.decoded else None
    row["parameter bytes"] = at.parameter_bytes
    if any(other.peak_memory is not None for other in found.arms):
        row["peak MiB"] = None if at.peak_memory is None else at.peak_memory / MIB
    row["forward FLOPs"] = each.forward_flops
    return row


def _ends(name: str, ratio: Ratio | None) -> Row:
    return {
        name: ratio.value if ratio else None,
        f"{name} low": ratio.low if ratio else None,
        f"{name} high": ratio.high if ratio else None,
    }


def _against_dense(claims: Claims, each: Confirmed) -> Comparison | None:
    rows = [*(row.dense for row in claims.standings), *(row.comparison for row in claims.beside)]
    dense = reference_at(claims, each.budget)
    for row in rows:
        if row is not None and row.arm is each and row.reference is dense:
            return row
    return None


def multipliers(claims: Claims, found: Speeds) -> pd.DataFrame:
    """Compute multipliers of the headlines, beside those at equal training time."""
    rows: list[Row] = []
    for claim in claims.by_budget:
        both, of_flops = claim.comparison, claim.multiplier
        if both is None or of_flops is None:
            continue
        arm, dense, budget = both.arm.arm, both.reference.arm, both.arm.budget
        training = training_ratio(found, arm, dense, budget)
        if training is None:
            continue
        plain = Ratio(of_flops.value, of_flops.low, of_flops.high)
        rows.append(
            {
                "budget": budget,
                "arm": arm,
                "against": dense,
                **_ends("multiplier", plain),
                **_ends("time at equal FLOPs", training),
                **_ends("at equal time", at_equal_time(of_flops, training)),
            }
        )
    return frame_of(rows)


def told(claims: Claims, found: Speeds) -> list[str]:
    """Paragraphs: how it was measured, what it says of the headline, and why to doubt it."""
    threads = counted(found.threads, "thread")
    how = (
        f"Measured apart from the study, by `modsearch time` in {found.rounds} rounds on "
        f"{found.machine} ({threads}, {found.precision}, torch {found.torch}): in each round all "
        f"arms of a budget have a turn, ratios are taken round by round, and their 95 % intervals "
        f"are Student's over the logs. They are the clock's, on that machine; other seeds are not "
        f"in them. Training steps are those of the study. Decoding, in fp32, has a key-value "
        f"cache, causal routing, and the weights of the winner's run whose causal load is nearest "
        f"to the mean: the last {_tokens(found)} of a window of test text are timed, after all "
        f"that stands before them. Cache bytes are those that a sequence holds at the "
        f"end of the window. Ratios are to the dense winner of the budget: of a step, of the time "
        f"that the same training FLOPs take, and of {found.unit}s a second, where more is faster."
    )
    cautions = [f"Caution: {line}." for line in doubts(found)]
    return [_headline(claims, found), *_decoding(claims, found), *cautions, how]


def _decoding(claims: Claims, found: Speeds) -> list[str]:
    """Of the headline's arms, beside the difference in loss; nothing where it was not measured."""
    both = claims.headline.comparison
    if both is None:
        return []
    arm, dense, budget = both.arm.arm, both.reference.arm, both.arm.budget
    ours, theirs = timed(found, arm, budget), timed(found, dense, budget)
    if ours is None or theirs is None or not (ours.decoded and theirs.decoded):
        return []
    ratios = [
        f"{decimal(ratio.value, 2)} {interval(ratio.low, ratio.high, 2)} at batch {row.batch_size}"
        for row in ours.decoded
        if (ratio := decode_ratio(found, arm, dense, budget, row.batch_size)) is not None
    ]
    ends = "" if both.interval is None else f" {interval(both.interval.low, both.interval.high)}"
    share = ours.decoded[-1].cache_bytes / theirs.decoded[-1].cache_bytes
    return [
        f"It decodes at so many times the {found.unit}s a second: {', '.join(ratios)}; with "
        f"{percent(share, 0)} of the cache bytes, for a loss that is "
        f"{decimal(both.difference, 3)} {nats(claims.unit)} lower{ends}."
    ]


def _tokens(found: Speeds) -> str:
    counts = sorted({row.tokens for each in found.arms for row in each.decoded})
    if counts == [1]:
        return "token"
    return f"{' or '.join(map(str, counts)) or 'few'} tokens"


def _headline(claims: Claims, found: Speeds) -> str:
    """The multiplier with time as its price."""
    claim = claims.headline
    both, of_flops = claim.comparison, claim.multiplier
    if both is None:
        return f"Nothing to price: {claim.reason}."
    arm, dense, budget = both.arm.arm, both.reference.arm, both.arm.budget
    training = training_ratio(found, arm, dense, budget)
    if training is None:
        return f"{arm} and {dense} at {scientific(budget)} FLOPs were not both timed."
    time = (
        f"At {scientific(budget)} training FLOPs {arm} trains for {decimal(training.value, 2)} "
        f"times as long as {dense} {interval(training.low, training.high, 2)}"
    )
    if of_flops is None:
        return f"{time}. There is no multiplier to adjust: {claim.no_multiplier or claim.reason}."
    at = at_equal_time(of_flops, training)
    ends = "(no interval: that of the multiplier has no bounds)"
    if at.low is not None and at.high is not None:
        ends = interval(at.low, at.high, 3)
    return (
        f"{time}, so that the dense arm would need {decimal(at.value, 3)} times the training time "
        f"{ends} for its loss, where it needs {decimal(of_flops.value, 3)} times the FLOPs: "
        f"m t_d / t_r, with the seconds that a FLOP takes in either training, if those of the "
        f"dense arm stay what they were at this budget."
    )
