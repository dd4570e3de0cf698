"""Losses of elsewhere on the level of a cell's own: another budget or text moves them all.

By how much is told by likes: each trial of the cell beside the nearest configuration of elsewhere.
A difference between all losses here and all there would also hold how well the configurations were
chosen. Where the cell's trials do not bear out which one is better, losses of elsewhere are drawn
together, so that in the end a cell goes by its own.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from modsearch.analysis.believed import is_ordered
from modsearch.analysis.noise import SEED_SD
from modsearch.config.priors import Prior
from modsearch.space.axes import Choice, Distribution
from modsearch.space.points import open_axes
from modsearch.space.samplers import Ask, Tried

BEFORE = -1
"""Number of a trial that is none of the cell's."""

TRUST = 2
"""How many differences as large as the noise of a seed must speak against elsewhere before a slope
is halved."""

Known = tuple[Mapping[str, Any], float]
"""A point and its loss."""


def levelled(ask: Ask, prior: Sequence[Prior]) -> list[Tried]:
    """Priors as trials before the cell's first one, each with the loss that it would have there.

    Those of the cell's budget that are on the study's own level stay as they are. Before the cell
    has any, the others are levelled to those of the nearest budget.
    """
    axes = open_axes(ask.spec.tree)
    groups: dict[tuple[str, float], list[Known]] = defaultdict(list)
    for each in prior:
        groups[each.level, each.budget].append((each.point, each.loss))
    own = "", ask.spec.budget
    known = [(each.point, each.cost) for each in ask.tried if each.cost is not None]
    known += groups.pop(own, [])
    if not known and groups:
        nearest = min(groups, key=lambda name: (_ratio(name[1], ask.spec.budget), name))
        known = groups.pop(nearest)
    lines = {name: _line(group, known, axes) for name, group in groups.items()}
    same = _Line(0.0, 0.0, 1.0)
    losses = [lines.get((each.level, each.budget), same).at(each.loss) for each in prior]
    return [
        Tried(BEFORE, each.point, loss, running=False, hash=None)
        for each, loss in zip(prior, losses, strict=True)
    ]


def _ratio(one: float, other: float) -> float:
    return max(one, other) / min(one, other)


@dataclass(frozen=True)
class _Line:
    """What a loss of elsewhere is worth here."""

    there: float
    here: float
    """The level of both."""
    slope: float

    def at(self, loss: float) -> float:
        """The loss that it would be here."""
        return self.here + self.slope * (loss - self.there)


def _line(
    group: Sequence[Known], known: Sequence[Known], axes: Mapping[str, Distribution]
) -> _Line:
    """Through the losses that are known and those of a group in like places: by least squares,
    with a slope that is 1 unless the known ones say otherwise."""
    here = [loss for _, loss in known]
    there = [min(group, key=lambda each: _gap(each[0], at, axes))[1] for at, _ in known]
    level, own = median(there), median(here)
    pairs = [(x - level, y - own) for x, y in zip(there, here, strict=True)]
    before = TRUST * SEED_SD**2
    slope = (before + sum(x * y for x, y in pairs)) / (before + sum(x * x for x, _ in pairs))
    return _Line(level, own, min(max(slope, 0.0), 1.0))


def _gap(
    one: Mapping[str, Any], other: Mapping[str, Any], axes: Mapping[str, Distribution]
) -> float:
    """How far two points lie apart: a share of each axis, all of one that is no scale or that
    one of them has not."""
    found = 0.0
    for path in sorted(one.keys() | other.keys()):
        if path not in one or path not in other:
            found += 1.0
        elif one[path] != other[path]:
            axis = axes[path]
            found += abs(axis.share(one[path]) - axis.share(other[path])) if _scaled(axis) else 1.0
    return found


def _scaled(axis: Distribution) -> bool:
    return not isinstance(axis, Choice) or is_ordered(axis.values)
