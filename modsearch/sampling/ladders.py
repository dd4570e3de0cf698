"""Which size of a cell of measure is trained next, and when it is enough.

What is asked is the loss at the cell's minimum, and what answers is the fit that the report makes
of the cell's trials. First come a few sizes: those around the minimum that a belief through
smaller budgets has, or some that lie evenly on the ladder. A cell without a fit gets another size,
beyond the ladder's end where the minimum is believed to lie there; one with a fit gets the size,
new or again, that makes the interval of the minimum's loss narrowest, until it is narrow enough
and no other depth is likely to lie lower.
"""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from modsearch.analysis.believed import log_size
from modsearch.analysis.curves import MIN_POINTS, MIN_SIZES, WINDOW, Fit, kept, lowest_of
from modsearch.analysis.designs import half_width, most_telling
from modsearch.analysis.fits import noise
from modsearch.analysis.noise import Noise
from modsearch.analysis.optima import Optimum, optimum
from modsearch.sampling.rungs import LadderCell, Size
from modsearch.space.samplers import Ask, Point

FIRST_SIZES = 4
"""Of a cell, before its curve is looked at: the fewest that a fit is made of."""
REACH = math.log(WINDOW) + 1e-9
"""E-folds of size around the lowest that enter a fit."""
NARROW = 0.01
"""Half of an interval that is narrow enough, as a share of the loss."""


def next_of_ladder(ask: Ask, first_sizes: int, resolution: float) -> Point | None:
    """The next trial of a cell of measure; None where nothing is to be asked by what is known.

    Args:
        ask: its points are the sizes of the ladder.
        first_sizes: of the cell, before its curve is looked at.
        resolution: half of the interval at which a cell ends, as a share of the loss.
    """
    cell = LadderCell(ask)
    for size in cell.first(first_sizes):
        if not cell.tried[size]:
            return cell.point(size)
    best = optimum(cell.curves, ask.spec.arm, ask.spec.budget)
    if best is None:  # nothing has come back, or all that was tried has failed
        left = [size for size in cell.sizes.own if not cell.tried[size]]
        return cell.point(left[0]) if left and not cell.running else None
    place = _Question(cell, best, resolution).answer()
    return cell.point(place) if place is not None else None


class _Question:
    """What to do about a cell that has results."""

    def __init__(self, cell: LadderCell, best: Optimum, resolution: float) -> None:
        self.cell = cell
        self.best = best
        self.least = resolution * best.loss
        """Nats that need not be known."""
        self.curves = {
            curve.depth: curve
            for curve in cell.curves
            if (curve.arm, curve.budget) == (best.arm, best.budget)
        }

    def answer(self) -> Size | None:
        """The size that is tried next; None where it is enough."""
        belief, fit = self.cell.belief, self.best.fit
        if fit is None:
            return self._for_a_fit()
        chosen = self.best.depth, self.best.point.width
        others = [size for size in belief.open if size[0] != self.best.depth]
        unsure = bool(others) and belief.regret(chosen) > self.least
        if unsure:
            place = belief.worth_most(belief.open)
            if place in others:
                return place
        sizes, vertex = self._in_fit(fit)
        if half_width(sizes, vertex, self.noise) > self.least:
            return self._for_an_interval(fit)
        return belief.worth_most(others) if unsure else None

    def _for_a_fit(self) -> Size | None:
        """Another size, that with the lowest loss as far as is believed; or, where none is left,
        one of the lowest again. None where the last size of all is the lowest."""
        cell, belief = self.cell, self.cell.belief
        believed = belief.best[0]
        depth = self.best.depth if isinstance(self.curves.get(believed), Fit) else believed
        mine = [size for size in belief.open if size[0] == depth]
        if all(cell.tried[size] for size in mine) and not self._noise_hides(mine):
            return None
        return min(mine, key=lambda size: (cell.tried[size], belief.mean[size]), default=None)

    def _noise_hides(self, sizes: Sequence[Size]) -> bool:
        """Whether more trials of the same sizes may make a fit: of enough of them, within what
        enters it, where neither the first nor the last one is believed to be the lowest."""
        best = self.cell.belief.best
        logs = {size: log_size(self.cell.sizes.candidates[size]) for size in sizes}
        near = [size for size in sizes if abs(logs[size] - logs.get(best, 0.0)) <= REACH]
        inside = best in sizes[1:-1]
        return inside and len(sizes) >= MIN_SIZES and len(near) >= MIN_POINTS

    @cached_property
    def noise(self) -> Noise:
        """Of one trial, as far as this arm's curves tell."""
        found = noise(self.cell.records, self.cell.curves)
        assert found is not None
        return found

    def _in_fit(self, fit: Fit) -> tuple[list[float], float]:
        """Sizes of what enters a fit, in ln(parameters), with what is in training; and the
        fit's vertex."""
        logs = self._logs(fit)
        of_params = {point.params: logs[fit.depth, point.width] for point in fit.points}
        near = [size for size in self._near(fit) if size in logs]
        running = [logs[size] for size in self.cell.running if size in near]
        params = sorted(of_params)
        vertex = np.interp(
            math.log(fit.minimum_params), np.log(params), [of_params[each] for each in params]
        )
        return [*(of_params[each] for each in fit.params), *running], float(vertex)

    def _logs(self, fit: Fit) -> dict[Size, float]:
        candidates = self.cell.sizes.candidates
        return {size: log_size(candidates[size]) for size in self.cell.sizes.at(fit.depth)}

    def _near(self, fit: Fit) -> list[Size]:
        """Sizes whose trials would enter a fit."""
        logs = self._logs(fit)
        lowest = logs[fit.depth, lowest_of(kept(fit)).width]
        return [size for size, each in logs.items() if abs(each - lowest) <= REACH]

    def _for_an_interval(self, fit: Fit) -> Size | None:
        """The size whose trial makes the interval narrowest: a new one, while so few enter the fit
        that the next trial may leave none."""
        sizes, vertex = self._in_fit(fit)
        logs, near = self._logs(fit), self._near(fit)
        choices = [size for size in self.cell.belief.open if size in near]
        new = [size for size in choices if not self.cell.tried[size]]
        if new and len(set(sizes)) < MIN_SIZES:
            choices = new
        place = most_telling(sizes, vertex, [logs[size] for size in choices])
        return choices[place] if place is not None else None
