"""Fits of a study's trials, the noise of their minima, and the size that they choose.

Only the trials of `measure` enter: those of `explore` are the best of many draws, and those of
`confirm` are for the claim.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from modsearch.analysis.curves import Curve, Fit, Point, Refusal, fit_points, pooled, residuals
from modsearch.analysis.optima import optimum
from modsearch.analysis.recipes import causal_loss, is_scored, measured
from modsearch.config.records import Record, Stage


@dataclass(frozen=True)
class Choice:
    """The ladder size that an arm is confirmed at."""

    hash: str
    depth: int
    width: int
    params: int
    marked: str | None
    """Why it is the lowest measured size and not the nearest to a vertex."""


def fit_curves(records: Sequence[Record]) -> list[Curve]:
    """A fit or a refusal for each (budget, arm, depth) that `measure` has finished trials of.

    The standard error of a vertex loss is that of the parabola there (at the vertex the
    derivative to its place vanishes), scaled by the run-to-run deviation of `noise`.
    """
    ladders: dict[tuple[float, str, int], list[Point]] = defaultdict(list)
    for arm in sorted({record.arm for record in records}):
        for record in measured(records, arm):
            point = _point(record)
            ladders[record.budget.flops, arm, point.depth].append(point)
    raw = [
        fit_points(
            arm, budget, depth, sorted(points, key=lambda point: (point.params, point.hash))
        )
        for (budget, arm, depth), points in sorted(ladders.items())
    ]
    sd = noise(records, raw)
    return [_with_noise(curve, sd) for curve in raw]


def confirm_choice(records: Sequence[Record], arm: str, budget: float) -> Choice | None:
    """The size that an arm is confirmed at: the measured one nearest to its optimum's vertex.

    Where every fit is refused, the lowest measured one, marked. None where no trial of the
    arm was measured at the budget.
    """
    best = optimum(fit_curves([row for row in records if row.arm == arm]), arm, budget)
    if best is None:
        return None
    point = best.point
    return Choice(point.hash, point.depth, point.width, point.params, best.refused)


def noise(records: Sequence[Record], curves: Iterable[Curve]) -> float | None:
    """Run-to-run standard deviation: the larger of two estimates that each miss something.

    Residuals of the fits (of those with more than three points, pooled) also hold what a
    parabola can't follow, but have few degrees of freedom; the deviation over seeds in
    `confirm` (pooled over cells) is clean, but small by chance with three seeds.
    """
    residual = pooled(residuals(curve) for curve in curves if isinstance(curve, Fit))
    seeds = seed_sd(records)
    known = [sd for sd in (residual, seeds) if sd is not None]
    return max(known) if known else None


def seed_sd(records: Iterable[Record]) -> float | None:
    """Standard deviation over the seeds of `confirm`, pooled over arms, budgets and sizes."""
    groups: dict[tuple[str, float, str], list[float]] = defaultdict(list)
    for record in records:
        if is_scored(record, Stage.CONFIRM):
            key = (record.arm, record.budget.flops, record.candidate.model_dump_json())
            groups[key].append(causal_loss(record))
    return pooled(
        (sum((x - sum(losses) / len(losses)) ** 2 for x in losses), len(losses) - 1)
        for _, losses in sorted(groups.items())
    )


def _point(record: Record) -> Point:
    assert record.plan is not None
    assert record.scores is not None
    model = record.candidate.model
    return Point(
        record.hash, model.depth, model.width, record.plan.params,
        record.scores.causal_loss, record.scores.realised_forward_flops,
    )  # fmt: skip


def _with_noise(curve: Curve, sd: float | None) -> Curve:
    if isinstance(curve, Refusal):
        return replace(curve, lowest_sd=sd)
    if sd is None:
        return curve
    x = np.log(curve.params)
    centre = x.mean()
    design = np.vander(x - centre, 3)
    at = np.vander([math.log(curve.minimum_params) - centre], 3)[0]
    variance = float(at @ np.linalg.inv(design.T @ design) @ at)
    return replace(curve, minimum_sd=sd * math.sqrt(variance))
