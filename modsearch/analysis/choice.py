"""What `measure` chooses for `confirm`: the arms of the headline, and the sizes of each arm."""

import math
from collections.abc import Iterable, Mapping, Sequence

from modsearch.analysis.fits import confirm_choice, fit_curves
from modsearch.analysis.optima import Optimum, optima
from modsearch.analysis.recipes import measured
from modsearch.config.design import SIZES, Chosen, Size
from modsearch.config.records import Record


def best_of(found: Iterable[Optimum], arms: Sequence[str], budget: float) -> Optimum | None:
    """The arm with the lowest optimum, luck of its kind set aside; the order of the study breaks
    ties."""
    mine = [best for best in found if best.arm in arms and best.budget == budget]
    return min(mine, key=lambda best: (best.fair, arms.index(best.arm)), default=None)


def choose(
    records: Sequence[Record],
    arms: Mapping[str, str | None],
    routed: Sequence[str],
    dense: Sequence[str],
    budget: float,
    *,
    curve: bool,
) -> Chosen:
    """The headline at a budget, and the sizes that each arm is confirmed at.

    Args:
        records: of the study.
        arms: in order; a control names the arm whose recipe and sizes it has.
        routed: learned arms that may stand in the headline.
        dense: those that they are held against.
        budget: training FLOPs.
        curve: whether neighbours of the chosen size belong to it.
    """
    minima = optima(fit_curves(records))
    pair = [best_of(minima, names, budget) for names in (routed, dense)]
    sizes = {arm: chosen_sizes(records, base or arm, budget, curve) for arm, base in arms.items()}
    return Chosen(
        budget=budget,
        sizes={arm: found for arm, found in sizes.items() if found},
        routed=pair[0].arm if pair[0] else None,
        dense=pair[1].arm if pair[1] else None,
    )


def chosen_sizes(
    records: Sequence[Record], arm: str, budget: float, curve: bool
) -> tuple[Size, ...]:
    """The size nearest to an arm's vertex; of a curve with its neighbours, or, where it stands at
    the end of the ladder, with the two next to it. Empty where nothing was measured."""
    choice = confirm_choice(records, arm, budget)
    if choice is None:
        return ()
    ladder = ladder_of(records, arm, budget, choice.depth)
    place = ladder.index(choice.width)
    if not curve:
        ladder, place = ladder[place : place + 1], 0
    first = min(max(0, place - SIZES // 2), max(0, len(ladder) - SIZES))
    widths = ladder[first : first + SIZES]
    return tuple(Size(depth=choice.depth, width=width) for width in widths)


def ladder_of(records: Sequence[Record], arm: str, budget: float, depth: int) -> list[int]:
    """Widths of one depth that were measured at a budget, ascending."""
    sizes = (
        record.candidate.model
        for record in measured(records, arm)
        if record.budget.flops == budget
    )
    return sorted({model.width for model in sizes if model.depth == depth})


def at_the_end(records: Sequence[Record], arm: str, budget: float) -> tuple[Size, int] | None:
    """Where the chosen size of an arm is the last one of its ladder at either end: that size and
    the direction (-1, 1) in which the ladder has no more; else None."""
    choice = confirm_choice(records, arm, budget)
    if choice is None:
        return None
    widths = ladder_of(records, arm, budget, choice.depth)
    size = Size(depth=choice.depth, width=choice.width)
    if len(widths) > 1 and choice.width in (widths[0], widths[-1]):
        return size, -1 if choice.width == widths[0] else 1
    return None


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
