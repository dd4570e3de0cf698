"""What `isoflop` asks of measure, where losses follow curves that are known."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from worlds import trial

from modsearch.analysis.curves import Fit
from modsearch.analysis.designs import half_width, most_telling
from modsearch.analysis.fits import fit_curves
from modsearch.analysis.noise import NORMAL, Noise
from modsearch.analysis.optima import optimum
from modsearch.config.base import Component
from modsearch.config.data import DataConfig
from modsearch.config.records import Record, Stage, State
from modsearch.space.axes import Int
from modsearch.space.candidates import build
from modsearch.space.samplers import SEED, SEEDS, Ask, CellSpec, Point, Tried, sampler_of

ANY = Int(1, 1_000_000, 1)
WIDTHS = (16, 20, 24, 32, 40, 48, 64)
Size = tuple[int, int]
Law = Callable[[float, Size], float]


def law(budget: float, size: Size, best: float = 28.0) -> float:
    """A bowl in ln(size) around a width at 1e12 FLOPs, that moves by the root of the budget; depth
    2 is the best, by much."""
    depth, width = size
    away = 2 * math.log(width / best) - 0.5 * math.log(budget / 1e12)
    return 1.9 - 0.15 * math.log(budget / 1e12) + 0.08 * away**2 + 0.08 * abs(depth - 2)


@dataclass
class World:
    """Cells of measure, asked and told one trial at a time."""

    law: Law = law
    sd: float = 0.01
    widths: Sequence[int] = WIDTHS
    depths: Sequence[int] = (2,)
    seeds: int = 3
    options: dict[str, Any] = field(default_factory=dict)
    fails: frozenset[Size] = frozenset()
    records: dict[str, Record] = field(default_factory=dict)
    tried: dict[float, list[Tried]] = field(default_factory=dict)

    def ask(self, budget: float, running: Sequence[Point] = ()) -> Point | None:
        points = tuple(
            {"size.depth": depth, "size.width": width, SEED: seed}
            for seed in range(self.seeds)
            for depth in self.depths
            for width in self.widths
        )
        tree = {
            "model": {"block": "dense"}, "optim": {}, "size": {"depth": ANY, "width": ANY},
            SEED: SEEDS,
        }  # fmt: skip
        sampler = Component.model_validate({"name": "isoflop", **self.options})
        spec = CellSpec(Stage.MEASURE, "dense", budget, tree, sampler, points=points)
        tried = list(self.tried.get(budget, ()))
        for point in running:
            tried.append(Tried(len(tried), point, None, running=True, hash=None))
        ask = Ask(spec, 0, len(tried), len(points), tried, lambda: self.records, ())
        return sampler_of(sampler).propose(ask)

    def tell(self, budget: float, point: Point) -> None:
        depth, width, seed = point["size.depth"], point["size.width"], point[SEED]
        draws = np.random.default_rng([int(budget), depth, width, seed])
        loss = self.law(budget, (depth, width)) + self.sd * float(draws.standard_normal())
        made = trial(Stage.MEASURE, "dense", budget, depth, width, seed, loss)
        size = {"depth": depth, "width": width}
        candidate = build({"model": {"block": "dense"}, "optim": {}, "size": size}, DataConfig())
        made = made.model_copy(update={"candidate": candidate})
        if (depth, width) in self.fails:
            made = made.model_copy(update={"state": State.DIVERGED, "scores": None})
        self.records[made.hash] = made
        known = self.tried.setdefault(budget, [])
        known.append(Tried(len(known), point, loss, running=False, hash=made.hash))

    def run(self, budget: float, most: int = 30) -> list[Size]:
        """The sizes that were tried, in order."""
        found: list[Size] = []
        while len(found) < most and (point := self.ask(budget)) is not None:
            self.tell(budget, point)
            found.append((point["size.depth"], point["size.width"]))
        return found

    def fit(self, budget: float) -> Fit:
        best = optimum(fit_curves([*self.records.values()]), "dense", budget)
        assert best is not None
        assert best.fit is not None
        return best.fit


def test_a_cell_ends_when_the_interval_of_its_minimum_is_narrow_enough() -> None:
    found = {share: World(options={"resolution": share}) for share in (0.01, 0.006)}
    trials = {share: world.run(1e12) for share, world in found.items()}
    assert 4 <= len(trials[0.01]) < len(trials[0.006]) < 30
    for share, world in found.items():
        fit = world.fit(1e12)
        assert fit.minimum_high is not None
        assert fit.minimum_high - fit.minimum_loss <= share * fit.minimum_loss
        assert abs(fit.minimum_loss - 1.9) < 0.02
    again = Counter(trials[0.006])
    assert again.most_common(1)[0][1] > 1
    assert abs(math.log(again.most_common(1)[0][0][1] / 28)) < 0.3


def test_what_is_tried_again_has_the_next_seed() -> None:
    world = World(options={"resolution": 0.0})
    world.run(1e12, 14)
    seeds: dict[Size, list[int]] = {}
    for each in world.tried[1e12]:
        size = each.point["size.depth"], each.point["size.width"]
        seeds.setdefault(size, []).append(each.point[SEED])
    assert all(found == [*range(len(found))] for found in seeds.values())


@pytest.mark.parametrize("best", [70.0, 13.0])
def test_a_ladder_goes_on_where_the_minimum_lies_at_its_end(best: float) -> None:
    world = World(lambda budget, size: law(budget, size, best))
    found = world.run(1e12)
    beyond = {width for _, width in found} - set(WIDTHS)
    assert beyond
    assert all((width > 64) == (best > 64) for width in beyond)
    assert abs(world.fit(1e12).minimum_loss - 1.9) < 0.02


def test_a_minimum_that_no_size_reaches_ends_the_cell() -> None:
    found = World(lambda budget, size: 2.0 - 0.1 * math.log(size[1]), sd=0.001).run(1e12)
    assert len(found) < 21
    assert max(width for _, width in found) > 64


def test_smaller_budgets_say_where_to_begin() -> None:
    world = World(law, sd=0.005, widths=(12, *WIDTHS))
    assert [width for _, width in world.run(1e11, 4)] == [12, 20, 32, 48]  # evenly
    world.run(1e11)
    first = [width for _, width in world.run(1.6e12, 4)]
    assert abs(math.log(first[0] / (28 * 1.6**0.25))) < 0.3
    assert len(set(first)) == 4
    assert max(first) / min(first) < 2.6


def test_results_of_larger_budgets_change_nothing() -> None:
    world = World()
    world.run(1e11, 6)
    before = world.ask(1e11)
    world.run(1e12, 6)
    assert world.ask(1e11) == before


def test_depths_that_are_worse_get_few_trials() -> None:
    world = World(depths=(2, 4, 6), sd=0.006)
    found = world.run(1e12, 40)
    spent = Counter(depth for depth, _ in found)
    assert len(found) < 30
    assert set(spent) == {2, 4, 6}
    assert spent[2] >= spent[4]
    assert spent[2] > spent[6]
    assert world.fit(1e12).depth == 2


def test_a_size_that_could_not_be_trained_is_not_asked_for_again() -> None:
    world = World(fails=frozenset({(2, 24)}))
    found = Counter(world.run(1e12))
    assert found[2, 24] == 1
    assert world.fit(1e12).nearest.width in {20, 32}


def test_a_ladder_that_is_too_short_for_a_fit_goes_on_beyond_its_end() -> None:
    world = World(widths=(24, 28, 32))
    assert len(set(world.run(1e12))) > 3
    assert 1.88 < world.fit(1e12).minimum_loss < 1.92


def test_what_can_have_no_fit_is_not_tried_again_and_again() -> None:
    rest = World(fails=frozenset({(2, 24), (2, 32)})).run(1e12)
    assert len(rest) < 12


def test_trials_in_flight_are_counted() -> None:
    world = World()
    first: list[Point] = []
    while (point := world.ask(1e12, first)) is not None:
        first.append(point)
    assert len({point["size.width"] for point in first}) == len(first) == 4
    for point in first:
        world.tell(1e12, point)
    flying: list[Point] = []
    while (point := world.ask(1e12, flying)) is not None:
        flying.append(point)
    # As many as the interval needs, by the noise that is known, and no more.
    assert 1 <= len(flying) <= 8
    for point in flying:
        world.tell(1e12, point)
    assert len(world.run(1e12)) <= 3


def test_the_interval_at_a_vertex_is_narrowed_most_by_a_trial_there() -> None:
    sizes = [-1.0, -0.5, 0.5, 1.0]
    place = most_telling(sizes, 0.1, [-1.0, 0.0, 1.0])
    assert place == 1
    unit = Noise(1.0, math.inf)
    assert half_width([*sizes, 0.0], 0.1, unit) < half_width(sizes, 0.1, unit)
    # Three sizes of a run each: the parabola goes through them, and at one of them is its noise.
    assert half_width([-1.0, 0.0, 1.0], 0.0, unit) == pytest.approx(NORMAL)
    assert half_width([0.0, 1.0, 1.0], 0.0, unit) == math.inf
    assert most_telling(sizes, 0.1, []) is None
