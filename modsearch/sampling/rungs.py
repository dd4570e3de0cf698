"""What is known of a cell of measure: sizes of its ladder and beyond, its results, and what all
results of the arm up to its budget say of sizes that were not tried."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from modsearch.analysis.beliefs import Belief, Sites, drawn_in, fitted_scales
from modsearch.analysis.believed import Axes, log_size
from modsearch.analysis.choice import MOST_EXTENSIONS, next_width
from modsearch.analysis.curves import WINDOW, Curve
from modsearch.analysis.fits import fit_curves
from modsearch.analysis.gains import expected_regret, gains
from modsearch.analysis.trials import finished, size_of
from modsearch.config.data import DataConfig
from modsearch.config.records import Candidate, Record, State
from modsearch.config.seeds import MOST_MEASURED
from modsearch.errors import ConfigError
from modsearch.space.candidates import build
from modsearch.space.points import at_point
from modsearch.space.samplers import SEED, Ask, Point

MOST_LISTED = 64
"""Cells whose candidates are kept in memory."""

Size = tuple[int, int]
"""Depth and width."""


@dataclass(frozen=True)
class LadderSizes:
    """Sizes of one cell, with their candidates."""

    own: tuple[Size, ...]
    """Of the ladder, by depth and width."""
    candidates: Mapping[Size, Candidate]
    """Of those beyond its ends, too, and of whatever else was tried before it grew."""

    @classmethod
    def of(cls, ask: Ask, tried: Iterable[Size]) -> "LadderSizes":
        own = _ladder(ask)
        built = {size: _built(ask, size) for size in (*own, *tried)}
        for depth in {depth for depth, _ in own}:
            for direction in (-1, 1):
                widths = [width for each, width in own if each == depth]
                for _ in range(MOST_EXTENSIONS):
                    width = next_width(widths, direction)
                    if width is None:
                        break
                    try:
                        built[depth, width] = _built(ask, (depth, width))
                    except ConfigError:  # there is no such size
                        break
                    widths.append(width)
        return cls(own, dict(sorted(built.items())))

    def at(self, depth: int) -> list[Size]:
        """Those of a depth, ascending."""
        return [size for size in self.candidates if size[0] == depth]


_LISTED: dict[str, LadderSizes] = {}
"""By all that they depend on: building them takes longer than an ask."""


def _listed(ask: Ask, tried: Iterable[Size]) -> LadderSizes:
    more = sorted(set(tried).difference(_ladder(ask)))
    key = repr((ask.spec.tree, ask.spec.points, more))
    if key not in _LISTED:
        if len(_LISTED) >= MOST_LISTED:
            _LISTED.clear()
        _LISTED[key] = LadderSizes.of(ask, more)
    return _LISTED[key]


class LadderCell:
    """What is known of a cell: its own results, and those of the arm's smaller budgets.

    Never those of larger ones: what it asks for must be the same when they are there.
    """

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        spec, recipe = ask.spec, _recipe(_built(ask, _ladder(ask)[0]))
        self.records = [
            record
            for _, record in sorted(ask.records().items())
            if (record.stage, record.arm) == (spec.stage, spec.arm)
            and record.budget.flops <= spec.budget
            and _recipe(record.candidate) == recipe
        ]
        self.here = [record for record in self.records if record.budget.flops == spec.budget]
        self.running = [_size(each.point) for each in ask.tried if each.running]
        self.asked = Counter(_size(each.point) for each in ask.tried)
        self.tried = self.asked | Counter(map(size_of, self.here))
        """Trials by size, those that are running and those of another ledger among them."""
        self.able = {size_of(record) for record in self.here if finished(record)}
        """Sizes that were trained."""
        self.sizes = _listed(ask, self.tried)
        self.lost = {
            size_of(record)
            for record in self.here
            if not finished(record) and record.state is not State.FAILED
        }
        """Sizes that could not be trained, or not with every seed; what failed is tried again."""

    def point(self, size: Size) -> Point:
        """A size with the first seed that it was not tried with."""
        return {"size.depth": size[0], "size.width": size[1], SEED: self.asked[size]}

    @cached_property
    def reach(self) -> list[Size]:
        """Sizes of the ladder, those that were tried, and one beyond each end that was tried: how
        far beyond a minimum lies is not to be trusted."""
        found: list[Size] = []
        for depth in sorted({depth for depth, _ in self.sizes.candidates}):
            mine = self.sizes.at(depth)
            known = [
                i for i, size in enumerate(mine) if size in self.sizes.own or self.tried[size]
            ]
            first, last = known[0], known[-1]
            first -= mine[first] in self.able
            last += mine[last] in self.able
            found += mine[max(0, first) : last + 1]
        return found

    @cached_property
    def curves(self) -> list[Curve]:
        """As the report fits them, by the noise of this arm's trials."""
        return fit_curves([record for record in self.records if finished(record)])

    @cached_property
    def belief(self) -> "LadderBelief":
        """Through all results."""
        return LadderBelief(
            self, [record for record in self.records if finished(record)], self.running
        )

    def first(self, count: int) -> Iterator[Size]:
        """The sizes that are tried before the curve is looked at: those around the minimum that
        is believed by smaller budgets, else some that lie evenly, two of each depth at least."""
        smaller = [each for each in self.records if each not in self.here and finished(each)]
        if smaller:
            belief = LadderBelief(self, smaller, ())
            yield from _around(belief.best, belief.open, self.sizes.candidates, count)
            return
        depths = sorted({depth for depth, _ in self.sizes.own})
        each = max(2, math.ceil(count / len(depths)))
        for depth in depths:
            ladder = [size for size in self.sizes.own if size[0] == depth]
            places = {round((i + 0.5) * len(ladder) / each - 0.5) for i in range(each)}
            yield from (ladder[place] for place in sorted(places))


