"""The next trial by what is worth most: where losses follow isoFLOP curves, small budgets say
much of large ones, and noise hides small differences."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import Field
from scipy.stats import qmc

from modsearch.analysis.beliefs import Belief, Sites, drawn_in, fitted_scales
from modsearch.analysis.believed import Axes
from modsearch.analysis.gains import expected_regret, gains
from modsearch.config.data import DataConfig
from modsearch.config.records import Candidate, Record, Stage, State
from modsearch.errors import ConfigError
from modsearch.sampling.ladders import FIRST_SIZES, NARROW, next_of_ladder
from modsearch.space.candidates import build
from modsearch.space.points import at_point, grid, is_finite, num_points, open_axes, point_at
from modsearch.space.samplers import SEED, Ask, Options, Point, Sampler, draw_seed

STARTUP = 8
RESOLUTION = 0.001
"""Of explore, where a space says nothing."""
MOST_CANDIDATES = 256
"""Of a space that are weighed against each other; a larger one is drawn from."""
ANCHORS = 3
"""Trials of the largest budget, of what is best by then, that follow on the first ones: what small
budgets are worth is not known without."""
APART = 1e-6
"""Share by which budgets differ whose losses have levels of their own."""
MOST_LISTED = 16
"""Spaces whose candidates are kept in memory."""


class Isoflop(Sampler):
    """Believes in one smooth isoFLOP curve a recipe, whose minimum moves with the budget, and asks
    for the trial that is worth most: in explore for its FLOPs, of any size, at any of the budgets;
    in measure for the interval of the loss at a cell's minimum; of another seed where noise is
    what hides the answer. Ends where what is asked is known well enough."""

    reseeds = True
    warms = True
    measures = True

    class Config(Options):
        """When it begins to believe, and when it ends."""

        startup: int | None = Field(None, gt=0, le=100_000)
        """Trials before anything is believed: in explore of the smallest budget, evenly spread, 8
        if nothing is said, among which what a warm start has is counted; in measure of each cell,
        4."""
        resolution: float | None = Field(None, ge=0, le=1)
        """Explore ends where the loss of what it would choose is expected to lie so little above
        the lowest one, as a share of it: 0.001 if nothing is said. A cell of measure ends where
        half of the 95 % interval of its lowest loss is so small a share of it: 0.01."""

    def __init__(self, options: Config) -> None:
        super().__init__(options)
        self.startup = options.startup or STARTUP
        self.first_sizes = options.startup or FIRST_SIZES
        self.resolution = RESOLUTION if options.resolution is None else options.resolution
        self.narrow = NARROW if options.resolution is None else options.resolution

    def propose(self, ask: Ask) -> Point | None:
        """What is worth most, where that is of this cell's budget."""
        if ask.spec.stage is Stage.MEASURE:
            return next_of_ladder(ask, self.first_sizes, self.narrow)
        budgets = sorted({*ask.spec.budgets, ask.spec.budget})
        history = _History(ask)
        if history.count(budgets[0]) + len(ask.spec.prior) < self.startup:
            if ask.spec.budget != budgets[0]:
                return None
            return history.seeded(_sobol(ask, ask.number + 1)[-1])
        listed = _listed(ask)
        view = _view(listed, history, budgets)
        if view.best is None:
            return None
        wanted = view.worth_most
        first = view.untried if history.count(budgets[-1]) < ANCHORS else None
        # The same draws in all cells of the arm: they must agree on whose turn it is.
        seed = draw_seed(ask.seed, f"{ask.spec.stage}/{ask.spec.arm}", len(history.records))
        if first is not None:
            wanted = first, budgets[-1]
        elif view.regret(seed) < self.resolution * view.lowest:
            # Good enough: what is chosen must have been trained at the largest budget.
            wanted = None if view.is_known(view.best) else (view.best, budgets[-1])
        if wanted is None or wanted[1] != ask.spec.budget:
            return None
        return history.seeded(listed.points[wanted[0]])


