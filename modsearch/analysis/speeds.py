"""What measured speeds say: ratios of arms with intervals, and the compute multiplier at equal
training time.

All arms had a turn in every round, so a ratio is taken round by round, and its logs over rounds
give Student's interval: drift that hits both arms alike cancels. The interval is of the clock on
that machine; other seeds are not in it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from modsearch.analysis.noise import t_quantile
from modsearch.analysis.numbers import counted, percent, scientific
from modsearch.config.speeds import Decoded, Speeds, Timed

if TYPE_CHECKING:
    from modsearch.analysis.claims import Claims
    from modsearch.analysis.compare import Confirmed, Multiplier

MOST_SCATTER = 0.1
"""Standard deviation of ln seconds between rounds above which a machine is not quiet."""

IDLE_LOAD = 0.5
"""Of the load average: what a quiet machine may have."""


@dataclass(frozen=True)
class Ratio:
    """Of two arms, with its 95 % interval."""

    value: float
    low: float | None
    high: float | None
    """None where nothing bounds it."""

    @property
    def inverse(self) -> "Ratio":
        """Of the same arms the other way round."""
        low = None if self.high is None else 1 / self.high
        return Ratio(1 / self.value, low, None if self.low is None else 1 / self.low)

    def times(self, factor: float) -> "Ratio":
        """The same in other units: of a number that has no error."""
        ends = (None if end is None else factor * end for end in (self.low, self.high))
        return Ratio(factor * self.value, *ends)


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """The ratio of two works that had their turns in the same rounds; of one round alone without
    an interval."""
    logs = [math.log(mine / other) for mine, other in zip(ours, theirs, strict=True)]
    value = math.exp(fmean(logs))
    if len(logs) < 2:
        return Ratio(value, None, None)
    factor = math.exp(t_quantile(len(logs) - 1) * stdev(logs) / math.sqrt(len(logs)))
    return Ratio(value, value / factor, value * factor)


def timed(speeds: Speeds, arm: str, budget: float) -> Timed | None:
    """What was measured of an arm at a budget."""
    found = (each for each in speeds.arms if (each.arm, each.budget) == (arm, budget))
    return next(found, None)


def decoded(each: Timed | None, batch_size: int) -> Decoded | None:
    """Of an arm, at one batch size."""
    rows = each.decoded if each is not None else []
    return next((row for row in rows if row.batch_size == batch_size), None)


def per_second(found: Decoded) -> float:
    """Tokens, or bytes, of all sequences of a batch together."""
    return found.batch_size / typical(found.seconds)


def typical(seconds: Sequence[float]) -> float:
    """The geometric mean over rounds, of which ratios are made."""
    return math.exp(fmean(map(math.log, seconds)))


def step_ratio(speeds: Speeds, arm: str, reference: str, budget: float) -> Ratio | None:
    """Seconds of an arm's training step over those of the reference's; None where either was not
    measured at that budget."""
    ours, theirs = timed(speeds, arm, budget), timed(speeds, reference, budget)
    if ours is None or theirs is None:
        return None
    return paired(ours.step_seconds, theirs.step_seconds)


def training_ratio(speeds: Speeds, arm: str, reference: str, budget: float) -> Ratio | None:
    """Seconds of an arm's whole training over those of the reference's: both spend the same FLOPs,
    so it is the ratio of seconds per FLOP, whatever sizes and batches they have."""
    ratio = step_ratio(speeds, arm, reference, budget)
    ours, theirs = timed(speeds, arm, budget), timed(speeds, reference, budget)
    if ratio is None or ours is None or theirs is None:
        return None
    return ratio.times(theirs.flops_per_step / ours.flops_per_step)


def decode_ratio(
    speeds: Speeds, arm: str, reference: str, budget: float, batch_size: int = 1
) -> Ratio | None:
    """Tokens per second of an arm's decoding over those of the reference's; None where either
    was not measured."""
    ours = decoded(timed(speeds, arm, budget), batch_size)
    theirs = decoded(timed(speeds, reference, budget), batch_size)
    if ours is None or theirs is None:
        return None
    return paired(ours.seconds, theirs.seconds).inverse


def at_equal_time(found: "Multiplier", training: Ratio) -> Ratio:
    """The compute multiplier with seconds of training as the price in place of FLOPs.

    The dense arm has the routed arm's loss at C FLOPs when it is given m C. The routed training
    takes C t_r seconds, where t_r are its seconds per FLOP, and the dense one m C t_d, if t_d,
    which was measured at C, still holds at m C. So the dense arm needs

        M = m C t_d / (C t_r) = m t_d / t_r = m / q,   q = t_r / t_d

    times the seconds of the routed arm for its loss. q is the ratio of training times at equal
    FLOPs (`training_ratio` of the routed arm over the dense one).

    Both errors are independent, m's from losses and q's from the clock. ln M = ln m - ln q, and
    its interval is made of the two by their own half-widths on either side (Zou and Donner 2008,
    doi 10.1002/sim.3095), which need neither be equal nor of a normal:

        ln M - root((ln m - ln m_low)^2 + (ln q_high - ln q)^2),   and the like upwards.

    An end that m or q does not have, M does not have.
    """
    value = found.value / training.value
    down = _together(_apart(found.low, found.value), _apart(training.value, training.high))
    up = _together(_apart(found.value, found.high), _apart(training.low, training.value))
    low = None if down is None else value * math.exp(-down)
    return Ratio(value, low, None if up is None else value * _exp(up))


def _apart(low: float | None, high: float | None) -> float | None:
    """How far two numbers are apart in logs; None where there is only one."""
    if low is None or high is None:
        return None
    return math.log(high / low) if 0 < low <= high < math.inf else math.inf


def _together(*halves: float | None) -> float | None:
    """Half-width of a sum with independent errors; None where one has no bound."""
    known = [half for half in halves if half is not None]
    return math.hypot(*known) if len(known) == len(halves) else None


def _exp(exponent: float) -> float:
    return math.exp(exponent) if exponent < 700 else math.inf


def reference_at(claims: "Claims", budget: float) -> "Confirmed | None":
    """The confirmed dense arm that routed ones are held against at a budget."""
    found = (each.dense for each in claims.standings if each.arm.budget == budget)
    return next((each.reference for each in found if each is not None), None)


def current(speeds: Speeds, confirmed: "Sequence[Confirmed]") -> tuple[Speeds, list[str]]:
    """What still stands for its arm, and a line for each that no longer does."""
    standing = {record.hash for each in confirmed for record in each.records}
    kept = [each for each in speeds.arms if each.trial in standing]
    lines = [
        f"speeds.json: not shown, {each.arm} at {scientific(each.budget)} FLOPs was timed at "
        f"depth {each.depth}, width {each.width}, which no longer stands for it (`modsearch time` "
        f"times it again)"
        for each in speeds.arms
        if each.trial not in standing
    ]
    return speeds.model_copy(update={"arms": kept}), lines


def unrest(speeds: Speeds) -> list[str]:
    """Why the machine was perhaps not quiet: a line for each reason."""
    lines = []
    before, after = speeds.load_before or 0.0, speeds.load_after or 0.0
    if max(before + speeds.threads, after) > speeds.cores + IDLE_LOAD:
        threads = counted(speeds.threads, "thread")
        lines.append(
            f"the machine was not quiet: its load average was {before:.1f} "
            f"before and {after:.1f} after {threads} on {speeds.cores} cores; time again when "
            f"nothing else runs"
        )
    found = [(scatter(seconds), what) for what, seconds in _series(speeds)]
    wide = sorted([each for each in found if each[0] > MOST_SCATTER], reverse=True)
    if wide:
        worst, what = wide[0]
        lines.append(
            f"rounds scatter by more than {percent(MOST_SCATTER, 0)} in {len(wide)} of "
            f"{len(found)} measurements, most by {percent(worst, 0)} ({what}): the machine was "
            f"not quiet, or turns are too short"
        )
    return lines


def doubts(speeds: Speeds) -> list[str]:
    """All that a reader of speeds should know: unrest, what was not measured, another text."""
    lines = unrest(speeds)
    lines += [
        f"{each.arm} at {scientific(each.budget)} FLOPs was not decoded: {each.missing}"
        for each in speeds.arms
        if each.missing is not None
    ]
    if not speeds.same_text:
        lines.append(
            "it was timed on other tokens than the study's: steps take as long, decoding may not"
        )
    return lines


def scatter(seconds: Sequence[float]) -> float:
    """Standard deviation of ln seconds from round to round, by differences of neighbours: a drift
    that all arms share is none."""
    steps = [math.log(b / a) for a, b in pairwise(seconds)]
    return math.sqrt(fmean([step**2 for step in steps]) / 2) if steps else 0.0


def _series(speeds: Speeds) -> list[tuple[str, list[float]]]:
    """Every measurement by what it is."""
    found = []
    for each in speeds.arms:
        where = f"{each.arm} at {scientific(each.budget)} FLOPs"
        found.append((f"training steps of {where}", each.step_seconds))
        found += [
            (f"decoding of {where} at batch {row.batch_size}", row.seconds) for row in each.decoded
        ]
    return found


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points (price, loss) no other one beats: as low in both, and lower in one."""
    return [
        not any(
            price <= mine and loss <= own and (price, loss) != (mine, own)
            for price, loss in points
        )
        for mine, own in points
    ]
