"""The best of an arm at each budget, by its curves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modsearch.analysis.curves import LUCK, Curve, Fit, Point, Refusal, kept, lowest_of, residuals
from modsearch.analysis.noise import moderated, pooled

FIT_BIAS = 0.15
EXACT_BIAS = 0.4
EDGE_BIAS = 0.6
"""How much too low a minimum is, in run-to-run deviations: of a fit with points to spare, of an
exact one of three points, and the lowest measured size of a ladder without a fit, which is the
luckiest of several. From 4,872 made-up curves; how much it is depends on the ladders:
benchmarks/worlds.py has 0.2 for fits and 0.3 to 0.8 for edges, and an edge far off its minimum is
too high. They decide between arms that lie closer than this, and enter no interval."""


@dataclass(frozen=True)
class Optimum:
    """The best of an arm at a budget: the lowest of its depths."""

    arm: str
    budget: float
    depth: int
    params: float
    loss: float
    point: Point
    """The measured trial that stands for it: the nearest to the vertex, or the lowest."""
    refused: str | None
    """Set where every fit was refused, and this is a measured point instead of a vertex."""
    marks: tuple[str, ...]
    """What a reader should know about it."""
    fit: Fit | None
    """The curve whose vertex it is, with intervals; None where it is a measured point."""
    fair: float
    """The loss without the luck that its kind of optimum has in the mean: what arms are ranked
    by. It does not depend on confirm's seeds."""


def optimum(curves: Sequence[Curve], arm: str, budget: float) -> Optimum | None:
    """The lowest of an arm's depths at a budget.

    Depths whose fits have points to spare are compared at their minima. A refused fit, or an
    exact one of three points, follows whatever noise it has: one lucky trial would move a whole
    arm to its depth. So such a depth counts before the others only where it was measured lower
    than their minima by more than `LUCK` run-to-run deviations, and alone where there are no
    others. The optimum of a refused depth is its lowest measured point, marked.
    """
    of_arm = [curve for curve in curves if curve.arm == arm]
    mine = [curve for curve in of_arm if curve.budget == budget]
    if not mine:
        return None
    spare = [curve for curve in mine if isinstance(curve, Fit) and not curve.exact]
    best: Curve = min(mine, key=lambda curve: (lowest_of(kept(curve)).loss, curve.depth))
    if spare:
        fit = min(spare, key=lambda fit: (fit.minimum_loss, fit.depth))
        if lowest_of(kept(best)).loss > fit.minimum_loss - LUCK * _scatter(of_arm):
            best = fit
    elif exact := [curve for curve in mine if isinstance(curve, Fit)]:
        best = min(exact, key=lambda fit: (fit.minimum_loss, fit.depth))
    marks = (*_depth_marks(best.depth, sorted(c.depth for c in mine)), *_overlooked(best, mine))
    sd = moderated(pooled(residuals(curve) for curve in curves if isinstance(curve, Fit))).sd
    if isinstance(best, Fit):
        exactly = ("an exact fit of three points",) if best.exact else ()
        return Optimum(
            arm, budget, best.depth, best.minimum_params, best.minimum_loss, best.nearest, None,
            (*marks, *exactly, *best.marks), best,
            best.minimum_loss + (EXACT_BIAS if best.exact else FIT_BIAS) * sd,
        )  # fmt: skip
    point = best.lowest
    why = f"the lowest measured size, not a fitted one: {best.reason}"
    return Optimum(
        arm, budget, point.depth, point.params, point.loss, point, best.reason, (why, *marks),
        None, point.loss + EDGE_BIAS * sd,
    )  # fmt: skip


def _scatter(curves: Iterable[Curve]) -> float:
    """Run-to-run deviation by the residuals of an arm's fits alone: what is chosen to confirm
    must not move when confirm's own seeds come in."""
    found = pooled(residuals(curve) for curve in curves if isinstance(curve, Fit))
    return found.sd if found else 0.0


def optima(curves: Sequence[Curve]) -> list[Optimum]:
    """The optimum of every (budget, arm) that was measured."""
    cells = sorted({(curve.budget, curve.arm) for curve in curves})
    found = (optimum(curves, arm, budget) for budget, arm in cells)
    return [best for best in found if best is not None]


def _depth_marks(depth: int, depths: Sequence[int]) -> list[str]:
    if len(depths) == 1:
        return [f"depth {depth} is the only depth tried"]
    if depth in (depths[0], depths[-1]):
        tried = ", ".join(str(each) for each in depths)
        return [f"the best depth, {depth}, is at the edge of those tried ({tried})"]
    return []


def _overlooked(best: Curve, curves: Iterable[Curve]) -> list[str]:
    """Depths that do not stand for the arm, but where hiding that they lie lower would flatter
    the arm that this one is compared with."""
    level = best.minimum_loss if isinstance(best, Fit) else best.lowest.loss
    notes = []
    for curve in curves:
        if isinstance(curve, Refusal) and curve is not best and curve.lowest.loss < level:
            notes.append(
                f"depth {curve.depth} was measured lower ({curve.lowest.loss:.4f}), but has no "
                f"fit: {curve.reason}"
            )
        if isinstance(curve, Fit) and curve is not best and curve.minimum_loss < level:
            notes.append(
                f"depth {curve.depth} has a lower minimum ({curve.minimum_loss:.4f}), but by an "
                f"exact fit of three points"
            )
    return notes