@dataclass(frozen=True)
class _Listed:
    """What is weighed: the whole space, or what is drawn of it; the same for all budgets."""

    points: list[Point]
    """Without a seed."""
    keys: list[str]
    axes: Axes
    sites: Sites
    """At a budget of 1."""

    @classmethod
    def of(cls, ask: Ask) -> "_Listed":
        tree = _unseeded(ask.spec.tree)
        if is_finite(tree) and num_points(tree) <= MOST_CANDIDATES:
            points = list(grid(tree))
        else:
            points = _sobol(ask, MOST_CANDIDATES)
        candidates = [_built(tree, point) for point in points]
        first = {_key(each): place for place, each in reversed([*enumerate(candidates)])}
        kept = sorted(first.values())
        axes = Axes.of(candidates)
        return cls(
            [points[place] for place in kept],
            [_key(candidates[place]) for place in kept],
            axes,
            axes.sites([candidates[place] for place in kept], [1.0] * len(kept)),
        )

    def at(self, budget: float) -> Sites:
        """All of them at a budget."""
        return replace(self.sites, budget_N=np.full(len(self.sites), budget))


_LISTED: dict[str, _Listed] = {}
"""By all that they depend on: building them takes longer than an ask."""


def _listed(ask: Ask) -> _Listed:
    key = repr((ask.spec.tree, ask.spec.stage, ask.spec.arm, ask.seed))
    if key not in _LISTED:
        if len(_LISTED) >= MOST_LISTED:
            _LISTED.clear()
        _LISTED[key] = _Listed.of(ask)
    return _LISTED[key]


