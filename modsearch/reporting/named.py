"""Models of a study that the paper's figure 3 follows: of one budget, a routed arm against the
dense one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from statistics import fmean
from typing import TYPE_CHECKING

from modsearch.analysis.curves import Curve, Point

if TYPE_CHECKING:
    from modsearch.analysis.claims import Claims
    from modsearch.analysis.optima import Optimum

LARGER = 2.0
"""Forward FLOPs of the larger dense model over those of the best, as near as there is one."""


@dataclass(frozen=True)
class Pair:
    """The dense and the routed arm of a budget, at their optima."""

    budget: float
    dense: "Optimum"
    routed: "Optimum"

    def curves(self, claims: "Claims") -> list[Curve]:
        """Of both arms at the depths of their optima, at every budget where both have one."""
        arms = (self.dense.arm, self.routed.arm)
        best = {(each.budget, each.arm): each for each in claims.optima if each.arm in arms}
        budgets = {budget for budget, _ in best if all((budget, arm) in best for arm in arms)}
        return [
            curve
            for curve in claims.curves
            if curve.budget in budgets
            and curve.arm in arms
            and curve.depth == best[curve.budget, curve.arm].depth
        ]


@dataclass(frozen=True)
class Named:
    """A measured model with its number in the paper's figure."""

    number: int
    what: str
    arm: str
    point: Point
    """Its loss is the mean over seeds."""

    @property
    def title(self) -> str:
        """Number and what it is."""
        return f"{self.number} {self.what}"


def pair_of(claims: "Claims", routed: Sequence[str]) -> Pair | None:
    """The headline's arms at its budget, else the largest budget where a routed arm and a dense
    one are measured. `routed` are the learned arms that route."""
    headline = claims.headline
    first = headline.comparison.arm.arm if headline.comparison else None
    measured = {(curve.arm, curve.budget) for curve in claims.curves}
    shown = [each for each in claims.dense_minima if (each.arm, each.budget) in measured]
    for dense in sorted(shown, key=lambda each: (each.budget != headline.budget, -each.budget)):
        there = [
            each for each in claims.optima if each.budget == dense.budget and each.arm in routed
        ]
        if there:
            best = min(there, key=lambda each: (each.arm != first, each.fair))
            return Pair(dense.budget, dense, best)
    return None


def named_models(claims: "Claims", pair: Pair) -> list[Named]:
    """The paper's four: the best dense model, a larger one, the cheapest routed one that is at
    least as good, and the best routed one; those that there are."""
    dense, routed = _sizes(claims, pair.dense), _sizes(claims, pair.routed)
    best = _of(dense, pair.dense)
    found = [Named(1, "best dense", pair.dense.arm, best)]
    larger = [each for each in dense if each.forward_flops > 1.2 * best.forward_flops]
    if larger:
        wanted = log(LARGER * best.forward_flops)
        nearest = min(larger, key=lambda each: abs(log(each.forward_flops) - wanted))
        found.append(Named(2, "larger dense", pair.dense.arm, nearest))
    good = [
        each
        for each in routed
        if each.loss <= pair.dense.loss and each.forward_flops < best.forward_flops
    ]
    if good:
        cheapest = min(good, key=lambda each: each.forward_flops)
        found.append(Named(3, "cheap routed, as good", pair.routed.arm, cheapest))
    return [*found, Named(4, "best routed", pair.routed.arm, _of(routed, pair.routed))]


def _sizes(claims: "Claims", optimum: "Optimum") -> list[Point]:
    """Measured sizes of an arm at a budget, each with its mean loss, of all depths."""
    by_size: dict[tuple[int, int], list[Point]] = defaultdict(list)
    for curve in claims.curves:
        if (curve.arm, curve.budget) == (optimum.arm, optimum.budget):
            for point in curve.points:
                by_size[point.depth, point.width].append(point)
    return [
        Point(
            hash=first.hash, depth=first.depth, width=first.width, params=first.params,
            loss=fmean(each.loss for each in of), forward_flops=first.forward_flops,
        )
        for of in by_size.values()
        for first in of[:1]
    ]  # fmt: skip


def _of(sizes: Sequence[Point], optimum: "Optimum") -> Point:
    """The size that stands for an optimum."""
    wanted = (optimum.point.depth, optimum.point.width)
    return next(each for each in sizes if (each.depth, each.width) == wanted)
