"""Losses of elsewhere are put on a cell's own level."""

from itertools import pairwise
from random import Random

import pytest

from modsearch.config.base import Component
from modsearch.config.priors import Prior
from modsearch.config.records import Stage
from modsearch.sampling.levels import levelled
from modsearch.space.axes import parse_tree
from modsearch.space.samplers import Ask, CellSpec, Point, Tried

TREE = parse_tree(
    {
        "model": {"router": {"choice": ["random", "static"]}},
        "optim": {"rate": {"log": [1e-3, 1e-1]}},
        "size": {"width": {"choice": [16, 24, 32]}},
    }
)
BUDGET = 4e9


def draw(draws: Random) -> Point:
    return {
        "model.router": draws.choice(["random", "static"]),
        "optim.rate": 10 ** draws.uniform(-3, -1),
        "size.width": draws.choice([16, 24, 32]),
    }


def loss(point: Point) -> float:
    return 2.0 + 0.3 * (point["model.router"] == "static") + 0.01 * point["size.width"]


def ask(points: list[Point]) -> Ask:
    spec = CellSpec(Stage.EXPLORE, "mod", BUDGET, TREE, Component(name="tpe"), 10)
    tried = [
        Tried(number, point, loss(point), running=False, hash=None)
        for number, point in enumerate(points)
    ]
    return Ask(spec, 0, len(tried), 10, tried, dict, ())


def prior(point: Point, above: float, budget: float, level: str = "") -> Prior:
    return Prior(point=point, budget=budget, loss=loss(point) + above, level=level)


def test_a_level_is_told_by_likes_and_not_by_how_well_points_were_chosen() -> None:
    draws = Random(0)
    points = [draw(draws) for _ in range(40)]
    best = sorted(points, key=loss)[:3]  # what a search that was told of them would try
    priors = [prior(point, 0.7, 1e9) for point in points]
    priors += [prior(point, -0.4, 8e9, "another") for point in points[:20]]
    found = levelled(ask([{**point, "optim.rate": 0.05} for point in best]), priors)
    for each, given in zip(found, priors, strict=True):
        assert each.cost == pytest.approx(loss(given.point), abs=1e-9)
        assert each.point == given.point


def test_what_the_cell_does_not_bear_out_is_drawn_together_and_stays_in_order() -> None:
    draws = Random(3)
    points = [draw(draws) for _ in range(30)]
    priors = [Prior(point=point, budget=1e9, loss=5 - loss(point)) for point in points]
    before = [each.loss for each in priors]
    few, many = (
        [each.cost or 0.0 for each in levelled(ask(points[:number]), priors)] for number in (2, 20)
    )
    assert max(many) - min(many) < 0.1 * (max(before) - min(before))
    assert max(many) - min(many) <= max(few) - min(few)
    order = sorted(range(30), key=lambda place: before[place])
    assert all(few[one] <= few[other] for one, other in pairwise(order))


def test_losses_of_the_same_kind_stay_as_they_are_and_others_come_to_them() -> None:
    draws = Random(1)
    points = [draw(draws) for _ in range(30)]
    priors = [prior(point, 0.0, BUDGET) for point in points[:15]]
    priors += [prior(point, 0.5, BUDGET, "another") for point in points]
    found = [each.cost for each in levelled(ask([]), priors)]
    assert found[:15] == [each.loss for each in priors[:15]]
    assert found[15:] == pytest.approx([loss(point) for point in points], abs=1e-9)


def test_before_there_is_a_trial_all_are_on_the_level_of_the_nearest_budget() -> None:
    draws = Random(2)
    points = [draw(draws) for _ in range(30)]
    priors = [prior(point, 0.5, 1e8) for point in points]
    priors += [prior(point, 0.2, 3e9, "another") for point in points]
    found = [each.cost for each in levelled(ask([]), priors)]
    assert found == pytest.approx([loss(point) + 0.2 for point in points] * 2, abs=1e-9)