class _History:
    """What the arm has tried in this stage: at all budgets where it has ended, in this cell also
    what has not."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        spec = ask.spec
        self.records: list[Record] = [
            record
            for _, record in sorted(ask.records().items())
            if record.stage is spec.stage and record.arm == spec.arm
        ]
        if spec.prices or any(record.objective is not None for record in self.records):
            raise ConfigError(
                "sampler `isoflop` knows how losses behave, not what an objective is\n"
                "leave explore.objective out, or take sampler `tpe`"
            )
        self.running = [each for each in ask.tried if each.running]

    @property
    def identity(self) -> tuple[object, ...]:
        """The same for the same results."""
        ended = [(each.hash, each.scores and each.scores.causal_loss) for each in self.records]
        own = self.ask.spec.budget if self.running else None
        return ended, own, [each.point for each in self.running], self.ask.wanted

    def count(self, budget: float) -> int:
        """Trials at a budget, whatever became of them."""
        own = len(self.ask.tried) if budget == self.ask.spec.budget else 0
        return max(own, sum(record.budget.flops == budget for record in self.records))

    def is_full(self, budget: float) -> bool:
        """Whether a budget has all the trials that it may have."""
        trained = [record for record in self.records if record.state is not State.INFEASIBLE]
        return sum(each.budget.flops == budget for each in trained) >= self.ask.wanted

    def trials(self) -> Iterator[tuple[Candidate, float, float]]:
        """Candidate, budget and loss; NaN while it trains."""
        for record in self.records:
            if record.scores is not None and math.isfinite(record.scores.causal_loss):
                yield record.candidate, record.budget.flops, record.scores.causal_loss
        tree = _unseeded(self.ask.spec.tree)
        for each in self.running:
            yield _built(tree, each.point), self.ask.spec.budget, math.nan

    def elsewhere(self) -> Iterator[tuple[Candidate, float, float]]:
        """The same of what other studies have trained. What is not on this study's level has one
        of its own in the belief: it is put at a budget that differs by next to nothing."""
        prior = self.ask.spec.prior
        levels = sorted({each.level for each in prior if each.level})
        tree = _unseeded(self.ask.spec.tree)
        for each in prior:
            turn = levels.index(each.level) + 1 if each.level else 0
            yield _built(tree, each.point), each.budget * (1 + APART * turn), each.loss

    def hopeless(self) -> set[tuple[str, float]]:
        """What could not be trained."""
        return {
            (_key(record.candidate), record.budget.flops)
            for record in self.records
            if record.scores is None
        }

    def seeded(self, point: Point) -> Point:
        """A point with the first seed that it was not tried with."""
        known = sum(
            {path: label for path, label in each.point.items() if path != SEED} == point
            for each in self.ask.tried
        )
        return {**point, SEED: known}


class _View:
    """A belief by what was tried, and what to do about it."""

    def __init__(self, listed: _Listed, history: _History, budgets: Sequence[float]) -> None:
        self.listed = listed
        self.budgets = [budget for budget in budgets if not history.is_full(budget)]
        trials = [*history.trials()]
        candidates, of_trials, losses = zip(*trials, *history.elsewhere(), strict=True)
        sites = listed.axes.sites(candidates, of_trials)
        losses_N = drawn_in(np.array(losses), sites.budget_N)
        largest = budgets[-1]
        scales = fitted_scales(sites, losses_N, largest)
        self.belief = Belief(sites, losses_N, largest, scales)
        self.hopeless = history.hopeless()
        self.known = {
            _key(candidate)
            for candidate, budget, loss in trials
            if budget == largest and not math.isnan(loss)
        }
        self.rows = [
            place
            for place, key in enumerate(listed.keys)
            if key in self.known or (key, largest) not in self.hopeless
        ]
        self.choices = listed.at(largest).take(self.rows)
        means = self.belief.at(self.choices).mean_M
        self.lowest = float(means.min()) if len(means) else math.nan
        self.best = self.rows[int(np.argmin(means))] if len(means) else None
        """What it would choose, of the candidates; None where none can be trained."""

    def is_known(self, place: int) -> bool:
        """Whether a candidate was trained at the largest budget."""
        return self.listed.keys[place] in self.known

    @property
    def untried(self) -> int | None:
        """The best of the candidates that were not trained at the largest budget."""
        means = self.belief.at(self.choices).mean_M
        ranked = sorted(range(len(self.rows)), key=lambda place: (means[place], place))
        return next(
            (self.rows[place] for place in ranked if not self.is_known(self.rows[place])), None
        )

    def regret(self, seed: int) -> float:
        """Nats by which the loss of what it would choose is expected to lie above the lowest."""
        assert self.best is not None
        return expected_regret(self.belief, self.choices, self.rows.index(self.best), seed)

    @cached_property
    def worth_most(self) -> tuple[int, float] | None:
        """Which candidate at which budget lowers the loss of what would be chosen most, for its
        FLOPs; None where nothing does."""
        best: tuple[float, int, float] | None = None
        for budget in self.budgets:
            places = self.listed.at(budget)
            costs = np.full(len(places), budget)
            worth = gains(self.belief, places, self.choices, costs)
            for place in np.argsort(-worth, kind="stable"):
                if (self.listed.keys[place], budget) not in self.hopeless:
                    break
            else:
                continue
            if worth[place] > 0 and (best is None or worth[place] > best[0]):
                best = float(worth[place]), int(place), budget
        return best[1:] if best is not None else None


_VIEWS: dict[str, _View] = {}
"""The last one: cells of other budgets ask with the same results."""


def _view(listed: _Listed, history: _History, budgets: Sequence[float]) -> _View:
    key = repr((id(listed), budgets, history.identity))
    if key not in _VIEWS:
        _VIEWS.clear()
        _VIEWS[key] = _View(listed, history, budgets)
    return _VIEWS[key]


def _unseeded(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key != SEED}


def _built(tree: Mapping[str, Any], point: Mapping[str, Any]) -> Candidate:
    return build(at_point(tree, point), DataConfig())


def _key(candidate: Candidate) -> str:
    return candidate.model_dump_json(exclude={"data"})


def _sobol(ask: Ask, count: int) -> list[Point]:
    """The first points of a scrambled Sobol' sequence over the axes, the same for all budgets."""
    tree = _unseeded(ask.spec.tree)
    axes = open_axes(tree)
    if not axes:
        return [{}] * count
    draws = np.random.default_rng(draw_seed(ask.seed, f"{ask.spec.stage}/{ask.spec.arm}", 0))
    units = qmc.Sobol(len(axes), rng=draws).random_base2(math.ceil(math.log2(max(count, 2))))
    return [point_at(tree, axes, row) for row in units[:count].tolist()]
