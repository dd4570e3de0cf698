"""Fits of a study's trials, the noise of their minima, and the size that they choose.

Only the trials of `measure` enter: those of `explore` are the best of many draws, and those of
`confirm` are for the claim.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from modsearch.analysis.curves import Curve, Fit, Point, fit_points, residuals, with_noise
from modsearch.analysis.noise import Noise, moderated, pooled
from modsearch.analysis.recipes import measured
from modsearch.analysis.trials import causal_loss, is_scored
from modsearch.config.records import Record, Stage


def fit_curves(records: Sequence[Record]) -> list[Curve]:
    """A fit or a refusal for each (budget, arm, depth) that `measure` has finished trials of.

    Intervals are by the run-to-run deviation of `noise`.
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
    found = noise(records, raw)
    return [curve if found is None else with_noise(curve, found) for curve in raw]


def noise(records: Sequence[Record], curves: Sequence[Curve]) -> Noise | None:
    """Run-to-run standard deviation of one trial; None without curves and seeds.

    Two estimates that each miss something. Residuals of the fits (of those with more than three
    points, pooled) also hold what a parabola can't follow, but no shift that all sizes share:
    `measure` trains them with the same seeds (one, mostly), and the deviation over seeds was 0.024
    where that of residuals was 0.016. The deviation over seeds in `confirm` (pooled over cells)
    has the shift, but is small by chance with three seeds. Both pooled count, or the seeds' where
    it is larger; before there are seeds, the residuals' moderated towards a prior over seeds.
    """
    return noise_of(curves, seed_noise(records))


def noise_of(curves: Sequence[Curve], seeds: Noise | None) -> Noise | None:
    """The same from curves and the noise over seeds."""
    residual = pooled(residuals(curve) for curve in curves if isinstance(curve, Fit))
    if seeds is None:
        return moderated(residual) if curves else None
    both = pooled(
        (each.sd**2 * each.freedom, each.freedom) for each in (residual, seeds) if each is not None
    )
    assert both is not None
    return Noise(max(both.sd, seeds.sd), both.freedom)


def seed_noise(records: Iterable[Record]) -> Noise | None:
    """Standard deviation over the seeds of `confirm`, pooled over arms, budgets and sizes."""
    groups: dict[tuple[str, float, str], list[float]] = defaultdict(list)
    for record in records:
        if is_scored(record, Stage.CONFIRM) and record.validation.part == "test":
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
