"""What `measure` chooses for `confirm`: the arms of the headline, and the sizes of each arm."""

import math
from collections.abc import Iterable, Mapping, Sequence

from modsearch.analysis.curves import Curve, Refusal
from modsearch.analysis.optima import Optimum, optima, optimum
from modsearch.config.design import SIZES, Chosen, Size

MOST_EXTENSIONS = 3
"""Sizes that a ladder gets beyond those of the space, for each arm, budget and depth."""


def best_of(found: Iterable[Optimum], arms: Sequence[str], budget: float) -> Optimum | None:
    """The arm with the lowest optimum, luck of its kind set aside; the order of the study breaks
    ties."""
    mine = [best for best in found if best.arm in arms and best.budget == budget]
    return min(mine, key=lambda best: (best.fair, arms.index(best.arm)), default=None)


def choose(
    curves: Sequence[Curve],
    arms: Mapping[str, str | None],
    routed: Sequence[str],
    dense: Sequence[str],
    budget: float,
    *,
    curve: bool,
) -> Chosen:
    """The headline at a budget, and the sizes that each arm is confirmed at.

    Args:
        curves: of the study.
        arms: in order; a control names the arm whose recipe and sizes it has.
        routed: learned arms that may stand in the headline.
        dense: those that they are held against.
        budget: training FLOPs.
        curve: whether neighbours of the chosen size belong to it.
    """
    minima = optima(curves)
    pair = [best_of(minima, names, budget) for names in (routed, dense)]
    count = SIZES if curve else 1
    sizes = {arm: chosen_sizes(curves, base or arm, budget, count) for arm, base in arms.items()}
    return Chosen(
        budget=budget,
        sizes={arm: found for arm, found in sizes.items() if found},
        routed=pair[0].arm if pair[0] else None,
        dense=pair[1].arm if pair[1] else None,
    )


def chosen_sizes(curves: Sequence[Curve], arm: str, budget: float, count: int) -> tuple[Size, ...]:
    """The measured size nearest to an arm's vertex (the lowest one where every fit is refused)
    with its neighbours, so many in all; at an end of the ladder those next to it. Empty where
    nothing was measured."""
    best = optimum(curves, arm, budget)
    if best is None:
        return ()
    ladder = _ladder(curves, best)
    place = ladder.index(best.point.width)
    first = min(max(0, place - count // 2), max(0, len(ladder) - count))
    return tuple(Size(depth=best.depth, width=width) for width in ladder[first : first + count])


def at_the_ends(curves: Sequence[Curve], arm: str, budget: float) -> list[tuple[Size, int]]:
    """Where an arm's ladders should go on at a budget: the chosen size, where it is the last one
    of its ladder, and the lowest one of any other depth that lies at an end and below the
    optimum, so that no fit tells how much lower that depth goes. With each size the direction
    (-1, 1) in which its ladder has no more."""
    best = optimum(curves, arm, budget)
    if best is None:
        return []
    found = []
    for curve in (each for each in curves if (each.arm, each.budget) == (arm, budget)):
        point = best.point if curve.depth == best.depth else None
        if point is None and isinstance(curve, Refusal) and curve.lowest.loss < best.loss:
            point = curve.lowest
        ladder = sorted({each.width for each in curve.points})
        if point is not None and len(ladder) > 1 and point.width in (ladder[0], ladder[-1]):
            direction = -1 if point.width == ladder[0] else 1
            found.append((Size(depth=curve.depth, width=point.width), direction))
    return found


def _ladder(curves: Iterable[Curve], best: Optimum) -> list[int]:
    """Widths that were measured at an optimum's depth, ascending."""
    place = (best.arm, best.budget, best.depth)
    mine = (each for each in curves if (each.arm, each.budget, each.depth) == place)
    return sorted({point.width for each in mine for point in each.points})


def next_width(widths: Sequence[int], direction: int) -> int | None:
    """One more width at an end of a ladder, in its own steps; None where there is none.

    The ratio of the last two goes on, rounded to what all widths are multiples of.
    """
    ordered = sorted(set(widths))
    if len(ordered) < 2:
        return None
    unit = math.gcd(*ordered)
    last, before = (ordered[-1], ordered[-2]) if direction > 0 else (ordered[0], ordered[1])
    found = unit * round(last * last / before / unit)
    if found == last:
        found += direction * unit
    return found if found > 0 else None
