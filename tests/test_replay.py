"""Replays of searches: what one spends, what it answers, and that the packed tables are whole."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from scripts import benchmark

from modsearch.config.data import DataConfig
from modsearch.space.candidates import build
from modsearch.space.points import at_point, grid

FOLDER = Path(__file__).parents[1] / "benchmarks" / "search"


@pytest.fixture(scope="module")
def replay() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield benchmark("search/replay")


@pytest.fixture(scope="module")
def table(replay: ModuleType) -> object:
    """A space whose best is known: losses by width and rate alone, the first seed a lucky one for
    the second best."""
    tree = replay.tree_of("rates")
    points = {replay.key_of(point): point for point in grid(tree)}
    losses: dict[tuple[str, float], dict[int, float]] = {}
    for key, point in points.items():
        far = abs(point["size.width"] - 20) / 4 + abs(math.log(point["optim.rate"] / 0.01))
        far += (point["model.block"] == "mod") + (point["size.depth"] == 3)
        far += point["optim.warmup"] == 0.02
        for budget in (1e9, 3e9, 9e9):
            loss = 2 + 0.05 * far - 0.1 * math.log(budget / 9e9)
            losses[key, budget] = {0: loss}
            if budget == 9e9 and far <= 1:
                losses[key, budget] = {0: loss - 0.03, 1: loss, 2: loss + 0.03}
    tree_points = {
        key: build(at_point(tree, point), DataConfig()) for key, point in points.items()
    }
    flops = {place: place[1] for place in losses}
    return replay.Table("rates", losses, flops, tree_points, points)


def test_a_grid_spends_what_every_configuration_costs_once(
    replay: ModuleType, table: object
) -> None:
    search = replay.SEARCHES["grid"](table, 0)
    assert len(search.spent) == len(table.points)
    assert search.spent[-1] == len(table.points) * 9e9
    assert len(search.answers) == len(search.spent)
    assert all(later <= 1.0 for later in search.regrets())
    other = replay.SEARCHES["grid"](table, 1)
    assert other.answers != search.answers
    assert replay.SEARCHES["grid"](table, 1).answers == other.answers


def test_the_oracle_knows_after_one_trial(replay: ModuleType, table: object) -> None:
    search = replay.SEARCHES["oracle"](table, 0)
    assert search.known() == 9e9
    assert search.regrets() == [0.0]


def test_halving_promotes_a_third_of_each_rung_or_what_was_in_it_once(
    replay: ModuleType, table: object
) -> None:
    search = replay.SEARCHES["asha"](table, 0)
    num = [sum(budget == each for _, budget in search._tried) for each in table.budgets]
    assert num[0] == len(table.points)
    assert num[0] // 3 <= num[1] < num[0] // 2
    assert num[1] // 3 <= num[2] < num[1]
    assert search.regrets()[0] == math.inf  # nothing was trained at the largest budget
    assert search.known() is None or search.regrets()[-1] <= replay.CLOSE


def test_an_answer_that_is_left_again_was_not_known(replay: ModuleType, table: object) -> None:
    best, *_, worst = sorted(table.means, key=lambda key: table.means[key])
    search = replay.Search(table, 0)
    for answer in (best, worst, best, best):
        search.train(answer, 9e9)
        search.answers.append(answer)
    assert search.known() == search.spent[2]
    search.answers[-1] = worst
    assert search.known() is None


def test_seeds_come_in_an_order_of_the_search_and_end(replay: ModuleType, table: object) -> None:
    best = min(table.means, key=lambda key: table.means[key])
    orders = set()
    for seed in range(12):
        search = replay.Search(table, seed)
        losses = [search.train(best, 9e9) for _ in range(4)]
        assert sorted(losses[:3]) == sorted(table.losses[best, 9e9].values())
        assert search.spent == [9e9, 1.8e10, 2.7e10, 2.7e10]
        orders.add(tuple(losses[:3]))
    assert len(orders) > 1


def test_isoflop_searches_all_budgets(replay: ModuleType, table: object) -> None:
    replay.SMALL["isoflop"] = 4
    search = replay.SEARCHES["isoflop"](table, 0)
    budgets = {budget for _, budget in search._tried}
    assert min(table.budgets) in budgets
    assert max(table.budgets) in budgets
    assert search.spent[-1] <= 5.2 * 9e9


@pytest.mark.parametrize("space", ["recipes", "rates"])
def test_a_packed_table_has_every_configuration_at_every_budget(
    replay: ModuleType, space: str
) -> None:
    table = replay.table_of(space)
    points = {replay.key_of(point) for point in grid(replay.tree_of(space))}
    assert len(points) >= 150
    assert set(table.points) == points
    assert set(table.losses) == {(key, budget) for key in points for budget in table.budgets}
    assert table.budgets == [*benchmark("search/tables").BUDGETS[space]]
    largest = table.budgets[-1]
    repeated = [key for key in points if len(table.losses[key, largest]) == 3]
    assert len(repeated) == round(0.1 * len(points))
    first = {key: table.losses[key, largest][0] for key in points}
    assert max(first[key] for key in repeated) <= min(first[k] for k in points - {*repeated})
    assert all(abs(table.flops[place] / place[1] - 1) <= 0.01 for place in table.flops)