def _around(
    best: Size, among: Sequence[Size], candidates: Mapping[Size, Candidate], count: int
) -> list[Size]:
    """So many sizes of the best one's depth, evenly over what enters a fit around it, nearest
    first."""
    logs = {size: log_size(candidates[size]) for size in among if size[0] == best[0]}
    found: list[Size] = []
    for place in range(min(count, len(logs))):
        away = math.log(WINDOW) * ((2 * place + 1) / count - 1)
        left = [size for size in logs if size not in found]
        found.append(min(left, key=lambda size: abs(logs[size] - logs[best] - away)))
    return sorted(found, key=lambda size: (abs(logs[size] - logs[best]), size))


class LadderBelief:
    """The losses of a cell's sizes by some results, at all budgets that they have."""

    def __init__(
        self, cell: LadderCell, records: Sequence[Record], running: Sequence[Size]
    ) -> None:
        sizes, largest = cell.sizes, cell.ask.spec.budget
        candidates = [record.candidate for record in records]
        candidates += [sizes.candidates[size] for size in running]
        budgets = [record.budget.flops for record in records] + [largest] * len(running)
        own = [sizes.candidates[size] for size in sizes.own]
        axes = Axes.of([*sizes.candidates.values(), *candidates])
        self.axes = replace(axes, origin=Axes.of(own).origin)
        losses = [each.scores.causal_loss for each in records if each.scores is not None]
        sites = self.axes.sites(candidates, budgets)
        losses_N = drawn_in(np.array([*losses, *[math.nan] * len(running)]), sites.budget_N)
        scales = fitted_scales(sites, losses_N, largest)
        self.belief = Belief(sites, losses_N, largest, scales)
        self.cell = cell
        means = self.belief.at(self.sites([*sizes.candidates])).mean_M
        self.mean = dict(zip(sizes.candidates, means.tolist(), strict=True))
        within = [size for size in cell.reach if size not in cell.lost]
        self.best = min(within or cell.reach, key=lambda size: (self.mean[size], size))
        """The size with the lowest loss, of those within reach."""

    def sites(self, sizes: Sequence[Size]) -> Sites:
        """Sizes at the cell's budget."""
        candidates = [self.cell.sizes.candidates[size] for size in sizes]
        return self.axes.sites(candidates, [self.cell.ask.spec.budget] * len(sizes))

    @cached_property
    def open(self) -> list[Size]:
        """Sizes that may be tried: those of the ladder, and one beyond its end, where the lowest
        is believed to lie at the end or beyond."""
        cell = self.cell
        mine = [size for size in cell.reach if size[0] == self.best[0]]
        at_ends = {*mine[:2]} if self.best in mine[:2] else set()
        at_ends |= {*mine[-2:]} if self.best in mine[-2:] else set()
        return [
            size
            for size in cell.reach
            if (size in cell.sizes.own or size in at_ends or cell.tried[size])
            and size not in cell.lost
            and cell.asked[size] < MOST_MEASURED
        ]

    def regret(self, size: Size) -> float:
        """Nats by which the loss of a size is expected to lie above the lowest."""
        choices = sorted({*self.open, size})
        seed = self.cell.ask.draw_seed
        return expected_regret(self.belief, self.sites(choices), choices.index(size), seed)

    def worth_most(self, places: Sequence[Size]) -> Size | None:
        """Which of some sizes lowers the loss of what would be chosen most, once it is trained;
        None where none does."""
        if not places:
            return None
        worth = gains(self.belief, self.sites(places), self.sites(self.open), np.ones(len(places)))
        best = int(np.argmax(worth))
        return places[best] if worth[best] > 0 else None


def _ladder(ask: Ask) -> tuple[Size, ...]:
    """The sizes that the space has."""
    return tuple(sorted(set(map(_size, ask.spec.points or ()))))


def _size(point: Mapping[str, Any]) -> Size:
    return point["size.depth"], point["size.width"]


def _built(ask: Ask, size: Size) -> Candidate:
    depth, width = size
    return build(
        at_point(ask.spec.tree, {"size.depth": depth, "size.width": width, SEED: 0}), DataConfig()
    )


def _recipe(candidate: Candidate) -> str:
    """All that is no size."""
    recipe = candidate.model_dump(exclude={"data"})
    return repr({**recipe, "model": {**recipe["model"], "depth": 0, "width": 0}})
